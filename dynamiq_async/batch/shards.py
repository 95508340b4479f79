"""Shards: a stable part of the inputs, for each of many processes that share a job."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from dynamiq_async.batch.models import Key
from dynamiq_async.errors import InvalidArgumentError

Shard = str | tuple[int, int]


def shard_of(shard: Shard) -> tuple[int, int]:
    """The number of the part, from 1, and the number of parts.

    Raises:
        InvalidArgumentError: `shard` has another form.
    """
    parts: Any = shard
    if isinstance(shard, str):
        written = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", shard)
        parts = tuple(map(int, written.groups())) if written else ()
    if isinstance(parts, tuple | list) and len(parts) == 2:
        number, count = parts
        if type(number) is type(count) is int and 1 <= number <= count:
            return number, count
    raise InvalidArgumentError(
        f"shard must be such as '2/8' or (2, 8), counted from 1, not {shard!r}", argument="shard"
    )


def part_of(shard: Shard) -> Callable[[Key], bool]:
    """A function that says whether a key belongs to this part of the inputs."""
    from hashlib import blake2b  # here, because few batches have shards, and it slows the start

    number, count = shard_of(shard)

    def is_ours(key: Key) -> bool:
        # Every process must compute the same value, which `hash` does not guarantee.
        digest = blake2b(str(key).encode(errors="surrogatepass"), digest_size=8).digest()
        return int.from_bytes(digest) % count == number - 1

    return is_ours
