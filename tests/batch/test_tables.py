"""Results as tables: dictionaries, record batches, and files of journals."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, Literal
from uuid import UUID

import msgspec
import polars as pl
import pyarrow as pa
import pydantic
import pytest
from pyarrow import feather, parquet

from dynamiq_async import AsyncApp, errors
from dynamiq_async.batch import MapSuccess, tables
from dynamiq_async.batch.columns import Columns
from dynamiq_async.batch.journal import Journal
from dynamiq_async.emulator import Fault

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Serve

BASE = [
    "key",
    "state",
    "output",
    "error",
    "error_type",
    "error_status",
    "run_id",
    "attempts",
    "started",
    "seconds",
]


async def same(app: AsyncApp, input: Any) -> Any:
    return input


async def some_fail(app: AsyncApp, input: int) -> Any:
    if input % 3 == 1:
        raise errors.AmbiguousOutcomeError("who knows")
    if input % 3 == 2:
        raise ValueError("no")
    return {"n": input}


class Mood(Enum):
    GOOD = "good"


class Answer(msgspec.Struct):
    text: str
    score: float | int
    mood: Mood | None = None


@dataclass
class AsDataclass:
    text: str
    score: float


class AsModel(pydantic.BaseModel):
    text: str
    score: float


# --- dictionaries --------------------------------------------------------------------------------


async def test_a_result_is_a_plain_dictionary(app: AsyncApp) -> None:
    good, unknown, bad = await app.batch(range(3), call=some_fail, key=lambda n: f"k{n}")
    row = good.asdict()
    assert list(row)[:6] == ["key", "index", "state", "input", "output", "error"]
    assert (row["key"], row["state"], row["output"], row["error"]) == ("k0", "done", {"n": 0}, None)
    assert row["started"] == good.started_at
    assert (unknown.asdict()["state"], unknown.asdict()["error"]) == ("unknown", "who knows")
    assert (bad.asdict()["state"], bad.asdict()["error_type"]) == ("failed", "ValueError")
    assert bad.asdict().keys() == row.keys()
    assert msgspec.json.encode(row)


async def test_the_status_of_an_error_is_told(serve: Serve) -> None:
    served = await serve()
    served.emulator.script(Fault(status=422))
    [result] = await served.app.batch([{"n": 1}])
    assert result.asdict()["error_status"] == 422


# --- record batches ------------------------------------------------------------------------------


async def test_all_results_are_one_table(app: AsyncApp) -> None:
    table = await app.map(range(30), call=some_fail, ordered=True).to_arrow()
    assert table.column_names == BASE
    assert table["key"].to_pylist() == [str(n) for n in range(30)]
    assert table["state"].to_pylist() == ["done", "unknown", "failed"] * 10
    assert table["output"].to_pylist()[:4] == ['{"n":0}', None, None, '{"n":3}']
    assert table["error_type"].to_pylist()[:3] == [None, "AmbiguousOutcomeError", "ValueError"]
    assert table["started"][0].as_py().tzinfo is not None
    assert table.schema.field("seconds").type == pa.float64()


async def test_no_results_are_a_table_too(app: AsyncApp) -> None:
    table = await app.map([], call=same).to_arrow()
    assert (table.num_rows, table.column_names) == (0, BASE)


async def test_batches_have_at_most_so_many_rows_and_no_more_is_held(app: AsyncApp) -> None:
    results = app.map(range(100), call=same, concurrency=2)
    sizes = []
    async for batch in results.arrow_batches(30):
        sizes.append(batch.num_rows)
        # What is held beside it is what any reader's batch holds.
        assert results.progress.started <= sum(sizes) + 16
    assert sizes == [30, 30, 30, 10]
    for rows in (0, -1, 1.5):
        with pytest.raises(errors.InvalidArgumentError):
            results.arrow_batches(rows)  # type: ignore[arg-type]


async def test_what_was_there_is_kept_when_the_batch_stops(serve: Serve) -> None:
    served = await serve()
    served.emulator.script(Fault(), Fault(status=401))
    batch = served.app.map([{"n": n} for n in range(9)], concurrency=1)
    with pytest.raises(errors.BatchStoppedError) as caught:
        await batch.to_arrow()
    assert caught.value.table["state"].to_pylist() == ["done", "failed"]
    served.emulator.script(Fault(), Fault(status=401))
    batches = served.app.map([{"n": n} for n in range(9)], concurrency=1).arrow_batches()
    assert (await anext(batches)).num_rows == 2
    with pytest.raises(errors.BatchStoppedError):
        await anext(batches)
    served.emulator.script(Fault(), Fault(status=401))
    batches = served.app.map([{"n": n} for n in range(9)], concurrency=1).arrow_batches(2)
    assert (await anext(batches)).num_rows == 2
    with pytest.raises(errors.BatchStoppedError):
        await anext(batches)


@pytest.mark.parametrize("output_type", [Answer, AsDataclass, AsModel])
async def test_each_field_of_a_typed_output_has_a_column(serve: Serve, output_type: Any) -> None:
    async def answer(input: dict[str, Any], run: Any) -> Any:
        return {"text": f"t{input['n']}", "score": input["n"] / 2}

    served = await serve(answer)

    async def only_output(app: AsyncApp, input: Any) -> Any:
        run = await app.runs.create(input)
        return output_type(**run.output)

    table = await served.app.map(
        [{"n": n} for n in range(3)], call=only_output, output_type=output_type, ordered=True
    ).to_arrow()
    assert table.column_names[: len(BASE) + 2] == [*BASE, "text", "score"]
    assert table["score"].to_pylist() == [0.0, 0.5, 1.0]
    assert table["text"].to_pylist() == ["t0", "t1", "t2"]
    assert pl.DataFrame(table)["score"].sum() == 1.5


class Everything(msgspec.Struct):
    key: str
    flag: bool
    count: int | None
    either: int | str
    number: float | int
    data: bytes
    at: datetime
    day: date
    long: timedelta
    id: UUID
    tags: list[str]
    pair: tuple[int, str]
    many: tuple[int, ...]
    nested: list[list[int]]
    fields: dict[str, int]
    level: Literal["low", "high"]
    mixed: Literal["low", 1]
    mood: Mood
    about: Annotated[str, "what it is about"]


EVERYTHING = Everything(
    key="k",
    flag=True,
    count=None,
    either="x",
    number=1,
    data=b"\x00",
    at=datetime(2026, 11, 28, tzinfo=UTC),
    day=date(2026, 11, 28),
    long=timedelta(seconds=1),
    id=UUID(int=7),
    tags=["a", "b"],
    pair=(1, "x"),
    many=(1, 2),
    nested=[[1]],
    fields={"a": 1},
    level="low",
    mixed=1,
    mood=Mood.GOOD,
    about="this",
)


async def test_fields_have_the_types_of_their_values(app: AsyncApp) -> None:
    table = await app.map([EVERYTHING], call=same, output_type=Everything).to_arrow()
    [row] = table.select(table.column_names[len(BASE) :]).to_pylist()
    assert row == {
        "output_key": "k",
        "flag": True,
        "count": None,
        "either": '"x"',
        "number": 1.0,
        "data": b"\x00",
        "at": EVERYTHING.at,
        "day": EVERYTHING.day,
        "long": EVERYTHING.long,
        "id": str(EVERYTHING.id),
        "tags": ["a", "b"],
        "pair": '[1,"x"]',
        "many": [1, 2],
        "nested": "[[1]]",
        "fields": '{"a":1}',
        "level": "low",
        "mixed": "1",
        "mood": "good",
        "about": "this",
    }
    assert table.schema.field("count").type == pa.int64()
    assert table.schema.field("tags").type == pa.list_(pa.string())


async def test_a_value_that_its_column_cannot_hold_is_null_there_and_whole_in_the_output(
    app: AsyncApp,
) -> None:
    class Count(msgspec.Struct):
        n: int

    counts = [Count(1), Count(2**70), Count("no")]  # type: ignore[arg-type]
    table = await app.map(counts, call=same, output_type=Count, ordered=True).to_arrow()
    assert table["n"].to_pylist() == [1, None, None]
    assert table["output"].to_pylist() == ['{"n":1}', f'{{"n":{2**70}}}', '{"n":"no"}']


async def test_what_json_cannot_hold_is_shown(app: AsyncApp) -> None:
    table = await app.map([object], call=same).to_arrow()
    assert table["output"].to_pylist() == ["\"<class 'object'>\""]


# --- files ---------------------------------------------------------------------------------------


async def journaled(serve: Serve, path: Path) -> None:
    served = await serve()
    served.emulator.script(Fault(status=422))
    await served.app.batch([{"n": n} for n in range(25)], journal=path, concurrency=1)


async def test_a_journal_is_exported_as_what_the_name_says(serve: Serve, tmp_path: Path) -> None:
    await journaled(serve, tmp_path / "job.db")
    with Journal.read(tmp_path / "job.db") as journal:
        for name in ("r.parquet", "r.pq", "r.arrow", "r.feather", "r.csv", "r.CSV", "r.jsonl"):
            assert journal.export(tmp_path / name) == 25
        assert journal.export(tmp_path / "failed.parquet", state="failed") == 1
        entries = list(journal)
    table = parquet.read_table(tmp_path / "r.parquet")
    assert table.column_names == BASE
    assert table["key"].to_pylist() == [str(n) for n in range(25)]
    assert table["state"].to_pylist() == ["failed"] + ["done"] * 24
    assert table["error_status"].to_pylist()[:2] == [422, None]
    assert table["attempts"].to_pylist() == [e.attempts for e in entries]
    assert [t.timestamp() for t in table["started"].to_pylist() if t] == pytest.approx(
        [e.started_at for e in entries], abs=1e-5
    )
    assert [msgspec.json.decode(text or "") for text in table["output"].to_pylist()[1:]] == [
        msgspec.json.decode(e.output or b"") for e in entries[1:]
    ]
    assert feather.read_table(tmp_path / "r.arrow").equals(table)
    assert parquet.read_table(tmp_path / "failed.parquet").num_rows == 1
    for name in ("r.csv", "r.CSV"):
        read = list(csv.DictReader(io.StringIO((tmp_path / name).read_text(), newline="")))
        assert [row["output"] or None for row in read] == table["output"].to_pylist()
        assert read[0]["error_status"] == "422"
        assert read[0]["started"] == table["started"][0].as_py().isoformat()


async def test_a_typed_export_has_the_fields(serve: Serve, tmp_path: Path) -> None:
    class Output(msgspec.Struct):
        n: int

    served = await serve()

    async def found(app: AsyncApp, input: Any) -> Any:
        return input

    inputs = [{"n": 1}, {"n": "no"}]
    await served.app.batch(inputs, call=found, journal=tmp_path / "job.db")
    with Journal.read(tmp_path / "job.db") as journal:
        journal.export(tmp_path / "r.parquet", output_type=Output)
        file = io.BytesIO()
        journal.export(file, format="parquet")
        with pytest.raises(errors.InvalidArgumentError):
            journal.export(file, format="xlsx")  # type: ignore[arg-type]
    assert parquet.read_table(tmp_path / "r.parquet")["n"].to_pylist() == [1, None]
    assert parquet.read_table(io.BytesIO(file.getvalue())).column_names == BASE


def test_rows_are_written_in_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "GROUP_ROWS", 10)
    monkeypatch.setattr(tables, "GROUP_CHARACTERS", 1000)
    columns = Columns()
    file = io.BytesIO()
    table = tables.table_file(file, "parquet", columns)
    for n in range(25):
        table.add(columns.of_error(n, ValueError("no")))
    written = file.tell()
    assert written > 0
    table.add(columns.of_error(25, ValueError("no" * 600)))
    assert file.tell() > written
    table.close()
    found = parquet.ParquetFile(io.BytesIO(file.getvalue()))
    assert [found.metadata.row_group(n).num_rows for n in range(3)] == [10, 10, 6]
    assert found.read()["error"].to_pylist()[:1] == ["no"]


def test_values_in_csv_are_texts_that_can_be_read_again() -> None:
    columns = Columns(Everything, with_input=True)
    file = io.BytesIO()
    table = tables.table_file(file, "csv", columns)
    result = MapSuccess(key=1, index=0, started_at=EVERYTHING.at, input={"n": 1}, output=EVERYTHING)
    table.add(columns.of_result(result))
    table.add(columns.of_error(2, ValueError('one,\n"two"')))
    table.close()
    row, broken = csv.DictReader(io.StringIO(file.getvalue().decode(), newline=""))
    assert (broken["key"], broken["error"]) == ("2", 'one,\n"two"')
    assert row["input"] == '{"n":1}'
    assert (row["flag"], row["tags"], row["day"]) == ("true", '["a","b"]', "2026-11-28")
    assert (row["data"], row["long"], row["number"]) == ('"AA=="', '"PT1S"', "1")
