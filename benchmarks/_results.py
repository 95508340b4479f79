"""What was measured, as data: comparisons, their goals, and the machine they ran on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Self

from msgspec import Struct, field

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from benchmarks._measure import Sample

OURS = "dynamiq_async"

PACKAGES = (
    "dynamiq-async",
    "aiohttp",
    "msgspec",
    "uvloop",
    "httpx",
    "httpx-sse",
    "openai",
    "anthropic",
    "langgraph-sdk",
    "launchdarkly-eventsource",
    "aiohttp-sse-client2",
    "sseclient-py",
    "niquests",
)


class Spread(Struct, frozen=True):
    """A median and the quartiles around it."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Self:
        values = list(values)
        if len(values) < 2:
            return cls(*values * 3)
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)


class Goal(Struct, frozen=True):
    """A limit on one contender's cost as a multiple of another's, or as it is.

    Attributes:
        of: the contender whose cost counts.
        to: the contender it is divided by, round by round; None for the cost itself.
        at_most, at_least: the limit.
    """

    of: str
    to: str | None = None
    at_most: float | None = None
    at_least: float | None = None

    @property
    def what(self) -> str:
        return self.of if self.to is None else f"{self.of} ÷ {self.to}"

    @property
    def limit(self) -> str:
        return f"≤ {self.at_most:g}" if self.at_most is not None else f"≥ {self.at_least:g}"

    def met(self, measured: Spread) -> bool:
        if self.at_most is not None:
            return measured.median <= self.at_most
        return self.at_least is not None and measured.median >= self.at_least


class Comparison(Struct):
    """Contenders that took turns at the same work.

    Attributes:
        area: what was measured, such as `decoder`.
        name: with which input.
        unit: of the samples.
        columns: the contenders, in the order in which they are shown.
        base: the contender that the others are shown as multiples of.
        samples: the cost of each unit of work, one number a round.
        wall: the seconds on the clock for each unit of work, where waiting counts.
        notes: why a contender has no samples.
    """

    area: str
    name: str
    unit: str
    columns: list[str]
    base: str
    samples: dict[str, list[float]]
    goals: list[Goal] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)
    wall: dict[str, list[float]] = field(default_factory=dict)

    @property
    def full_name(self) -> str:
        return f"{self.area}: {self.name}"

    def cost(self, contender: str) -> Spread:
        return Spread.of(self.samples[contender])

    def ratio(self, of: str, to: str) -> Spread:
        """How many times the cost of `to` that of `of` is, as the median over the rounds."""
        pairs = zip(self.samples[of], self.samples[to], strict=True)
        return Spread.of(one / other for one, other in pairs)

    def measured(self, goal: Goal) -> Spread | None:
        """What a goal is about, or None if a contender is missing."""
        if not {goal.of, goal.to or goal.of} <= self.samples.keys():
            return None
        return self.cost(goal.of) if goal.to is None else self.ratio(goal.of, goal.to)


def compared(
    area: str,
    name: str,
    taken: tuple[Mapping[str, list[Sample]], Mapping[str, str]],
    *,
    unit: str,
    per_second: float,
    columns: Iterable[str],
    base: str = OURS,
    goals: Iterable[Goal] = (),
    notes: Mapping[str, str] | None = None,
    wall: bool = False,
) -> Comparison:
    """A comparison of the CPU seconds that were sampled; `per_second` turns them into `unit`."""
    samples, failed = taken
    return Comparison(
        area=area,
        name=name,
        unit=unit,
        columns=list(columns),
        base=base,
        samples={k: [s.cpu * per_second for s in v] for k, v in samples.items()},
        goals=list(goals),
        notes=dict(notes or {}) | dict(failed),
        wall={k: [s.wall for s in v] for k, v in samples.items()} if wall else {},
    )


class Machine(Struct):
    """What it ran on."""

    cpu: str
    cores: int
    system: str
    python: str
    versions: dict[str, str]

    @classmethod
    def here(cls) -> Self:
        return cls(
            cpu=_cpu(),
            cores=os.cpu_count() or 1,
            system=f"{platform.system()} {platform.release()}, {platform.machine()}",
            python=f"{platform.python_implementation()} {platform.python_version()}",
            versions={package: version(package) for package in PACKAGES},
        )


class Results(Struct):
    """A whole run."""

    machine: Machine
    complete: bool
    comparisons: list[Comparison] = field(default_factory=list)


def version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _cpu() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown CPU"
