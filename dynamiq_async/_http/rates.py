"""Rules of the limiter besides the number of connections: a rate, a quota, an adaptive limit.

They have no clock: each method gets the event loop's time, in seconds.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dynamiq_async.options import Adaptive

CATCH_UP = 0.01
"""The most seconds by which the next request may start earlier after a late one. Timers are late by
about as much."""


class RateLimit:
    """At most one request in every `interval` seconds, which may change; 0 for no such limit."""

    def __init__(self, interval: float = 0.0) -> None:
        self.interval = interval
        self._last = -math.inf

    def delay(self, now: float) -> float:
        """Seconds until the next request may start."""
        return max(0.0, self._last + self.interval - now)

    def record_start(self, now: float) -> None:
        """Note that a request starts now.

        If a late timer delayed it, the next request may start earlier by that much. Unused time is
        not made up for: no minute has more than a minute's requests, except for late timers.
        """
        late = max(0.0, now - self._last - self.interval)
        if late > CATCH_UP:
            late = CATCH_UP if self.interval < CATCH_UP else 0.0
        self._last = now - late


class Quota:
    """The rate limit that a service reports: how many requests are left until the window ends.

    Before the first response and after the end of a window, this is unknown. Then one request goes
    ahead, and the others wait for its response. If a service reports nothing, there is no limit.

    Attributes:
        limit: requests in a window, as last reported; None: not known.
        remaining: how many of them were left then; None: not known.
    """

    def __init__(self) -> None:
        self.limit: int | None = None
        self.remaining: int | None = None
        self._ends_at = 0.0
        self._silent = False

    def delay(self, now: float, in_flight: int) -> float:
        """Seconds until another request may start; infinite: not before a response has come."""
        if self._silent:
            return 0.0
        if self.remaining is not None and now >= self._ends_at:
            self.remaining = None
        if self.remaining is None:
            return math.inf if in_flight else 0.0
        # The service may or may not have counted the requests under way.
        if self.remaining > in_flight:
            return 0.0
        return self._ends_at - now

    def window(self, now: float) -> float:
        """Seconds until the window ends; 0 when that is not known."""
        return max(0.0, self._ends_at - now)

    def observe(
        self, headers: Mapping[str, str], now: float, *, server_time: float, success: bool = True
    ) -> None:
        """Take note of a response's `X-RateLimit-*` and `Retry-After` (documented by Flowy).

        Args:
            headers: looked up without regard to case.
            now: the event loop's time.
            server_time: the Unix time of the response, by the server's own clock.
            success: whether the response is a success. Other responses may lack these headers,
                although the service sends them (documented by Flowy).
        """
        remaining = _number(headers.get("X-RateLimit-Remaining"))
        reset = _number(headers.get("X-RateLimit-Reset"))
        if remaining is None or reset is None:
            if success:
                self._silent = self.remaining is None
            return
        self._silent = False
        limit = _number(headers.get("X-RateLimit-Limit"))
        self.limit = None if limit is None else int(limit)
        # Some services send the seconds until the reset in place of its time.
        ends_at = now + (reset - server_time if reset > server_time / 2 else reset)
        if self.remaining is None or ends_at > self._ends_at + 1:
            self._ends_at = ends_at
            self.remaining = int(remaining)
        else:  # responses may overtake each other; in a window, the smallest count is the newest
            self.remaining = min(self.remaining, int(remaining))
        pause = _number(headers.get("Retry-After"))
        if pause is not None and self.remaining == 0:
            # Unlike the reset, this does not depend on the server's clock. Requests may start
            # after it, even if the window seems longer.
            self._ends_at = min(self._ends_at, now + pause)


class AdaptiveLimit:
    """A limit of requests under way that adapts: it grows while requests succeed, and falls as soon
    as the service refuses one.

    Until the first refusal the limit grows by one with every success, so it doubles with every
    round of requests. After that it grows by one with every round, and stays below the number at
    which the service refused. This ceiling is raised after a delay, in steps that double until the
    next refusal there. Each refusal at the ceiling doubles the delay.
    """

    FIRST_DELAY = 10.0
    MAX_DELAY = 120.0
    DECREASE = 0.75

    def __init__(self, bounds: Adaptive) -> None:
        self.bounds = bounds
        self._value = float(bounds.start)
        self._refused = math.inf  # the least that was too much
        self._retry_at = 0.0
        self._delay = self.FIRST_DELAY
        self._raise_by = 1

    @property
    def limit(self) -> int:
        """How many may be under way."""
        return int(self._value)

    def succeeded(self, now: float, in_flight: int) -> bool:
        """A request succeeded while `in_flight` were under way. Returns whether the limit rose."""
        before = self.limit
        if in_flight < before:
            return False  # a success below the limit does not show that more would succeed
        if self._refused < math.inf and now >= self._retry_at:
            if self._raise_by > 1:
                self._delay = self.FIRST_DELAY
            self._refused += self._raise_by
            self._raise_by *= 2
            self._retry_at = now + self._delay
        step = 1.0 if self._refused == math.inf else 1.0 / self._value
        most = min(self.bounds.max, self._refused - 1)
        self._value = max(self._value, min(self._value + step, most))
        return self.limit > before

    def refused(self, now: float, in_flight: int) -> None:
        """The service asked to slow down while `in_flight` were under way."""
        tried = max(1, min(in_flight, self.limit))
        if tried >= self._refused - 1:
            self._delay = min(self._delay * 2, self.MAX_DELAY)
        self._raise_by = 1
        self._refused = max(tried, self.bounds.min + 1)
        self._retry_at = now + self._delay
        self._value = max(float(self.bounds.min), math.floor(tried * self.DECREASE))


def _number(text: str | None) -> float | None:
    try:
        number = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return max(0.0, number) if math.isfinite(number) else None
