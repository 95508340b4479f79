"""Ids are unique, and no seed of a test repeats them."""

from __future__ import annotations

import os
import random
import sys
from uuid import RFC_4122, UUID

import pytest

from dynamiq_async.emulator.core.ids import new_hex, new_id


def test_an_id_is_a_random_uuid() -> None:
    for _ in range(1000):
        id = new_id()
        uuid = UUID(id)
        assert (str(uuid), uuid.version, uuid.variant) == (id, 4, RFC_4122)


def test_hexadecimal_digits_are_always_32() -> None:
    assert all(len(bytes.fromhex(new_hex())) == 16 for _ in range(1000))


def test_a_seed_repeats_no_id() -> None:
    made = set()
    for _ in range(2):
        random.seed(7)
        made |= {new_id(), new_hex()}
    assert len(made) == 4


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_repeats_no_id() -> None:
    reading, writing = os.pipe()
    if not (child := os.fork()):
        os.write(writing, new_id().encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 36).decode() != new_id()
    os.close(reading)
    os.close(writing)
