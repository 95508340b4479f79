"""The example backends do what their pages ask of them, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from dynamiq_async.emulator import Emulator
from dynamiq_async.relay import resume_position
from tests.support.backends import Browser, aiohttp_serving, uvicorn_serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
WORDS = ["It ", "is ", "on ", "its ", "way."]


def example(name: str) -> Any:
    """The module of this name, made anew: it keeps a client for its life."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextlib.asynccontextmanager
async def backend(kind: str) -> AsyncIterator[int]:
    """The port on which an example runs, the App being that of the environment."""
    module = example(f"{kind}_backend")
    serving = (
        uvicorn_serving(module.api, lifespan="on")
        if kind == "fastapi"
        else aiohttp_serving(module.backend())
    )
    async with serving as port:
        yield port


async def speak(input: dict[str, Any], run: Any) -> Any:
    for word in WORDS:
        await run.text(word)
    if input["question"] == "for ever":
        await asyncio.get_running_loop().create_future()


async def post(port: int, path: str, value: Any = None) -> Any:
    body = msgspec.json.encode(value)
    browser = await Browser.ask(
        port, path, method="POST", body=body, Content_Type="application/json"
    )
    answer = msgspec.json.decode(await browser.piece())
    assert browser.status == 200, answer
    browser.leave()
    return answer


@pytest.mark.parametrize("kind", ["fastapi", "aiohttp"])
async def test_an_example_answers_goes_on_and_stops(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Emulator(speak) as emulator:
        monkeypatch.setenv("DYNAMIQ_APP_URL", emulator.url)
        monkeypatch.setenv("DYNAMIQ_ACCESS_KEY", emulator.access_key or "")
        async with backend(kind) as port:
            page = await Browser.ask(port, "/")
            assert b"<!DOCTYPE html>" in await page.piece()

            run = (await post(port, "/runs", {"question": "where?"}))["run"]
            browser = await Browser.ask(port, f"/events?run={run}")
            events = await browser.events()
            assert [event.json().get("text") for event in events] == [*WORDS, None]
            browser = await Browser.ask(port, f"/events?run={run}", Last_Event_ID=events[1].id)
            assert await browser.events() == events[2:]
            browser = await Browser.ask(port, f"/events?run={run}", Last_Event_ID="garbage")
            await browser.head()
            assert browser.status == 400
            browser = await Browser.ask(port, "/events?run=unknown")
            await browser.head()
            assert browser.status == 404

            run = (await post(port, "/runs", {"question": "for ever"}))["run"]
            browser = await Browser.ask(port, f"/events?run={run}")
            seen = await browser.until(b"way.")
            await post(port, f"/runs/{run}/cancel")
            seen += await browser.body()
            assert b'"run_canceled"' in seen
            last = seen.split(b"id: ")[-1].split(b"\n")[0].decode()
            position = resume_position({"Last-Event-ID": last})
            assert position is not None
            assert position.finished
            assert emulator.runs[run].status == "canceled"
