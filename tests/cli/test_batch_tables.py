"""`batch` from and to tables: Parquet, Arrow and CSV with types."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa
import pytest
from pyarrow import feather, ipc, parquet

from dynamiq_async.batch import tables
from dynamiq_async.emulator import Fault

if TYPE_CHECKING:
    from dynamiq_async.emulator import Emulator

    from .conftest import CLI

COUNT = 40
TABLE = pa.table(
    {
        "id": [f"row {n}" for n in range(COUNT)],
        "n": list(range(COUNT)),
        "share": [n / 2 if n % 7 else None for n in range(COUNT)],
    }
)


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def put(name: str, content: str) -> None:
    Path(name).write_text(content)


def read(name: str) -> str:
    return Path(name).read_text()


def inputs_of(emulator: Emulator) -> list[Any]:
    return sorted((r.json["input"] for r in emulator.requests), key=json.dumps)


def write(name: str) -> None:
    if name.endswith("parquet"):
        parquet.write_table(TABLE, name)
    elif name == "stream.arrow":
        with ipc.new_stream(name, TABLE.schema) as stream:
            stream.write_table(TABLE)
    else:
        feather.write_feather(TABLE, name)


@pytest.mark.parametrize("name", ["in.parquet", "in.feather", "stream.arrow"])
async def test_rows_of_a_table_are_inputs(name: str, emulator: Emulator, cli: CLI) -> None:
    write(name)
    result = await cli("batch", name, "--key", "id", "-o", "out.parquet")
    assert result.err.startswith(f"{COUNT} of {COUNT} done")
    assert inputs_of(emulator) == sorted(TABLE.to_pylist(), key=json.dumps)
    table = parquet.read_table("out.parquet")
    assert sorted(table["key"].to_pylist(), key=str) == sorted(TABLE["id"].to_pylist(), key=str)
    assert set(table["state"].to_pylist()) == {"done"}


async def test_the_format_can_be_said_and_rows_have_numbers(emulator: Emulator, cli: CLI) -> None:
    write("in.parquet")
    os.rename("in.parquet", "inputs")  # noqa: PTH104
    result = await cli("batch", "inputs", "--input-format", "parquet", "--limit", "2", "--ordered")
    assert [json.loads(line)["key"] for line in result.out.splitlines()] == [1, 2]


async def test_what_is_no_table_is_refused_before_anything_is_sent(
    emulator: Emulator, cli: CLI
) -> None:
    for name in ("in.parquet", "in.arrow"):
        put(name, "no table")
        result = await cli("batch", name)
        assert result.code != 0
        assert f"this is no {name[3:]} file that can be read" in result.err
    assert not emulator.requests


@pytest.mark.parametrize("name", ["out.parquet", "out.arrow", "out.csv"])
async def test_results_are_a_table_where_the_name_says_so(
    name: str, emulator: Emulator, cli: CLI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "GROUP_ROWS", 10)
    put("in.jsonl", "".join(f'{{"question": "q{n}"}}\n' for n in range(24)) + "no input\n")
    emulator.script(Fault(status=422))
    result = await cli(
        *("batch", "in.jsonl", "-o", name, "--no-check", "--ordered", "--with-input"),
        *("--concurrency", "1"),
    )
    assert result.code == 1
    assert "2 of 25 inputs failed" in result.err
    assert "1 x UnprocessableEntityError" in result.err
    assert "1 x BrokenLineError" in result.err
    if name == "out.csv":
        rows: list[Any] = list(csv.DictReader(io.StringIO(read(name), newline="")))
        rows = [{column: value or None for column, value in row.items()} for row in rows]
    elif name == "out.arrow":
        rows = feather.read_table(name).to_pylist()
    else:
        assert parquet.ParquetFile(name).metadata.num_row_groups == 3
        rows = parquet.read_table(name).to_pylist()
    assert [row["key"] for row in rows] == [str(n) for n in range(1, 26)]
    assert [row["state"] for row in rows] == ["failed", *["done"] * 23, "failed"]
    assert msgspec.json.decode(rows[1]["input"]) == {"question": "q1"}
    assert str(rows[0]["error_status"]) == "422"
    assert rows[24]["error_type"] == "BrokenLineError"
    assert f"{name}.partial" not in os.listdir()  # noqa: PTH208


async def test_a_table_that_is_cut_short_holds_what_there_was(emulator: Emulator, cli: CLI) -> None:
    put("in.jsonl", "".join(f'{{"question": "q{n}"}}\n' for n in range(9)))
    emulator.script(Fault(), Fault(), Fault(status=401))
    result = await cli("batch", "in.jsonl", "-o", "out.parquet", "--concurrency", "1")
    assert result.code != 0
    assert "the results so far are in out.parquet.partial" in result.err
    assert parquet.read_table("out.parquet.partial")["state"].to_pylist() == [
        "done",
        "done",
        "failed",
    ]


async def test_a_journal_is_written_as_a_table(emulator: Emulator, cli: CLI) -> None:
    put("in.jsonl", '{"question": "q"}\n' * 3)
    await cli("batch", "in.jsonl", "--journal", "job.db")
    result = await cli("journal", "job.db", "-o", "out.parquet")
    assert result.err == "3 written to out.parquet\n"
    assert parquet.read_table("out.parquet").num_rows == 3


# --- CSV -----------------------------------------------------------------------------------------

CSV = "name|age|score|vip|more\nAnn|41|1.5|yes|[1]\nBob||2|FALSE|{}\n"


async def test_cells_are_texts_unless_they_have_a_type(emulator: Emulator, cli: CLI) -> None:
    put("in.csv", CSV)
    await cli("batch", "in.csv")
    assert inputs_of(emulator)[0] == {
        "name": "Ann", "age": "41", "score": "1.5", "vip": "yes", "more": "[1]"
    }  # fmt: skip
    emulator.reset()
    types = "age=int, score=float,vip=bool,more=json,name=text"
    result = await cli("batch", "in.csv", "--types", types, "--empty-null")
    assert result.code == 0
    assert inputs_of(emulator) == [
        {"name": "Ann", "age": 41, "score": 1.5, "vip": True, "more": [1]},
        {"name": "Bob", "age": None, "score": 2.0, "vip": False, "more": {}},
    ]


async def test_a_cell_of_another_type_is_a_line_that_is_no_input(
    emulator: Emulator, cli: CLI
) -> None:
    put("in.csv", "a,b\n1,x\nnan,x\n,x\n2,y\n")
    result = await cli("batch", "in.csv", "--types", "a=float,b=text")
    assert "line 3: a is 'nan', which is no float" in result.err
    assert "line 4: a is '', which is no float; with --empty-null" in result.err
    for type, cell in (("int", "1.5"), ("bool", "maybe"), ("json", "{")):
        put("in.csv", f"a\n{cell}\n")
        result = await cli("batch", "in.csv", "--types", f"a={type}")
        assert f"which is no {type}" in result.err
    assert not emulator.requests


@pytest.mark.parametrize(
    ("types", "why"),
    [("a", "types are such as"), ("=int", "types are such as"), ("a=date", "types are such as"),
     ("c=int", "the columns are a, b")],
)  # fmt: skip
async def test_types_are_of_columns_that_are_there(
    types: str, why: str, emulator: Emulator, cli: CLI
) -> None:
    put("in.csv", "a,b\n1,2\n")
    result = await cli("batch", "in.csv", "--types", types)
    assert result.code != 0
    assert why in result.err
    assert not emulator.requests


async def test_types_are_for_csv(emulator: Emulator, cli: CLI) -> None:
    put("in.jsonl", '{"a": 1}\n')
    result = await cli("batch", "in.jsonl", "--empty-null")
    assert "about the cells of CSV" in result.err
    put("in.tsv", "a\tb\n1\t2\n")
    await cli("batch", "in.tsv", "--types", "a=int")
    assert inputs_of(emulator) == [{"a": 1, "b": "2"}]
