"""Time limits: each measures one thing, and is in seconds or None for no limit."""

from __future__ import annotations

import sys

from msgspec import Struct, structs

from dynamiq_async.errors import InvalidArgumentError


class Timeout(Struct, frozen=True, kw_only=True):
    """The limits of one call, in seconds; None switches a limit off.

    Attributes:
        connect: to find the host, connect and agree on TLS.
        pool: to wait for one of the client's `max_connections`.
        first_byte: from sending the request to the response's headers. A synchronous call is
            silent while its workflow runs, so this is in effect the longest run.
        idle: without a single byte while one is waited for. Heartbeats count as life, and a slow
            consumer does not run this clock.
        total: for the whole call, over retries, backoff and resumption. None by default, so that
            no stream is cut for being long.

    Raises:
        InvalidArgumentError: a limit is not a positive number or None.
    """

    connect: float | None = 10.0
    pool: float | None = 60.0
    first_byte: float | None = 600.0
    idle: float | None = 300.0
    total: float | None = None

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            check_seconds(getattr(self, name), f"timeout.{name}")


def check_seconds(value: object, argument: str) -> None:
    """Raise InvalidArgumentError unless `value` is a positive finite number or None."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidArgumentError(
            f"{argument} must be a number of seconds or None, not {value!r}", argument=argument
        )
    if not 0 < value <= sys.float_info.max:
        raise InvalidArgumentError(
            f"{argument} must be a positive number of seconds (or None for no limit), not {value}",
            argument=argument,
        )


DEFAULT_TIMEOUT = Timeout()
NO_TIMEOUT = Timeout(connect=None, pool=None, first_byte=None, idle=None, total=None)


def as_timeout(value: Timeout | float | None, base: Timeout) -> Timeout:
    """A number means `total` with the other limits of `base`; None means no limit of any kind."""
    if isinstance(value, Timeout):
        return value
    if value is None:
        return NO_TIMEOUT
    check_seconds(value, "timeout")
    return structs.replace(base, total=value)
