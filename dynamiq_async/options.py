"""Limits that callers set: limits of time, of concurrent requests and of their rate."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import Any, Literal
from uuid import UUID

from msgspec import Struct, structs

from dynamiq_async._scalars import is_of_a_frame, plain
from dynamiq_async.errors import InvalidArgumentError

OnLeave = Literal["detach", "cancel"]
"""What happens to a run when its reader leaves before its end: "detach" lets the run go on,
"cancel" cancels it."""


class Timeout(Struct, frozen=True, kw_only=True):
    """The limits of one call, in seconds; None switches a limit off.

    Attributes:
        connect: for resolving the host, connecting and the TLS handshake.
        pool: for waiting until one of the client's `max_connections` is free; for a stream, one of
            its `max_streams`.
        first_byte: from sending the request to the response's headers. A synchronous call is
            silent while its workflow runs, so this also limits how long the workflow may run.
        idle: how long a read may wait without receiving a byte. Heartbeats are bytes too. The limit
            does not run while the consumer is busy.
        total: for the whole call, including retries, backoff and resumption. None by default, so
            that a long stream is not cut off.

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
    if is_of_a_frame(value):
        value = _builtin(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidArgumentError(
            f"{argument} must be a number of seconds or None, not {value!r}", argument=argument
        )
    if not 0 < value <= sys.float_info.max:
        raise InvalidArgumentError(
            f"{argument} must be a positive number of seconds (or None for no limit), not {value}",
            argument=argument,
        )


def _builtin(value: object) -> object:
    """A number of numpy or pandas as a builtin number; any other value unchanged."""
    number = plain(value) if not isinstance(value, float) else float(value)
    return value if number is None or number is NotImplemented else number


DEFAULT_TIMEOUT = Timeout()
NO_TIMEOUT = Timeout(connect=None, pool=None, first_byte=None, idle=None, total=None)


def as_timeout(value: Timeout | float | None, base: Timeout) -> Timeout:
    """A number sets `total` and keeps the other limits of `base`. None switches all limits off."""
    if isinstance(value, Timeout):
        return value
    if value is None:
        return NO_TIMEOUT
    check_seconds(value, "timeout")
    return structs.replace(base, total=value)


class Adaptive(Struct, frozen=True, kw_only=True):
    """A limit of concurrent requests that adapts to the service: it grows while requests succeed,
    and falls as soon as the service asks to slow down (429, or 503 with `Retry-After`).

    Attributes:
        min, max: the bounds.
        start: the limit to begin with; by default 8, within the bounds.

    Raises:
        InvalidArgumentError: `min`, `start` and `max` are not positive integers in this order.
    """

    min: int = 1
    max: int = 256
    start: int = 0

    def __post_init__(self) -> None:
        check_count(self.min, "adaptive.min")
        check_count(self.max, "adaptive.max", least=self.min)
        if not self.start:
            structs.force_setattr(self, "start", min(max(8, self.min), self.max))
        if check_count(self.start, "adaptive.start", least=self.min) > self.max:
            raise InvalidArgumentError(
                f"adaptive.start must be within {self.min} and {self.max}, not {self.start}",
                argument="adaptive.start",
            )


def check_count(value: int, argument: str, *, least: int = 1) -> int:
    """`value` as an int. Raises InvalidArgumentError unless it is an integer >= `least`."""
    if is_of_a_frame(value):
        value = plain(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InvalidArgumentError(
            f"{argument} must be an integer of at least {least}, not {value!r}", argument=argument
        )
    return value


def check_one_of(value: object, allowed: tuple[str, ...], argument: str) -> None:
    """Raise InvalidArgumentError unless `value` is one of the words that are allowed."""
    if value not in allowed:
        choices = " or ".join(repr(choice) for choice in allowed)
        raise InvalidArgumentError(
            f"{argument} must be {choices}, not {value!r}", argument=argument
        )


def check_mapping(value: Mapping[str, Any] | None, argument: str) -> Mapping[str, Any]:
    """`value`, an empty one for None. Raises InvalidArgumentError for anything but a mapping."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidArgumentError(
            f"{argument} must be a mapping, such as a dict, not {type(value).__name__}",
            argument=argument,
        )
    return value


def check_id(value: object, argument: str, *, in_path: bool = True) -> str:
    """`value` as a text.

    Args:
        in_path: the id becomes a part of a URL's path, where "." and ".." lead to another path.

    Raises:
        InvalidArgumentError: the id is neither a non-empty string nor a UUID, or cannot be part of
            a path.
    """
    if isinstance(value, str):
        value = plain(value)
    text = str(value) if isinstance(value, str | UUID) else ""
    if not text:
        raise InvalidArgumentError(
            f"{argument} must be a non-empty string, not {value!r}", argument=argument
        )
    if in_path and text in (".", ".."):
        raise InvalidArgumentError(f"{argument} cannot be {text!r}", argument=argument)
    return text


# Not compiled here, since that would take a millisecond of each import.
_RATE = r"\s*(\d+(?:\.\d+)?)\s*/\s*(s|sec|second|m|min|minute|h|hour)\s*"
_PERIOD = {"s": 1.0, "m": 60.0, "h": 3600.0}


def rate_interval(rate: float | str | None, argument: str) -> float:
    """The seconds between two requests at `rate`; 0 for None.

    Args:
        rate: requests a second, or a text with a period, such as "60/m" (s, m or h).

    Raises:
        InvalidArgumentError: `rate` is not a rate above zero.
    """
    if rate is None:
        return 0.0
    if isinstance(rate, str) and (match := re.fullmatch(_RATE, rate)):
        count, period = float(match[1]), _PERIOD[match[2][0]]
    elif isinstance(rate, int | float) and not isinstance(rate, bool):
        count, period = float(rate), 1.0
    else:
        count, period = 0.0, 1.0
    if not 0 < count <= sys.float_info.max:
        raise InvalidArgumentError(
            f"{argument} must be a number of requests a second, or such as '60/m' (s, m or h), "
            f"not {rate!r}",
            argument=argument,
        )
    return period / count
