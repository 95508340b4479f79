"""A headless Chromium, and a network between it and the backend that can be cut."""

from __future__ import annotations

import asyncio
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from selenium.webdriver import Chrome

REQUIRED = os.environ.get("DYNAMIQ_TEST_BROWSER") == "required"


def _missing(reason: str) -> None:
    if REQUIRED:
        pytest.fail(f"DYNAMIQ_TEST_BROWSER is 'required', but {reason}")
    pytest.skip(f"no browser test: {reason}")


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """The browser, driven over WebDriver."""
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if browser is None or driver is None:
        _missing("chromium and chromedriver are not installed (.ci/browser.sh does it)")
    # Never look for, or fetch, another driver than the one there is.
    os.environ.update(SE_OFFLINE="true", SE_AVOID_STATS="true")
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    options = ChromeOptions()
    options.binary_location = str(browser)
    for argument in _arguments(tmp_path_factory.mktemp("chromium")):
        options.add_argument(argument)
    chrome = Chrome(options, ChromeService(str(driver)))
    try:
        chrome.set_page_load_timeout(20)
        yield chrome
    finally:
        chrome.quit()


def _arguments(profile: Path) -> Iterator[str]:
    yield "--headless=new"
    yield f"--user-data-dir={profile}"
    yield "--window-size=900,600"
    yield "--disable-dev-shm-usage"  # which is small in containers
    yield "--disable-background-networking"
    yield "--disable-component-update"
    yield "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    if os.geteuid() == 0:
        yield "--no-sandbox"  # Chromium refuses to have one as root


class Network:
    """Passes bytes on between a browser and the backend at `port`, until it is cut.

    Attributes:
        cuts: how many connections were cut.
    """

    def __init__(self, port: int) -> None:
        self._backend = port
        self._left: int | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.cuts = 0

    def cut_after(self, size: int) -> None:
        """Let through `size` more bytes of events, wherever that is, and cut the connection."""
        self._left = size

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self._backend)
        up = asyncio.ensure_future(_pass_on(reader, to_writer))
        try:
            await self._down(to_reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass  # one side left, or the test is over
        finally:
            self._tasks.discard(task)
            up.cancel()
            await asyncio.wait([up])
            for end in (writer, to_writer):
                end.transport.abort()
                with suppress(ConnectionError):
                    await end.wait_closed()

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        events = False
        while data := await reader.read(65536):
            events = events or b"text/event-stream" in data
            if events and self._left is not None:
                data, self._left = data[: self._left], self._left - len(data)
            writer.write(data)
            await writer.drain()
            if events and self._left is not None and self._left <= 0:
                self._left = None
                self.cuts += 1
                writer.close()  # what was let through arrives
                await writer.wait_closed()
                return


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
