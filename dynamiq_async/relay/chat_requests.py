"""Reads the requests of frontends, the AI SDK's and AG-UI's, as a `Chat`.

The requests have the form of the npm packages `ai` (5 to 7) and `@ag-ui/core` (1.0 and 0.0.59),
seen in their sources and on the wire. Only the newest message is read: the App keeps the history in
its session, and a browser's history cannot be trusted.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from msgspec import Struct, field

from dynamiq_async import _json
from dynamiq_async.relay.chat import Chat, ChatAnswer, ChatFile
from dynamiq_async.relay.formats.parts import ASK_APPROVAL, ASK_PERSON
from dynamiq_async.relay.problems import refused

T = TypeVar("T")

MAX_ID = 200
"""The most characters of a chat's id."""

_SCHEMES = ("data:", "http://", "https://")


class _UIBody(Struct):
    id: str
    messages: list[Any]
    trigger: str = "submit-message"


class _UIMessage(Struct):
    role: str
    parts: list[Any]


class _Typed(Struct):
    type: str


class _Text(Struct):
    text: str


class _File(Struct):
    url: str
    media_type: str = field(name="mediaType", default="")
    filename: str = ""


class _Approval(Struct):
    id: str
    approved: bool
    reason: str | None = None


class _Tool(Struct, rename="camel"):
    tool_call_id: str
    tool_name: str = ""
    state: str = ""
    output: Any = None
    approval: Any = None


def read_ui_request(body: bytes) -> Chat:
    """Read a request of `useChat`, of the AI SDK 5 to 7.

    Args:
        body: the request's body, whose size you have limited.

    Raises:
        RefusedRequestError: it is not such a request; its message says where.
    """
    content = _object(body)
    request = _convert(content, _UIBody, "$")
    message = _newest(request.messages)
    told = _convert(message, _UIMessage, "$.messages[-1]")
    extra = _without(content, "id", "messages", "trigger")
    if told.role == "assistant" and request.trigger == "regenerate-message":
        told = _last_question(request.messages)
    if told.role == "assistant":
        answers = _ui_answers(told.parts)
        if not answers:
            raise refused("The newest message has no answer to a question.")
        return Chat(id=_chat_id(request.id), answers=answers, extra=extra)
    return Chat(
        id=_chat_id(request.id),
        text=_joined(_Text, told.parts, "text"),
        files=[_file(_convert(p, _File, "a file's part")) for p in _of_type(told.parts, "file")],
        is_retry=request.trigger == "regenerate-message",
        extra=extra,
    )


def _last_question(messages: list[Any]) -> _UIMessage:
    """The newest message of the person, for which the page wants another answer."""
    for message in reversed(messages):
        told = _convert(message, _UIMessage, "$.messages")
        if told.role == "user":
            return told
    raise refused("There is no message of a user.")


def _ui_answers(parts: list[Any]) -> list[ChatAnswer]:
    """The answers in the newest step. Answers in earlier steps keep their state, so ignore them."""
    types = [_convert(part, _Typed, "a message's part").type for part in parts]
    last = max((n for n, kind in enumerate(types) if kind == "step-start"), default=-1)
    answers = []
    for part, kind in list(zip(parts, types, strict=True))[last + 1 :]:
        if kind == "dynamic-tool" or kind.startswith("tool-"):
            tool = _convert(part, _Tool, "a tool's part")
            if (answer := _tool_answer(tool, kind)) is not None:
                answers.append(answer)
    return answers


def _tool_answer(tool: _Tool, kind: str) -> ChatAnswer | None:
    name = tool.tool_name if kind == "dynamic-tool" else kind.removeprefix("tool-")
    if tool.state == "approval-responded":
        told = _convert(tool.approval, _Approval, "an approval")
        return ChatAnswer(question=told.id, approved=told.approved, text=told.reason)
    if tool.state != "output-available":
        return None
    if name == ASK_APPROVAL and tool.approval is None:
        return _approval(tool.tool_call_id, tool.output, "an approval's output")
    if name == ASK_PERSON:
        text = _convert(tool.output, str, "an answer's output")
        return ChatAnswer(question=tool.tool_call_id, text=text)
    return None


class _Verdict(Struct, rename="camel"):
    approved: bool
    reason: str | None = None
    edited_args: dict[str, Any] | None = None


def _approval(question: str, told: Any, where: str) -> ChatAnswer:
    verdict = _convert(told, _Verdict, where)
    return ChatAnswer(
        question=question,
        approved=verdict.approved,
        text=verdict.reason,
        params=verdict.edited_args,
    )


class _Resume(Struct, rename="camel"):
    interrupt_id: str
    status: str
    payload: Any = None


class _RunAgentInput(Struct, rename="camel"):
    thread_id: str
    run_id: str
    messages: list[Any]
    protocol_version: str | None = None
    resume: list[_Resume] | None = None


class _AGUIMessage(Struct):
    role: str
    content: Any = None


class _Feedback(Struct):
    feedback: str


class _Source(Struct, rename="camel"):
    type: str
    value: str
    mime_type: str = ""


def read_run_agent_input(body: bytes) -> Chat:
    """Read `RunAgentInput`, the request of AG-UI's clients, of version 1.0 and before.

    Args:
        body: the request's body, whose size you have limited.

    Raises:
        RefusedRequestError: it is not such a request; its message says where.
    """
    content = _object(body)
    request = _convert(content, _RunAgentInput, "$")
    known = ("threadId", "runId", "messages", "protocolVersion", "resume")
    common: dict[str, Any] = {
        "id": _chat_id(request.thread_id),
        "run_id": _chat_id(request.run_id, "runId"),
        "protocol_version": request.protocol_version,
        "extra": _without(content, *known),
    }
    if request.resume:
        return Chat(answers=[_resumed(entry) for entry in request.resume], **common)
    message = _convert(_newest(request.messages), _AGUIMessage, "$.messages[-1]")
    if message.role != "user":
        raise refused("The newest message is not of a user, and `resume` is empty.")
    if isinstance(message.content, str):
        return Chat(text=message.content, **common)
    parts = _convert(message.content, list[Any], "$.messages[-1].content")
    return Chat(text=_joined(_Text, parts, "text"), files=_agui_files(parts), **common)


def _resumed(entry: _Resume) -> ChatAnswer:
    if entry.status == "cancelled":
        return ChatAnswer(question=entry.interrupt_id, approved=False)
    if entry.status != "resolved":
        raise refused("$.resume: a status is neither 'resolved' nor 'cancelled'.")
    if isinstance(entry.payload, dict) and "approved" in entry.payload:
        return _approval(entry.interrupt_id, entry.payload, "$.resume's payload")
    if isinstance(entry.payload, str):
        return ChatAnswer(question=entry.interrupt_id, text=entry.payload)
    told = _convert(entry.payload, _Feedback, "$.resume's payload")
    return ChatAnswer(question=entry.interrupt_id, text=told.feedback)


class _Binary(Struct, rename="camel"):
    mime_type: str
    url: str | None = None
    data: str | None = None
    filename: str = ""


def _agui_files(parts: list[Any]) -> list[ChatFile]:
    files = []
    for kind in ("image", "audio", "video", "document"):
        for part in _of_type(parts, kind):
            source = _convert(part.get("source"), _Source, "a file's source")
            url = source.value
            if source.type == "data":
                url = f"data:{source.mime_type};base64,{url}"
            files.append(_file(_File(url, source.mime_type)))
    for part in _of_type(parts, "binary"):  # before 1.0
        told = _convert(part, _Binary, "a file's part")
        url = told.url or f"data:{told.mime_type};base64,{told.data or ''}"
        files.append(_file(_File(url, told.mime_type, told.filename)))
    return files


# Shared by both.


def _object(body: bytes) -> dict[str, Any]:
    try:
        content = _json.decode(body)
    except _json.DECODE_ERRORS:
        raise refused("The body is not JSON.") from None
    return _convert(content, dict[str, Any], "$")


def _convert(value: Any, type: type[T], where: str) -> T:
    try:
        return msgspec.convert(value, type)
    except msgspec.ValidationError as error:
        raise refused(f"{where}: {error}") from None


def _newest(messages: list[Any]) -> Any:
    if not messages:
        raise refused("There are no messages.")
    return messages[-1]


def _of_type(parts: list[Any], kind: str) -> list[Any]:
    return [part for part in parts if _convert(part, _Typed, "a message's part").type == kind]


def _joined(type: type[_Text], parts: list[Any], kind: str) -> str:
    return "\n".join(_convert(part, type, "a text's part").text for part in _of_type(parts, kind))


def _file(told: _File) -> ChatFile:
    if not told.url.lower().startswith(_SCHEMES):
        raise refused("A file's URL is neither data: nor http: nor https:.")
    return ChatFile(url=told.url, media_type=told.media_type, filename=told.filename)


def _chat_id(id: str, field: str = "id") -> str:
    if not 0 < len(id) <= MAX_ID:
        raise refused(f"{field} must have between 1 and {MAX_ID} characters.")
    return id


def _without(content: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in content.items() if name not in names}
