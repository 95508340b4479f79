"""Frames as inputs: rows as mappings, with numbers, times and missing values as JSON has them."""

from __future__ import annotations

import builtins
import datetime as dt
import decimal
from typing import TYPE_CHECKING, Any

import duckdb
import msgspec
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from dynamiq_async import AsyncApp, errors
from dynamiq_async.batch.frames import ROWS, FrameRows, is_frame

if TYPE_CHECKING:
    from .conftest import Serve


def rows(frame: Any) -> list[Any]:
    """The rows as a service gets them."""
    assert is_frame(frame)
    return [msgspec.json.decode(msgspec.json.encode(row)) for row in FrameRows(frame)]


PLAIN = [{"id": 1, "text": "a"}, {"id": 2, "text": None}]
TABLE = pa.table({"id": [1, 2], "text": ["a", None]})


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame(PLAIN),
        pl.DataFrame(PLAIN),
        TABLE,
        TABLE.to_batches()[0],
        ds.dataset(TABLE),
        duckdb.from_arrow(TABLE),
    ],
    ids=lambda frame: f"{type(frame).__module__.partition('.')[0]}-{type(frame).__name__}",
)
async def test_each_kind_of_frame_is_sent_row_by_row(serve: Serve, frame: Any) -> None:
    served = await serve()
    results = await served.app.batch(frame, key="id", concurrency=2)
    assert [(r.key, r.input) for r in results] == [(1, PLAIN[0]), (2, PLAIN[1])]
    sent = sorted((r.json["input"] for r in served.emulator.requests), key=lambda row: row["id"])
    assert sent == PLAIN


@pytest.mark.parametrize(
    ("frame", "total"),
    [
        (pd.DataFrame(PLAIN), 2),
        (pl.DataFrame(PLAIN), 2),
        (TABLE, 2),
        (TABLE.to_reader(), None),
        (ds.dataset(TABLE), None),
        (ds.dataset(TABLE).scanner(), None),
        (duckdb.from_arrow(TABLE), None),
    ],
    ids=lambda frame: type(frame).__name__,
)
async def test_the_total_is_known_where_the_frame_knows_it(
    app: AsyncApp, frame: Any, total: int | None
) -> None:
    async def same(app: AsyncApp, input: Any) -> Any:
        return input

    batch = app.map(frame, call=same)
    assert batch.progress.total == total
    assert app.map(frame, call=same, total=7).progress.total == 7
    assert sorted([r.unwrap()["id"] async for r in batch]) == [1, 2]


def test_what_pandas_has_for_a_missing_value_is_null() -> None:
    times = ["2026-11-28T01:02:03.123456789Z", None]
    frame = pd.DataFrame(
        {
            "float": [1.5, float("nan")],
            "text": ["a", None],
            "time": pd.Series(times, dtype="datetime64[ns, UTC]"),
            "whole": pd.array([1, None], dtype="Int64"),
            "kind": pd.Categorical(["u", None]),
            "fields": [{"x": 1.0}, None],
        }
    )
    full, empty = rows(frame)
    assert full == {
        "float": 1.5,
        "text": "a",
        "time": "2026-11-28T01:02:03.123456Z",
        "whole": 1,
        "kind": "u",
        "fields": {"x": 1.0},
    }
    assert empty == dict.fromkeys(full)


def test_an_index_is_a_field_where_it_has_a_name() -> None:
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    assert rows(frame[frame["a"] > 1]) == [{"a": 2, "b": "y"}]
    assert rows(frame.set_index("b")) == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]


def test_what_polars_has_for_values() -> None:
    frame = pl.DataFrame(
        {
            "number": [1.5, float("nan")],
            "list": [[1.0, float("nan")], None],
            "day": [dt.date(2026, 11, 28), None],
            "time": [dt.datetime(2026, 11, 28, tzinfo=dt.UTC), None],
            "long": [dt.timedelta(seconds=90), None],
        }
    )
    full, empty = rows(frame)
    assert full == {
        "number": 1.5,
        "list": [1.0, None],
        "day": "2026-11-28",
        "time": "2026-11-28T00:00:00Z",
        "long": "PT90S",
    }
    assert empty == dict.fromkeys(full)


def test_what_duckdb_has_for_values() -> None:
    [row] = rows(
        duckdb.sql(
            "select 1.50 as d, 170141183460469231731687303715884105727::hugeint as h, "
            "[1.25] as l, map {'k': 1.5} as m, {'a': 7::decimal(4, 0)} as s, time '01:02:03' as t, "
            "null as n, 'x'::blob as b"
        )
    )
    assert row == {
        "d": 1.5,
        "h": 170141183460469231731687303715884105727,
        "l": [1.25],
        "m": {"k": 1.5},
        "s": {"a": 7},
        "t": "01:02:03",
        "n": None,
        "b": "eA==",
    }


def test_times_finer_than_microseconds_are_cut_wherever_they_are() -> None:
    time = pa.scalar(1_000_000_001, pa.timestamp("ns", tz="UTC"))
    long = pa.scalar(90_000_000_001, pa.duration("ns"))
    clock = pa.scalar(3_723_000_000_001, pa.time64("ns"))
    table = pa.table(
        {
            "duration": pa.array([long]),
            "clock": pa.array([clock]),
            "list": pa.array([[time.value]], pa.list_(pa.timestamp("ns"))),
            "large": pa.array([[time.value]], pa.large_list(pa.timestamp("ns"))),
            "struct": pa.array([{"at": time.value}], pa.struct([("at", pa.timestamp("ns"))])),
            "decimal": pa.array([decimal.Decimal("0.5")]),
            "decimals": pa.array([[decimal.Decimal("0.5"), None]]),
        }
    )
    assert rows(table) == [
        {
            "duration": "PT90S",
            "clock": "01:02:03",
            "list": ["1970-01-01T00:00:01"],
            "large": ["1970-01-01T00:00:01"],
            "struct": {"at": "1970-01-01T00:00:01"},
            "decimal": 0.5,
            "decimals": [0.5, None],
        }
    ]


def test_other_nested_types_come_as_json_has_them() -> None:
    fixed = pa.list_(pa.int64(), 2)
    table = pa.table(
        {
            "m": pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())),
            "f": pa.array([[1, 2]], fixed),
        }
    )
    assert rows(table) == [{"m": {"k": 1}, "f": [1, 2]}]


def test_rows_are_made_as_they_are_needed() -> None:
    made = 0

    def batches() -> Any:
        nonlocal made
        for _ in range(100):
            made += 1
            yield pa.record_batch({"n": list(range(ROWS + 1))})

    reader = pa.RecordBatchReader.from_batches(pa.schema([("n", pa.int64())]), batches())
    iterator = iter(FrameRows(reader))
    for n in range(ROWS + 2):
        assert next(iterator) == {"n": n % (ROWS + 1)}
    assert made == 2


async def test_columns_of_mixed_types_are_refused_with_advice(serve: Serve) -> None:
    app, emulator = await serve()
    frame = pd.DataFrame({"a": [1, "x", {}]}, dtype=object)
    with pytest.raises(errors.InvalidArgumentError, match="to_dict") as caught:
        await app.batch(frame)
    assert caught.value.argument == "inputs"
    assert not emulator.requests


@pytest.mark.parametrize(
    "inputs", [pl.Series([1]), pd.Series([1]), pa.chunked_array([[1]]), pa.array([1]), [1], {}]
)
def test_one_column_is_no_frame(inputs: Any) -> None:
    assert not is_frame(inputs)


async def test_without_pyarrow_it_is_said_what_is_missing(
    app: AsyncApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame, real = pl.DataFrame(PLAIN), builtins.__import__

    def missing(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] == "pyarrow":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(errors.MissingExtraError, match=r"\[arrow\]"):
        app.map(frame)
    with pytest.raises(errors.MissingExtraError, match=r"\[arrow\]"):
        app.map([]).arrow_batches()


@pytest.mark.parametrize("total", [-1, 1.5, "3"])
async def test_a_total_is_a_count(app: AsyncApp, total: Any) -> None:
    with pytest.raises(errors.InvalidArgumentError):
        app.map(iter([]), total=total)
