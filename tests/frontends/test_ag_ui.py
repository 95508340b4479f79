"""What AG-UI's own clients make of our streams, for every way that they end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from dynamiq_async.emulator import Fault
from tests.examples.conftest import Network
from tests.support.chats import Backend

if TYPE_CHECKING:
    from .conftest import Open, Page

# The library, and the version that it says it speaks.
VERSIONS = [("@ag-ui/client", "1.0"), ("@ag-ui/client-059", None)]
each_version = pytest.mark.parametrize(("library", "version"), VERSIONS)


async def agent(page: Open, library: str, port: int) -> Page:
    return await page("agui.mjs", library, f"http://127.0.0.1:{port}/api/agent", "thread-1")


def text(state: dict[str, Any]) -> str:
    said = [m for m in state["messages"] if m["role"] == "assistant"]
    return "".join(message.get("content") or "" for message in said)


async def reloaded(
    page: Open, library: str, version: str | None, port: int, state: dict[str, Any]
) -> dict[str, Any]:
    again = await agent(page, library, port)
    kept = [message for message in state["messages"] if message["role"] == "user"]
    await again.do("load", messages=kept)
    return await again.do("connect", version=version)


@each_version
async def test_a_whole_stream(page: Open, library: str, version: Any) -> None:
    async with Backend() as backend:
        chat = await agent(page, library, backend.port)
        state = await chat.do("send", text="hi")
        assert state["failures"] == []
        assert state["outcome"] == "success"
        roles = [message["role"] for message in state["messages"]]
        assert roles == ["user", "reasoning", "assistant", "tool", "assistant"]
        assert text(state) == "It is on its way."
        again = await reloaded(page, library, version, backend.port, state)
        assert again["messages"] == state["messages"]
        state = await chat.do("send", text="hi")  # another run of the thread, with ids of its own
        ids = [message["id"] for message in state["messages"]]
        assert len(set(ids)) == len(ids) == 10


@each_version
async def test_a_run_that_fails_is_an_error(page: Open, library: str, version: Any) -> None:
    async with Backend() as backend:
        chat = await agent(page, library, backend.port)
        state = await chat.do("send", text="fail")
        assert state["failures"] == [{"message": "The run failed.", "code": "run_failed"}]


@each_version
async def test_a_canceled_run(page: Open, library: str, version: Any) -> None:
    async with Backend() as backend:
        chat = await agent(page, library, backend.port)
        state = await chat.do("send", text="cancel")
        if version is None:
            assert state["failures"] == [{"message": "The run was canceled.", "code": "cancelled"}]
        else:
            assert (state["failures"], state["outcome"]) == ([], "cancelled")


@each_version
async def test_a_lost_upstream_is_an_error(page: Open, library: str, version: Any) -> None:
    async with Backend() as backend:
        cut = Fault(after_events=4, drop="reset")
        backend.emulator.script(Fault(), cut, *[Fault(status=404)] * 6)
        chat = await agent(page, library, backend.port)
        [failure] = (await chat.do("send", text="hi"))["failures"]
        assert "code" in failure


@each_version
@pytest.mark.parametrize("approved", [True, False])
async def test_an_approval(page: Open, library: str, version: Any, approved: bool) -> None:
    async with Backend() as backend:
        chat = await agent(page, library, backend.port)
        state = await chat.do("send", text="approve")
        [interrupt] = state["interrupts"]
        payload = {"approved": approved, "reason": "no"}
        answer = {"interruptId": interrupt["id"], "status": "resolved", "payload": payload}
        state = await chat.do("resume", answers=[answer])
        assert state["failures"] == []
        word = "sent to ann, " if approved else "sent not: no, "
        assert text(state) == f"It is {word}on its way."
        again = await reloaded(page, library, version, backend.port, state)
        assert again["messages"] == state["messages"]


@each_version
async def test_a_question_for_a_text(page: Open, library: str, version: Any) -> None:
    async with Backend() as backend:
        chat = await agent(page, library, backend.port)
        [interrupt] = (await chat.do("send", text="ask"))["interrupts"]
        payload = {"feedback": "Bea"}
        answer = {"interruptId": interrupt["id"], "status": "resolved", "payload": payload}
        state = await chat.do("resume", answers=[answer])
        assert text(state) == "It is for Bea, on its way."
        again = await reloaded(page, library, version, backend.port, state)
        assert again["messages"] == state["messages"]


@each_version
async def test_a_server_that_is_killed(page: Open, library: str, version: Any) -> None:
    async with Backend() as backend, Network(backend.port) as network:
        chat = await agent(page, library, network.port)
        network.cut_after(400)
        state = await chat.do("send", text="hi")
        assert state["failures"]
        again = await reloaded(page, library, version, backend.port, state)
        assert (again["failures"], text(again)) == ([], "It is on its way.")
        whole = await reloaded(page, library, version, backend.port, state)
        assert again["messages"] == whole["messages"]
