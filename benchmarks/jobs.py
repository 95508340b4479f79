"""`job=`: what it costs that the service is the journal, against one on this machine, and what
a run costs that is found.

The service is the emulator, in a process of its own. What counts is the client's CPU for each
input, and in a table of its own the clock, on which the emulator has its part.
"""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import contextmanager
from functools import partial
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks._loops import Task, on_each_loop
from benchmarks._measure import expect
from benchmarks._results import Comparison
from dynamiq_async import AsyncApp
from dynamiq_async.emulator import Emulator

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

    from benchmarks._measure import Settings

TABLES = {
    "jobs": "Runs of a batch at concurrency 32: of a job, and with a journal",
    "jobs: throughput": "The same by the clock",
}

CONCURRENCY = 32
PLAIN, JOURNALED = "mode='run'", "mode='run' with a journal"
MADE, FOUND = "job=", "job=, found"


def run(settings: Settings) -> Iterator[Comparison]:
    inputs = 20 if settings.quick else 500
    with _emulator() as url, tempfile.TemporaryDirectory() as folder:
        tasks = {loop: _tasks(url, inputs, Path(folder)) for loop in settings.runners}
        for measured in on_each_loop(
            settings,
            "jobs",
            "runs",
            tasks,
            unit="µs of CPU per input",
            per_second=1e6,
            base=PLAIN,
            rounds=5,
            wall=True,
        ):
            yield measured
            yield Comparison(
                "jobs: throughput",
                measured.name,
                unit="µs per input",
                columns=measured.columns,
                base=measured.base,
                samples={k: [s * 1e6 for s in v] for k, v in measured.wall.items()},
            )


def _tasks(url: str, inputs: int, folder: Path) -> dict[str, Task]:
    numbers = count()
    home = folder / f"{id(numbers)}"
    home.mkdir()

    async def batch(**options: Any) -> None:
        async with AsyncApp(url, access_key="k") as app:
            given = [{"n": n} for n in range(inputs)]
            results = app.map(given, mode="run", concurrency=CONCURRENCY, **options)
            done = [result.unwrap() async for result in results]
        expect(len(done), inputs, "results")

    return {
        PLAIN: Task(batch, inputs),
        JOURNALED: Task(lambda: batch(journal=home / f"{next(numbers)}.db"), inputs),
        MADE: Task(lambda: batch(job=f"{home} {next(numbers)}"), inputs),
        FOUND: Task(partial(batch, job=f"{home} found"), inputs),
    }


@contextmanager
def _emulator() -> Iterator[str]:
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    try:
        yield ours.recv()
    finally:
        process.kill()
        process.join()


def _serve(pipe: Connection) -> None:
    async def serve() -> None:
        async with Emulator("echo", access_key="k", log_limit=10) as emulator:
            pipe.send(emulator.url)
            await asyncio.get_running_loop().create_future()

    asyncio.run(serve())
