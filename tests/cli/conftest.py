"""The command line in a thread, against an emulator in the test's own event loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dynamiq_async.__main__ import main
from dynamiq_async.emulator import Emulator
from tests.support.limits import signals_arrive

ROOT = Path(__file__).parents[2]
KEY = "dynamiq_acc_do-not-show-me"


@dataclass
class Result:
    code: int
    out: str
    err: str


CLI = Callable[..., Awaitable[Result]]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (
        "DYNAMIQ_APP_URL",
        "DYNAMIQ_ACCESS_KEY",
        "DYNAMIQ_API_BASE_URL",
        "DYNAMIQ_API_HOST",
        "DYNAMIQ_API_TOKEN",
        "DYNAMIQ_API_KEY",
        "DYNAMIQ_PROJECT_ID",
        "NO_COLOR",
        "FORCE_COLOR",
        "TTY_COMPATIBLE",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))  # nobody's own settings
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm-256color")


@pytest.fixture(autouse=True)
def as_at_a_terminal() -> Iterator[None]:
    """Ctrl-C works, also where the tests themselves were started to ignore it."""
    with signals_arrive():
        yield


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    async with Emulator("llm", access_key=KEY) as emulator:
        yield emulator


@pytest.fixture
def cli(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> CLI:
    """Runs a command against the emulator."""
    monkeypatch.setenv("DYNAMIQ_APP_URL", emulator.url)
    monkeypatch.setenv("DYNAMIQ_ACCESS_KEY", KEY)

    async def run(*arguments: str) -> Result:
        code = await asyncio.to_thread(main, arguments)
        captured = capsys.readouterr()
        assert KEY not in captured.out + captured.err
        return Result(code, captured.out, captured.err)

    return run


class Terminal:
    """A pseudo-terminal that is the process's stdout. Made and used in an event loop."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self._master, slave = pty.openpty()
        self._stdin = os.fdopen(os.dup(slave), encoding="utf-8")
        self.stdout = os.fdopen(slave, "w", encoding="utf-8")
        self.shown = ""
        self._news = asyncio.Event()
        asyncio.get_running_loop().add_reader(self._master, self._read)

    def _read(self) -> None:
        self.shown += os.read(self._master, 65536).decode().replace("\r\n", "\n")
        self._news.set()

    async def until(self, text: str) -> str:
        """What is shown as soon as `text` is part of it."""
        async with asyncio.timeout(10):
            while text not in self.shown:
                await self._news.wait()
                self._news.clear()
        return self.shown

    def type(self, text: str) -> None:
        """What a person types. They see it, too."""
        os.write(self._master, text.encode())

    async def ask(self, *arguments: str) -> tuple[int, str]:
        """`run`, where stdin is the terminal too."""
        self._monkeypatch.setattr(sys, "stdin", self._stdin)
        return await self.run(*arguments)

    async def run(self, *arguments: str) -> tuple[int, str]:
        """Run a command; its exit code and all that it showed."""
        # Not sooner: pytest sets stdout between the setup of a test and the test.
        self._monkeypatch.setattr(sys, "stdout", self.stdout)
        code = await asyncio.to_thread(main, arguments)
        self.stdout.write("<end>")
        self.stdout.flush()
        return code, (await self.until("<end>")).removesuffix("<end>")

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._master)
        self._stdin.close()
        self.stdout.close()
        os.close(self._master)


@pytest.fixture
async def terminal(cli: CLI, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Terminal]:
    terminal = Terminal(monkeypatch)
    yield terminal
    terminal.close()


@contextlib.contextmanager
def piped_stdout() -> Iterator[int]:
    """The reading end of a pipe that is the process's stdout."""
    reader, writer = os.pipe()
    with os.fdopen(writer, "w", encoding="utf-8") as stdout, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", stdout)
        yield reader


Process = Callable[..., Awaitable[asyncio.subprocess.Process]]


@pytest.fixture
async def process(cli: CLI) -> AsyncIterator[Process]:
    """Starts the command line as a process of its own."""
    started: list[asyncio.subprocess.Process] = []

    async def start(*arguments: str, **options: Any) -> asyncio.subprocess.Process:
        options = {"stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.PIPE, **options}
        child = await asyncio.create_subprocess_exec(
            sys.executable, *arguments, cwd=ROOT, **options
        )
        started.append(child)
        return child

    yield start
    for child in started:
        if child.returncode is None:
            child.kill()
            await child.wait()
