"""Questions that a run asks a person, and their answers."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from .messages import NODE, tool_source


@dataclass(frozen=True)
class Approval:
    """The answer to `RunContext.approve`. `params` are the question's, with the person's edits."""

    approved: bool
    params: Mapping[str, Any]
    feedback: str | None = None


@dataclass(eq=False, kw_only=True)
class Question:
    """Something a run asks a person.

    Attributes:
        id: the request id. Two questions of one node may have the same.
        kind: its type in the Runs API.
        params: what an approval is about; `editable` names those that the person may change.
        event: the event name of its message on the root endpoint.
        pauses: whether the run stops at a checkpoint until the answer comes.
        answer: a `str` (feedback) or an `Approval`, once it was given.
    """

    id: str
    kind: Literal["human_feedback", "approval_request"]
    prompt: str
    params: Mapping[str, Any] | None = None
    editable: Collection[str] = ()
    entity_id: str = NODE
    event: str = "streaming"
    pauses: bool = False
    answer: asyncio.Future[Any] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future(), repr=False
    )

    @property
    def open(self) -> bool:
        """Whether it waits for an answer."""
        return not self.answer.done()

    def reply(self, feedback: str) -> None:
        """Answer a request for feedback."""
        self.answer.set_result(feedback)

    def decide(
        self,
        approved: bool,
        params: Mapping[str, Any] | None = None,
        feedback: str | None = None,
    ) -> None:
        """Answer a request for approval. Only the editable ones of `params` count."""
        edited = {name: value for name, value in (params or {}).items() if name in self.editable}
        self.answer.set_result(Approval(approved, {**(self.params or {}), **edited}, feedback))


def feedback_data(prompt: str, action: str) -> dict[str, Any]:
    """The `data` of the library's feedback question."""
    return {"prompt": prompt, "action": action, "is_browser_takeover": False, "questions": None}


def question_message(question: Question, run: str, app: str) -> dict[str, Any]:
    """The library's message for a question; its `run_id` is null there."""
    if question.kind == "human_feedback":
        data = feedback_data(question.prompt, "ask")
        source = tool_source(question.entity_id, app, "HumanFeedbackTool")
    else:
        data = {
            "template": question.prompt,
            "data": question.params,
            "mutable_data_params": list(question.editable),
            "request_id": question.id,
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
