"""The vocabulary of events: the views that every event has, whatever stream it came from.

`AsyncApp.stream` and WebSockets return `StreamEvent`s, and the streams of runs return `RunEvent`s.
Their messages differ in names and shapes. The views of `Event` are the same for both, so that
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
    """One step of an agent's tool call.

    Attributes:
        id: the same for all steps of one call; `""` where the event has none.
        name: the tool's; `""` where the event has none.
        input: the arguments; with the status `input` a piece of them, as text.
        output: the tool's return value, or the error of a failed call.
        status: which step this is.

            - `started`: the agent is about to call the tool, and the input is still to come.
            - `input`: a piece of the input.
            - `called`: the input is complete.
            - `completed`: the tool has returned.
            - `failed`: the tool failed, or the input could not be used.

            A call ends with one of the last two. Any of the others may come before it, or none:
            a run only reports completed calls.
    """

    id: str = ""
    name: str = ""
    input: Any = None
    output: Any = None
    status: ToolCallStatus


class Question(Struct, frozen=True, kw_only=True):
    """A workflow's question to a person. It is plain data; methods that answer it take it as an
    argument.

    Attributes:
        id: the id that the answer refers to; `""` where there is none. Two questions of one node
            can have the same id.
        kind: `approval` needs a yes or no, `feedback` a text. Kinds that a service adds keep their
            names; `""` where there is none.
        prompt: the text of the question.
        params: the parameters to approve.
        editable_params: the names of those `params` that an approval may change.
    """

    id: str = ""
    kind: str = ""
    prompt: str = ""
    params: dict[str, Any] = field(default_factory=dict)
    editable_params: list[str] = field(default_factory=list)

    def check_kind(self, kind: Literal["approval", "feedback"], argument: str) -> None:
        """Raise InvalidArgumentError, which names `argument`, if the answer must be of the other
        kind. A question of an unknown kind accepts both."""
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
    """The tokens consumed, and their `cost` in US dollars where the library knows it."""

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
    """The `Usage` in a service's `usage`. Some services say input and output instead of prompt and
    completion, and leave out the total."""
    if not isinstance(told, dict):
        return None
    usage = _json.fitting({name: told.get(_OTHER[name]) for name in _OTHER} | told, Usage)
    prompt, completion = usage.prompt_tokens, usage.completion_tokens
    if usage.total_tokens is None and prompt is not None and completion is not None:
        return structs.replace(usage, total_tokens=prompt + completion)
    return usage


class NodeResult(Struct, frozen=True, kw_only=True):
    """How one node of a workflow ended. `status` is `success`, `failure`, `skip`, `canceled`,
    `undefined`, or a newer one."""

    status: str
    input: Any = None
    output: Any = None
    error: Any = None

    @property
    def error_message(self) -> str:
        """`error` as a sentence."""
        return told(self.error)


def failures(nodes: Mapping[str, NodeResult]) -> dict[str, NodeResult]:
    """The nodes that failed."""
    return {id: node for id, node in nodes.items() if node.status == "failure"}


class Event(Protocol):
    """The views of every event of a stream. No view raises; a view that does not apply to an event
    is empty."""

    @property
    def text(self) -> str:
        """A piece of the answer meant for the reader, or `""`; never an object or a thought."""

    @property
    def reasoning(self) -> str:
        """A piece of an agent's thought, or `""`."""

    @property
    def tool_call(self) -> ToolCall | None:
        """A step of an agent's tool call."""

    @property
    def question(self) -> Question | None:
        """The question that a person has to answer."""

    @property
    def usage(self) -> Usage | None:
        """The tokens consumed, where the event has them."""

    @property
    def is_final(self) -> bool:
        """Whether this is the stream's own last event."""

    @property
    def error(self) -> str | None:
        """On the final event of a failed or canceled run: the reason as a sentence."""

    @property
    def canceled(self) -> bool:
        """Whether this is the final event of a canceled run; then it also has an `error`."""

    @property
    def nodes(self) -> Mapping[str, NodeResult]:
        """On the final event: each node's result, by the node's id, where the event has them."""

    @property
    def node_failures(self) -> Mapping[str, NodeResult]:
        """The failed ones of `nodes`. The workflow itself need not have failed."""

    @property
    def entity_id(self) -> str | None:
        """The node that the event is about."""

    @property
    def data(self) -> Any:
        """All data of the event, decoded. It may raise EventDecodeError."""

    @property
    def raw_data(self) -> Raw:
        """`data` as the JSON that arrived."""

    @property
    def raw(self) -> bytes:
        """The whole event as the JSON that arrived."""
