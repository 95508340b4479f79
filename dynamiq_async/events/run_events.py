"""The events of a run's stream.

The data of each known type has a Struct here. A new type is added to `DATA_TYPES`.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from msgspec import Raw, Struct, field, structs

from dynamiq_async import _json
from dynamiq_async._failures import Failure, failure_of
from dynamiq_async.errors import EventDecodeError
from dynamiq_async.events.vocabulary import (
    NodeResult,
    Question,
    ToolCall,
    Usage,
    failures,
    usage_of,
)

T = TypeVar("T")


RUN_STARTED = "run.started"
COMPLETED, FAILED, CANCELED = "run.completed", "run.failed", "run.canceled"
TERMINAL_EVENTS = frozenset({COMPLETED, FAILED, CANCELED})
REASONING_DELTA, RESPONSE_DELTA = "agent.reasoning.delta", "agent.response.delta"
DELTAS = frozenset({REASONING_DELTA, RESPONSE_DELTA})
QUESTION_EVENTS = frozenset({"agent.human_feedback.requested", "approval_request.created"})
# Only the names of these are known, and only second-hand.
APPROVED, REJECTED = "run.approval_request.confirmed", "run.approval_request.rejected"
FEEDBACK_RECEIVED = "run.human_feedback.received"
ANSWER_EVENTS = frozenset({APPROVED, REJECTED, FEEDBACK_RECEIVED})

_KINDS = {"approval_request": "approval", "human_feedback": "feedback"}


class InputRequest(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The data of `agent.human_feedback.requested` and `approval_request.created`, and a question
    of a run's `input_requests`.

    Attributes:
        id: also called `request_id` (our guess).
        type: `approval_request`, `human_feedback`, or a newer type.
    """

    id: str | None = None
    request_id: str | None = None
    type: str | None = None
    prompt: str | None = None
    params: dict[str, Any] | None = None
    editable_params: list[str] | None = None

    def as_question(self, kind: str = "") -> Question:
        """The question. `kind` is its kind if there is no `type`."""
        return Question(
            id=self.id or self.request_id or "",
            kind=_KINDS.get(self.type, self.type) if self.type else kind,
            prompt=self.prompt or "",
            params=self.params or {},
            editable_params=self.editable_params or [],
        )


class RunState(Struct, frozen=True, kw_only=True):
    """The data of `run.started`, `run.completed`, `run.failed` and `run.canceled`."""

    id: str | None = None
    object: str | None = None
    status: str | None = None
    output: Any = None
    error: Any = None


class RunPaused(Struct, frozen=True, kw_only=True):
    """The data of `run.paused` (second-hand)."""

    id: str | None = None
    checkpoint_id: str | None = None


class Delta(Struct, frozen=True, kw_only=True):
    """The data of `agent.reasoning.delta` and `agent.response.delta`: a piece of text."""

    delta: str = ""
    object: str | None = None
    iteration: int | None = None


class RunTool(Struct, frozen=True, kw_only=True):
    """The tool that an agent calls."""

    name: str | None = None
    type: str | None = None


class ToolCallCompleted(Struct, frozen=True, kw_only=True):
    """The data of `agent.tool_call.completed`. `result` is a JSON text, not decoded."""

    id: str | None = None
    object: str | None = None
    result: Any = None
    input: Any = None
    iteration: int | None = None
    tool: RunTool | None = None


DATA_TYPES: dict[str, type[Struct]] = {
    RUN_STARTED: RunState,
    COMPLETED: RunState,
    FAILED: RunState,
    CANCELED: RunState,
    "run.paused": RunPaused,
    REASONING_DELTA: Delta,
    RESPONSE_DELTA: Delta,
    "agent.tool_call.completed": ToolCallCompleted,
    "agent.human_feedback.requested": InputRequest,
    "approval_request.created": InputRequest,
}
"""The Struct to which `RunEvent.data` is decoded, by event type. Other data stays as it is."""

_decoders = {name: msgspec.json.Decoder(type_).decode for name, type_ in DATA_TYPES.items()}
_decode_any = msgspec.json.Decoder().decode


class _Told(Struct, frozen=True):
    """The optional facts in the data of any event."""

    entity_id: Any = None
    usage: Any = None


_NOTHING = _Told()
_decode_told = msgspec.json.Decoder(_Told).decode


class RunEvent(_json.KeepsRaw, Struct, frozen=True, kw_only=True):
    """One event of a run.

    Attributes:
        type: such as `agent.reasoning.delta`. The list is open.
        sequence: the position in the run's stream, strictly increasing; a stream resumes after it.
        id, timestamp: of the event; the time is an RFC 3339 text.
        raw_data: `data` as the JSON that arrived.
        raw: the whole event as the JSON that arrived.

    Its views are those of `Event`, and `state`, which only this stream has.
    """

    type: str
    sequence: int
    id: str | None = None
    timestamp: str | None = None
    raw_data: Raw = field(name="data", default=Raw(b"null"))

    def __repr__(self) -> str:
        data = bytes(self.raw_data).decode("utf-8", "replace")
        shown = data if len(data) <= 200 else f"{data[:200]}…"
        return f"{type(self).__name__}(sequence={self.sequence}, type={self.type!r}, data={shown})"

    @property
    def data(self) -> Any:
        """`data` as its Struct in `DATA_TYPES`, or as plain JSON values where the type is not known
        or the data does not fit. Decoded anew on each access.

        Raises:
            EventDecodeError: it holds what Python cannot (such as a number of thousands of digits).
        """
        if decode := _decoders.get(self.type):
            try:
                return _json.decode_with(decode, self.raw_data)
            except _json.DECODE_ERRORS:
                pass  # of another shape than documented: decoded as plain values
        try:
            return _json.decode_with(_decode_any, self.raw_data)
        except _json.DECODE_ERRORS as error:
            raise EventDecodeError(
                f"the data of event {self.sequence} cannot be decoded: {error}",
                data=bytes(self.raw_data),
            ) from error

    @property
    def is_final(self) -> bool:
        """Whether this is the run's last event."""
        return self.type in TERMINAL_EVENTS

    @property
    def text(self) -> str:
        """A piece of the answer meant for the reader, or `""`."""
        return self._delta(RESPONSE_DELTA)

    @property
    def reasoning(self) -> str:
        """A piece of an agent's thought, or `""`."""
        return self._delta(REASONING_DELTA)

    def _delta(self, type: str) -> str:
        delta = _view(self, Delta) if self.type == type else None
        return delta.delta if delta is not None else ""

    @property
    def tool_call(self) -> ToolCall | None:
        """A tool call of an agent. The service sends it when the call is completed."""
        call = _view(self, ToolCallCompleted)
        if call is None:
            return None
        return ToolCall(
            id=call.id or "",
            name=(call.tool and call.tool.name) or "",
            input=call.input,
            output=_decoded(call.result),
            status="completed",
        )

    @property
    def question(self) -> Question | None:
        """The run's question to a person."""
        request = _view(self, InputRequest)
        if request is None:
            return None
        if self.type == "approval_request.created":
            return structs.replace(request.as_question(), kind="approval")
        return request.as_question("feedback")

    @property
    def usage(self) -> Usage | None:
        """The usage, where the event's data has `usage` (our guess: no such data has been
        seen)."""
        return usage_of(self._told().usage)

    @property
    def entity_id(self) -> str | None:
        """The node that the event is about, where its data has `entity_id` (the same guess)."""
        entity_id = self._told().entity_id
        return entity_id if isinstance(entity_id, str) else None

    def _told(self) -> _Told:
        try:
            return _json.decode_with(_decode_told, self.raw_data)
        except _json.DECODE_ERRORS:
            return _NOTHING

    @property
    def error(self) -> str | None:
        """On the terminal event of a run that failed or was canceled: the reason as a sentence."""
        failure = self._failure()
        return None if failure is None else failure.reason

    @property
    def canceled(self) -> bool:
        """Whether this is the terminal event of a run that was canceled."""
        failure = self._failure()
        return failure is not None and failure.canceled

    def _failure(self) -> Failure | None:
        if not self.is_final:
            return None
        state = self.state or RunState()
        status = self.type.removeprefix("run.")
        return failure_of(state.output, status=status, error=state.error)

    @property
    def state(self) -> RunState | None:
        """The run's state in the data of a `run.…` event."""
        return _view(self, RunState)

    @property
    def nodes(self) -> dict[str, NodeResult]:
        """On the terminal event: each node's result, by the node's id, where the run's output is
        the map of nodes."""
        state = self.state if self.is_final else None
        output = state.output if state is not None else None
        try:
            return msgspec.convert(output, dict[str, NodeResult])
        except msgspec.ValidationError:
            return {}

    @property
    def node_failures(self) -> dict[str, NodeResult]:
        """The nodes that failed, whether or not the run failed."""
        return failures(self.nodes)


class BrokenRunEvent(RunEvent, frozen=True, kw_only=True):
    """An event that is not JSON or has no position, returned because the stream has
    `on_bad_event="pass"`.

    `type` is empty, and `sequence` is that of the event before it: a stream is resumed as if this
    event had not come. `raw_data` and `raw` hold the bytes that arrived, and `data` is the same as
    text.
    """

    type: str = ""
    sequence: int = -1  # until the stream sets it

    @property
    def raw(self) -> bytes:
        return bytes(self.raw_data)

    @property
    def data(self) -> str:
        return bytes(self.raw_data).decode("utf-8", "replace")


def _decoded(result: Any) -> Any:
    """`result`, decoded if it is a JSON text, else as it is."""
    try:
        return _json.decode(result.encode()) if isinstance(result, str) else result
    except _json.DECODE_ERRORS:
        return result


def stored_event(data: Raw) -> RunEvent:
    """An event of a list, read as tolerantly as one of a stream. Raises one of `DECODE_ERRORS`."""
    try:
        event = _json.decode_with(_decode_event, data)
    except msgspec.ValidationError:
        event = _lenient(_json.decode(bytes(data), dict[str, Any]))
    _json.keep(event, memoryview(data))
    return event


def run_event(data: bytes) -> RunEvent | None:
    """The event for data that does not fit `RunEvent` exactly, such as a sequence number that is
    a text; None if it is only a heartbeat (our guess: heartbeats are documented as comments).

    Raises one of `_json.DECODE_ERRORS` when it is no event: without a position it cannot be
    returned once and in order.
    """
    if data.strip() in (b"", b"[DONE]"):
        return None
    message = _json.decode(data, dict[str, Any])
    alive = message.get("type") in _SIGNS_OF_LIFE and not message.keys() & {"sequence", "error"}
    return None if alive else _lenient(message)


def _lenient(message: dict[str, Any]) -> RunEvent:
    message["data"] = _json.dumped(message.get("data"))
    known = {n: v for n, v in message.items() if n in _FIELDS and v is not None}
    return msgspec.convert(known, RunEvent, strict=False)


_SIGNS_OF_LIFE = (None, "ping", "heartbeat", "keepalive", "keep-alive")
_FIELDS = frozenset({"type", "sequence", "id", "timestamp", "data"})
_decode_event = msgspec.json.Decoder(RunEvent).decode


def _view(event: RunEvent, kind: type[T]) -> T | None:
    """The event's data as `kind`; None where it is of another kind."""
    if DATA_TYPES.get(event.type) is not kind:
        return None
    try:
        data = event.data
    except EventDecodeError:
        return None
    return data if isinstance(data, kind) else None
