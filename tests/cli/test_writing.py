"""Where results go: nothing is lost, destroyed or written twice, and nothing waits for a reader."""

# ruff: noqa: ASYNC230, ASYNC240 - small files on this machine

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import stat
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from dynamiq_async.__main__ import main
from dynamiq_async.cli import output, writing
from dynamiq_async.emulator import Emulator

from .conftest import CLI, KEY, Process, piped_stdout
from .test_batch import (
    content,
    folder,
    names,
    put,
    questions,
    read,
    slow_emulator,
    write,
)

__all__ = ["folder"]

INPUT = '{"question": "Hi"}'


# --- the writer ----------------------------------------------------------------------------------


def test_what_takes_a_little_at_a_time_gets_all_of_it() -> None:
    reader, sender = os.pipe()
    os.set_blocking(sender, False)
    data = os.urandom(1_000_000)
    writer = writing.Writer("pipe", lambda: lambda some: writing.write_all(sender, some))
    writer.put(data)
    taken = b""
    while len(taken) < len(data):
        taken += os.read(reader, 50_000)
    writer.flush()
    assert (taken == data, writer.unwritten) == (True, 0)
    writer.close()
    os.close(reader)
    os.close(sender)


async def test_whoever_brings_more_waits_for_room() -> None:
    gate = threading.Semaphore(0)
    writer = writing.Writer("gate", lambda: lambda _: gate.acquire())
    await writer.drain()
    writer.put(b"x" * 10)
    await writer.drain(10)
    waiting = asyncio.ensure_future(writer.drain(5))
    flushing = asyncio.ensure_future(writer.drain())
    await asyncio.sleep(0)
    assert not waiting.done()
    writer.flush(0.01)  # nobody reads, so it gives up
    assert writer.unwritten == 10
    gate.release()
    async with asyncio.timeout(10):
        await waiting
        await flushing
    assert writer.unwritten == 0
    writer.close()


async def test_a_failure_is_told_to_all_with_the_name() -> None:
    def fail(data: bytes) -> None:
        raise OSError(28, "full")

    writer = writing.Writer("that", lambda: fail)
    writer.put(b"x")
    async with asyncio.timeout(10):
        with pytest.raises(OSError, match="full: 'that'"):
            await writer.drain()
    with pytest.raises(OSError, match="full"):
        writer.put(b"y")
    with pytest.raises(OSError, match="full"):
        writer.flush()


def test_a_drain_whose_event_loop_has_ended_is_forgotten() -> None:
    gate = threading.Semaphore(0)
    writer = writing.Writer("gate", lambda: lambda _: gate.acquire())
    writer.flush()
    writer.put(b"x")

    async def leave() -> None:
        waiting = asyncio.ensure_future(writer.drain())
        await asyncio.sleep(0)
        waiting.cancel()

    asyncio.run(leave())
    gate.release()
    writer.flush()
    assert writer.unwritten == 0
    writer.close()


# --- targets -------------------------------------------------------------------------------------


async def batch(cli: CLI, target: str, *more: str, code: int = 0) -> str:
    write("in.jsonl", *questions(3))
    result = await cli("batch", "in.jsonl", "-o", target, *more)
    assert result.code == code, result.err
    return result.err


async def test_a_symbolic_link_stays_and_leads_to_the_results(folder: Path, cli: CLI) -> None:
    Path("there").mkdir()
    Path("out").symlink_to("there/results")
    await batch(cli, "out")
    await batch(cli, "out")
    assert Path("out").is_symlink()
    assert len(read(folder / "there/results")) == 3
    assert names(folder / "there") == ["results"]


async def test_a_file_keeps_its_mode(folder: Path, cli: CLI) -> None:
    Path("out").touch(0o600)
    await batch(cli, "out")
    assert stat.S_IMODE(Path("out").stat().st_mode) == 0o600
    assert len(read(folder / "out")) == 3


async def test_a_pipe_is_written_as_it_is(folder: Path, cli: CLI) -> None:
    os.mkfifo("out")
    reading = asyncio.create_task(asyncio.to_thread(Path("out").read_text))
    await batch(cli, "out", "--journal", "job.db")
    async with asyncio.timeout(10):
        assert len(read(await reading)) == 3
    assert stat.S_ISFIFO(Path("out").stat().st_mode)


async def test_a_device_is_written_as_it_is(folder: Path, cli: CLI) -> None:
    await batch(cli, "/dev/null")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    err = await batch(cli, "/dev/full", code=1)
    assert "/dev/full: No space left on device" in err


async def test_dev_stdout_is_stdout(folder: Path, process: Process, emulator: Emulator) -> None:
    write("in.jsonl", *questions(3))
    for name in ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"):
        with Path("out").open("wb") as out:
            arguments = ("batch", str(folder / "in.jsonl"), "-o", name)
            child = await process("-m", "dynamiq_async", *arguments, stdout=out)
            inode = os.fstat(out.fileno()).st_ino
            assert await child.wait() == 0
        assert (len(read(folder / "out")), Path("out").stat().st_ino) == (3, inode)
    assert names(folder) == ["in.jsonl", "out"]


async def test_another_open_descriptor_is_written_as_it_is(folder: Path, cli: CLI) -> None:
    with Path("out").open("wb") as out:
        out.write(b"before\n")
        out.flush()
        await batch(cli, f"/dev/fd/{out.fileno()}")
    first, *rest = content("out").splitlines(keepends=True)
    assert (first, len(rest)) == (b"before\n", 3)


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("in.jsonl", "in.jsonl is the input"),
        ("linked", "in.jsonl is the input"),
        ("hard", "hard is the input"),
        ("job.db", "job.db is the journal"),
        ("job.db-wal", "job.db-wal is the journal"),
        ("key", "key is the key_file"),
        ("socket", "socket is a socket"),
        (".", ". is a folder"),
        ("loop", "loop cannot be written: Too many levels"),
    ],
)
async def test_a_file_of_the_command_is_never_written_over(
    folder: Path, emulator: Emulator, cli: CLI, target: str, says: str
) -> None:
    write("in.jsonl", *questions(3))
    put("key", KEY)
    before = content("in.jsonl")
    Path("linked").symlink_to("in.jsonl")
    Path("hard").hardlink_to("in.jsonl")
    Path("loop").symlink_to("loop")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket")
        err = await batch(cli, target, "--journal", "job.db", "--key-file", "key", code=2)
    assert says in err
    assert content("in.jsonl") == before
    assert not emulator.requests


async def test_the_partial_file_is_no_input_either(
    folder: Path, emulator: Emulator, cli: CLI
) -> None:
    write("out.partial", *questions(3))
    before = content("out.partial")
    result = await cli("batch", "out.partial", "-o", "out", "--journal", "job.db")
    assert (result.code, "out.partial is the input" in result.err) == (2, True)
    assert content("out.partial") == before


async def test_stdout_is_not_the_input(folder: Path, process: Process, emulator: Emulator) -> None:
    write("in.jsonl", *questions(3))
    before = content("in.jsonl")
    with Path("in.jsonl").open("ab") as out:
        child = await process("-m", "dynamiq_async", "batch", str(folder / "in.jsonl"), stdout=out)
        _, error = await child.communicate()
    assert (child.returncode, b"stdout is the input" in error) == (2, True)
    assert content("in.jsonl") == before


async def test_a_folder_in_which_nothing_can_be_made(
    folder: Path, cli: CLI, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def refusing(path: Any, *more: Any, **options: Any) -> int:
        if str(path).endswith(".partial"):
            raise PermissionError(13, "Permission denied")
        return real(path, *more, **options)

    monkeypatch.setattr(os, "open", refusing)
    put("out", "x" * 9000)
    await batch(cli, "out")
    assert len(read(folder / "out")) == 3
    assert "new.partial cannot be written: Permission" in await batch(cli, "new", code=2)


async def test_a_partial_file_that_is_a_link_is_not_followed(
    folder: Path, emulator: Emulator, cli: CLI
) -> None:
    put("precious", "precious")
    Path("out.partial").symlink_to("precious")
    err = await batch(cli, "out", "--journal", "job.db", code=2)
    assert "out.partial cannot be written" in err
    assert content("precious") == b"precious"
    assert not emulator.requests


async def test_a_second_start_leaves_the_first_ones_results_alone(
    folder: Path, process: Process, cli: CLI
) -> None:
    write("in.jsonl", *questions(3))
    Path("alias.db").symlink_to("job.db")
    async with slow_emulator(60) as emulator:
        options = ("--app", emulator.url, "--grace", "0", "-o")
        child = await process(
            *("-m", "dynamiq_async", "batch", str(folder / "in.jsonl"), *options),
            *(str(folder / "out"), "--journal", str(folder / "job.db")),
        )
        await emulator.wait_for_requests(3, timeout=20)
        inode = Path("out.partial").stat().st_ino
        for journal in ("job.db", "alias.db"):
            second = await cli("batch", "in.jsonl", *options, "out", "--journal", journal)
            assert second.code == 1
            assert "being written by another process" in second.err
        other = await cli("batch", "in.jsonl", *options, "out", "--journal", "other.db")
        assert other.code == 2
        assert "out.partial is being written by another process" in other.err
        assert Path("out.partial").stat().st_ino == inode
        assert len(emulator.requests) == 3
        child.send_signal(signal.SIGINT)
        await child.communicate()


async def test_a_journal_of_another_app_leaves_the_results_alone(
    folder: Path, emulator: Emulator, cli: CLI
) -> None:
    await batch(cli, "first", "--journal", "job.db")
    put("out.partial", "precious")
    err = await batch(cli, "out", "--journal", "job.db", "--mode", "run", code=1)
    assert "is for mode 'invoke'" in err
    assert content("out.partial") == b"precious"


async def test_the_export_of_a_journal_has_the_same_rules(folder: Path, cli: CLI) -> None:
    await batch(cli, "out", "--journal", "job.db")
    Path("linked").symlink_to("there")
    assert (await cli("journal", "job.db", "-o", "linked")).code == 0
    assert (Path("linked").is_symlink(), len(read(folder / "there"))) == (True, 3)
    before = content("job.db")
    for name in ("job.db", "job.db-wal"):
        result = await cli("journal", "job.db", "-o", name)
        assert (result.code, "is the journal" in result.err) == (2, True)
    assert content("job.db") == before
    result = await cli("journal", "job.db", "-o", "/dev/full")
    assert (result.code, "/dev/full cannot be written: No space" in result.err) == (2, True)
    assert len(read((await cli("journal", "job.db", "-o", "-")).out)) == 3


# --- standard streams ----------------------------------------------------------------------------


async def test_unbuffered_stdout_gets_every_line_whole(
    folder: Path, process: Process, emulator: Emulator
) -> None:
    write("in.jsonl", *({"question": "x" * 100_000} for _ in range(8)))
    child = await process(
        *("-u", "-m", "dynamiq_async", "batch", str(folder / "in.jsonl"), "--with-input")
    )
    assert child.stdout is not None
    async with asyncio.timeout(30):
        out = await child.stdout.read()
        assert await child.wait() == 0
    assert len(read(out.decode())) == 8


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_a_reader_that_does_not_read_holds_up_no_call_and_no_signal(
    folder: Path, process: Process, number: signal.Signals
) -> None:
    write("in.jsonl", *({"question": "x" * 100_000} for _ in range(40)))
    async with slow_emulator(0) as emulator:
        reader, sender = os.pipe()
        child = await process(
            *("-m", "dynamiq_async", "batch", str(folder / "in.jsonl"), "--with-input"),
            *("--app", emulator.url, "--concurrency", "2", "--journal", str(folder / "job.db")),
            stdout=sender,
        )
        os.close(sender)
        await emulator.wait_for_requests(4, timeout=20)
        await emulator.wait_until(
            lambda: all(request.finished for request in emulator.requests), timeout=20
        )
        child.send_signal(number)
        async with asyncio.timeout(30):
            _, error = await child.communicate()
        os.close(reader)
        assert child.returncode == 130
        assert b"nobody has read the last results" in error
        assert b"Traceback" not in error


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
async def test_a_batch_that_is_told_to_stop_lets_finish_what_is_under_way(
    folder: Path, process: Process, cli: CLI, number: signal.Signals
) -> None:
    write("in.jsonl", *questions(40))
    async with slow_emulator(0.3) as emulator:
        options = ("--app", emulator.url, "--concurrency", "4", "-o", str(folder / "out"))
        journal = ("--journal", str(folder / "job.db"))
        arguments = ("batch", str(folder / "in.jsonl"), *options, *journal)
        child = await process("-m", "dynamiq_async", *arguments)
        await emulator.wait_for_requests(4, timeout=20)
        child.send_signal(number)
        async with asyncio.timeout(30):
            _, error = await child.communicate()
        assert child.returncode == 130
        assert f"{number.name}: up to 10 s for the 4 calls under way".encode() in error
        assert (await cli(*arguments)).code == 0
        assert len(emulator.executions) == 40
        assert len(read(folder / "out")) == 40


def test_what_is_ignored_from_the_start_stays_ignored(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def hang_up(input: dict[str, Any], run: Any) -> Any:
        os.kill(os.getpid(), signal.SIGHUP)
        return input

    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        monkeypatch.setenv("DYNAMIQ_ACCESS_KEY", KEY)
        write("in.jsonl", *questions(2))
        from .test_batch import Served

        with Served(Emulator(hang_up, access_key=KEY), 2, 0, monkeypatch) as url:
            assert main(["batch", "in.jsonl", "--app", url, "-o", "out"]) == 0
    finally:
        signal.signal(signal.SIGHUP, previous)
    assert len(read(folder / "out")) == 2


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("invoke", INPUT), 1, "stdout: it is closed"),
        (("stream", INPUT), 1, "stdout: it is closed"),
        (("runs", "create", INPUT), 1, "stdout: it is closed"),
        (("batch", "in.jsonl"), 2, "stdout is closed"),
        (("batch", "in.jsonl", "-o", "out"), 0, "3 of 3 done"),
    ],
)
async def test_closed_stdout_is_told_before_anything_is_sent(
    folder: Path,
    emulator: Emulator,
    cli: CLI,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    code: int,
    says: str,
) -> None:
    write("in.jsonl", *questions(3))
    monkeypatch.setattr(sys, "stdout", None)
    result = await cli(*arguments)
    assert (result.code, says in result.err) == (code, True), result.err
    assert len(emulator.requests) == (0 if code else 3)


@pytest.mark.parametrize("command", ["invoke", "batch"])
async def test_closed_stdin_is_told(
    cli: CLI, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    result = await cli(command, "-")
    assert (result.code, "stdin is closed" in result.err) == (2, True)


async def test_closed_stderr_costs_only_what_would_be_said(
    folder: Path, emulator: Emulator, cli: CLI, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("in.jsonl", *questions(3))
    monkeypatch.setattr(sys, "stderr", None)
    assert (await cli("batch", "in.jsonl", "-o", "out")).code == 0
    assert len(read(folder / "out")) == 3
    assert (await cli("--debug", "invoke", "{")).out == ""


def test_a_closed_stream_is_nobody_elses(capsys: pytest.CaptureFixture[str]) -> None:
    kept = os.dup(0)
    os.close(0)
    try:
        assert main(["--version"]) == 0
        assert stat.S_ISCHR(os.fstat(0).st_mode)
    finally:
        os.dup2(kept, 0)
        os.close(kept)


async def test_remarks_that_nobody_reads_hold_up_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, sender = os.pipe()
    with os.fdopen(sender, "w") as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        output.begin()
        for _ in range(20):
            output.remark("x" * 50_000)
        assert output.unwritten() < 2 * writing.ROOM
        os.set_blocking(reader, False)
        async with asyncio.timeout(10):
            while output.unwritten():
                with contextlib.suppress(BlockingIOError):
                    os.read(reader, 65536)
                await asyncio.sleep(0)
        output.begin()
    os.close(reader)


def test_a_terminal_gets_all_that_is_said_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    with piped_stdout() as reader, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", sys.stdout)
        output.begin()
        output.write(b"data\n")
        output.remark("a remark")
        output.flush()
        assert output.writer("stderr") is output.writer()
        assert os.read(reader, 100) == b"data\na remark\n"
        output.begin()
