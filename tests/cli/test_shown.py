"""What is shown to people: what comes from outside is visible, and what went wrong is plain."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from dynamiq_async.cli import output, serve
from dynamiq_async.cli.batch.inputs import RecordReader
from dynamiq_async.emulator import Emulator, Fault, RunContext

from .conftest import CLI, KEY, Terminal
from .test_batch import folder, put, questions, read, write

__all__ = ["folder"]

EVIL = "a\x1b]0;x\x07b\x9bc\u202ed[bold]e"
VISIBLE = "a␛]0;x␇b\ufffdc\ufffdd[bold]e"


async def says_evil(input: dict[str, Any], run: RunContext) -> str:
    await run.text(EVIL)
    return EVIL


@pytest.mark.parametrize("options", [["--text"], ["--json"], []])
async def test_a_models_words_do_not_steer_the_terminal(
    terminal: Terminal, options: list[str]
) -> None:
    async with Emulator(says_evil, access_key=KEY) as emulator:
        _, shown = await terminal.run("stream", "{}", "--app", emulator.url, *options)
    assert not {"\x9b", "\u202e", "\x07"} & set(shown)
    assert "\x1b]0" not in shown


async def test_a_pipe_gets_them_as_they_are(cli: CLI) -> None:
    async with Emulator(says_evil, access_key=KEY) as emulator:
        result = await cli("stream", "{}", "--app", emulator.url, "--text")
    assert result.out == EVIL + "\n"


def test_all_that_could_steer_is_made_visible() -> None:
    assert output.visible(EVIL) == VISIBLE
    assert output.visible("é 👩‍💻\ta\r\nb\ud800") == "é 👩‍💻\ta\nb\ufffd"


async def test_the_names_in_an_error_are_visible(emulator: Emulator, cli: CLI) -> None:
    details = {EVIL: EVIL}
    body = {"error": {"code": "bad_request", "message": EVIL, "details": details}}
    emulator.script(Fault(status=400, body=body), times=None)
    for debug in ([], ["--debug"]):
        result = await cli(*debug, "invoke", "{}")
        assert f"details.{VISIBLE}  {VISIBLE}" in result.err
        assert not {"\x9b", "\u202e", "\x07", "\x1b"} & set(result.err)


def test_what_is_not_utf8_is_replaced() -> None:
    assert json.loads(output.json_line({"id": "a\udcff"})) == {"id": "a\ufffd"}


@pytest.mark.parametrize("columns", ["0", "1", "2", "80"])
async def test_help_at_any_width(cli: CLI, monkeypatch: pytest.MonkeyPatch, columns: str) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert (await cli("--help")).code == 0


async def test_no_word_of_a_table_is_broken(
    emulator: Emulator, cli: CLI, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    for _ in range(2):
        session = "0f0e52c2-9c1d-4f0b-8a30-5d6f4a7c1c11"
        await cli("runs", "create", '{"question": "Hi"}', "--session-id", session)
    code, shown = await terminal.run("runs", "list")
    assert code == 0
    assert shown.count("completed") == 2
    assert all(run in shown for run in emulator.runs)
    assert max(map(len, shown.splitlines())) < 120


async def test_a_long_path_hides_no_status(
    emulator: Emulator, cli: CLI, monkeypatch: pytest.MonkeyPatch
) -> None:
    await cli("runs", "get", "x" * 300)

    class Tty(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "stdout", Tty())
    line = serve._summary(emulator.requests[0], output.console())
    assert len(line) <= 80
    assert line.endswith("x…  404")


async def test_results_that_nobody_has_read_are_told(
    folder: Path, cli: CLI, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(source: RecordReader) -> Any:
        yield 1, {"question": "q1"}
        raise OSError(5, "gone")

    write("in.jsonl", *questions(2))
    monkeypatch.setattr(RecordReader, "records", failing)
    monkeypatch.setattr(output, "unwritten", lambda: 1)
    result = await cli("batch", "in.jsonl", "--no-check")
    assert "stopped: 1 done; nobody has read the last results; without" in result.err


async def test_stdout_that_is_the_input_is_refused(
    folder: Path, emulator: Emulator, cli: CLI, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("in.jsonl", *questions(2))
    with (folder / "in.jsonl").open("a") as out:
        monkeypatch.setattr(sys, "stdout", out)
        result = await cli("batch", "in.jsonl")
    assert (result.code, "stdout is the input in.jsonl" in result.err) == (2, True)
    assert not emulator.requests


async def test_a_missing_key_is_told_once(folder: Path, emulator: Emulator, cli: CLI) -> None:
    write("in.jsonl", *({"id": n, "review": "x"} for n in range(5)))
    result = await cli("batch", "in.jsonl", "--key", "nope")
    assert result.code == 2
    assert result.err.count("no field 'nope'; there are id, review") == 1
    assert not emulator.requests


async def test_a_plain_number_is_a_rate(folder: Path, cli: CLI) -> None:
    write("in.jsonl", *questions(2))
    assert (await cli("batch", "in.jsonl", "--rate", "300")).code == 0


@pytest.mark.parametrize("name", ["in.csv", "in.tsv"])
async def test_other_delimiters(folder: Path, emulator: Emulator, cli: CLI, name: str) -> None:
    put(name, "id;question\n1;a,b\n" if name == "in.csv" else "id\tquestion\n1\ta,b\n")
    assert (await cli("batch", name)).code == 0
    assert emulator.requests[0].json["input"] == {"id": "1", "question": "a,b"}


async def test_broken_records_keep_their_place(folder: Path, cli: CLI) -> None:
    put("in.jsonl", '{"n": 1}\n{bad\n{"n": 3}\n{bad\n{"n": 5}\n')
    result = await cli("batch", "in.jsonl", "--no-check", "--ordered")
    assert list(read(result.out)) == [1, 2, 3, 4, 5]
