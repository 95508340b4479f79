"""Runs the code of pages, each in a folder of its own, against an emulator of its own."""

from __future__ import annotations

import ast
import asyncio
import inspect
import logging
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from dynamiq_async import AsyncApp
from dynamiq_async.__main__ import main
from dynamiq_async.emulator import BUILTIN, DEFAULT_PROJECT, Emulator
from tests.docs import loopback
from tests.docs.apps import APPS
from tests.docs.files import FILES
from tests.docs.pages import Block, Page

SECONDS = 200
"""The longest that a block may take. They take a second or two, and more on a busy machine."""

HOSTS = ("support-bot.apps.us-east-1.getdynamiq.ai", "my-app.apps.us-east-1.getdynamiq.ai")
"""The Apps of pages: the emulator stands for them."""

CALLBACKS = "https://example.com"
"""Where pages have callbacks posted. Nobody is there when they run."""

PYTEST = [
    *("-q", "-p", "no:cacheprovider", "-W", "error"),
    *("-p", "pytest_asyncio.plugin", "-p", "dynamiq_async.pytest_plugin"),
    *("-o", "asyncio_mode=auto", "-o", "asyncio_default_fixture_loop_scope=function"),
]
"""The settings that the page on tests gives, and only the plugins that it needs: all those of the
machine would take twice as long."""

STARTED = ("The emulator runs at", "The recorder runs at", "The tape plays at")
SERVERS = ("serve", "mcp")


class Place:
    """The folder and the emulator of one run of a page's code."""

    def __init__(self, emulator: Emulator, folder: Path, page: Page) -> None:
        self.emulator = emulator
        self.folder = folder
        for name, content in FILES.items():
            if name in page.text:
                (folder / name).write_bytes(content())
        for name, text in page.files.items():
            (folder / name).write_text(self.here(text), "utf-8")

    def here(self, text: str) -> str:
        """With the emulator where the page has a deployed App."""
        for host in HOSTS:
            text = text.replace(f"https://{host}", self.emulator.url)
            text = text.replace(host, self.emulator.url)
        return text.replace(CALLBACKS, "http://127.0.0.1:9")

    @property
    def environment(self) -> dict[str, str]:
        return {
            "DYNAMIQ_APP_URL": self.emulator.url,
            "DYNAMIQ_ACCESS_KEY": str(self.emulator.access_key),
            "DYNAMIQ_API_BASE_URL": self.emulator.management_url,
            "DYNAMIQ_API_TOKEN": str(self.emulator.management.token),
            "DYNAMIQ_PROJECT_ID": DEFAULT_PROJECT,
            "FLOWY_API": self.emulator.flowy_url,
            "FLOWY_KEY": str(self.emulator.flowy_key),
        }


@asynccontextmanager
async def place(
    page: Page, app: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Place]:
    """A folder with the page's files, an emulator, and this process's settings for both."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    known = set(sys.modules)
    for name, patch in loopback.PATCHES.items():
        monkeypatch.setattr(socket, name, patch)
    monkeypatch.setattr(logging.getLogger("uvicorn.error"), "filters", [])  # a page adds one
    loggers = logging.getLogger(), logging.getLogger("dynamiq_async")  # another sets them up
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        monkeypatch.setattr(logger, "handlers", list(logger.handlers))
    chosen = APPS[app] if app in APPS else BUILTIN[app]
    async with Emulator(chosen, allow_loopback_callbacks=True) as emulator:
        emulator.management.add("Support bot")
        here = Place(emulator, folder, page)
        for name, value in here.environment.items():
            monkeypatch.setenv(name, value)
        try:
            yield here
        finally:
            _forget_modules(folder, sys.modules.keys() - known)
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _forget_modules(folder: Path, imported: Iterable[str]) -> None:
    """Those of the page's own files: the next page may have others of the same names."""
    for name in list(imported):
        if str(getattr(sys.modules[name], "__file__", None)).startswith(f"{folder}{os.sep}"):
            del sys.modules[name]


async def run_piece(block: Block, here: Place) -> dict[str, Any]:
    """Run code that has `app`, in this process. Gives what it has made."""
    module = ModuleType("code_of_a_page")
    async with AsyncApp(here.emulator.url, access_key=here.emulator.access_key) as app:
        module.__dict__["app"] = app
        module.__file__ = str(here.folder / (block.file or "page.py"))
        code = compiled(block, here.here(block.text))
        sys.modules[module.__name__] = module  # where what it defines is looked for
        try:
            outcome = eval(code, module.__dict__)
            if inspect.isawaitable(outcome):
                async with asyncio.timeout(SECONDS):
                    await outcome
        finally:
            del sys.modules[module.__name__]
    return module.__dict__


def compiled(block: Block, text: str | None = None) -> Any:
    """The code of a block, whose errors name the lines of its page."""
    lines = "\n" * block.line + (block.text if text is None else text)
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    return compile(lines, block.page, "exec", flags=flags, dont_inherit=True)


async def run_program(block: Block, here: Place) -> str:
    """Run a whole program in a process of its own. Gives what it printed."""
    path = here.folder / (block.file or "program.py")
    path.write_text(here.here(block.text), "utf-8")
    done = await _python(here, [str(path)])
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    return done.stdout


async def run_tests(block: Block, here: Place) -> str:
    """Run tests, as pytest finds them in a folder of a user's. Gives what pytest printed."""
    path = here.folder / (block.file or "test_page.py")
    path.write_text(here.here(block.text), "utf-8")
    done = await _python(here, ["-m", "pytest", *PYTEST, path.name])
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


async def _python(here: Place, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-W", "error", loopback.__file__, *arguments],
        cwd=here.folder,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=SECONDS,
        check=False,
    )


async def run_commands(commands: Iterable[str], here: Place) -> None:
    """Run the lines that call `dynamiq-async`, one after another."""
    for command in commands:
        program, *arguments = shlex.split(here.here(command), comments=True)
        if program != "dynamiq-async":
            continue
        arguments = [name for given in arguments for name in _expanded(given, here.folder)]
        if arguments[0] in SERVERS:
            await asyncio.to_thread(_serve, arguments, here.folder)
        else:
            async with asyncio.timeout(SECONDS):
                code = await asyncio.to_thread(main, arguments)
            assert code == 0, f"{command} ended with {code}"


def _expanded(argument: str, folder: Path) -> list[str]:
    """As a shell makes files of a pattern, and leaves alone what no file is like."""
    if "*" not in argument or "{" in argument:
        return [argument]
    return sorted(path.name for path in folder.glob(argument)) or [argument]


def _serve(arguments: list[str], folder: Path) -> None:
    """Start a server, see that it has started, and end it as Ctrl-C does. One that reads from
    stdin, which is empty, ends by itself."""
    if arguments[0] == "serve" and "--port" not in arguments:
        arguments = [*arguments, "--port", "0"]
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "dynamiq_async", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        limit = threading.Timer(SECONDS, process.kill)
        limit.start()
        try:
            assert process.stdout is not None
            said: list[str] = []
            for line in process.stdout:
                said.append(line)
                if line.startswith(STARTED):
                    process.send_signal(signal.SIGINT)
            assert process.wait() == 0, "".join(said)
        finally:
            limit.cancel()
            process.kill()
