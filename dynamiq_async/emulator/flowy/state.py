"""What Flowy keeps between requests: keys, limits, apps, runs.

Everything that depends on time goes by `Flowy.clock`. That there is a cap on runs in flight, and
how large it is, is our guess.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .apps import BUILTIN_FLOWY, FlowyApp
from .rate_limits import RateLimits

if TYPE_CHECKING:
    from collections.abc import Callable

    from .runs import FlowyRun

DEFAULT_FLOWY_KEY = "flowy_sk_emulator"
DEFAULT_PUBLISHABLE_KEY = "flowy_pk_emulator"
DAY = 86_400
"""Seconds."""


@dataclass(eq=False, kw_only=True)
class Flowy:
    """What Flowy knows, and how it behaves. May be changed while the emulator runs.

    Attributes:
        key, publishable_key: what clients may send.
        limits: requests a minute, by key.
        max_runs: runs in flight, for each key; beyond it: 429.
        retry_after: seconds to wait that such a 429 asks for.
        daily_runs: runs that each key may start on a UTC day; beyond it: 402. None: no cap.
        queue_seconds: how long a run is queued.
        link_seconds: how long a link to an output works.
        apps: the apps, by id.
        runs: the runs, by id, oldest first.
        clock: gives the Unix time.
    """

    key: str = DEFAULT_FLOWY_KEY
    publishable_key: str = DEFAULT_PUBLISHABLE_KEY
    limits: dict[str, int] = field(
        default_factory=lambda: {DEFAULT_FLOWY_KEY: 60, DEFAULT_PUBLISHABLE_KEY: 120}
    )
    max_runs: int = 10
    retry_after: int = 5
    daily_runs: int | None = None
    queue_seconds: float = 0.0
    link_seconds: float = 600.0
    apps: dict[str, FlowyApp] = field(default_factory=lambda: dict(BUILTIN_FLOWY))
    runs: dict[str, FlowyRun] = field(default_factory=dict)
    clock: Callable[[], float] = time.time
    rate_limits: RateLimits = field(default_factory=RateLimits, repr=False)

    def take_request(self, key: str) -> tuple[dict[str, str], bool]:
        """Count a request: the headers of its response, and whether it is over the rate limit."""
        limit = self.limits.get(key, min(self.limits.values()))
        return self.rate_limits.take(key, limit, self.clock())

    def in_flight(self, key: str) -> int:
        """How many of a key's runs are not over."""
        now = self.clock()
        return sum(run.key == key and now < run.ends_at for run in self.runs.values())

    def spent(self, key: str) -> int:
        """How many runs a key has started on this UTC day."""
        today = self.clock() // DAY
        return sum(r.key == key and r.created_at // DAY == today for r in self.runs.values())
