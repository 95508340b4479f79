"""When to send a request again, and how long to wait before: rules without a clock or a network.

The main rule: one logical call is one run. A request that the server certainly did not take may be
sent again. A request that it may have taken is sent again only when that does no harm.
"""

from __future__ import annotations

import math
from datetime import UTC
from time import time
from typing import TYPE_CHECKING

from msgspec import Struct

from dynamiq_async import errors
from dynamiq_async._http.status import asks_to_slow_down, may_repeat

if TYPE_CHECKING:
    from collections.abc import Mapping


class RetryPolicy(Struct, frozen=True, kw_only=True):
    """How often a request is sent again, and how long to wait before.

    Attributes:
        max_retries: attempts beyond the first.
        base: seconds before the first retry; doubled for each later one.
        cap: the seconds at which the doubling stops.
        max_wait: seconds; when a server asks to wait longer, the call raises instead.
        patient: a request to slow down does not count as a retry: the call is repeated for as long
            as there is time.
        jitter: the fraction by which a delay is lengthened at random. It is never shortened, so no
            request is sent before the time that the server named.
    """

    max_retries: int = 2
    base: float = 0.5
    cap: float = 8.0
    max_wait: float = 60.0
    patient: bool = False
    jitter: float = 0.25

    def backoff(self, retries: int) -> float:
        """Seconds to wait when the server named no time, after `retries` earlier retries."""
        return self.lengthen(self._least(retries))

    def _least(self, retries: int) -> float:
        return min(self.base * 2.0 ** min(retries, 30), self.cap)

    def lengthen(self, seconds: float) -> float:
        """`seconds` with jitter."""
        import random  # most calls are sent once, and importing it takes a millisecond

        # At most two seconds: enough to spread calls that were all asked to wait equally long.
        return seconds + random.random() * min(seconds * self.jitter, 2.0)  # noqa: S311

    def delay(
        self,
        error: errors.DynamiqError,
        *,
        retries: int,
        idempotent: bool,
        replayable: bool,
        spared: int = 0,
    ) -> float | None:
        """Seconds to wait before the next attempt; None to give up.

        Args:
            retries: attempts beyond the first.
            spared: further attempts that do not count, because the server asked to slow down.
        """
        if retries >= self.max_retries and not (self.patient and asks_to_slow_down(error)):
            return None
        if not may_repeat(error, idempotent=idempotent):
            return None
        if not replayable and not isinstance(error, errors.ConnectError):
            return None
        asked = error.retry_after or 0.0
        if asked > self.max_wait:
            return None
        # At least our own delay: a server that always says "at once" would cause a busy loop.
        return self.lengthen(max(asked, self._least(retries + spared)))


def parse_retry_after(headers: Mapping[str, str]) -> float | None:
    """`Retry-After` as seconds from now. The header has seconds, or a date by the server's clock.

    None when it is absent or invalid. A date in the past means now.
    """
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    if value.isascii() and value.replace(".", "", 1).isdigit():
        seconds = float(value)
        return seconds if math.isfinite(seconds) else None
    when = _http_date(value)
    return None if when is None else max(0.0, when - server_time(headers))


def server_time(headers: Mapping[str, str]) -> float:
    """The Unix time of a response, from its `Date` if it has one: other times in the response use
    the same clock."""
    when = _http_date(headers.get("date", ""))
    return time() if when is None else when


def _http_date(value: str) -> float | None:
    from email.utils import parsedate_to_datetime  # here, because it takes 3 ms of a start

    try:
        when = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if when.tzinfo is None:  # of the three forms that HTTP allows, asctime's names no zone
        when = when.replace(tzinfo=UTC)
    return when.timestamp()
