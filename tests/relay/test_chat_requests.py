"""What pages send is read, or refused with what is wrong with it."""

from __future__ import annotations

import pickle
from typing import Any

import msgspec
import pytest

from dynamiq_async import errors
from dynamiq_async.relay import (
    Chat,
    ChatAnswer,
    ChatFile,
    RefusedRequestError,
    error_reply,
    read_run_agent_input,
    read_ui_request,
    session_for,
)

PNG = "data:image/png;base64,aGk="


def message(*parts: dict[str, Any], role: str = "user") -> dict[str, Any]:
    return {"id": "m", "role": role, "parts": list(parts)}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def read(*messages: Any, **more: Any) -> Chat:
    body = {"id": "chat-1", "messages": list(messages), **more}
    return read_ui_request(msgspec.json.encode(body))


def tool(state: str, **more: Any) -> dict[str, Any]:
    known = {"toolCallId": "run-1:3", "toolName": "ask_approval", "state": state}
    return {"type": "dynamic-tool", **known, **more}


def answers(*parts: dict[str, Any]) -> list[ChatAnswer]:
    return read(message({"type": "step-start"}, *parts, role="assistant")).answers


# --- the AI SDK --------------------------------------------------------------------------------


def test_the_newest_text_and_files_are_read() -> None:
    file = {"type": "file", "url": PNG, "mediaType": "image/png", "filename": "a.png"}
    parts = (text("What is"), file, {"type": "data-x", "data": 1}, text("this?"))
    chat = read(message(text("old")), message(*parts), trigger="submit-message", mode="fast")
    wanted = ChatFile(url=PNG, media_type="image/png", filename="a.png")
    assert chat == Chat(id="chat-1", text="What is\nthis?", files=[wanted], extra={"mode": "fast"})
    assert wanted.content == b"hi"


@pytest.mark.parametrize("kept", [True, False])
def test_another_answer_to_the_same_text(kept: bool) -> None:
    old = [message(text("no"), role="assistant")] if kept else []
    chat = read(message(text("again")), *old, trigger="regenerate-message", messageId="m")
    assert chat.text == "again"
    assert chat.is_retry


def test_approvals_are_read_in_the_newest_step_only() -> None:
    approval = {"id": "run-1:3", "approved": True}
    old = tool("approval-responded", approval={"id": "run-1:2", "approved": True})
    found = answers(
        old,
        {"type": "step-start"},
        text("x"),
        tool("output-available", approval=approval, output={"approved": True}),
        tool("approval-responded", approval={**approval, "reason": "fine"}),
        tool("input-available"),
    )
    assert found == [ChatAnswer(question="run-1:3", approved=True, text="fine")]


def test_outputs_of_the_pages_tools_are_answers() -> None:
    assert answers(tool("output-available", toolName="ask_person", output="Bea")) == [
        ChatAnswer(question="run-1:3", text="Bea")
    ]
    static = {"type": "tool-ask_person", "toolCallId": "r:1", "state": "output-available"}
    assert answers({**static, "output": "Bea"}) == [ChatAnswer(question="r:1", text="Bea")]
    verdict = {"approved": False, "reason": "no", "editedArgs": {"to": "b"}}
    assert answers(tool("output-available", output=verdict)) == [
        ChatAnswer(question="run-1:3", approved=False, text="no", params={"to": "b"})
    ]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "Expected `object`"),
        (b"{}", "`messages`|`id`"),
        (b'{"id": 7, "messages": []}', r"Expected `str`, got `int` - at `\$.id`"),
        (b'{"id": "c", "messages": []}', "no messages"),
        (b'{"id": "c", "messages": [7]}', "messages"),
        (b'{"id": "c", "messages": [{"role": "user", "parts": 7}]}', "parts"),
        (b'{"id": "c", "messages": [{"role": "user", "parts": [7]}]}', "part"),
        (b'{"id": "c", "messages": [{"role": "user", "parts": [{"type": "text"}]}]}', "text"),
        (b'{"id": "", "messages": [{"role": "user", "parts": []}]}', "1 and 200 characters"),
        (b'{"id": "c", "messages": [{"role": "assistant", "parts": []}]}', "no answer"),
        (
            b'{"id": "c", "trigger": "regenerate-message", '
            b'"messages": [{"role": "assistant", "parts": []}]}',
            "no message of a user",
        ),
    ],
)
def test_what_is_wrong_is_said(body: bytes, says: str) -> None:
    with pytest.raises(RefusedRequestError, match=says) as caught:
        read_ui_request(body)
    reply = error_reply(caught.value)
    assert reply.status == 400
    assert msgspec.json.decode(reply.body)["error"]["message"] == caught.value.message
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.message, again.status) == (caught.value.message, 400)


@pytest.mark.parametrize(
    "part",
    [
        tool("approval-responded"),
        tool("approval-responded", approval={"id": "run-1:3", "approved": "yes"}),
        tool("output-available", output={"approved": 1}),
        tool("output-available", toolName="ask_person", output={}),
        {"type": "dynamic-tool"},
    ],
)
def test_broken_answers_are_refused(part: dict[str, Any]) -> None:
    with pytest.raises(RefusedRequestError):
        answers(part)


def test_files_have_an_address_or_their_content() -> None:
    for url in ("blob:x", "file:///etc/passwd", "javascript:x", ""):
        with pytest.raises(RefusedRequestError, match="neither data:"):
            read(message({"type": "file", "url": url}))
    assert ChatFile(url="https://example.com/a.png").content is None
    assert ChatFile(url="DATA:text/plain;charset=x,a%20b").content == b"a b"
    for url in ("data:image/png;base64,a", "data:image/png;base64,a€==", "data:image/png"):
        with pytest.raises(RefusedRequestError, match="broken"):
            assert ChatFile(url=url).content


# --- AG-UI -------------------------------------------------------------------------------------


def run_input(*messages: Any, **more: Any) -> Chat:
    body = {"threadId": "t", "runId": "r", "messages": list(messages), **more}
    return read_run_agent_input(msgspec.json.encode(body))


def user(content: Any) -> dict[str, Any]:
    return {"id": "m", "role": "user", "content": content}


def test_an_agents_input_is_read() -> None:
    chat = run_input(user("old"), user("hi"), state={"x": 1}, protocolVersion="1.0")
    assert chat == Chat(
        id="t", run_id="r", text="hi", protocol_version="1.0", extra={"state": {"x": 1}}
    )
    assert run_input(user("hi")).protocol_version is None


def test_an_agents_files_are_read() -> None:
    data = {"type": "data", "value": "aGk=", "mimeType": "image/png"}
    address = {"type": "url", "value": "https://example.com/a.mp3"}
    old = {"type": "binary", "mimeType": "text/csv", "data": "aGk=", "filename": "a.csv"}
    chat = run_input(
        user(
            [
                text("what?"),
                {"type": "image", "source": data},
                {"type": "audio", "source": address},
                old,
                {"type": "binary", "mimeType": "text/csv", "url": "https://example.com/a.csv"},
            ]
        )
    )
    assert chat.text == "what?"
    assert chat.files == [
        ChatFile(url=PNG, media_type="image/png"),
        ChatFile(url="https://example.com/a.mp3"),
        ChatFile(url="data:text/csv;base64,aGk=", media_type="text/csv", filename="a.csv"),
        ChatFile(url="https://example.com/a.csv", media_type="text/csv"),
    ]


def resumed(status: str = "resolved", **more: Any) -> list[ChatAnswer]:
    return run_input(resume=[{"interruptId": "run-1:3", "status": status, **more}]).answers


def test_an_agents_interrupts_are_answered() -> None:
    question = "run-1:3"
    edited = {"to": "b"}
    assert resumed(payload={"approved": True, "editedArgs": edited}) == [
        ChatAnswer(question=question, approved=True, params=edited)
    ]
    assert resumed("cancelled") == [ChatAnswer(question=question, approved=False)]
    assert resumed(payload={"feedback": "Bea"}) == [ChatAnswer(question=question, text="Bea")]
    assert resumed(payload="Bea") == [ChatAnswer(question=question, text="Bea")]


def test_an_agents_broken_input_is_refused() -> None:
    broken: list[Any] = [{"payload": 7}, {"payload": {"approved": "yes"}}, {"status": "odd"}]
    for fields in broken:
        with pytest.raises(RefusedRequestError):
            resumed(**fields)
    wrong: list[Any] = [[], [{"role": "assistant", "content": "x"}], [user(7)], [{}]]
    for messages in wrong:
        with pytest.raises(RefusedRequestError):
            run_input(*messages)
    for body in (b"", b"{}", b'{"threadId": "t", "runId": "", "messages": []}'):
        with pytest.raises(RefusedRequestError):
            read_run_agent_input(body)
    with pytest.raises(RefusedRequestError, match="runId must have"):
        run_input(user("hi"), runId="r" * 201)


# --- the chat's session ------------------------------------------------------------------------


def test_a_session_is_of_one_user_and_one_chat() -> None:
    session = session_for("ann", "chat-1")
    assert session == session_for("ann", "chat-1")
    others = [("bea", "chat-1"), ("ann", "chat-2"), ("annchat", "-1"), ("chat-1", "ann")]
    assert session not in {session_for(*other) for other in others}
    assert len({session_for(*other) for other in others}) == len(others)
    assert session_for("\ud83d", "c") != session_for("\ud83e", "c")


def test_a_session_is_of_somebody() -> None:
    wrong: list[Any] = ["", None, True, 7]
    for value in wrong:
        with pytest.raises(errors.InvalidArgumentError, match="user must be"):
            session_for(value, "chat")
        with pytest.raises(errors.InvalidArgumentError, match="chat_id must be"):
            session_for("ann", value)
