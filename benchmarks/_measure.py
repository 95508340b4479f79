"""Measuring side by side, because the machine's speed drifts.

The contenders of one comparison take turns: every round runs each of them once, in an order that
rotates, and a comparison is the ratio of two medians over the same rounds. Absolute times are
shown for orientation only.

    results = measure({"ours": ours, "theirs": theirs}, rounds=15)
    print(results["ours"].median, results["ours"].spread, results["ours"] / results["theirs"])
"""

from __future__ import annotations

import gc
import importlib.metadata
import os
import platform
import statistics
import sys
import time
import tracemalloc
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence


@dataclass(frozen=True)
class Timing:
    """The seconds that one call took, one sample a round."""

    samples: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def spread(self) -> float:
        """Half the distance of the quartiles, as a share of the median."""
        if len(self.samples) < 2:
            return 0.0
        low, _, high = statistics.quantiles(self.samples, n=4, method="inclusive")
        return (high - low) / 2 / self.median

    def __truediv__(self, other: Timing) -> float:
        """How many times the other's median this one's is."""
        return self.median / other.median


def measure(
    contenders: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 15,
    sample_seconds: float = 0.02,
    clock: Callable[[], float] = time.process_time,
) -> dict[str, Timing]:
    """Time the contenders in interleaved rounds.

    Args:
        contenders: name to a function that does the whole work once.
        rounds: samples of each contender.
        sample_seconds: a sample repeats the work until about this long has passed.
        clock: CPU time of this process by default, which other processes disturb least; pass
            `time.perf_counter` where waiting counts.
    """
    repeats = {}
    for name, work in contenders.items():
        work()  # warm up: specialisation, caches, imports
        start = clock()
        work()
        repeats[name] = max(1, round(sample_seconds / max(clock() - start, 1e-9)))
    samples: dict[str, list[float]] = {name: [] for name in contenders}
    order = list(contenders)
    for _ in range(rounds):
        for name in order:
            work, count = contenders[name], repeats[name]
            gc.collect()
            start = clock()
            for _ in range(count):
                work()
            samples[name].append((clock() - start) / count)
        order.append(order.pop(0))
    return {name: Timing(tuple(taken)) for name, taken in samples.items()}


def peak_memory(work: Callable[[], object]) -> int:
    """The most bytes that Python held at once during `work`, beyond those held before."""
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        work()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def header(*packages: str) -> str:
    """What was measured on: the interpreter, the machine, the packages' versions."""
    versions = (f"{package} {importlib.metadata.version(package)}" for package in packages)
    return " | ".join(
        [
            f"{platform.python_implementation()} {platform.python_version()}",
            f"{sys.platform} {platform.machine()}, {os.cpu_count()} CPUs",
            *versions,
        ]
    )


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Rows of cells under columns, the first column to the left, the others to the right."""
    lines = [list(columns), *([str(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "  ".join(
            cell.rjust(width) if index else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )
