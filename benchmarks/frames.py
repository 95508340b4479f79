"""Frames: rows in, against a list of mappings, and results out as record batches and Parquet.

The calls themselves are nothing here, so that what remains is the batch's own work. The memory is
the growth of the process from a batch of 10,000 rows to one of 100,000.
"""

from __future__ import annotations

import asyncio
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import chain, repeat
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks._loops import Task, on_each_loop
from benchmarks._measure import complaint, expect
from benchmarks._results import Comparison, Goal
from benchmarks.memory import peak_rss
from dynamiq_async import AsyncApp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks._measure import Settings

TABLES = {
    "frames": "Frames in and out of a batch whose calls do nothing",
    "frames: growth": "Growth from 10,000 rows to 100,000, in from a table and out to Parquet",
}

LIST = "a list of mappings"
OUTPUT = {"output": {"text": "It is on its way.", "tickets": 2}}
MB = 1_000_000


def run(settings: Settings) -> Iterator[Comparison]:
    count = 1_000 if settings.quick else 100_000
    frames = {loop: _tasks(count) for loop in settings.runners}
    yield from on_each_loop(
        settings,
        "frames",
        f"{count:,} rows",
        frames,
        unit="µs of CPU per row",
        per_second=1e6,
        base=LIST,
        rounds=3,
    )
    yield _growth(settings)


def _tasks(count: int) -> dict[str, Task]:
    table = table_of(count)
    rows = table.to_pylist()
    ways: dict[str, Callable[[], Any]] = {LIST: lambda: rows, "pyarrow": lambda: table}
    for name, make in (("pandas", lambda: table.to_pandas()), ("polars", _polars(table))):
        try:
            frame = make()
        except ImportError:
            continue
        ways[name] = partial(lambda given: given, frame)
    tasks = {name: Task(partial(read, way, count), count) for name, way in ways.items()}
    tasks["out: record batches"] = Task(partial(batches, count), count)
    tasks["out: Parquet"] = Task(partial(parquet, count), count)
    return tasks


def _polars(table: Any) -> Callable[[], Any]:
    def make() -> Any:
        import polars

        return polars.from_arrow(table)

    return make


def table_of(count: int) -> Any:
    import pyarrow

    return pyarrow.table(
        {
            "id": list(range(count)),
            "question": [f"Where is parcel {n}?" for n in range(count)],
            "weight": [n / 7 for n in range(count)],
        }
    )


def reader_of(count: int) -> Any:
    """The same rows, made as they are read."""
    import pyarrow

    piece = table_of(1_000)
    batches = chain.from_iterable(piece.to_batches() for _ in range(count // 1_000))
    return pyarrow.RecordBatchReader.from_batches(piece.schema, batches)


async def nothing(app: AsyncApp, input: Any) -> Any:
    return OUTPUT


async def read(frame: Callable[[], Any], count: int) -> None:
    async with AsyncApp("http://127.0.0.1:9", access_key="k") as app:
        results = app.map(frame(), call=nothing, key="id", include_input=False)
        expect(len([None async for _ in results]), count, "results")


async def batches(count: int) -> None:
    async with AsyncApp("http://127.0.0.1:9", access_key="k") as app:
        results = app.map(repeat({}, count), call=nothing)
        rows = 0
        async for batch in results.arrow_batches():
            rows += batch.num_rows
        expect(rows, count, "rows")


async def parquet(count: int, table: Any = None) -> None:
    from pyarrow.parquet import ParquetWriter

    with tempfile.TemporaryDirectory() as folder:
        async with AsyncApp("http://127.0.0.1:9", access_key="k") as app:
            inputs = repeat({}, count) if table is None else table
            results = app.map(inputs, call=nothing)
            writer = None
            async for batch in results.arrow_batches():
                if writer is None:
                    writer = ParquetWriter(Path(folder) / "out.parquet", batch.schema)
                writer.write_batch(batch)
            expect(results.progress.done, count, "rows")
            if writer is not None:
                writer.close()


def _growth(settings: Settings) -> Comparison:
    first, longer = (1_000, 2_000) if settings.quick else (10_000, 100_000)
    samples: dict[str, list[float]] = {}
    notes = {}
    name = "in and out"
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
        try:
            samples[name] = [fresh.submit(growth, first, longer).result() / MB]
        except Exception as error:  # noqa: BLE001 - shown in the table
            notes[name] = complaint(error)
    return Comparison(
        "frames: growth",
        "100,000 rows",
        unit="MB",
        columns=[name],
        base=name,
        samples=samples,
        goals=[Goal(name, at_most=20.0)],
        notes=notes,
    )


def growth(first: int, longer: int) -> float:
    """In a process of its own: how much the peak of the memory rises, in bytes."""
    asyncio.run(parquet(first, reader_of(first)))
    before = peak_rss()
    asyncio.run(parquet(longer, reader_of(longer)))
    return peak_rss() - before
