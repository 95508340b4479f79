"""A backend that is killed or stopped in the middle of an answer, and started again."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Any

import pytest

from dynamiq_async.emulator import Emulator
from tests.support.backends import free_port, process_serving
from tests.support.chats import Leading

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Open

BEFORE_WAITING = 5
"""How many events a run of `Leading` has then."""

BACKEND = """
import sys
from contextlib import asynccontextmanager

import uvicorn
from starlette.applications import Starlette

from dynamiq_async import AsyncApp
from dynamiq_async.relay.starlette import chat_routes


@asynccontextmanager
async def lifespan(_):
    async with AsyncApp() as app:
        yield {"app": app}


async def owner(request, chat_id):
    return "ann"


def routes(path, wire):
    return chat_routes(
        lambda request: request.state.app,
        input=lambda chat: {"text": chat.text},
        owner=owner,
        path=path,
        wire=wire,
        sdk_version=7,
    )


both = routes("/api/chat", "ui-message-stream") + routes("/api/agent", "ag-ui")
uvicorn.run(Starlette(routes=both, lifespan=lifespan), port=int(sys.argv[1]))
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
async def test_an_answer_goes_on_after_a_restart(page: Open, tmp_path: Path, how: Any) -> None:
    file = tmp_path / "backend.py"
    file.write_text(BACKEND)
    port = free_port()
    leading = Leading()
    url = f"http://127.0.0.1:{port}/api"
    async with Emulator(leading) as emulator:
        async with process_serving(str(file), str(port), emulator=emulator) as process:
            chat = await page("usechat.mjs", "ai", f"{url}/chat")
            agent = await page("agui.mjs", "@ag-ui/client", f"{url}/agent", "thread-1")
            asked = asyncio.ensure_future(agent.do("send", text="wait"))
            state = await chat.do("begin", text="wait")
            async with asyncio.timeout(30):
                # Both answers are under way, up to what the App says before it waits.
                while (
                    sum(r.events_sent >= BEFORE_WAITING for r in emulator.requests) < 2
                    or not state["messages"][1:]
                ):
                    assert state["status"] != "error", state
                    state = await chat.do("state", wait=False)
            process.send_signal(how)
            await process.communicate()
        state = await chat.do("state")
        assert state["status"] == "error"
        [failure] = (await asked)["failures"]
        if how == signal.SIGTERM:
            assert failure["code"] == "restart"
        leading.go.set()
        async with process_serving(str(file), str(port), emulator=emulator):
            state = await chat.do("resume")
            assert state["status"] == "ready"
            assert state["messages"][-1]["parts"][-1]["text"] == "It is on its way."
            assert len(state["messages"]) == 2
            known = await agent.do("state")
            asked_before = [m for m in known["messages"] if m["role"] == "user"]
            await agent.do("load", messages=asked_before)  # a replay is appended to what is there
            known = await agent.do("connect", version="1.0")
            assert known["failures"] == []
            assert known["messages"][-1]["content"] == "It is on its way."
        assert len(emulator.runs) == 2
