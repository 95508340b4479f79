"""What the AI SDK's own chat makes of our streams, for every way that they end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from dynamiq_async.emulator import Fault
from tests.examples.conftest import Network
from tests.support.chats import Backend

if TYPE_CHECKING:
    from .conftest import Open, Page

# The library, and the version that the backend is told.
VERSIONS = [("ai", 7), ("ai-v6", 6)]
each_version = pytest.mark.parametrize(("library", "version"), VERSIONS)

CHAT = "usechat.mjs"


def path_of(port: int) -> str:
    return f"http://127.0.0.1:{port}/api/chat"


def parts(state: dict[str, Any]) -> list[dict[str, Any]]:
    """Those of the newest message."""
    found: list[dict[str, Any]] = state["messages"][-1]["parts"]
    return found


def question(state: dict[str, Any]) -> str:
    return str(parts(state)[-1]["toolCallId"])


def text(state: dict[str, Any]) -> str:
    return "".join(part["text"] for part in parts(state) if part["type"] == "text")


async def reloaded(page: Open, library: str, backend: Backend, state: dict[str, Any]) -> Any:
    """What a page has that was loaded anew with what a backend may have stored of the chat: the
    person's messages."""
    again = await page(CHAT, library, path_of(backend.port))
    kept = [message for message in state["messages"] if message["role"] == "user"]
    await again.do("load", messages=kept)
    return await again.do("resume")


def same(one: dict[str, Any], other: dict[str, Any], version: int) -> bool:
    """Whether the newest messages are equal. Version 6 cannot be told in a replay how an approval
    was answered, but by the call's own end."""
    first, second = one["messages"][-1], other["messages"][-1]
    if version == 6:
        for part in (*first["parts"], *second["parts"]):
            if "approval" in part:
                part["approval"] = {"id": part["approval"]["id"]}
    return bool(first == second)


@each_version
async def test_a_whole_stream(page: Open, library: str, version: Any) -> None:
    async with Backend(sdk_version=version) as backend:
        chat = await page(CHAT, library, path_of(backend.port))
        state = await chat.do("send", text="hi")
        assert state["status"] == "ready"
        assert [part["type"] for part in parts(state)] == [
            "step-start",
            "reasoning",
            "dynamic-tool",
            "text",
        ]
        assert text(state) == "It is on its way."
        usage = {"inputTokens": 11, "outputTokens": 7, "totalTokens": 18}
        assert state["messages"][-1]["metadata"] == {"usage": usage}
        [finish] = state["finishes"]
        assert finish["finishReason"] == "stop"
        again = await reloaded(page, library, backend, state)  # just after the end
        assert again["status"] == "ready"
        assert same(again, state, version)
        other = await page(CHAT, library, path_of(backend.port), "chat-2")
        assert (await other.do("resume"))["messages"] == []


@each_version
async def test_a_run_that_fails_is_an_error(page: Open, library: str, version: Any) -> None:
    async with Backend(sdk_version=version) as backend:
        chat = await page(CHAT, library, path_of(backend.port))
        state = await chat.do("send", text="fail")
        assert (state["status"], state["error"]) == ("error", "The run failed.")
        assert text(state) == "It is on its way."


@each_version
async def test_a_canceled_run_is_no_error(page: Open, library: str, version: Any) -> None:
    async with Backend(sdk_version=version) as backend:
        chat = await page(CHAT, library, path_of(backend.port))
        state = await chat.do("send", text="cancel")
        assert (state["status"], state.get("error")) == ("ready", None)
        assert not any(part.get("state") == "streaming" for part in parts(state))


@each_version
async def test_a_lost_upstream_is_an_error(page: Open, library: str, version: Any) -> None:
    async with Backend(sdk_version=version) as backend:
        gone = Fault(status=404)
        cut = Fault(after_events=4, drop="reset")
        backend.emulator.script(Fault(), cut, *[gone] * 6)
        chat = await page(CHAT, library, path_of(backend.port))
        state = await chat.do("send", text="hi")
        assert state["status"] == "error"
        assert "AI_TypeValidation" not in state["error"]


@each_version
@pytest.mark.parametrize("approved", [True, False])
async def test_an_approval(page: Open, library: str, version: Any, approved: bool) -> None:
    async with Backend(sdk_version=version) as backend:
        chat = await page(CHAT, library, path_of(backend.port))
        state = await chat.do("send", text="approve")
        assert state["status"] == "ready"
        assert parts(state)[-1]["state"] == "approval-requested"
        assert same(await reloaded(page, library, backend, state), state, version)
        answer = {"question": question(state), "approved": approved, "reason": "no"}
        state = await chat.do("approve", **answer)
        assert state["status"] == "ready"
        assert len(state["messages"]) == 2
        word = "sent to ann, " if approved else "sent not: no, "
        assert text(state) == f"It is {word}on its way."
        assert same(await reloaded(page, library, backend, state), state, version)
        assert len(backend.emulator.runs) == 1


@each_version
async def test_a_question_for_a_text(page: Open, library: str, version: Any) -> None:
    async with Backend(sdk_version=version) as backend:
        chat = await page(CHAT, library, path_of(backend.port))
        state = await chat.do("send", text="ask")
        state = await chat.do("answer", question=question(state), text="Bea")
        assert text(state) == "It is for Bea, on its way."
        assert same(await reloaded(page, library, backend, state), state, version)
        assert len(backend.emulator.runs) == 1


async def begun(chat: Page) -> dict[str, Any]:
    """Ask, and wait until the answer has begun."""
    state = await chat.do("begin", text="wait")
    while not state["messages"][1:] or not text(state):
        state = await chat.do("state", wait=False)
    return state


@each_version
async def test_a_reload_in_the_middle(page: Open, library: str, version: Any) -> None:
    async with Backend(sdk_version=version) as backend:
        chat = await page(CHAT, library, path_of(backend.port))
        begun_with = await begun(chat)
        again = await page(CHAT, library, path_of(backend.port))
        kept = [message for message in begun_with["messages"] if message["role"] == "user"]
        await again.do("load", messages=kept)
        backend.leading.go.set()
        state = await again.do("resume")
        assert text(state) == "It is on its way."
        assert same(await chat.do("state"), state, version)


@each_version
async def test_a_server_that_is_killed(page: Open, library: str, version: Any) -> None:
    async with Backend(sdk_version=version) as backend, Network(backend.port) as network:
        chat = await page(CHAT, library, path_of(network.port))
        whole = await page(CHAT, library, path_of(backend.port))
        cut = await begun(chat)
        network.cut_after(0)
        backend.leading.go.set()
        state = await chat.do("state")
        assert state["status"] == "error"
        assert network.cuts == 1
        if version == 6:  # which would append the replay to what it has
            await chat.do("load", messages=cut["messages"][:1])
        state = await chat.do("resume")
        assert (state["status"], text(state)) == ("ready", "It is on its way.")
        await whole.do("load", messages=cut["messages"][:1])
        assert same(await whole.do("resume"), state, version)


@each_version
async def test_files_and_another_answer(page: Open, library: str, version: Any) -> None:
    seen: list[Any] = []

    def as_input(chat: Any) -> dict[str, Any]:
        seen.append(chat)
        return {"text": chat.text}

    async with Backend(sdk_version=version, input=as_input) as backend:
        chat = await page(CHAT, library, path_of(backend.port))
        file = {"type": "file", "mediaType": "text/plain", "url": "data:text/plain;base64,aGk="}
        await chat.do("send", text="hi", files=[file])
        assert [file.content for file in seen[0].files] == [b"hi"]
        state = await chat.do("regenerate")
        assert len(state["messages"]) == 2
        assert [(chat.text, chat.is_retry) for chat in seen] == [("hi", False), ("hi", True)]
