"""What a client, a view of it or a single call can set differently."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from dynamiq_async._http.retry import RetryPolicy
from dynamiq_async.options import (
    DEFAULT_TIMEOUT,
    Timeout,
    as_timeout,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Mapping


class _Unset:
    def __repr__(self) -> str:
        return "<not given>"


UNSET = _Unset()
"""The default where None means something."""

TimeoutLike = Timeout | float | None | _Unset


class Extras(NamedTuple):
    """What one call sets differently from its client, and what it adds to the request."""

    timeout: TimeoutLike = UNSET
    max_retries: int | None = None
    retry: bool | None = None
    headers: Mapping[str, str] | None = None
    query: Mapping[str, Any] | None = None


def _timeout(value: TimeoutLike, base: Timeout) -> Timeout:
    return base if isinstance(value, _Unset) else as_timeout(value, base)


class CallOptions(Struct, frozen=True):
    """What a view or a single call can set differently.

    `queued` is for one of many calls: that it waits for its turn, and while the server asks to, is
    no part of its time.
    """

    timeout: Timeout = DEFAULT_TIMEOUT
    policy: RetryPolicy = RetryPolicy()
    headers: dict[str, str] = {}
    queued: bool = False
