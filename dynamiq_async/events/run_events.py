"""The events of a run's stream."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from msgspec import Raw, Struct, field

from dynamiq_async import _json
from dynamiq_async.errors import (
    EventDecodeError,
)

T = TypeVar("T")


TERMINAL_EVENTS = frozenset({"run.completed", "run.failed", "run.canceled"})
RUN_STARTED = "run.started"
QUESTION_EVENTS = frozenset({"agent.human_feedback.requested", "approval_request.created"})


class InputRequest(Struct, frozen=True, kw_only=True):
    """A question of a run that waits for a person's answer.

    Attributes:
        id: what the answer refers to. Two questions of one node can carry the same id.
        type: `approval_request`, `human_feedback`, or one added since.
        prompt: what is asked.
        params: what is to be approved.
        editable_params: the names of those `params` that an approval may change.
    """

    id: str
    type: str | None = None
    prompt: str | None = None
    params: dict[str, Any] | None = None
    editable_params: list[str] | None = None

    @property
    def is_approval(self) -> bool:
        return self.type == "approval_request"


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
    name: str | None = None
    type: str | None = None


class ToolCallCompleted(Struct, frozen=True, kw_only=True):
    """The data of `agent.tool_call.completed`. `result` is a JSON text, as it came."""

    id: str | None = None
    object: str | None = None
    result: Any = None
    input: Any = None
    iteration: int | None = None
    tool: RunTool | None = None

    @property
    def result_data(self) -> Any:
        """`result`, decoded if it is JSON, else as it is."""
        if not isinstance(self.result, str):
            return self.result
        try:
            return _json.decode(self.result.encode())
        except _json.DECODE_ERRORS:
            return self.result


DATA_TYPES: dict[str, type[Struct]] = {
    RUN_STARTED: RunState,
    "run.completed": RunState,
    "run.failed": RunState,
    "run.canceled": RunState,
    "run.paused": RunPaused,
    "agent.reasoning.delta": Delta,
    "agent.response.delta": Delta,
    "agent.tool_call.completed": ToolCallCompleted,
    "agent.human_feedback.requested": InputRequest,
    "approval_request.created": InputRequest,
}
"""What `RunEvent.data` is decoded to, by event type; any other type's data comes as it is."""

_decoders = {name: msgspec.json.Decoder(type_).decode for name, type_ in DATA_TYPES.items()}
_decode_any = msgspec.json.Decoder().decode


class _Question(Struct, kw_only=True):
    """A question's data, in which the id may also be called `request_id` (our guess)."""

    id: str | None = None
    request_id: str | None = None
    type: str | None = None
    prompt: str | None = None
    params: dict[str, Any] | None = None
    editable_params: list[str] | None = None


_decode_question = msgspec.json.Decoder(_Question).decode


class RunEvent(_json.KeepsRaw, Struct, frozen=True, kw_only=True):
    """One event of a run.

    Attributes:
        type: such as `agent.reasoning.delta`. The list is open.
        sequence: the position in the run's stream, strictly increasing; what to resume behind.
        id, timestamp: of the event; the time is an RFC 3339 text.
        raw_data: `data` as the JSON that arrived.
        raw: the whole event as the JSON that arrived.

    The views return something empty, and never raise, where an event is not of their kind.
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
        """`data` as its Struct in `DATA_TYPES`, or plain where the type is not known or the data
        does not fit. Decoded anew on each access.

        Raises:
            EventDecodeError: it holds what Python cannot (such as a number of thousands of digits).
        """
        if decode := _decoders.get(self.type):
            try:
                return _json.decode_with(decode, self.raw_data)
            except _json.DECODE_ERRORS:
                pass  # of another shape than documented: it comes through as it is
        try:
            return _json.decode_with(_decode_any, self.raw_data)
        except _json.DECODE_ERRORS as error:
            raise EventDecodeError(
                f"the data of event {self.sequence} cannot be decoded: {error}",
                data=bytes(self.raw_data),
            ) from error

    @property
    def is_terminal(self) -> bool:
        """Whether this is the run's last event."""
        return self.type in TERMINAL_EVENTS

    @property
    def text(self) -> str:
        """A piece of the answer meant for the reader, or `""`."""
        delta = _view(self, Delta) if self.type == "agent.response.delta" else None
        return delta.delta if delta is not None else ""

    @property
    def reasoning(self) -> str:
        """A piece of an agent's thought, or `""`."""
        delta = _view(self, Delta) if self.type == "agent.reasoning.delta" else None
        return delta.delta if delta is not None else ""

    @property
    def tool_call(self) -> ToolCallCompleted | None:
        return _view(self, ToolCallCompleted)

    @property
    def state(self) -> RunState | None:
        """What a `run.…` event says about the run."""
        return _view(self, RunState)

    @property
    def question(self) -> InputRequest | None:
        """What the run asks a person."""
        if self.type not in QUESTION_EVENTS:
            return None
        try:
            asked = _json.decode_with(_decode_question, self.raw_data)
        except _json.DECODE_ERRORS:
            return None
        approval = self.type == "approval_request.created"
        return InputRequest(
            id=asked.id or asked.request_id or "",
            type="approval_request" if approval else asked.type or "human_feedback",
            prompt=asked.prompt,
            params=asked.params,
            editable_params=asked.editable_params,
        )


def stored_event(data: Raw) -> RunEvent:
    """An event of a list, as tolerantly as one of a stream. Raises one of `_json.DECODE_ERRORS`."""
    try:
        event = _decode_event(data)
    except msgspec.ValidationError:
        event = _lenient(_json.decode(bytes(data), dict[str, Any]))
    _json.keep(event, memoryview(data))
    return event


def run_event(data: bytes) -> RunEvent | None:
    """The event for data that does not fit `RunEvent` to the letter, such as a sequence number
    that is a text; None where there is none in it, only a sign of life (a guess: heartbeats are
    documented as comments).

    Raises one of `_json.DECODE_ERRORS` when it is no event: without a position it cannot be handed
    out once and in order.
    """
    if data.strip() in (b"", b"[DONE]"):
        return None
    message = _json.decode(data, dict[str, Any])
    alive = message.get("type") in _SIGNS_OF_LIFE and not message.keys() & {"sequence", "error"}
    return None if alive else _lenient(message)


def _lenient(message: dict[str, Any]) -> RunEvent:
    message["data"] = Raw(msgspec.json.encode(message.get("data")))
    known = {n: v for n, v in message.items() if n in _FIELDS and v is not None}
    return msgspec.convert(known, RunEvent, strict=False)


_SIGNS_OF_LIFE = (None, "ping", "heartbeat", "keepalive", "keep-alive")
_FIELDS = frozenset({"type", "sequence", "id", "timestamp", "data"})
_decode_event = msgspec.json.Decoder(RunEvent).decode


def _view(event: RunEvent, kind: type[T]) -> T | None:
    try:
        data = event.data
    except EventDecodeError:
        return None
    return data if isinstance(data, kind) else None
