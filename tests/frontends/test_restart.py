"""A backend that is killed or stopped in the middle of an answer, and started again."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from dynamiq_async.emulator import Emulator
from tests.support.backends import listening
from tests.support.chats import Leading

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from .conftest import Open

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


@asynccontextmanager
async def started(
    file: Path, port: int, emulator: Emulator
) -> AsyncIterator[asyncio.subprocess.Process]:
    """The backend's process, once it is listening."""
    known = {"DYNAMIQ_APP_URL": emulator.url, "DYNAMIQ_ACCESS_KEY": emulator.access_key or ""}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(file),
        str(port),
        env={**os.environ, **known},
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stderr is not None
        async with asyncio.timeout(60):
            while b"running on" not in await process.stderr.readline():
                assert process.returncode is None
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
async def test_an_answer_goes_on_after_a_restart(page: Open, tmp_path: Path, how: Any) -> None:
    file = tmp_path / "backend.py"
    file.write_text(BACKEND)
    with listening() as probe:
        port = probe.getsockname()[1]
    leading = Leading()
    url = f"http://127.0.0.1:{port}/api"
    async with Emulator(leading) as emulator:
        async with started(file, port, emulator) as process:
            chat = await page("usechat.mjs", "ai", f"{url}/chat")
            agent = await page("agui.mjs", "@ag-ui/client", f"{url}/agent", "thread-1")
            asked = asyncio.ensure_future(agent.do("send", text="wait"))
            state = await chat.do("begin", text="wait")
            async with asyncio.timeout(30):
                while len(emulator.runs) < 2 or not state["messages"][1:]:
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
        async with started(file, port, emulator):
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
