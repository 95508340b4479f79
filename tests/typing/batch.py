"""What type checkers see of batches. Checked by `test_api.py`; not run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, assert_type

import msgspec

from dynamiq_async import (
    Adaptive,
    AsyncApp,
    BatchProgress,
    Map,
    MapFailure,
    MapResult,
    MapSuccess,
    RunEvent,
    StreamEvent,
    StreamItem,
    StreamMany,
)
from dynamiq_async.batch.journal import Header, MemoryJournal, Record


class Answer(msgspec.Struct):
    text: str


async def length(app: AsyncApp, input: Any) -> int:
    return len(await app.invoke(input))


class OwnJournal:
    async def load(self, header: Header) -> Header:
        return header

    async def begin(self, records: Sequence[Record]) -> list[Record]:
        return []

    async def end(self, records: Sequence[Record]) -> None: ...

    async def withdraw(self, before: Mapping[str, Record | None]) -> None: ...

    async def close(self) -> None: ...


async def maps(app: AsyncApp, inputs: list[dict[str, str]]) -> None:
    assert_type(app.map(inputs), Map[Any])
    assert_type(app.map(inputs, output_type=Answer, ordered=True), Map[Answer])
    assert_type(app.map(inputs, call=length, key="id", concurrency=Adaptive(max=9)), Map[int])
    assert_type(app.map(inputs, call=length, output_type=int, journal="job.db"), Map[int])
    async with app.map(inputs, output_type=Answer, rate="60/m", journal="job.db") as results:
        assert_type(results.progress, BatchProgress)
        async for result in results:
            assert_type(result, MapResult[Answer])
            assert_type(result.unwrap(), Answer)
            assert_type(result.key, str | int)
            assert_type(result.ok, bool)
            by_error(result)
            by_class(result)
            by_ok(result)
    assert_type(await app.batch(inputs, mode="run"), list[MapResult[Any]])
    app.map(inputs, journal=MemoryJournal())
    app.map(inputs, journal=OwnJournal())
    app.map(inputs, journal=5)  # type: ignore[call-overload] # neither a path nor a store
    assert_type(await app.batch(inputs, output_type=Answer), list[MapResult[Answer]])
    assert_type(await app.batch(inputs, call=length), list[MapResult[int]])
    assert_type(await app.batch(inputs, call=length, output_type=int), list[MapResult[int]])
    optional: Map[Answer | None] = app.map(inputs, output_type=Answer | None)
    literal: Map[Literal["a"]] = app.map(inputs, output_type=Literal["a"], ordered=True)
    text = app.map(inputs, output_type=Annotated[str, msgspec.Meta(min_length=1)])
    short: Map[str] = text
    del optional, literal, short
    assert_type(app.map(inputs, call=length, output_type=int | None), Map[int])
    either: list[MapResult[Answer | int]] = await app.batch(inputs, output_type=Answer | int)
    del either
    assert_type(await app.batch(inputs, call=length, output_type=int | None), list[MapResult[int]])
    app.map(inputs, order=True)  # type: ignore[call-overload]  # ty takes it


def by_error(result: MapResult[Answer]) -> None:
    if result.error is None:
        assert_type(result, MapSuccess[Answer])
        assert_type(result.output, Answer)
        assert_type(result.unwrap(), Answer)
    else:
        assert_type(result, MapFailure)
        assert_type(result.error, Exception)
        assert_type(result.output, None)


def by_class(result: MapResult[Answer]) -> Answer | None:
    if isinstance(result, MapSuccess):
        assert_type(result, MapSuccess[Answer])
    else:
        assert_type(result, MapFailure)
    match result:
        case MapSuccess(key=key, output=output):
            assert_type(key, str | int)
            assert_type(output, Answer)
            return output
        case MapFailure(error=error):
            assert_type(error, Exception)
            return None


def by_ok(result: MapResult[Answer]) -> None:
    if result.ok is True:
        assert_type(result, MapSuccess[Answer])
        assert_type(result.output, Answer)
    else:
        assert_type(result, MapFailure)
    # Some take only a comparison for a sign of what an attribute belongs to.
    if result.ok:
        assert_type(result.output, Answer)  # pyright refuses it, pyrefly refuses it
        assert_type(result.error, None)  # pyright refuses it, pyrefly refuses it
    else:
        assert_type(result.error, Exception)  # pyright refuses it, pyrefly refuses it
        assert_type(result.output, None)  # pyright refuses it, pyrefly refuses it


async def streams(app: AsyncApp, inputs: list[dict[str, str]]) -> None:
    assert_type(app.stream_many(inputs), StreamMany[StreamEvent])
    async for item in app.stream_many(inputs, mode="run", dedupe=True):
        assert_type(item, StreamItem[RunEvent])


async def frames(app: AsyncApp) -> None:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

    for frame in (pd.DataFrame(), pl.DataFrame(), pa.table({})):
        await app.batch(frame, job="nightly", shard="2/8", progress=True)
    app.map(pa.table({}), shard=(2, 8), total=7, progress=lambda figures: figures.done)
    result = (await app.batch([{}], output_type=int))[0]
    assert_type(result.asdict(), dict[str, Any])
