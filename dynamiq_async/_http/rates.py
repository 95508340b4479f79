"""What holds requests back beside the number of connections: a rate, a quota, an adaptive limit.

Rules without a clock of their own: each is told the time, in seconds of the event loop. The gate
asks them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dynamiq_async.options import Adaptive

CATCH_UP = 0.01
"""Seconds that a rate makes up for: timers are late by about as much."""


class RateLimit:
    """At most one request in every `interval` seconds, which may change; 0 for no such limit."""

    def __init__(self, interval: float = 0.0) -> None:
        self.interval = interval
        self._last = -math.inf

    def delay(self, now: float) -> float:
        """Seconds until the next one may start."""
        return max(0.0, self._last + self.interval - now)

    def take(self, now: float) -> None:
        """One starts now. What a timer was late by is made up for, not what nobody asked for: in
        no minute are there more than a minute's, but for that."""
        late = max(0.0, now - self._last - self.interval)
        if late > CATCH_UP:
            late = CATCH_UP if self.interval < CATCH_UP else 0.0
        self._last = now - late


class Quota:
    """What a service says of its rate limit with every answer: so many requests are left until
    the window ends.

    Nothing is known before the first answer and when a window is over, so one request goes ahead
    and the others wait for what it brings. A service that says nothing limits nothing.

    Attributes:
        limit: requests in a window, as last told; None: not known.
        remaining: how many of them were left; None: not known.
    """

    def __init__(self) -> None:
        self.limit: int | None = None
        self.remaining: int | None = None
        self._ends_at = 0.0
        self._silent = False

    def delay(self, now: float, in_flight: int) -> float:
        """Seconds until another request may start; infinity: not before one was answered."""
        if self._silent:
            return 0.0
        if self.remaining is not None and now >= self._ends_at:
            self.remaining = None
        if self.remaining is None:
            return math.inf if in_flight else 0.0
        # Those on their way may or may not be in the service's count already.
        if self.remaining > in_flight:
            return 0.0
        return self._ends_at - now

    def window(self, now: float) -> float:
        """Seconds until the window ends; 0 when that is not known."""
        return max(0.0, self._ends_at - now)

    def observe(self, headers: Mapping[str, str], now: float, *, server_time: float) -> None:
        """Take note of an answer's `X-RateLimit-*` and `Retry-After` (documented by Flowy).

        Args:
            headers: looked up without regard to case.
            now: the event loop's time.
            server_time: the Unix time when the answer was made, by the server's own clock.
        """
        remaining = _number(headers.get("X-RateLimit-Remaining"))
        reset = _number(headers.get("X-RateLimit-Reset"))
        if remaining is None or reset is None:
            self._silent = self.remaining is None
            return
        self._silent = False
        limit = _number(headers.get("X-RateLimit-Limit"))
        self.limit = None if limit is None else int(limit)
        # Some services give the seconds that are left in place of the time.
        ends_at = now + (reset - server_time if reset > server_time / 2 else reset)
        if self.remaining is None or ends_at > self._ends_at + 1:
            self._ends_at = ends_at
            self.remaining = int(remaining)
        else:  # answers overtake each other: within a window, the least is the newest
            self.remaining = min(self.remaining, int(remaining))
        pause = _number(headers.get("Retry-After"))
        if pause is not None and self.remaining == 0:
            # Told by no clock but ours. Whatever the window, something is left then.
            self._ends_at = min(self._ends_at, now + pause)


class AdaptiveLimit:
    """A number of requests under way that is found by trying: more while the service takes them,
    fewer at once when it refuses one.

    Until the first refusal it grows by one with every answer, so it doubles with every round; then
    by one with every round, and stays below what was refused. What was refused is tried again
    after a patience that doubles each time it is refused again, and in larger steps while it is
    not.
    """

    FIRST_PATIENCE = 10.0
    MAX_PATIENCE = 120.0
    DECREASE = 0.75

    def __init__(self, bounds: Adaptive) -> None:
        self.bounds = bounds
        self._value = float(bounds.start)
        self._refused = math.inf  # the least that was too much
        self._retry_at = 0.0
        self._patience = self.FIRST_PATIENCE
        self._lift = 1

    @property
    def limit(self) -> int:
        """How many may be under way."""
        return int(self._value)

    def succeeded(self, now: float, in_flight: int) -> bool:
        """A request was answered well while `in_flight` were under way; whether the limit rose."""
        before = self.limit
        if in_flight < before:
            return False  # what is not used up proves nothing
        if self._refused < math.inf and now >= self._retry_at:
            if self._lift > 1:
                self._patience = self.FIRST_PATIENCE
            self._refused += self._lift
            self._lift *= 2
            self._retry_at = now + self._patience
        step = 1.0 if self._refused == math.inf else 1.0 / self._value
        most = min(self.bounds.max, self._refused - 1)
        self._value = max(self._value, min(self._value + step, most))
        return self.limit > before

    def refused(self, now: float, in_flight: int) -> None:
        """The service asked to slow down while `in_flight` were under way."""
        tried = max(1, min(in_flight, self.limit))
        if tried >= self._refused - 1:
            self._patience = min(self._patience * 2, self.MAX_PATIENCE)
        self._lift = 1
        self._refused = max(tried, self.bounds.min + 1)
        self._retry_at = now + self._patience
        self._value = max(float(self.bounds.min), math.floor(tried * self.DECREASE))


def _number(text: str | None) -> float | None:
    try:
        number = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return max(0.0, number) if math.isfinite(number) else None
