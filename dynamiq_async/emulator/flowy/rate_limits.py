"""Rate limits of Flowy: requests are counted by key, in windows of a minute.

The vendor documents the `X-RateLimit-*` headers and `Retry-After`.
"""

from __future__ import annotations

from collections import Counter

WINDOW = 60
"""Seconds."""


class RateLimits:
    """How many requests each key has sent in each window."""

    def __init__(self) -> None:
        self._used: Counter[tuple[str, int]] = Counter()

    def take(self, key: str, limit: int, now: float) -> float | None:
        """Count a request at the time `now`. If the key's limit is reached, do not count it, and
        return the seconds until the key may send another."""
        window = int(now // WINDOW)
        if self._used[key, window] >= limit:
            return (window + 1) * WINDOW - now
        self._used[key, window] += 1
        return None

    def told(self, key: str, limit: int, now: float) -> dict[str, str]:
        """The headers that say how many requests are left."""
        window = int(now // WINDOW)
        return {
            "X-RateLimit-Limit": str(limit),
            "X-RateLimit-Remaining": str(limit - self._used[key, window]),
            "X-RateLimit-Reset": str((window + 1) * WINDOW),
        }
