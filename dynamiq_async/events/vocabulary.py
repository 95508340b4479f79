"""The vocabulary of events: the views that every event has, whichever wire it came by.

`AsyncApp.stream` and WebSockets hand out `StreamEvent`s, the streams of runs `RunEvent`s. What the
two wires send differs in name and shape. The views of `Event` are the same on both, so that
a function over events is written once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol

from msgspec import Raw, Struct, field, structs

from dynamiq_async import _json
from dynamiq_async._failures import told
from dynamiq_async.errors import InvalidArgumentError

ToolCallStatus = Literal["started", "input", "called", "completed", "failed"]


class ToolCall(Struct, frozen=True, kw_only=True):
    """One step in the life of an agent's tool call.

    Attributes:
        id: ties the steps of one call together; `""` where it was not told.
        name: the tool's; `""` where it was not told.
        input: the arguments; with the status `input` a piece of them, as text.
        output: what the tool returned or, of a failed call, what went wrong.
        status: which step this is.

            - `started`: the agent is about to call the tool, and the input is still to come.
            - `input`: a piece of the input.
            - `called`: the input is whole.
            - `completed`: the tool has returned.
            - `failed`: the tool failed, or the input could not be used.

            A call has one of the last two at its end, and any of the others before it, or none:
            a run tells of calls that are completed only.
    """

    id: str = ""
    name: str = ""
    input: Any = None
    output: Any = None
    status: ToolCallStatus


class Question(Struct, frozen=True, kw_only=True):
    """What a workflow asks a person. It is plain data; who can answer it takes it as an argument.

    Attributes:
        id: what the answer refers to; `""` where there is none. Two questions of one node can
            carry the same id.
        kind: `approval` wants a yes or no, `feedback` a text. Kinds that a service adds come as it
            names them; `""` where it names none.
        prompt: what is asked.
        params: what is to be approved.
        editable_params: the names of those `params` that an approval may change.
    """

    id: str = ""
    kind: str = ""
    prompt: str = ""
    params: dict[str, Any] = field(default_factory=dict)
    editable_params: list[str] = field(default_factory=list)

    def check_kind(self, kind: Literal["approval", "feedback"], argument: str) -> None:
        """Raise InvalidArgumentError, which names `argument`, where the answer has to be of the
        other kind. A question of a kind that is not known takes either."""
        if self.kind == kind:
            return
        if self.kind == "approval":
            raise InvalidArgumentError(
                "this asks for approval: use approve() or reject()", argument=argument
            )
        if self.kind == "feedback":
            raise InvalidArgumentError("this asks for a text: use answer()", argument=argument)

    def check_params(self, params: Mapping[str, Any]) -> None:
        """Raise InvalidArgumentError if `params` has keys that cannot be edited."""
        editable = self.editable_params
        if wrong := sorted(set(params) - set(editable)):
            raise InvalidArgumentError(
                f"params: {', '.join(wrong)} cannot be edited; "
                + (f"only {', '.join(editable)} can" if editable else "nothing can be"),
                argument="params",
            )


class Usage(Struct, frozen=True, kw_only=True):
    """What was consumed, in tokens; `cost` in US dollars where the library knows it."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    cost: float | None = None

    def __add__(self, other: Usage) -> Usage:
        sums = {}
        for name in Usage.__struct_fields__:
            told = [n for n in (getattr(self, name), getattr(other, name)) if n is not None]
            sums[name] = sum(told) if told else None
        return Usage(**sums)


_OTHER = {
    "prompt_tokens": "input_tokens",
    "completion_tokens": "output_tokens",
    "cost": "total_tokens_cost_usd",  # the library's, in its traces
}


def usage_of(told: Any) -> Usage | None:
    """`usage` as a service writes it; some say input and output instead of prompt and completion,
    and leave out the total."""
    if not isinstance(told, dict):
        return None
    usage = _json.fitting({name: told.get(_OTHER[name]) for name in _OTHER} | told, Usage)
    prompt, completion = usage.prompt_tokens, usage.completion_tokens
    if usage.total_tokens is None and prompt is not None and completion is not None:
        return structs.replace(usage, total_tokens=prompt + completion)
    return usage


class NodeResult(Struct, frozen=True, kw_only=True):
    """How one node of a workflow ended. `status` is `success`, `failure`, `skip`, `canceled`,
    `undefined`, or one added since."""

    status: str
    input: Any = None
    output: Any = None
    error: Any = None

    @property
    def error_message(self) -> str:
        """`error` as a sentence."""
        return told(self.error)


def failures(nodes: Mapping[str, NodeResult]) -> dict[str, NodeResult]:
    """Those nodes that failed."""
    return {id: node for id, node in nodes.items() if node.status == "failure"}


class Event(Protocol):
    """What every event of a stream shows. No view raises; one that is not of an event's kind is
    empty there."""

    @property
    def text(self) -> str:
        """A piece of the answer meant for the reader, or `""`; never an object or a thought."""

    @property
    def reasoning(self) -> str:
        """A piece of an agent's thought, or `""`."""

    @property
    def tool_call(self) -> ToolCall | None:
        """A step in the life of an agent's tool call."""

    @property
    def question(self) -> Question | None:
        """What a person is asked, and has to answer."""

    @property
    def usage(self) -> Usage | None:
        """What was consumed, where the event tells."""

    @property
    def is_final(self) -> bool:
        """Whether this is the stream's own last event."""

    @property
    def error(self) -> str | None:
        """On the final event of what failed or was canceled: why, as a sentence."""

    @property
    def canceled(self) -> bool:
        """Whether this is the final event of what was canceled; it has an `error`, too."""

    @property
    def nodes(self) -> Mapping[str, NodeResult]:
        """On the final event: each node's result, by the node's id, where the event tells."""

    @property
    def node_failures(self) -> Mapping[str, NodeResult]:
        """Those of `nodes` that failed. A workflow may come through all the same."""

    @property
    def entity_id(self) -> str | None:
        """The node that the event is about."""

    @property
    def data(self) -> Any:
        """All that the event says, decoded. It may raise EventDecodeError."""

    @property
    def raw_data(self) -> Raw:
        """`data` as the JSON that arrived."""

    @property
    def raw(self) -> bytes:
        """The whole event as the JSON that arrived."""
