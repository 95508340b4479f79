"""Ctrl-C, at any moment: no traceback, the exit code of SIGINT, the connection closed."""

from __future__ import annotations

import array
import asyncio
import fcntl
import os
import signal
import sys
import termios
from importlib.abc import MetaPathFinder
from typing import Any

import pytest

from dynamiq_async.__main__ import main
from dynamiq_async.emulator import Emulator, RunContext

from .conftest import KEY, Process

INPUT = '{"question": "Hi"}'


async def hanging(input: dict[str, Any], run: RunContext) -> None:
    await run.text("first")
    await asyncio.Event().wait()


async def interrupted(child: asyncio.subprocess.Process) -> None:
    child.send_signal(signal.SIGINT)
    _, error = await child.communicate()
    assert (child.returncode, error) == (130, b"")


async def test_while_streaming(process: Process) -> None:
    async with Emulator(hanging, access_key=KEY) as emulator:
        child = await process("-m", "dynamiq_async", "stream", INPUT, "--app", emulator.url)
        assert child.stdout is not None
        await child.stdout.readline()
        await interrupted(child)
        await emulator.wait_until(lambda: not emulator.open_connections)


async def test_while_waiting_for_a_response(process: Process) -> None:
    async with Emulator(hanging, access_key=KEY) as emulator:
        child = await process("-m", "dynamiq_async", "invoke", INPUT, "--app", emulator.url)
        await emulator.wait_for_requests(1)
        await interrupted(child)
        await emulator.wait_until(lambda: not emulator.open_connections)


async def test_while_reading_stdin(process: Process) -> None:
    reader, writer = os.pipe()
    try:
        os.write(writer, b"{")
        child = await process("-m", "dynamiq_async", "invoke", "-", stdin=reader)
        while _unread(reader):
            await asyncio.sleep(0.01)
        await interrupted(child)
    finally:
        os.close(reader)
        os.close(writer)


def _unread(pipe: int) -> int:
    count = array.array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, count)
    return count[0]


def test_while_a_command_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stdin:
        @property
        def buffer(self) -> Any:
            raise KeyboardInterrupt

    monkeypatch.setattr("sys.stdin", Stdin())
    assert main(["invoke", "-"]) == 130


def test_while_the_command_line_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupting(MetaPathFinder):
        def find_spec(self, name: str, path: Any, target: Any = None) -> None:
            if name == "dynamiq_async.cli.program":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "dynamiq_async.cli.program", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Interrupting(), *sys.meta_path])
    assert main([]) == 130
