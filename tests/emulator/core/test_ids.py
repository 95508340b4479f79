"""Ids are unique, and no seed of a test repeats them."""

from __future__ import annotations

import random
from uuid import RFC_4122, UUID

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
