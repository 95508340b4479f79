"""Measuring side by side, because the machine's speed drifts.

The contenders of one comparison take turns: every round runs each of them once, in an order that
rotates, so that what slows the machine down slows them all down. A contender that raises leaves
the comparison, and what it said is kept: a wrong result has no speed.
"""

from __future__ import annotations

import asyncio
import gc
import time
import tracemalloc
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

Sampler = Callable[[], "Sample"]


class Sample(NamedTuple):
    """What one turn cost, in seconds for each unit of work: of CPU, and on the clock."""

    cpu: float
    wall: float


class Work(NamedTuple):
    """A contender's work.

    Attributes:
        run: does it once.
        units: how many units of work that is.
        check: raises `WrongResultError` for a result of `run` that is not right.
    """

    run: Callable[[], object]
    units: int = 1
    check: Callable[[Any], None] = lambda result: None


class Settings(NamedTuple):
    """What the measurements run with.

    Attributes:
        quick: only prove that everything works.
        url: of the server.
        runners: an event loop of each kind, by its name.
    """

    quick: bool
    url: str
    runners: Mapping[str, asyncio.Runner]

    def rounds(self, full: int) -> int:
        return 2 if self.quick else full

    def seconds(self, full: float) -> float:
        return full / 10 if self.quick else full


class WrongResultError(Exception):
    """A contender did not deliver what it should have."""


def expect(got: object, wanted: object, what: str = "events") -> None:
    """Raise `WrongResultError` unless that many were delivered."""
    if got != wanted:
        raise WrongResultError(f"{got} of {wanted} {what}")


def take_turns(
    samplers: Mapping[str, Sampler], rounds: int
) -> tuple[dict[str, list[Sample]], dict[str, str]]:
    """The samples of each contender, and why those have none that failed."""
    samples: dict[str, list[Sample]] = {name: [] for name in samplers}
    failed: dict[str, str] = {}
    order = list(samplers)
    # What is there before is nobody's garbage; looking through it each time would take long.
    gc.collect()
    gc.freeze()
    for _ in range(rounds):
        for name in order:
            if name not in failed:
                try:
                    samples[name].append(samplers[name]())
                except Exception as error:  # noqa: BLE001 - shown in the table
                    failed[name] = complaint(error)
        order.append(order.pop(0))
    gc.unfreeze()
    return {name: taken for name, taken in samples.items() if name not in failed}, failed


def measure(
    works: Mapping[str, Work], *, rounds: int, seconds: float
) -> tuple[dict[str, list[Sample]], dict[str, str]]:
    """Time the works in interleaved rounds; each sample repeats a work for about `seconds`."""
    samplers: dict[str, Sampler] = {}
    failed: dict[str, str] = {}
    for name, work in works.items():
        try:
            work.check(work.run())  # which also warms up: specialisation, caches, imports
            cpu = time.process_time()
            work.run()
            once = time.process_time() - cpu
        except Exception as error:  # noqa: BLE001 - shown in the table
            failed[name] = complaint(error)
        else:
            samplers[name] = _sampler(work, max(1, round(seconds / max(once, 1e-6))))
    samples, failed_later = take_turns(samplers, rounds)
    return samples, failed | failed_later


def _sampler(work: Work, repeats: int) -> Sampler:
    return lambda: _time(work, repeats)


def _time(work: Work, repeats: int) -> Sample:
    run = work.run
    gc.collect()
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(repeats):
        run()
    units = repeats * work.units
    return Sample((time.process_time() - cpu) / units, (time.perf_counter() - wall) / units)


def complaint(error: Exception) -> str:
    """What a contender got wrong, as a table has room for it."""
    said = " ".join(str(error).split())
    if not isinstance(error, WrongResultError):
        said = f"{type(error).__name__}: {said}"
    return said if len(said) <= 100 else f"{said[:99]}…"


def peak_memory(run: Callable[[], object]) -> int:
    """The most bytes that Python held at once during `run`, beyond those held before."""
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        run()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
