"""`batch` and `journal`: every input gets its line, whatever the file, and whoever interrupts."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import signal
import sys
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from dynamiq_async.__main__ import main
from dynamiq_async.batch import displays
from dynamiq_async.batch.journal import Journal
from dynamiq_async.batch.models import BatchProgress
from dynamiq_async.cli.batch import command
from dynamiq_async.cli.batch import inputs as inputs_module
from dynamiq_async.cli.batch import progress as progress_module
from dynamiq_async.emulator import Emulator, Fault, RunContext

from .conftest import CLI, KEY, Process, Terminal


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def put(path: str, content: str | bytes) -> None:
    Path(path).write_bytes(content.encode() if isinstance(content, str) else content)


def content(path: str) -> bytes:
    return Path(path).read_bytes()


def write(path: str, *lines: Any) -> None:
    put(path, "".join(f"{json.dumps(line)}\n" for line in lines))


def questions(count: int) -> list[dict[str, str]]:
    return [{"question": f"q{n}"} for n in range(1, count + 1)]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def read(text: str | Path) -> dict[Any, Any]:
    text = text.read_text() if isinstance(text, Path) else text
    lines = [json.loads(line) for line in text.splitlines()]
    found = {line["key"]: line for line in lines}
    assert len(found) == len(lines)
    return found


def inputs_of(emulator: Emulator) -> list[Any]:
    return sorted((request.json["input"] for request in emulator.requests), key=json.dumps)


def slowly(seconds: float) -> Any:
    async def app(input: dict[str, Any], run: RunContext) -> Any:
        await asyncio.sleep(seconds)
        return input

    return app


# --- what comes out ------------------------------------------------------------------------------


async def test_each_line_gets_one(folder: Path, emulator: Emulator, cli: CLI) -> None:
    write("in.jsonl", *questions(5))
    result = await cli("batch", "in.jsonl", "-o", "out.jsonl", "--concurrency", "2", "--with-input")
    assert (result.code, result.out, result.err) == (0, "", "5 of 5 done, in 0:00\n")
    lines = read(folder / "out.jsonl")
    assert lines.keys() == {1, 2, 3, 4, 5}
    assert lines[3]["input"] == {"question": "q3"}
    assert "You said: q3" in json.dumps(lines[3]["output"])
    assert (lines[3]["attempts"], lines[3]["seconds"] > 0) == (1, True)
    assert names(folder) == ["in.jsonl", "out.jsonl"]


async def test_it_goes_to_stdout_in_order_where_that_is_asked(
    folder: Path, emulator: Emulator, cli: CLI
) -> None:
    write("in.jsonl", *questions(9))
    emulator.script(Fault(delay=0.05))
    result = await cli("batch", "in.jsonl", "--ordered", "--limit", "7", "--user-id", "u")
    assert [json.loads(line)["key"] for line in result.out.splitlines()] == [*range(1, 8)]
    assert result.code == 0
    assert emulator.requests[0].json["user_id"] == "u"


async def test_failures_have_lines_too_and_a_code_of_their_own(
    folder: Path, emulator: Emulator, cli: CLI
) -> None:
    write("in.jsonl", *questions(3))
    emulator.script(Fault(status=400), match=lambda r: r.json["input"]["question"] == "q2")
    result = await cli("batch", "in.jsonl", "-o", "out.jsonl")
    assert result.code == 1
    assert result.err.splitlines()[0] == "3 of 3 done, 1 failed, in 0:00"
    assert "  1 x BadRequestError, such as: POST http" in result.err
    assert "error: 1 of 3 inputs failed; with a --journal" in result.err
    lines = read(folder / "out.jsonl")
    assert lines[2]["error"]["type"] == "BadRequestError"
    assert lines[2]["error"]["status"] == 400
    assert "output" in lines[1]


async def test_the_last_line_counts_what_came_through_with_failed_nodes(
    folder: Path, emulator: Emulator, cli: CLI
) -> None:
    write("in.jsonl", *questions(3))
    nodes = {"bad": {"status": "failure", "input": {}, "output": None}, "good": {"status": "skip"}}
    emulator.script(Fault(body={"output": nodes}), match=lambda r: "q2" in str(r.json))
    result = await cli("batch", "in.jsonl", "-o", "out.jsonl")
    assert result.code == 0
    assert result.err.splitlines()[-1] == "3 of 3 done, 1 with failed nodes, in 0:00"


async def test_a_workflow_that_failed_is_a_failed_input(
    folder: Path, emulator: Emulator, cli: CLI
) -> None:
    write("in.jsonl", *questions(3))
    failed = {"status": "failure", "input": {}, "output": {}}
    emulator.script(Fault(body=failed), match=lambda r: "q2" in str(r.json))
    result = await cli("batch", "in.jsonl", "-o", "out.jsonl")
    assert result.code == 1
    assert result.err.splitlines()[0] == "3 of 3 done, 1 failed, in 0:00"


@pytest.mark.parametrize("most", ["2", "0.02"])
async def test_too_many_failures_stop_it(
    folder: Path, emulator: Emulator, cli: CLI, most: str
) -> None:
    write("in.jsonl", *questions(300))
    emulator.script(Fault(status=400), times=None)
    options = ("--concurrency", "1", "--max-failures", most, "--connect-patience", "5")
    done = await cli("batch", "in.jsonl", "-o", "out.jsonl", *options)
    assert done.code == 1
    finished = 3 if most == "2" else 100
    assert len(emulator.requests) == finished
    assert f"{300 - finished} were not tried" in " ".join(done.err.split())
    assert len(read(Path("out.jsonl.partial"))) == finished


async def test_a_wrong_key_stops_it(folder: Path, emulator: Emulator, cli: CLI) -> None:
    write("in.jsonl", *questions(300))
    emulator.script(Fault(status=401), times=None)
    done = await cli("batch", "in.jsonl", "-o", "out.jsonl", "--concurrency", "4")
    assert done.code != 0
    assert len(emulator.requests) <= 4
    assert "was stopped" in " ".join(done.err.split())


async def test_what_failed_is_called_again_alone(
    folder: Path, emulator: Emulator, cli: CLI
) -> None:
    write("in.jsonl", *questions(3))
    emulator.script(Fault(status=400), match=lambda r: r.json["input"]["question"] == "q2")
    command = ("batch", "in.jsonl", "-o", "out.jsonl", "--journal", "job.db")
    result = await cli(*command)
    assert "the same command with --retry-failed calls them again" in result.err
    assert (await cli(*command)).code == 1
    assert len(emulator.requests) == 3
    result = await cli(*command, "--retry-failed")
    assert result.code == 0
    assert "3 of 3 done, 2 from the journal, in" in result.err
    assert [request.json["input"]["question"] for request in emulator.requests][3:] == ["q2"]
    assert all("output" in line for line in read(folder / "out.jsonl").values())


async def test_a_start_that_needs_a_choice_says_that_it_does(
    folder: Path, emulator: Emulator, cli: CLI
) -> None:
    write("in.jsonl", *questions(2))
    emulator.script(Fault(), Fault(drop="reset", executes=True))
    command = ("batch", "in.jsonl", "-o", "out.jsonl", "--journal", "job.db", "--concurrency", "1")
    assert (await cli(*command)).code == 1
    result = await cli(*command)
    assert "the same command with your choice goes on where it was" in result.err


async def test_a_batch_of_which_a_journal_has_every_input_otherwise_is_stopped_at_once(
    folder: Path, emulator: Emulator, cli: CLI
) -> None:
    rows = "".join(f"{n},{n}\n" for n in range(100))
    (folder / "in.csv").write_text(f"id,n\n{rows}")
    command = ("batch", "in.csv", "-o", "out.jsonl", "--journal", "job.db", "--key", "id")
    assert (await cli(*command)).code == 0
    (folder / "in.csv").write_text(f"id,n\n{rows}more,1\n")
    result = await cli(*command, "--types", "n=float")
    assert result.code == 1
    assert "knows the first 20 inputs otherwise, and none of them was called" in result.err
    assert "--types" in result.err
    assert f"what was done before stays in {folder / 'job.db'}" in result.err
    assert emulator.executions.total == 100
    assert (await cli(*command)).code == 0
    assert emulator.executions.total == 101


async def test_inputs_that_a_journal_has_otherwise_are_not_said_to_be_called_again(
    folder: Path, emulator: Emulator, cli: CLI
) -> None:
    write("in.jsonl", *questions(2))
    command = ("batch", "in.jsonl", "-o", "out.jsonl", "--journal", "job.db", "--key", "id")
    write("in.jsonl", {"id": 1, "question": "q1"}, {"id": 2, "question": "q2"})
    assert (await cli(*command)).code == 0
    write("in.jsonl", {"id": 1, "question": "other"}, {"id": 2, "question": "q2"})
    result = await cli(*command)
    assert result.code == 1
    assert "or with a new journal" in result.err
    assert "--retry-failed" not in result.err
    assert len(emulator.requests) == 2


async def test_an_unknown_outcome_is_told_with_its_option(
    folder: Path, emulator: Emulator, cli: CLI
) -> None:
    write("in.jsonl", *questions(2))
    emulator.script(Fault(drop="reset", executes=True))
    command = ("batch", "in.jsonl", "-o", "out.jsonl", "--journal", "job.db", "--concurrency", "1")
    result = await cli(*command)
    assert (result.code, "--unknown retry also the 1 of unknown" in result.err) == (1, True)
    result = await cli(*command)
    assert result.code == 1
    assert "--unknown skip leaves it out" in result.err
    result = await cli(*command, "--unknown", "retry")
    assert result.code == 0
    assert len(emulator.executions) == 3


async def test_runs_are_followed_to_their_end(folder: Path, emulator: Emulator, cli: CLI) -> None:
    write("in.jsonl", *questions(4))
    result = await cli("batch", "in.jsonl", "--mode", "run", "--adaptive", "--rate", "1000/s")
    assert result.code == 0
    runs = {line["run_id"]: line["key"] for line in read(result.out).values()}
    assert {run.id: int(run.input["question"][1:]) for run in emulator.runs.values()} == runs


async def test_a_dry_run_shows_the_first_requests_and_sends_nothing(
    folder: Path, emulator: Emulator, cli: CLI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DYNAMIQ_ACCESS_KEY")
    write("in.jsonl", *questions(5))
    result = await cli("batch", "in.jsonl", "--dry-run", "--user-id", "u", "-o", "out.jsonl")
    assert result.out.splitlines() == [
        line
        for n in (1, 2, 3)
        for line in (f"POST {emulator.url}/", f'{{"input":{{"question":"q{n}"}},"user_id":"u"}}')
    ]
    result = await cli("batch", "in.jsonl", "--dry-run", "--mode", "run", "--limit", "1")
    url, body = result.out.splitlines()
    assert url == f"POST {emulator.url}/v1/runs"
    assert json.loads(body)["background"] is True
    put("bad.jsonl", "{\n")
    result = await cli("batch", "bad.jsonl", "--dry-run")
    assert (result.code, "bad.jsonl, line 1: not JSON" in result.err) == (2, True)
    assert not emulator.requests
    assert "out.jsonl.partial" not in names(folder)


# --- what goes in --------------------------------------------------------------------------------


async def test_odd_json_lines_are_read(folder: Path, emulator: Emulator, cli: CLI) -> None:
    put("in.txt", b'\xef\xbb\xbf{"a": 1}\r\n\r\n  \n{"a": "\xc3\xbc"}\n{"a": null}')
    result = await cli("batch", "in.txt")
    assert (result.code, set(read(result.out))) == (0, {1, 4, 5})
    assert inputs_of(emulator) == [{"a": "ü"}, {"a": 1}, {"a": None}]


async def test_odd_csv_is_read(folder: Path, emulator: Emulator, cli: CLI) -> None:
    put("in.CSV", b'\xef\xbb\xbfid,question\r\na,"two\r\nlines, ""quoted"""\r\n\r\nb,\xc3\xbc\r\n')
    result = await cli("batch", "in.CSV", "--key", "id")
    assert (result.code, set(read(result.out))) == (0, {"a", "b"})
    assert inputs_of(emulator) == [
        {"id": "a", "question": 'two\r\nlines, "quoted"'},
        {"id": "b", "question": "ü"},
    ]


async def test_nothing_is_sent_when_a_line_of_a_file_is_wrong(
    folder: Path, emulator: Emulator, cli: CLI
) -> None:
    put(
        "in.jsonl",
        b'{"id": 1}\n{"id": }\n[1]\n"text"\n{"id": true}\n{"id": "\xff"}\n{}\n{}\n' + b"[" * 9000,
    )
    result = await cli("batch", "in.jsonl", "--key", "id", "-o", "out.jsonl")
    assert result.code == 2
    message = result.err.splitlines()
    assert message[0] == "error: in.jsonl has lines that are no inputs:"
    assert message[1].startswith("  line 2: not JSON: ")
    assert message[2] == "  line 3: an input has to be a JSON object, on a line of its own"
    assert message[3].startswith("  line 4: an input has to be")
    assert message[4] == "  line 5: its 'id' has to be a text or an integer to be its key, not True"
    assert message[5].startswith("  line 6: not JSON: ")
    assert message[6] == "  and 3 more"
    assert not emulator.requests
    assert names(folder) == ["in.jsonl"]
    assert (await cli("batch", "in.jsonl", "--key", "id", "--limit", "1")).code == 0


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"a,b\n1\n", "line 2: 1 field, while the header has 2"),
        (b"a,b\n1,\xff\n", "line 2: not UTF-8"),
        (b'a,b\n1,"2\n3,4\n', "line 2: not CSV: unexpected end of data"),
        (b'a,b\n\n"1"x,2\n', "line 3: not CSV"),
        (b"a,a\n1,2\n", "names its fields, each once"),
        (b"a,\xff\n1,2\n", "this one is not UTF-8; save it as UTF-8"),
        (b"a,,b\n1,2,3\n", "names its fields, each once"),
        (b"a,b\n1,2,3\n", "line 2: 3 fields, while the header has 2"),
        (b"\na,b\n1,2\n", "names its fields, each once, and this one is empty"),
    ],
)
async def test_wrong_csv_is_refused(
    folder: Path, emulator: Emulator, cli: CLI, content: bytes, says: str
) -> None:
    put("in.csv", content)
    result = await cli("batch", "in.csv")
    assert (result.code, says in result.err) == (2, True)
    assert not emulator.requests


async def test_a_file_without_inputs_is_a_batch_without_results(
    folder: Path, emulator: Emulator, cli: CLI
) -> None:
    for name in ("in.jsonl", "in.csv"):
        put(name, "")
        result = await cli("batch", name, "-o", "out.jsonl")
        assert (result.code, result.err) == (0, "0 of 0 done, in 0:00\n")
        assert content("out.jsonl") == b""


async def test_a_wrong_line_is_a_failed_input_where_it_is_met_on_the_way(
    folder: Path, emulator: Emulator, cli: CLI
) -> None:
    put("in.jsonl", '{"a": 1}\n{bad\n{"a": 2}\n')
    result = await cli("batch", "in.jsonl", "--no-check")
    assert result.code == 1
    lines = read(result.out)
    assert lines[2]["error"] == {
        "type": "BrokenLineError",
        "message": "line 2: not JSON: JSON is malformed: object keys must be strings (byte 1)",
        "line": 2,
    }
    assert lines.keys() == {1, 2, 3}
    assert "3 done, 1 failed" in result.err


async def test_stdin_is_read_as_it_comes(
    folder: Path, emulator: Emulator, cli: CLI, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = await process("-m", "dynamiq_async", "batch", "-", stdin=asyncio.subprocess.PIPE)
    assert child.stdin is not None
    assert child.stdout is not None
    for n in (1, 2):
        child.stdin.write(f'{{"n": {n}}}\n'.encode())
        await child.stdin.drain()
        async with asyncio.timeout(10):
            assert json.loads(await child.stdout.readline())["key"] == n
    child.stdin.write(b"{bad\n" + b'{"n": 4}\n' * 600)
    child.stdin.close()
    async with asyncio.timeout(20):
        rest = await child.stdout.read()
    assert read(rest.decode()).keys() == {*range(3, 604)}
    assert await child.wait() == 1


async def test_stdin_may_hold_more_than_is_read_ahead(
    folder: Path, emulator: Emulator, cli: CLI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs_module, "_READ_AHEAD", 2)
    lines = io.BytesIO(b"{bad\n" + b'{"n": 1}\n' * 30)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(lines))
    result = await cli("batch", "-", "--concurrency", "3")
    assert (result.code, set(read(result.out))) == (1, {*range(1, 32)})
    assert "31 done, 1 failed" in result.err
    assert not lines.closed


async def test_stdin_that_cannot_be_read_ends_the_batch(
    folder: Path, emulator: Emulator, cli: CLI, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stdin:
        @property
        def buffer(self) -> Any:
            raise OSError("gone")

    monkeypatch.setattr(sys, "stdin", Stdin())
    result = await cli("batch", "-")
    assert (result.code, "gone" in result.err) == (1, True)


async def test_a_thread_that_reads_stdin_outlives_its_event_loop(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("in.jsonl", *questions(2))
    source = inputs_module.RecordReader("in.jsonl", format=None, key=None, limit=None)
    inputs = inputs_module.StreamedInputs(source, lambda *_: None)
    loop = asyncio.new_event_loop()
    loop.close()
    inputs._loop = loop
    inputs._read()
    assert inputs._over
    assert isinstance(inputs._failure, RuntimeError)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("none.jsonl",), "none.jsonl cannot be read: No such file"),
        ((".",), ". is a folder"),
        (("in.jsonl", "-o", "."), ". is a folder"),
        (("in.jsonl", "-o", "none/out.jsonl"), "none/out.jsonl.partial cannot be written"),
        (("in.jsonl", "--retry-failed"), "--retry-failed is about what a journal says"),
        (("in.jsonl", "--unknown", "skip"), "--unknown is about what a journal says"),
        (("in.jsonl", "--rate", "often"), "--rate must be"),
        (("in.jsonl", "--rate", "often", "-o", "out.jsonl"), "--rate must be"),
        (("in.jsonl", "--concurrency", "0"), "Must be >= 1"),
        (("in.jsonl", "--mode", "run", "--last-node-output"), "has no meaning for runs"),
    ],
)
async def test_wrong_usage_is_told_before_anything_is_sent(
    folder: Path, emulator: Emulator, cli: CLI, arguments: tuple[str, ...], says: str
) -> None:
    write("in.jsonl", *questions(2))
    result = await cli("batch", *arguments)
    assert (result.code, says in result.err) == (2, True), result.err
    assert not emulator.requests
    assert names(folder) == ["in.jsonl"]


async def test_a_file_that_is_no_journal_is_left_alone(
    folder: Path, emulator: Emulator, cli: CLI
) -> None:
    write("in.jsonl", *questions(2))
    result = await cli("batch", "in.jsonl", "--journal", "in.jsonl", "-o", "out.jsonl")
    assert (result.code, "is not a journal" in result.err) == (1, True)
    assert not emulator.requests
    assert names(folder) == ["in.jsonl"]


# --- interruptions -------------------------------------------------------------------------------


class Served:
    """An emulator in a thread of its own, which leaves this one to the command line."""

    def __init__(
        self, emulator: Emulator, requests: int, interrupts: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.emulator = emulator
        self.noticed = threading.Event()  # that the first one has arrived
        announce = command.Job._announce_grace

        def noticed(job: command.Job) -> None:
            announce(job)
            self.noticed.set()

        monkeypatch.setattr(command.Job, "_announce_grace", noticed)
        self._started: Future[str] = Future()
        self._thread = threading.Thread(target=asyncio.run, args=[self._run(requests, interrupts)])

    async def _run(self, requests: int, interrupts: int) -> None:
        async with self.emulator as emulator:
            self._started.set_result(emulator.url)
            await emulator.wait_for_requests(requests, timeout=20)
            for _ in range(interrupts):
                os.kill(os.getpid(), signal.SIGINT)
                await asyncio.to_thread(self.noticed.wait, 20)
            await emulator.wait_until(lambda: not emulator.open_connections, timeout=20)

    def __enter__(self) -> str:
        self._thread.start()
        return self._started.result()

    def __exit__(self, *_: object) -> None:
        self._thread.join()


@pytest.mark.parametrize("interrupts", [1, 2])
def test_ctrl_c_in_the_main_thread(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    interrupts: int,
) -> None:
    monkeypatch.setenv("DYNAMIQ_ACCESS_KEY", KEY)
    write("in.jsonl", *questions(20))
    emulator = Emulator(slowly(0.3 if interrupts == 1 else 60), access_key=KEY)
    with Served(emulator, 4, interrupts, monkeypatch) as url:
        command = ["batch", "in.jsonl", "--app", url, "--concurrency", "4", "-o", "out.jsonl"]
        assert main([*command, "--journal", "job.db", "--grace", "60"]) == 130
    shown = capsys.readouterr().err
    assert "up to 60 s for the 4 calls under way" in shown
    assert ("interrupted: 4 of 20 done" in shown) == (interrupts == 1)
    assert ("out.jsonl.partial" in names(folder)) == (interrupts == 1)


def test_ctrl_c_when_nothing_is_kept(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DYNAMIQ_ACCESS_KEY", KEY)
    write("in.jsonl", *questions(20))
    emulator = Emulator(slowly(60), access_key=KEY)
    emulator.script(Fault(status=400), times=3)
    with Served(emulator, 7, 1, monkeypatch) as url:
        command = ["batch", "in.jsonl", "--app", url, "--concurrency", "4", "--grace", "0"]
        assert main(command) == 130
    shown = capsys.readouterr()
    assert len(read(shown.out)) == 3  # whichever came first
    assert shown.err == (
        "interrupted: 3 of 20 done, 3 failed; without a --journal, the same command begins anew\n"
    )


@contextlib.asynccontextmanager
async def slow_emulator(seconds: float) -> Any:
    async with Emulator(slowly(seconds), access_key=KEY) as emulator:
        yield emulator


async def test_the_first_ctrl_c_lets_finish_what_is_under_way(
    folder: Path, process: Process, cli: CLI
) -> None:
    path = folder / "in.jsonl"
    write(str(path), *questions(400))
    async with slow_emulator(0.15) as emulator:
        options = ("-o", str(folder / "out.jsonl"), "--journal", str(folder / "job.db"))
        child = await process(
            *("-m", "dynamiq_async", "batch", str(path), "--app", emulator.url),
            *("--concurrency", "4", *options),
        )
        await emulator.wait_for_requests(6, timeout=20)
        child.send_signal(signal.SIGINT)
        _, error = await child.communicate()
        assert child.returncode == 130
        text = error.decode()
        assert "calls under way; once more ends at once" in text
        assert "the results so far are in" in text
        assert "the same command goes on where it was, with" in text
        assert "Traceback" not in text
        assert not (folder / "out.jsonl").exists()
        lines = read(folder / "out.jsonl.partial")
        assert len(lines) == len(emulator.requests)
        assert all("output" in line for line in lines.values())
        with Journal.read(folder / "job.db") as journal:
            assert journal.counts() == {
                "done": len(lines),
                "failed": 0,
                "running": 0,
                "unknown": 0,
            }
        result = await cli(
            *("batch", str(path), "--app", emulator.url, "--concurrency", "200"), *options
        )
        assert result.code == 0
        assert f"{len(lines)} from the journal" in result.err
        assert len(emulator.executions) == 400
        assert len(read(folder / "out.jsonl")) == 400
        assert not (folder / "out.jsonl.partial").exists()


async def test_the_second_ctrl_c_ends_at_once(folder: Path, process: Process, cli: CLI) -> None:
    path = folder / "in.jsonl"
    write(str(path), *questions(20))
    async with slow_emulator(60) as emulator:
        child = await process(
            *("-m", "dynamiq_async", "batch", str(path), "--app", emulator.url),
            *("--concurrency", "4", "--grace", "60", "--journal", str(folder / "job.db")),
        )
        await emulator.wait_for_requests(4, timeout=20)
        child.send_signal(signal.SIGINT)
        assert child.stderr is not None
        assert b"once more" in await child.stderr.readline()
        child.send_signal(signal.SIGINT)
        async with asyncio.timeout(20):
            _, error = await child.communicate()
        assert (child.returncode, b"Traceback" in error) == (130, False)
        with Journal.read(folder / "job.db") as journal:
            assert journal.counts()["running"] == 4


async def test_what_an_interrupted_batch_left_is_not_written_over(
    folder: Path, emulator: Emulator, cli: CLI
) -> None:
    write("in.jsonl", *questions(2))
    put("out.jsonl.partial", "precious")
    result = await cli("batch", "in.jsonl", "-o", "out.jsonl")
    assert (result.code, "is what an interrupted batch left" in result.err) == (2, True)
    assert content("out.jsonl.partial") == b"precious"
    assert (await cli("batch", "in.jsonl", "-o", "out.jsonl", "--journal", "job.db")).code == 0
    assert "out.jsonl.partial" not in names(folder)


async def test_a_reader_that_goes_away_ends_the_batch(
    folder: Path, process: Process, cli: CLI
) -> None:
    path = folder / "in.jsonl"
    write(str(path), *questions(400))
    async with slow_emulator(0.02) as emulator:
        child = await process(
            *("-m", "dynamiq_async", "batch", str(path), "--app", emulator.url),
            *("--concurrency", "4"),
        )
        assert child.stdout is not None
        await child.stdout.readline()
        child._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined]
        async with asyncio.timeout(20):
            assert child.stderr is not None
            error = await child.stderr.read()
            assert await child.wait() == 141
        assert b"Traceback" not in error
        assert len(emulator.requests) < 400


async def test_a_failure_in_the_middle_keeps_what_there_is(
    folder: Path, emulator: Emulator, cli: CLI, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("in.jsonl", *questions(50))

    def failing(source: inputs_module.RecordReader) -> Any:
        yield 1, {"question": "q1"}
        raise OSError(5, "the disk has gone")

    monkeypatch.setattr(inputs_module.RecordReader, "records", failing)
    result = await cli("batch", "in.jsonl", "-o", "out.jsonl", "--no-check")
    assert result.code == 1
    assert "stopped: 1 done; the results so far are in out.jsonl.partial" in result.err
    assert "the disk has gone" in result.err
    assert read(folder / "out.jsonl.partial").keys() == {1}


# --- progress ------------------------------------------------------------------------------------


async def test_a_log_gets_a_line_now_and_then(
    folder: Path, emulator: Emulator, cli: CLI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_module, "LOG_SECONDS", 0.02)
    write("in.jsonl", *questions(20))
    emulator.script(Fault(delay=0.05), times=None)
    result = await cli("batch", "in.jsonl", "--concurrency", "5")
    lines = result.err.splitlines()
    assert len(lines) > 3
    assert lines[0].endswith("of 5 under way")
    assert any(line.startswith(("5 of 20", "10 of 20")) and " left" in line for line in lines)
    assert lines[-1] == "20 of 20 done, in 0:00"


async def test_a_terminal_gets_a_line_that_changes(
    folder: Path, emulator: Emulator, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_module, "TERMINAL_SECONDS", 0.02)
    monkeypatch.setattr(sys, "stderr", terminal.stdout)
    write("in.jsonl", *questions(20))
    emulator.script(Fault(delay=0.05), times=None)
    arguments = ["batch", "in.jsonl", "-o", "out.jsonl", "--concurrency", "5"]
    assert await asyncio.to_thread(main, arguments) == 0
    shown = await terminal.until("20 of 20 done, in 0:00")
    assert "5 of 5 under way" in shown
    assert "\x1b[2K" in shown  # the line was overwritten


async def test_a_terminal_that_shows_the_results_shows_nothing_else_meanwhile(
    folder: Path, emulator: Emulator, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("in.jsonl", *questions(2))
    monkeypatch.setattr(sys, "stderr", terminal.stdout)
    code, shown = await terminal.run("batch", "in.jsonl")
    assert code == 0
    assert [line[:7] for line in shown.splitlines()][:2] == ['{"key":', '{"key":']


def test_the_figures_of_a_moment_are_shown() -> None:
    figures = BatchProgress(
        total=12345,
        done=1234,
        failed=2,
        skipped=1000,
        in_flight=7,
        limit=8,
        throttled=3,
        cooldown=2.4,
        offline=7.2,
        rate=12.34,
        eta=3723.0,
    )
    assert displays.line(figures) == (
        "1,234 of 12,345 done, 1,000 from the journal, 2 failed, slowed down 3 x, "
        "7 of 8 under way, asked to slow down for 2 s, cannot connect for 7 s, 12.3/s, 1:02:03 left"
    )


# --- the journal ---------------------------------------------------------------------------------


async def test_a_journal_is_written_as_json_lines(
    folder: Path, emulator: Emulator, cli: CLI
) -> None:
    write("in.jsonl", *questions(3))
    emulator.script(Fault(status=400), match=lambda r: r.json["input"]["question"] == "q2")
    await cli("batch", "in.jsonl", "--journal", "job.db")
    result = await cli("journal", "job.db")
    assert {key: line["state"] for key, line in read(result.out).items()} == {
        "1": "done",
        "2": "failed",
        "3": "done",
    }
    result = await cli("journal", "job.db", "--state", "failed", "-o", "-")
    assert read(result.out)["2"]["error"]["status"] == 400
    result = await cli("journal", "job.db", "-o", "all.jsonl")
    assert (result.code, result.err) == (0, "3 written to all.jsonl\n")
    assert len(read(folder / "all.jsonl")) == 3
    result = await cli("journal", "in.jsonl")
    assert (result.code, "is not a journal" in result.err) == (1, True)


async def test_a_journal_is_counted_on_a_terminal(
    folder: Path, emulator: Emulator, cli: CLI, terminal: Terminal
) -> None:
    write("in.jsonl", *questions(3))
    await cli("batch", "in.jsonl", "--journal", "job.db", "-o", "out.jsonl")
    code, shown = await terminal.run("journal", "job.db")
    assert code == 0
    assert shown.startswith(f"mode invoke at {emulator.url}, since 20")
    assert "done              3\n" in shown
