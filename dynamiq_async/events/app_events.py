"""The events of an App's stream: passive Structs, with views for what readers need.

A root stream's message is the event that Dynamiq's open-source library emits: an envelope whose
`data` depends on its sender (an LLM node, an agent, a question, the workflow itself). Decoding
validates the envelope and keeps `data` as raw JSON; a view decodes only what it returns. So an
event costs little until a view is used, unknown shapes stay unchanged, and events hold no
containers, so that the garbage collector need not track them (`gc=False`).

Shapes in this module were seen in the vendor's library unless a docstring says otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from msgspec import Raw, Struct, field

from dynamiq_async import _json
from dynamiq_async._failures import NO_REASON, Failure, failure_of, is_node, sentence
from dynamiq_async.errors import EventDecodeError
from dynamiq_async.events.vocabulary import (
    NodeResult,
    Question,
    ToolCall,
    ToolCallStatus,
    Usage,
    failures,
    usage_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

WORKFLOW_TYPE = "dynamiq.workflows.Workflow"
"""The `source.type` of a workflow's own event, which is the last one of its stream."""

AGENT_TYPE = "dynamiq.nodes.agents.Agent"
"""The `source.type` of an agent's events: its thoughts, tool calls and answers."""

ERROR_EVENT = "error"
"""The event name of an error that does not come from a workflow (our guess)."""

SEVERAL_TOOLS = "run_parallel"
"""The name of an agent's action that calls several tools at once."""


class Source(Struct, frozen=True, gc=False):
    """The node, agent or workflow that an event comes from."""

    id: str | None = None
    name: str | None = None
    group: str | None = None
    type: str | None = None


# Fields other than text are typed `Any`: a field of an unexpected type must not lose the text.
class _Delta(Struct, frozen=True):
    content: Any = None
    step: Any = None


class _Choice(Struct, frozen=True):
    delta: _Delta = _Delta()
    finish_reason: Any = None


class _Chunk(Struct, frozen=True):
    choices: tuple[_Choice, ...] = ()
    usage: Any = None


class _Tool(Struct, frozen=True):
    name: str = ""


class _Step(Struct, frozen=True, kw_only=True):
    """An agent's data about any step of a tool call."""

    tool_run_id: str = ""
    name: str = ""
    action: str = ""
    tool: _Tool = _Tool()
    action_input: Any = None
    input: Any = None
    result: Any = None
    error: Any = None
    status: str | None = None


class _Asked(Struct, frozen=True, kw_only=True):
    """A node's question to a person: the fields of an approval, and those of a message."""

    request_id: str = ""
    template: str = ""
    data: dict[str, Any] = field(default_factory=dict)
    mutable_data_params: list[str] = field(default_factory=list)
    prompt: str = ""


_NO_DELTA = _Delta()
_NO_CHUNK = _Chunk()
_NOT_ASKED = _Asked()
_decode_any = msgspec.json.Decoder().decode
_decode_chunk = msgspec.json.Decoder(_Chunk).decode
_STATUS: dict[str, ToolCallStatus] = {
    "tool_input_start": "started",
    "tool_input": "input",
    "reasoning": "called",
    "tool": "completed",
    "tool_input_error": "failed",
}
"""The status of a tool call for each step of an agent. Of `reasoning`, only finished thoughts that
chose a tool count."""


class StreamEvent(_json.KeepsRaw, Struct, frozen=True, gc=False, kw_only=True):
    """One message of a root stream.

    Attributes:
        run_id: the id of the node's run, when the sender has one.
        wf_run_id: the id of the workflow's run; the same on all events of a stream.
        entity_id: the node that the event is about. Text of parallel nodes interleaves and
            belongs together by it.
        event: the name configured on the streaming node: `data` by default on the platform,
            `streaming` in the library.
        source: the sender of the event.
        raw_data: `data` as the JSON that arrived.
        raw: the whole message as the JSON that arrived.

    Its views are those of `Event`, and `thought`, `notice` and `finish_reason`, which only this
    stream has.
    """

    run_id: str | None = None
    wf_run_id: str | None = None
    entity_id: str | None = None
    raw_data: Raw = field(name="data")
    event: str | None = None
    source: Source | None = None

    def __repr__(self) -> str:
        data = memoryview(self.raw_data)
        shown = str(data[:200], "utf-8", "replace") + ("…" if len(data) > 200 else "")
        name = type(self).__name__
        return f"{name}(event={self.event!r}, entity_id={self.entity_id!r}, data={shown})"

    @property
    def data(self) -> Any:
        """`data`, decoded anew on each access.

        Raises:
            EventDecodeError: it holds what Python cannot (such as a number of thousands of digits).
        """
        try:
            return _json.decode_with(_decode_any, self.raw_data)
        except _json.DECODE_ERRORS as error:
            raise EventDecodeError(
                f"the event's data cannot be decoded: {error}", data=bytes(self.raw_data)
            ) from error

    def _chunk(self) -> _Chunk:
        """`data` as a chat-completion chunk; an agent's are a subset of an LLM's."""
        try:
            return _decode_chunk(self.raw_data)
        except _json.DECODE_ERRORS:
            return self._view(_decode_chunk) or _NO_CHUNK

    def _view(self, decode: Callable[[Any], T]) -> T | None:
        try:
            return _json.decode_with(decode, self.raw_data)
        except _json.DECODE_ERRORS:
            return None

    def _delta(self) -> _Delta:
        choices = self._chunk().choices
        return choices[0].delta if choices else _NO_DELTA

    @property
    def text(self) -> str:
        """The piece of the answer meant for the reader, or `""`; never an object or a thought."""
        delta = self._delta()
        content = delta.content
        if type(content) is str and (delta.step is None or delta.step == "answer"):
            return content
        return ""

    @property
    def reasoning(self) -> str:
        """A piece of an agent's thought, or `""`. The finished thought is `thought`."""
        return self._thought(finished=False)

    @property
    def thought(self) -> str:
        """An agent's finished thought, which repeats the text of its pieces, or `""`."""
        return self._thought(finished=True)

    def _thought(self, *, finished: bool) -> str:
        delta = self._delta()
        if delta.step == "reasoning" and isinstance(delta.content, dict):
            thought = delta.content.get("thought")
            if isinstance(thought, str) and _is_finished(delta.content) is finished:
                return thought
        return ""

    @property
    def tool_call(self) -> ToolCall | None:
        """A step of an agent's tool call. `data` has the agent's other facts about it, such as the
        tool's type and its files.

        It is our guess that an `input` is a piece of the text, and not all of it so far. If several
        tools are called at once, each call has an event of its own when it has ended.
        """
        delta = self._delta()
        step, content = delta.step, delta.content
        if not isinstance(step, str) or step not in _STATUS or not isinstance(content, dict):
            return None
        told = _json.fitting(content, _Step)
        if step == "reasoning" and (
            not _is_finished(content) or told.action in ("", SEVERAL_TOOLS)
        ):
            return None
        status = "failed" if told.status == "failure" else _STATUS[step]
        return ToolCall(
            id=told.tool_run_id,
            name=told.name or told.action or told.tool.name,
            input=told.action_input if told.input is None else told.input,
            output=told.error if status == "failed" and told.error else told.result,
            status=status,
        )

    @property
    def finish_reason(self) -> str | None:
        """Why an LLM stopped, on its last chunk."""
        choices = self._chunk().choices
        reason = choices[0].finish_reason if choices else None
        return reason if isinstance(reason, str) else None

    @property
    def usage(self) -> Usage | None:
        """The tokens that an LLM node consumed, on the one chunk that has them."""
        return usage_of(self._chunk().usage)

    @property
    def question(self) -> Question | None:
        """A node's question to a person. If it has several parts, they are `questions` in
        `data`."""
        kind, asked = self._asked()
        if kind in ("", "info"):
            return None
        return Question(
            id=asked.request_id,
            kind=kind,
            prompt=asked.template or asked.prompt,
            params=asked.data,
            editable_params=asked.mutable_data_params,
        )

    @property
    def notice(self) -> str:
        """A node's message to a person that needs no answer, or `""`."""
        kind, asked = self._asked()
        return asked.prompt if kind == "info" else ""

    def _asked(self) -> tuple[str, _Asked]:
        """The kind of a node's message to a person (`approval`, `feedback`, `info` or `""`), and
        the message."""
        raw = bytes(self.raw_data)
        if self.is_final or (b'"mutable_data_params"' not in raw and b'"prompt"' not in raw):
            return "", _NOT_ASKED
        data = self._view(_decode_any)
        if not isinstance(data, dict):
            return "", _NOT_ASKED
        kind = ""
        if "mutable_data_params" in data:
            kind = "approval"
        elif {"prompt", "action"} <= data.keys():
            kind = "info" if data["action"] == "info" else "feedback"
        return kind, _json.fitting(data, _Asked)

    @property
    def is_final(self) -> bool:
        """Whether this is the workflow's own event, after which nothing follows.

        An error in its place counts too (our guess: none has been seen).
        """
        source = self.source
        if source is None:
            return self.event == ERROR_EVENT
        return source.type == WORKFLOW_TYPE

    @property
    def error(self) -> str | None:
        """On the final event of a run that failed or was canceled: the reason as a sentence. `data`
        has the original."""
        failure = self._failure()
        return None if failure is None else failure.reason

    @property
    def canceled(self) -> bool:
        """Whether this is the final event of a run that was canceled."""
        failure = self._failure()
        return failure is not None and failure.canceled

    def _failure(self) -> Failure | None:
        """How the workflow failed, on its final event. A final event without a source is an error,
        whatever its data."""
        if not self.is_final:
            return None
        data = self._view(_decode_any)
        failure = failure_of(data, final=True)
        if failure is None and self.source is None:
            return Failure(False, sentence(data) or (str(data) if data else NO_REASON), data)
        return failure

    @property
    def nodes(self) -> dict[str, NodeResult]:
        """On the final event of a workflow that did not fail: each node's result, by the node's
        id."""
        data = self._view(_decode_any) if self.is_final else None
        if not isinstance(data, dict) or self.error is not None:
            return {}
        return {id: _json.fitting(node, NodeResult) for id, node in data.items() if is_node(node)}

    @property
    def node_failures(self) -> dict[str, NodeResult]:
        """The nodes that failed in a workflow that did not fail itself."""
        return failures(self.nodes)


class BrokenEvent(StreamEvent, frozen=True, gc=False, kw_only=True):
    """An event that is not JSON, returned because the stream has `on_bad_event="pass"`.

    `raw_data` and `raw` hold the bytes that arrived, and `data` is the same as text.
    """

    @property
    def raw(self) -> bytes:
        return bytes(self.raw_data)

    @property
    def data(self) -> str:
        return bytes(self.raw_data).decode("utf-8", "replace")


def _is_finished(thought: dict[str, Any]) -> bool:
    return "loop_num" in thought


def stream_event(data: bytes) -> StreamEvent | None:
    """The event for a message that does not fit `StreamEvent`; None if the message is no event.

    Fields that exist and have the right type are kept. A message without `data` becomes the event's
    data as a whole, so that nothing is lost; if it has an `error`, it is the error of the stream.
    `[DONE]`, the end marker of other vendors, is no event, and neither is an empty text, which some
    servers send to keep a connection alive.

    Raises one of `_json.DECODE_ERRORS` when the message is not JSON.
    """
    if data.strip() in (b"", b"[DONE]"):
        return None
    message = _json.decode(data)
    if not isinstance(message, dict):
        return StreamEvent(raw_data=_json.dumped(message))
    known: dict[str, Any] = {
        name: message[name]
        for name in ("run_id", "wf_run_id", "entity_id", "event")
        if isinstance(message.get(name), str)
    }
    source = message.get("source")
    if isinstance(source, dict):
        known["source"] = Source(
            **{
                k: v
                for k, v in source.items()
                if k in Source.__struct_fields__ and isinstance(v, str)
            }
        )
    if "data" in message:
        return StreamEvent(raw_data=_json.dumped(message["data"]), **known)
    if "source" not in known and ("error" in message or {"code", "message"} <= message.keys()):
        known["event"] = ERROR_EVENT
    return StreamEvent(raw_data=_json.dumped(message), **known)


def error_event(data: bytes) -> StreamEvent:
    """The event for the data of a server-sent event named `error`. The data may be an object,
    a text in JSON or plain text. It is a node's event only if it names its source."""
    try:
        message = _json.decode(data)
    except _json.DECODE_ERRORS:
        message = data.decode("utf-8", "replace")
    if isinstance(message, dict) and (message.get("source") or "data" in message):
        event = stream_event(data)
        if event is not None and event.source is not None:
            return event
        message = message.get("data") or message
    return StreamEvent(event=ERROR_EVENT, raw_data=_json.dumped(message))
