"""`Tally`: the figures of a batch."""

from __future__ import annotations

from collections import deque
from time import perf_counter
from typing import TYPE_CHECKING, Any

from dynamiq_async import errors

if TYPE_CHECKING:
    from dynamiq_async._telemetry import Batch, Telemetry
    from dynamiq_async.batch.models import MapResult
    from dynamiq_async.batch.stopping import StopRules
    from dynamiq_async.events import Usage

SAMPLE_SECONDS = 1.0
SAMPLES = 30
"""The rate is measured over the last `SAMPLES` samples, taken `SAMPLE_SECONDS` apart."""


class Tally:
    """The figures of a batch, and the rules by which its results can stop it."""

    def __init__(self, rules: StopRules, telemetry: Telemetry) -> None:
        self.rules = rules
        self.telemetry = telemetry
        self.batch: Batch | None = None
        self.started: int = 0
        self.done: int = 0
        self.failed: int = 0
        self.unknown: int = 0
        self.skipped: int = 0
        self.found: int = 0
        self.usage: Usage | None = None
        self._worked = 0
        self._samples: deque[tuple[float, int]] = deque(maxlen=SAMPLES)
        self._next_sample = 0.0
        self._ended_at: float | None = None

    def begin(self) -> None:
        """Take the first sample of the rate."""
        self._sample(perf_counter())

    def end(self) -> None:
        """Record the time of the end, so that the rate no longer changes."""
        self._ended_at = perf_counter()

    def count(self, result: MapResult[Any], time: float) -> None:
        """Count a result that was finished at `time`, by `perf_counter`."""
        self.done += 1
        self.found += result.found
        if result.usage is not None:
            self.usage = result.usage if self.usage is None else self.usage + result.usage
        if result.error is not None:
            self.failed += 1
            self.unknown += isinstance(result.error, errors.AmbiguousOutcomeError)
        if self.batch is not None:
            self.batch.count(result)
        if result.from_journal:
            self.skipped += 1
            return
        self.rules.judge(result)
        self._worked += 1
        if time >= self._next_sample:
            self._sample(time)

    def _sample(self, time: float) -> None:
        self._samples.append((time, self._worked))
        self._next_sample = time + SAMPLE_SECONDS

    @property
    def rate(self) -> float:
        """Recent results a second."""
        if not self._samples:
            return 0.0
        time, worked = self._samples[0]
        seconds = (perf_counter() if self._ended_at is None else self._ended_at) - time
        return (self._worked - worked) / seconds if seconds > 0 else 0.0
