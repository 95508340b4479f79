"""Ids of runs, requests, events and files.

They are made for each request, and asking the system for randomness would be the largest part of
the cost. So this module has its own generator, which a test's `random.seed` does not affect.
"""

from __future__ import annotations

import os
from random import Random

_random = Random()  # noqa: S311 - nothing is kept secret by an id
_bits = _random.getrandbits
if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows has no fork
    os.register_at_fork(after_in_child=_random.seed)
_FREE = ~(0xF000 << 64 | 0xC000 << 48)
_VERSION_4 = 0x4000 << 64 | 0x8000 << 48


def new_id() -> str:
    """A UUID of version 4, as text."""
    text = f"{_bits(128) & _FREE | _VERSION_4:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def new_hex() -> str:
    """32 hexadecimal digits."""
    return f"{_bits(128):032x}"
