"""`AsyncApp.map`: many inputs over a fixed set of workers, against aiohttp with a semaphore written
by hand; in order, and with a journal.

What counts is the client's CPU for each input, that of the journal's thread included, and for the
journal the clock. The memory is the growth of the process from a batch to one that is ten times
longer.
"""

from __future__ import annotations

import asyncio
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import count, repeat
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks._clients import BARE_CALL, INPUT, Clients
from benchmarks._loops import Task, clients, on_each_loop
from benchmarks._measure import complaint, expect
from benchmarks._results import OURS, Comparison, Goal
from benchmarks.invoke import BARE_GOALS
from benchmarks.memory import peak_rss

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from benchmarks._measure import Settings

TABLES = {
    "batch": "`AsyncApp.map` at concurrency 100",
    "batch: throughput": "The same by the clock",
    "batch: growth": "Growth from a batch of 10,000 inputs to one of 100,000",
}

CONCURRENCY = 100
SEMAPHORE = f"{BARE_CALL} and a semaphore"
IN_ORDER, JOURNALED = "in order", "with a journal"
MB = 1_000_000


def run(settings: Settings) -> Iterator[Comparison]:
    inputs = 200 if settings.quick else 5_000
    with clients(settings) as opened, tempfile.TemporaryDirectory() as folder:
        for comparison in on_each_loop(
            settings,
            "batch",
            "map",
            {loop: _tasks(its, inputs, Path(folder)) for loop, its in opened.items()},
            unit="µs of CPU per input",
            per_second=1e6,
            goals=lambda loop: [
                Goal(OURS, SEMAPHORE, at_most=BARE_GOALS[loop]),
                Goal(IN_ORDER, OURS, at_most=1.05),
            ],
            rounds=9,
            wall=True,
        ):
            yield comparison
            yield _on_the_clock(comparison)
    yield _growth(settings)


def _on_the_clock(measured: Comparison) -> Comparison:
    """The same turns by the clock: the journal's thread works beside the event loop's."""
    return Comparison(
        "batch: throughput",
        measured.name,
        unit="µs per input",
        columns=measured.columns,
        base=measured.base,
        samples={k: [s * 1e6 for s in v] for k, v in measured.wall.items()},
        goals=[Goal(OURS, JOURNALED, at_least=0.85)],
    )


def _tasks(its: Clients, inputs: int, folder: Path) -> Mapping[str, Task]:
    numbers = count()

    async def journaled() -> None:
        await mapped(its, inputs, journal=folder / f"{id(its)}-{next(numbers)}.db")

    return {
        OURS: Task(partial(mapped, its, inputs), inputs),
        IN_ORDER: Task(partial(mapped, its, inputs, ordered=True), inputs),
        JOURNALED: Task(journaled, inputs),
        SEMAPHORE: Task(partial(by_hand, its, inputs), inputs),
    }


async def mapped(its: Clients, inputs: int, **options: Any) -> None:
    done = 0
    async with its.app().map(repeat(INPUT, inputs), concurrency=CONCURRENCY, **options) as results:
        async for result in results:
            expect(result.unwrap()["output"]["tickets"], 2, "as the answer")
            done += 1
    expect(done, inputs, "results")


async def by_hand(its: Clients, inputs: int) -> None:
    """What one writes without help: a task for each input, and no bound on what is held."""
    slots = asyncio.Semaphore(CONCURRENCY)

    async def one() -> Any:
        async with slots:
            return await its.call_bare()

    answers = await asyncio.gather(*(one() for _ in range(inputs)))
    for answer in answers:
        expect(answer["output"]["tickets"], 2, "as the answer")
    expect(len(answers), inputs, "results")


def _growth(settings: Settings) -> Comparison:
    first, longer = (200, 400) if settings.quick else (10_000, 100_000)
    samples: dict[str, list[float]] = {}
    notes = {}
    for name in (OURS, SEMAPHORE):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
            try:
                grown = fresh.submit(growth, settings.url, name, first, longer).result()
                samples[name] = [grown / MB]
            except Exception as error:  # noqa: BLE001 - shown in the table
                notes[name] = complaint(error)
    return Comparison(
        "batch: growth",
        "100,000 inputs",
        unit="MB",
        columns=[OURS, SEMAPHORE],
        base=OURS,
        samples=samples,
        goals=[Goal(OURS, at_most=2.0)],
        notes=notes,
    )


def growth(url: str, contender: str, first: int, longer: int) -> float:
    """In a process of its own: how much the peak of the memory rises, in bytes."""

    async def main() -> float:
        its = Clients(url)
        work = mapped if contender == OURS else by_hand
        await work(its, first)
        before = peak_rss()
        await work(its, longer)
        after = peak_rss()
        await its.aclose()
        return after - before

    return asyncio.run(main())
