"""Questions that a run asks a person, and their answers in the forms of the vendor's library."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from ..core.ids import new_id
from .messages import NODE, tool_source

Kind = Literal["human_feedback", "approval_request"]


class Feedback(str):
    """The answer to a request for feedback: its text.

    Attributes:
        answers: the answers to the parts of the question, if it has parts: `question_id`,
            `selected`, `custom_text`.
    """

    answers: Sequence[Mapping[str, Any]] | None

    def __new__(
        cls, content: str = "", answers: Sequence[Mapping[str, Any]] | None = None
    ) -> Feedback:
        said = super().__new__(cls, content)
        said.answers = answers
        return said


@dataclass(frozen=True)
class Approval:
    """The answer to `RunContext.approve`. `params` are the question's, with the person's edits."""

    approved: bool
    params: Mapping[str, Any]
    feedback: str | None = None


Answer = Feedback | Approval


@dataclass(eq=False, kw_only=True)
class Question:
    """A question of a run to a person.

    Attributes:
        message: the library's message of the question, for the root endpoint. It also sets the
            other attributes that are not given. By default a message is made.
        id: the request id. Two questions of one node may have the same.
        request_id: the id in the message, which an answer to the message must repeat. The library
            has one for the approvals of an agent's hook. None: an answer needs no id.
        kind: its type in the Runs API.
        params: what an approval is about; `editable` names those that the person may change.
        questions: the parts of a request for feedback, each with its own choices.
        event: the event name of its message on the root endpoint.
        pauses: whether the run stops at a checkpoint until the answer comes.
        said: the data of the answer as it came, if it came in the library's form.
        answer: a `Feedback` or an `Approval`, once answered; None once the question is withdrawn.
    """

    message: Mapping[str, Any] | None = None
    id: str = field(default_factory=new_id)
    request_id: str | None = None
    kind: Kind = "human_feedback"
    prompt: str = ""
    params: Mapping[str, Any] | None = None
    editable: Collection[str] = ()
    questions: Sequence[Mapping[str, Any]] | None = None
    entity_id: str = NODE
    event: str = "streaming"
    pauses: bool = False
    said: Mapping[str, Any] | None = None
    answer: asyncio.Future[Any] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future(), repr=False
    )

    def __post_init__(self) -> None:
        if self.message is not None:
            self._read(self.message)

    def _read(self, message: Mapping[str, Any]) -> None:
        data = message["data"]
        self.entity_id, self.event = message["entity_id"], message["event"]
        if "template" in data:
            self.kind = "approval_request"
            self.prompt = self.prompt or data["template"]
            self.params = self.params or data["data"]
            self.editable = self.editable or tuple(data["mutable_data_params"])
            self.request_id = self.request_id or data.get("request_id")
            self.id = self.request_id or self.id
        else:
            self.prompt = self.prompt or data["prompt"]
            self.questions = self.questions or data.get("questions")

    @property
    def open(self) -> bool:
        """Whether it waits for an answer."""
        return not self.answer.done()

    def reply(self, content: str, answers: Sequence[Mapping[str, Any]] | None = None) -> None:
        """Answer a request for feedback, with `answers` to its parts."""
        self.answer.set_result(Feedback(content, answers))

    def decide(
        self,
        approved: bool,
        params: Mapping[str, Any] | None = None,
        feedback: str | None = None,
    ) -> None:
        """Answer a request for approval. Only editable `params` are changed."""
        edited = {name: value for name, value in (params or {}).items() if name in self.editable}
        self.answer.set_result(Approval(approved, {**(self.params or {}), **edited}, feedback))

    def withdraw(self) -> None:
        """Withdraw the question, as a node does after its timeout. It can no longer be answered."""
        if self.open:
            self.answer.set_result(None)

    def take(self, data: Any) -> bool:
        """Answer the question with the `data` of an answer in the library's form.

        Returns False if `data` does not answer it. The library ignores such data and keeps waiting.
        """
        try:
            if self.kind == "human_feedback":
                said = msgspec.convert(data, _Feedback)
                self.reply(said.content, msgspec.to_builtins(said.answers))
                self.said = data
                return True
            given = msgspec.convert(data, _Approval)
            approved = _as_bool(given.is_approved)
        except ValueError:
            return False
        if self.request_id not in (None, given.request_id):
            return False
        if approved is None:
            if given.feedback is UNSET:
                return False
            approved = given.feedback == ""
        self.decide(approved, given.data, given.feedback or None)
        self.said = data
        return True


class _Part(Struct):
    question_id: str
    selected: list[str] = []
    custom_text: str | None = None


class _Feedback(Struct):
    """The data that the library accepts as feedback."""

    content: str = ""
    answers: list[_Part] | None = None


class _Approval(Struct):
    """The data that the library accepts as a decision. An empty text approves, because it is the
    default of a node's pattern for acceptance."""

    feedback: str | UnsetType = UNSET
    data: dict[str, Any] = {}
    is_approved: Any = None
    request_id: str | None = None


_BOOLS = {
    **dict.fromkeys(("1", "on", "t", "true", "y", "yes"), True),
    **dict.fromkeys(("0", "off", "f", "false", "n", "no"), False),
}
"""The texts that pydantic, and so the library, reads as a boolean, in upper or lower case."""


def _as_bool(value: Any) -> bool | None:
    """A boolean as the library reads it. Raises ValueError for other values."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float) and value in (0, 1):
        return bool(value)
    if isinstance(value, str) and value.lower() in _BOOLS:
        return _BOOLS[value.lower()]
    raise ValueError("no boolean")


def is_question(message: Mapping[str, Any]) -> bool:
    """Whether a message of the library asks for an answer."""
    data = message.get("data")
    if not isinstance(data, Mapping):
        return False
    return "mutable_data_params" in data or ("prompt" in data and data.get("action") == "ask")


def is_notice(message: Mapping[str, Any]) -> bool:
    """Whether a message of the library tells a person something that needs no answer."""
    data = message.get("data")
    return isinstance(data, Mapping) and "prompt" in data and data.get("action") == "info"


def feedback_data(
    prompt: str, action: str, questions: Sequence[Mapping[str, Any]] | None = None
) -> dict[str, Any]:
    """The `data` of the library's feedback question."""
    return {
        "prompt": prompt,
        "action": action,
        "is_browser_takeover": False,
        "questions": questions,
    }


def question_message(question: Question, run: str, app: str) -> Mapping[str, Any]:
    """The library's message for a question. Its `run_id` is null."""
    if question.message is not None:
        return question.message
    if question.kind == "human_feedback":
        data = feedback_data(question.prompt, "ask", question.questions)
        source = tool_source(question.entity_id, app, "HumanFeedbackTool")
    else:
        data = {
            "template": question.prompt,
            "data": question.params,
            "mutable_data_params": list(question.editable),
            "request_id": question.request_id,
        }
        source = tool_source(question.entity_id, app)
    return {
        "run_id": None,
        "wf_run_id": run,
        "entity_id": question.entity_id,
        "data": data,
        "event": question.event,
        "source": source,
    }
