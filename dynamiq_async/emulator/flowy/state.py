"""Flowy's state between requests: keys, limits, credits, apps, runs and generations.

Everything that depends on time uses `Flowy.clock`. The cap on runs in flight and the cost of a run
are our guess.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from .apps import BUILTIN_FLOWY, FlowyApp
from .rate_limits import RateLimits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .jobs import FlowyGeneration, FlowyJob, FlowyRun

DEFAULT_FLOWY_KEY = "flowy_sk_emulator"
DEFAULT_PUBLISHABLE_KEY = "flowy_pk_emulator"
DAY = 86_400
"""Seconds."""


@dataclass(eq=False, kw_only=True)
class Flowy:
    """Flowy's state and settings. May be changed while the emulator runs.

    Attributes:
        key, publishable_key: the keys that clients may send.
        scopes: the scopes of a key, by key; a key that is missing here may do everything.
        inputs_form: the accepted form of a run's inputs: a `map` by node id, an `array` of entries,
            or `both`. Which one Flowy accepts is not known.
        limits: requests per minute, by key.
        limits_told: which responses say how many requests are left: `successful` ones, as on the
            vendor's newest page, or `all`.
        max_runs: the most runs and generations in flight for each key; beyond it: 429.
        retry_after: the seconds to wait in such a 429.
        daily_runs: the most runs and generations that each key may start on a UTC day; beyond it:
            402. None: no cap.
        credits: the credits of the workspace; beyond them: 402.
        run_credits: the cost of each run and generation. A failed one costs nothing.
        queue_seconds: how long a run is queued.
        generation_seconds: how long a generation takes.
        link_seconds: how long a link to an output works.
        renews_links: whether each response for a run or generation has new links. If not, new links
            come from the assets.
        apps: the apps, by id.
        runs, generations: the runs and generations, by id, oldest first.
        clock: returns the Unix time.
    """

    key: str = DEFAULT_FLOWY_KEY
    publishable_key: str = DEFAULT_PUBLISHABLE_KEY
    scopes: dict[str, frozenset[str]] = field(default_factory=dict)
    inputs_form: Literal["both", "map", "array"] = "both"
    limits: dict[str, int] = field(
        default_factory=lambda: {DEFAULT_FLOWY_KEY: 60, DEFAULT_PUBLISHABLE_KEY: 120}
    )
    limits_told: Literal["successful", "all"] = "successful"
    max_runs: int = 10
    retry_after: int = 5
    daily_runs: int | None = None
    credits: int = 1_000_000
    run_credits: int = 10
    queue_seconds: float = 0.0
    generation_seconds: float = 0.0
    link_seconds: float = 600.0
    renews_links: bool = True
    apps: dict[str, FlowyApp] = field(default_factory=lambda: dict(BUILTIN_FLOWY))
    runs: dict[str, FlowyRun] = field(default_factory=dict)
    generations: dict[str, FlowyGeneration] = field(default_factory=dict)
    clock: Callable[[], float] = time.time
    rate_limits: RateLimits = field(default_factory=RateLimits, repr=False)

    def take_request(self, key: str) -> float | None:
        """Count a request. Over the rate limit, return the seconds until the key may send one."""
        return self.rate_limits.take(key, self._limit(key), self.clock())

    def told_limits(self, key: str) -> dict[str, str]:
        """The headers of a response that say how many requests are left."""
        return self.rate_limits.told(key, self._limit(key), self.clock())

    def _limit(self, key: str) -> int:
        return self.limits.get(key, min(self.limits.values()))

    def jobs(self) -> Iterator[FlowyJob]:
        """All runs and generations."""
        yield from self.runs.values()
        yield from self.generations.values()

    def job(self, id: str) -> FlowyJob | None:
        """The run or generation with this id."""
        return self.runs.get(id) or self.generations.get(id)

    def in_flight(self, key: str) -> int:
        """How many of a key's runs and generations are not over."""
        now = self.clock()
        return sum(job.key == key and now < job.ends_at for job in self.jobs())

    def spent(self, key: str) -> int:
        """How many runs and generations a key has started on this UTC day."""
        today = self.clock() // DAY
        return sum(job.key == key and job.created_at // DAY == today for job in self.jobs())

    def balance(self) -> tuple[int, int]:
        """The workspace's credits, and how many of them are blocked."""
        costs = [job.cost(self.clock()) for job in self.jobs()]
        return self.credits - sum(spent for spent, _ in costs), sum(held for _, held in costs)
