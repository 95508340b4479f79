"""The vendor's chat widget, unmodified, in a browser: a page on this machine that calls an App."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest

from dynamiq_async.emulator import App, Emulator, Fault, RunContext
from dynamiq_async.emulator.library import WorkflowApp
from tests.support.limits import HANG_SECONDS

from . import workflows
from .direct import run_directly

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from selenium.webdriver import Chrome

    from .model import Model

SORRY = "Sorry, there was an error processing your message. Please try again later."
NOTHING = "I received your message but I don't have a response."

PAGE = """<!doctype html><meta charset="utf-8"><div id="chat"></div>
<script type="module">
import { DynamiqAssistant } from "./index.esm.js";
const options = JSON.parse(decodeURIComponent(location.hash.slice(1)));
window.assistant = new DynamiqAssistant("#chat", options);
window.assistant.open();
document.title = "ready";
</script>
"""


class Quiet(SimpleHTTPRequestHandler):
    extensions_map = {".js": "text/javascript", ".html": "text/html"}  # noqa: RUF012 - as it is there

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a page with the widget, which is all that its server has."""
    folder = tmp_path_factory.mktemp("page")
    shutil.copy(Path(os.environ["DYNAMIQ_WIDGET"]) / "dist/vanilla/index.esm.js", folder)
    (folder / "index.html").write_text(PAGE)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/index.html"
    server.shutdown()
    server.server_close()


class Widget:
    """The widget on its page, as a person uses it. The browser is driven from threads."""

    def __init__(self, chrome: Chrome, page: str) -> None:
        self._chrome = chrome
        self._page = page

    async def open(self, url: str, *, streaming: bool, key: str | None = None) -> None:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        api = {"url": url, "streaming": streaming, "headers": headers}
        params = {"userId": "ann", "sessionId": "s-1", "language": "en"}
        options = {"api": api, "params": params, "allowFileUpload": True}
        await asyncio.to_thread(self._chrome.get, "about:blank")
        await asyncio.to_thread(self._chrome.get, f"{self._page}#{json.dumps(options)}")
        await self.until(lambda: self._chrome.title == "ready")
        await asyncio.to_thread(self._chrome.execute_script, "localStorage.clear()")

    async def say(self, text: str, file: Path | None = None) -> None:
        def type_it() -> None:
            if file is not None:
                self._one(".chat-widget-file-input").send_keys(str(file))
            self._one(".chat-widget-input textarea").send_keys(text)
            self._chrome.execute_script("arguments[0].click()", self._one(".chat-widget-send"))

        await asyncio.to_thread(type_it)

    async def answer(self, number: int, text: str) -> None:
        """Wait until the answer with this number, from 0, is complete and is this text."""

        def said() -> bool:
            answers = self.answers()
            return len(answers) > number and answers[number] == text and not self._generating()

        await self.until(said)

    def answers(self) -> list[str]:
        script = (
            "return [...document.querySelectorAll('.chat-message-bot .chat-message-text')]"
            ".map(found => found.textContent.trim())"
        )
        return list(self._chrome.execute_script(script))

    def steps(self) -> list[str]:
        script = (
            "return [...document.querySelectorAll('.chat-message-intermediate-step')]"
            ".map(found => found.textContent.trim())"
        )
        return list(self._chrome.execute_script(script))

    def _generating(self) -> bool:
        return bool(
            self._chrome.execute_script(
                "return document.querySelector('.chat-widget-generating') !== null"
            )
        )

    def _one(self, selector: str) -> Any:
        return self._chrome.find_element("css selector", selector)

    async def until(self, condition: Callable[[], bool]) -> None:
        try:
            async with asyncio.timeout(HANG_SECONDS):
                while not await asyncio.to_thread(condition):
                    await asyncio.sleep(0.02)
        except TimeoutError:
            pytest.fail(f"the widget shows {self.answers()}")


@pytest.fixture
def widget(chromium: Chrome, page: str) -> Widget:
    return Widget(chromium, page)


async def replies(input: dict[str, Any], run: RunContext) -> Any:
    """Says what it was asked, what came along, and how much was said before."""
    files = [f"{file.name}: {file.read().decode()}" for file in run.files]
    said = f"{input['input']}; {', '.join(files)}; {len(run.chat_history)}"
    for piece in said.split(" "):
        await run.text(piece + " ")
    return {"output": said}


async def fails(input: dict[str, Any], run: RunContext) -> Any:
    raise ValueError("no luck")


@pytest.fixture
async def emulator(model: Model) -> AsyncIterator[Emulator]:
    apps: dict[str, App] = {
        "replies": replies,
        "fails": fails,
        "real-agent": WorkflowApp(workflows.agent),
        "chat": WorkflowApp(workflows.chat()),
        "broken": WorkflowApp(workflows.broken_model()),
    }
    async with Emulator("echo", apps=apps) as running:
        yield running


each_way = pytest.mark.parametrize("streaming", [True, False])


@each_way
async def test_questions_are_answered_one_after_another(
    emulator: Emulator, widget: Widget, streaming: bool
) -> None:
    await widget.open(emulator.url_for("replies"), streaming=streaming, key=emulator.access_key)
    await widget.say("first")
    await widget.answer(0, "first; ; 1")
    await widget.say("second")
    await widget.answer(1, "second; ; 3")
    calls = [request for request in emulator.requests if request.method == "POST"]
    assert len(calls) == 2
    assert {request.method for request in emulator.requests} == {"OPTIONS", "POST"}
    first, second = emulator.executions
    assert (first.user_id, first.session_id) == ("ann", "s-1")
    assert first.input["language"] == "en"
    history = second.input["chat_history"]
    assert [said["content"].strip() for said in history] == ["first", "first; ; 1", "second"]


@each_way
async def test_a_file_goes_along(
    emulator: Emulator, widget: Widget, streaming: bool, tmp_path: Path
) -> None:
    file = tmp_path / "a.txt"
    file.write_text("content")
    await widget.open(emulator.url_for("replies"), streaming=streaming, key=emulator.access_key)
    await widget.say("read", file)
    await widget.answer(0, "read; a.txt: content; 1")


@each_way
@pytest.mark.parametrize("name", ["fails", "broken"])
async def test_a_failure_is_told(
    emulator: Emulator, widget: Widget, streaming: bool, name: str
) -> None:
    await widget.open(emulator.url_for(name), streaming=streaming, key=emulator.access_key)
    await widget.say("go")
    if streaming:
        await widget.answer(0, SORRY)
    else:  # the library's whole result, whose `output` is no text
        await emulator.wait_for_executions(1, timeout=HANG_SECONDS)
        assert emulator.executions[0].status == "failure"


@each_way
async def test_a_refusal_is_told(emulator: Emulator, widget: Widget, streaming: bool) -> None:
    emulator.script(Fault(status=503))
    await widget.open(emulator.url_for("replies"), streaming=streaming, key="another")
    await widget.say("go")
    await widget.answer(0, SORRY)
    assert not emulator.executions


@pytest.mark.parametrize("name", ["llm", "agent"])
@each_way
async def test_the_built_in_apps_speak_to_it(
    emulator: Emulator, widget: Widget, streaming: bool, name: str
) -> None:
    await widget.open(emulator.url_for(name), streaming=streaming, key=emulator.access_key)
    await widget.say("Hi")
    await widget.until(lambda: bool(widget.answers()) and bool(widget.answers()[0]))
    await emulator.wait_for_executions(1, timeout=HANG_SECONDS)
    await widget.answer(0, emulator.executions[0].output["output"])


async def test_an_answer_without_text_is_said_to_be_none(
    emulator: Emulator, widget: Widget
) -> None:
    await widget.open(emulator.url_for("parallel"), streaming=False, key=emulator.access_key)
    await widget.say("go")
    await widget.answer(0, NOTHING)


@each_way
@pytest.mark.parametrize("name", ["real-agent", "chat"])
async def test_a_real_workflow_speaks_to_it(
    emulator: Emulator, widget: Widget, streaming: bool, name: str
) -> None:
    made = workflows.chat() if name == "chat" else workflows.agent()
    _, result = run_directly(made, {"input": "Who is 7421?"})
    await widget.open(emulator.url_for(name), streaming=streaming, key=emulator.access_key)
    await widget.say("Who is 7421?")
    said = result["output"]["output-1"]["output"]["output"].strip()
    await widget.answer(0, said)
    if streaming and name == "real-agent":
        assert any("look it up" in step for step in await asyncio.to_thread(widget.steps))
