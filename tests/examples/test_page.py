"""The examples' page, in a real browser: text arrives, survives cuts, and can be stopped."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from dynamiq_async.emulator import Emulator
from tests.examples.conftest import Network
from tests.examples.test_backends import backend

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from selenium.webdriver import Chrome

PATIENCE = 20.0
WORDS = [f"word {number} é\u2028\n" for number in range(40)]


class Speaker:
    """An App that says as many words as it is let, and ends when it has said them all."""

    def __init__(self) -> None:
        self.allowed = asyncio.Semaphore(0)

    def say(self, count: int) -> None:
        for _ in range(count):
            self.allowed.release()

    async def __call__(self, input: dict[str, Any], run: Any) -> Any:
        for word in WORDS:
            await self.allowed.acquire()
            await run.text(word)


class Page:
    """What a person sees and does. The browser is driven from a thread, since it is waited for."""

    def __init__(self, chrome: Chrome) -> None:
        self._chrome = chrome

    async def _do(self, action: Callable[[], Any]) -> Any:
        return await asyncio.to_thread(action)

    def _element(self, id: str) -> Any:
        return self._chrome.find_element("id", id)

    async def open(self, port: int) -> None:
        await self._do(lambda: self._chrome.get(f"http://127.0.0.1:{port}/"))

    async def ask(self, question: str) -> None:
        await self._do(lambda: self._element("question").send_keys(question))
        await self._do(lambda: self._element("ask").click())

    async def stop(self) -> None:
        await self._do(lambda: self._element("stop").click())

    async def says(self, id: str) -> str:
        read = "return document.getElementById(arguments[0]).textContent"
        text: str = await self._do(lambda: self._chrome.execute_script(read, id))
        return text

    async def until(self, id: str, expected: str) -> None:
        """Wait until the element holds just this text."""
        seen = ""
        try:
            async with asyncio.timeout(PATIENCE):
                while (seen := await self.says(id)) != expected:
                    await asyncio.sleep(0.02)
        except TimeoutError:
            pytest.fail(f"{id} holds {seen!r}, not {expected!r}")


@asynccontextmanager
async def served(kind: str, monkeypatch: pytest.MonkeyPatch, app: Any) -> AsyncIterator[Any]:
    """An emulator, an example before it, and a network before that."""
    async with Emulator(app) as emulator:
        monkeypatch.setenv("DYNAMIQ_APP_URL", emulator.url)
        monkeypatch.setenv("DYNAMIQ_ACCESS_KEY", emulator.access_key or "")
        async with backend(kind) as port, Network(port) as network:
            yield emulator, network


@pytest.mark.parametrize("kind", ["fastapi", "aiohttp"])
async def test_the_answer_arrives_whole_over_a_network_that_breaks(
    kind: str, chromium: Chrome, monkeypatch: pytest.MonkeyPatch
) -> None:
    speaker, page = Speaker(), Page(chromium)
    async with served(kind, monkeypatch, speaker) as (emulator, network):
        await page.open(network.port)
        await page.ask("where?")
        speaker.say(3)
        await page.until("answer", "".join(WORDS[:3]))
        assert await page.says("state") == "Answering…"

        for size in (1, 300):  # within a frame: right at its start, and some frames later
            network.cut_after(size)
            speaker.say(8)
            await page.until("state", "Connection lost, coming back…")
            speaker.say(4)
            await page.until("state", "Answering…")
        assert network.cuts == 2
        speaker.say(len(WORDS))
        await page.until("state", "Done.")
        assert await page.says("answer") == "".join(WORDS)
        [run] = emulator.runs.values()
        assert run.status == "completed"


async def test_the_stop_button_stops_the_run(
    chromium: Chrome, monkeypatch: pytest.MonkeyPatch
) -> None:
    speaker, page = Speaker(), Page(chromium)
    async with served("fastapi", monkeypatch, speaker) as (emulator, network):
        await page.open(network.port)
        await page.ask("where?")
        speaker.say(3)
        await page.until("answer", "".join(WORDS[:3]))
        [run] = emulator.runs.values()
        assert run.status == "started"
        await page.stop()
        await page.until("state", "The run was canceled.")
        assert run.status == "canceled"
        assert await page.says("answer") == "".join(WORDS[:3])
        asked = emulator.requests.total
        await asyncio.sleep(2.5)  # longer than a browser waits before it comes back
        assert emulator.requests.total == asked


async def test_what_goes_wrong_is_told(chromium: Chrome, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(input: dict[str, Any], run: Any) -> None:
        await run.text("It is ")
        raise ValueError("the database at 10.0.0.7")

    page = Page(chromium)
    async with served("fastapi", monkeypatch, broken) as (_, network):
        await page.open(network.port)
        await page.ask("where?")
        await page.until("state", "The run failed.")
        assert await page.says("answer") == "It is "
