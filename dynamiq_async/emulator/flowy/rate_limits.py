"""Rate limits of Flowy: requests are counted by key, in windows of a minute.

The vendor documents the `X-RateLimit-*` headers and `Retry-After`.
"""

from __future__ import annotations

import math
from collections import Counter
from email.utils import formatdate

WINDOW = 60
"""Seconds."""


class RateLimits:
    """How many requests each key has sent in each window."""

    def __init__(self) -> None:
        self._used: Counter[tuple[str, int]] = Counter()

    def take(self, key: str, limit: int, now: float) -> tuple[dict[str, str], bool]:
        """Count a request at the time `now`, unless the key's limit is reached.

        Returns the headers that say what is left, and whether the limit was reached before.
        """
        window = int(now // WINDOW)
        over = self._used[key, window] >= limit
        if not over:
            self._used[key, window] += 1
        ends = (window + 1) * WINDOW
        headers = {
            "Date": formatdate(now, usegmt=True),
            "X-RateLimit-Limit": str(limit),
            "X-RateLimit-Remaining": str(limit - self._used[key, window]),
            "X-RateLimit-Reset": str(ends),
        }
        if over:
            headers["Retry-After"] = str(max(1, math.ceil(ends - now)))
        return headers, over
