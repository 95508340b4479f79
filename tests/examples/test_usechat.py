"""The example with `useChat` and AG-UI's client, in a real browser, from its pages' own build."""

from __future__ import annotations

import asyncio
import importlib.util
import os
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dynamiq_async.emulator import Emulator
from tests.examples.conftest import Network
from tests.support.backends import Browser, free_port, process_serving, uvicorn_serving
from tests.support.chats import Leading

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from selenium.webdriver import Chrome

FOLDER = Path(__file__).parent.parent.parent / "examples" / "usechat"
PATIENCE = 30.0
WHOLE = "It is on its way."


async def answer(input: dict[str, Any], run: Any) -> Any:
    return await leading[-1]({"text": input["question"]}, run)


leading: list[Leading] = []


def module() -> Any:
    spec = importlib.util.spec_from_file_location("usechat_backend", FOLDER / "backend.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


@asynccontextmanager
async def served(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    leading.append(Leading())
    async with Emulator(answer) as emulator:
        monkeypatch.setenv("DYNAMIQ_APP_URL", emulator.url)
        monkeypatch.setenv("DYNAMIQ_ACCESS_KEY", emulator.access_key or "")
        async with uvicorn_serving(module().api, lifespan="on") as port, Network(port) as network:
            yield emulator, network


class Page:
    """What a person sees and does."""

    def __init__(self, chrome: Chrome) -> None:
        if not (FOLDER / "built" / "page.js").exists():
            reason = "the example's pages are not built (examples/usechat/start.sh does it)"
            if os.environ.get("DYNAMIQ_TEST_FRONTENDS") == "required":
                pytest.fail(reason)
            pytest.skip(reason)
        self._chrome = chrome

    async def open(self, port: int, path: str = "/") -> None:
        await asyncio.to_thread(self._chrome.get, f"http://127.0.0.1:{port}{path}")

    async def reload(self) -> None:
        await asyncio.to_thread(self._chrome.refresh)

    async def ask(self, question: str) -> None:
        await self.until("#ask", "Ask")
        element = self._chrome.find_element("id", "question")
        await asyncio.to_thread(element.send_keys, question)
        await self.click("#ask")

    async def click(self, selector: str) -> None:
        await asyncio.to_thread(self._chrome.find_element("css selector", selector).click)

    async def says(self, selector: str) -> str:
        read = (
            "return Array.from(document.querySelectorAll(arguments[0]))"
            ".map(found => found.textContent).join('')"
        )
        text: str = await asyncio.to_thread(self._chrome.execute_script, read, selector)
        return text

    async def until(self, selector: str, expected: str) -> None:
        """Wait until what the selector finds holds this text."""
        seen = ""
        try:
            async with asyncio.timeout(PATIENCE):
                while expected not in (seen := await self.says(selector)):
                    await asyncio.sleep(0.05)
        except TimeoutError:
            pytest.fail(f"{selector} holds {seen!r}, not {expected!r}")


async def test_a_chat_survives_a_reload_and_a_lost_server(
    chromium: Chrome, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = Page(chromium)
    async with served(monkeypatch) as (emulator, network):
        await page.open(network.port)
        await page.ask("wait")
        await page.until(".text", "It is ")
        assert await page.says(".reasoning") == "I look it up."
        assert await page.says(".tool") == "find-order: output-available"
        await page.reload()
        await page.until(".text", "It is ")
        network.cut_after(0)
        leading[-1].go.set()
        await page.until("#state", "error")
        await page.click("#again")
        await page.until("#state", "ready")
        await page.until(".assistant .text", WHOLE)
        assert await page.says(".assistant .text") == WHOLE
        assert len(emulator.runs) == 1


@pytest.mark.parametrize("way", ["button", "reload"])
async def test_a_chat_goes_on_after_its_backend_was_killed(chromium: Chrome, way: str) -> None:
    page, port = Page(chromium), free_port()
    command = ("-m", "uvicorn", "backend:api", "--app-dir", str(FOLDER), "--port", str(port))
    leading.append(Leading())
    async with Emulator(answer) as emulator:
        async with process_serving(*command, emulator=emulator) as process:
            await page.open(port)
            await page.ask("wait")
            await page.until(".text", "It is ")
            process.kill()
            await process.wait()
            await page.until("#state", "error")
        leading[-1].go.set()
        async with process_serving(*command, emulator=emulator):
            await (page.click("#again") if way == "button" else page.reload())
            await page.until(".assistant .text", WHOLE)
            await page.until("#state", "ready")
            assert await page.says(".assistant .text") == WHOLE
            assert await page.says(".reasoning") == "I look it up."
        assert len(emulator.runs) == 1


async def test_a_chat_asks_for_approval(chromium: Chrome, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Page(chromium)
    async with served(monkeypatch) as (emulator, network):
        await page.open(network.port)
        await page.ask("approve")
        await page.until(".approval", "Send it?")
        await page.click(".yes")
        await page.until(".assistant .text", "It is sent to ann, on its way.")
        assert len(emulator.runs) == 1


async def test_an_agents_page_answers_asks_and_comes_back(
    chromium: Chrome, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = Page(chromium)
    async with served(monkeypatch) as (emulator, network):
        await page.open(network.port, "/agent")
        await page.ask("approve")
        await page.until(".approval", "Send it?")
        await page.click(".no")
        await page.until("#state", "ready")
        await page.until(".assistant", "on its way.")
        await page.reload()
        await page.until("#state", "ready")
        await page.until(".assistant", "on its way.")
        assert len(emulator.runs) == 1


async def test_the_backend_uploads_and_keeps_what_was_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with served(monkeypatch) as (emulator, network):
        cookie = {"Cookie": "user=ann", "Content_Type": "application/json"}
        path = "/api/files?name=a.txt"
        browser = await Browser.ask(network.port, path, method="POST", body=b"hi", **cookie)
        assert b'"id"' in await browser.piece()
        body = b'{"id":"c","messages":[{"role":"user","parts":[{"type":"text","text":"hi"}]}]}'
        browser = await Browser.ask(network.port, "/api/chat", method="POST", body=body, **cookie)
        assert b"[DONE]" in await browser.body()
        browser = await Browser.ask(network.port, "/api/chat/c/history", Cookie="user=ann")
        assert b'"text":"hi"' in await browser.piece()
        for path, method in (("/api/chat/c/history", "GET"), ("/api/files?name=a", "POST")):
            browser = await Browser.ask(network.port, path, method=method)
            await browser.head()
            assert browser.status == 404
            browser.leave()
        assert len(emulator.runs) == 1
