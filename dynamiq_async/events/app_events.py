"""The events of an App's stream: passive Structs, and views of what readers need.

A root stream's message is the event that Dynamiq's open-source library emits: an envelope whose
`data` depends on who sent it (an LLM node, an agent, a question, the workflow itself). Decoding
validates the envelope and keeps `data` as raw JSON; the views decode just what they return.
So an event costs little until it is looked at, unknown shapes come through untouched, and events
hold no containers, which lets them stay out of the garbage collector's sight (`gc=False`).

Shapes in this module were seen in the vendor's library unless a docstring says otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from msgspec import Raw, Struct, field

from dynamiq_async import _json
from dynamiq_async.errors import EventDecodeError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
S = TypeVar("S", bound=Struct)

WORKFLOW_TYPE = "dynamiq.workflows.Workflow"
"""The `source.type` of a workflow's own event, which is the last one of its stream."""

ERROR_EVENT = "error"
"""Our guess at how an error that is no workflow's would be named on a stream."""


class Source(Struct, frozen=True, gc=False):
    """The node, agent or workflow that an event comes from."""

    id: str | None = None
    name: str | None = None
    group: str | None = None
    type: str | None = None


class Tool(Struct, frozen=True, gc=False):
    """The tool of an agent's step."""

    name: str | None = None
    type: str | None = None
    action_type: str | None = None


class ToolCall(Struct, frozen=True, kw_only=True):
    """One step in the life of an agent's tool call; `tool_run_id` ties the steps together.

    `step` is `tool_input_start` (the call was announced), `tool_input` (its arguments, as text),
    `tool_input_error` (the arguments were unusable: `error`) or `tool` (it ran: `status` and
    `result`).
    """

    step: str
    tool_run_id: str | None = None
    name: str | None = None
    action: str | None = None
    tool: Tool | None = None
    action_input: Any = None
    input: Any = None
    result: Any = None
    output: Any = None
    files: list[Any] = field(default_factory=list)
    error: Any = None
    loop_num: int | None = None
    timestamp: str | None = None
    status: str | None = None

    @property
    def failed(self) -> bool:
        return self.status == "failure" or self.step == "tool_input_error"


class Decision(Struct, frozen=True, kw_only=True):
    """An agent's finished reasoning step: the whole thought, and the action it chose."""

    thought: str | None = None
    action: str | None = None
    action_input: Any = None
    tool: Tool | None = None
    tool_run_id: str | None = None
    loop_num: int | None = None


class Usage(Struct, frozen=True, kw_only=True):
    """What an LLM node consumed, in tokens; `cost` in US dollars where the library knows it."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    cost: float | None = None


class ApprovalQuestion(Struct, frozen=True, kw_only=True):
    """A node asks whether it may go on. Only keys in `mutable_data_params` can be edited."""

    template: str | None = None
    data: Any = None
    mutable_data_params: list[str] = field(default_factory=list)
    request_id: str | None = None

    @property
    def prompt(self) -> str:
        return self.template or ""


class FeedbackQuestion(Struct, frozen=True, kw_only=True):
    """A node asks a person, or only tells them something (`action` is `info`: do not answer)."""

    prompt: str = ""
    action: str = "ask"
    is_browser_takeover: bool = False
    questions: list[Any] | None = None
    request_id: str | None = None

    @property
    def wants_answer(self) -> bool:
        return self.action != "info"


Question = ApprovalQuestion | FeedbackQuestion


class NodeResult(Struct, frozen=True, kw_only=True):
    """How one node of a workflow ended. `status` is `success`, `failure`, `skip`, `canceled`,
    `undefined`, or one added since."""

    status: str
    input: Any = None
    output: Any = None
    error: Any = None

    @property
    def error_message(self) -> str:
        if isinstance(self.error, dict):
            return str(self.error.get("message") or self.error.get("type") or self.error)
        return "" if self.error is None else str(self.error)


# What is not text is typed `Any`: a field of an unforeseen type must not cost the reader the text.
class _Delta(Struct, frozen=True):
    content: Any = None
    step: Any = None


class _Choice(Struct, frozen=True):
    delta: _Delta = _Delta()
    finish_reason: Any = None


class _Chunk(Struct, frozen=True):
    choices: tuple[_Choice, ...] = ()
    usage: Any = None


_NO_DELTA = _Delta()
_NO_CHUNK = _Chunk()
_decode_any = msgspec.json.Decoder().decode
_decode_chunk = msgspec.json.Decoder(_Chunk).decode
_TOOL_STEPS = frozenset({"tool_input_start", "tool_input", "tool_input_error", "tool"})


class StreamEvent(_json.KeepsRaw, Struct, frozen=True, gc=False, kw_only=True):
    """One message of a root stream.

    Attributes:
        run_id: the id of the node's run, when the sender has one.
        wf_run_id: the id of the workflow's run; the same on all events of a stream.
        entity_id: the node that the event is about. Text of parallel nodes interleaves and
            belongs together by it.
        event: the name configured on the streaming node: `data` by default on the platform,
            `streaming` in the library.
        source: who sent it.
        raw_data: `data` as the JSON that arrived.
        raw: the whole message as the JSON that arrived.

    The views below return something empty, and never raise, where an event is not of their kind.
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
    def step(self) -> str | None:
        """An agent's step: `reasoning`, `tool_input`, `tool`, `answer`, …"""
        step = self._delta().step
        return step if isinstance(step, str) else None

    @property
    def reasoning(self) -> str:
        """A piece of an agent's thought, or `""`. The finished thought is `decision`."""
        delta = self._delta()
        content = delta.content
        if delta.step == "reasoning" and isinstance(content, dict) and "loop_num" not in content:
            thought = content.get("thought")
            return thought if isinstance(thought, str) else ""
        return ""

    @property
    def decision(self) -> Decision | None:
        """An agent's finished reasoning step, which repeats the text of its pieces."""
        delta = self._delta()
        content = delta.content
        if delta.step == "reasoning" and isinstance(content, dict) and "loop_num" in content:
            return _json.fitting(content, Decision)
        return None

    @property
    def tool_call(self) -> ToolCall | None:
        """A step in the life of an agent's tool call."""
        delta = self._delta()
        step = delta.step
        if isinstance(step, str) and step in _TOOL_STEPS and isinstance(delta.content, dict):
            return _json.fitting({**delta.content, "step": step}, ToolCall)
        return None

    @property
    def finish_reason(self) -> str | None:
        """Why an LLM stopped, on its last chunk."""
        choices = self._chunk().choices
        reason = choices[0].finish_reason if choices else None
        return reason if isinstance(reason, str) else None

    @property
    def usage(self) -> Usage | None:
        """The tokens an LLM node consumed, on the one chunk that tells."""
        usage = self._chunk().usage
        return _json.fitting(usage, Usage) if isinstance(usage, dict) else None

    @property
    def question(self) -> Question | None:
        """What a node asks of, or tells, a person."""
        if self.is_final:
            return None
        raw = bytes(self.raw_data)
        if b'"mutable_data_params"' not in raw and b'"prompt"' not in raw:
            return None
        data = self._view(_decode_any)
        if not isinstance(data, dict):
            return None
        if "mutable_data_params" in data:
            return _json.fitting(data, ApprovalQuestion)
        return (
            _json.fitting(data, FeedbackQuestion) if {"prompt", "action"} <= data.keys() else None
        )

    @property
    def is_final(self) -> bool:
        """Whether this is the workflow's own event, behind which nothing follows.

        An error that comes in place of it counts too (our guess: none has been seen).
        """
        source = self.source
        if source is None:
            return self.event == ERROR_EVENT
        return source.type == WORKFLOW_TYPE

    @property
    def error(self) -> Any:
        """On the final event of a run that failed or was canceled: why, or what stands there
        in place of a reason. None on every other event."""
        data = self._outcome()
        if not isinstance(data, dict):
            return data if self.source is None else None
        error = data.get("error")
        canceled = data.get("canceled") is True
        # A node may bear the id `error`, but its result is an object with a status.
        if self.source is None or canceled or ("error" in data and not _is_node(error)):
            return error or data
        return None

    @property
    def canceled(self) -> bool:
        """Whether this is the final event of a run that was canceled."""
        data = self._outcome()
        return isinstance(data, dict) and data.get("canceled") is True

    @property
    def error_message(self) -> str:
        """`error` as a sentence: the library sends a string or an object with `message`."""
        error = self.error
        if isinstance(error, dict):
            return str(error.get("message") or error)
        return "" if error is None else str(error)

    @property
    def nodes(self) -> dict[str, NodeResult]:
        """On the final event of a workflow that came through: each node's result, by node id."""
        data = self._outcome()
        if not isinstance(data, dict) or self.error is not None:
            return {}
        return {id: _json.fitting(node, NodeResult) for id, node in data.items() if _is_node(node)}

    def _outcome(self) -> Any:
        """The final event's data, which for an error without any is `{}`; else None."""
        if not self.is_final:
            return None
        data = self._view(_decode_any)
        return {} if data is None and self.source is None else data

    @property
    def node_failures(self) -> dict[str, NodeResult]:
        """The nodes that failed within a workflow that came through all the same."""
        return {id: node for id, node in self.nodes.items() if node.status == "failure"}


class BrokenEvent(StreamEvent, frozen=True, gc=False, kw_only=True):
    """An event that is not JSON, handed out because the stream was opened to pass such on.

    `raw_data` and `raw` hold what arrived, and `data` is the same as text.
    """

    @property
    def raw(self) -> bytes:
        return bytes(self.raw_data)

    @property
    def data(self) -> str:
        return bytes(self.raw_data).decode("utf-8", "replace")


def _is_node(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("status"), str)


def stream_event(data: bytes) -> StreamEvent | None:
    """The event for a message that does not fit `StreamEvent`, or None where there is none in it.

    Fields that are there and of the right type are kept. A message without `data` becomes the
    event's data as a whole, so that nothing is lost; if it has an `error`, it is the error of the
    stream. `[DONE]`, the end marker of other vendors, is no event, and neither is an empty text,
    which some servers send to keep a connection alive.

    Raises one of `_json.DECODE_ERRORS` when it is not JSON.
    """
    if data.strip() in (b"", b"[DONE]"):
        return None
    message = _json.decode(data)
    if not isinstance(message, dict):
        return StreamEvent(raw_data=Raw(msgspec.json.encode(message)))
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
        return StreamEvent(raw_data=Raw(msgspec.json.encode(message["data"])), **known)
    if "source" not in known and ("error" in message or {"code", "message"} <= message.keys()):
        known["event"] = ERROR_EVENT
    return StreamEvent(raw_data=Raw(msgspec.json.encode(message)), **known)
