"""The events of the Runs API, and how the library's messages and questions become events.

The vendor documents the names and fields of the events. Our guesses: that events are made from the
library's messages at all, `agent.response.delta`, the values of `object`, the type's name of a
request for feedback, and the data of the events about questions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..core.json import encode

if TYPE_CHECKING:
    from .questions import Question


def input_request(question: Question) -> dict[str, Any]:
    """An entry of `input_requests`."""
    request: dict[str, Any] = {
        "id": question.id,
        "type": question.kind,
        "prompt": question.prompt,
    }
    if question.kind == "approval_request":
        request["params"] = question.params
        request["editable_params"] = list(question.editable)
    return request


def question_event(question: Question) -> tuple[str, dict[str, Any]]:
    """The event that announces a question: its type and data."""
    if question.kind == "human_feedback":
        return "agent.human_feedback.requested", input_request(question)
    return "approval_request.created", input_request(question)


def answer_event(question: Question) -> tuple[str, dict[str, Any]]:
    """The event that says that a question was answered: its type and data."""
    answer = question.answer.result()
    if question.kind == "human_feedback":
        return "run.human_feedback.received", {"request_id": question.id, "feedback": answer}
    verdict = "confirmed" if answer.approved else "rejected"
    data = {"request_id": question.id, "params": answer.params, "feedback": answer.feedback}
    return f"run.approval_request.{verdict}", data


class Translator:
    """Turns the library's messages into the events of the Runs API."""

    def __init__(self) -> None:
        self._iteration = 1

    def translate(self, message: Mapping[str, Any]) -> tuple[str, Any] | None:
        """The event's type and data; None for a message that has no event."""
        data = message["data"]
        choices = data.get("choices") if isinstance(data, Mapping) else None
        if not choices:
            return message["event"], data
        delta = choices[0]["delta"]
        step, content = delta.get("step"), delta.get("content")
        if step == "tool":
            return self._tool_call(content)
        if step == "reasoning" and "action" not in content:
            return self._delta("agent.reasoning.delta", content["thought"])
        if step in (None, "answer") and content:
            return self._delta("agent.response.delta", content)
        return None

    def _delta(self, type: str, delta: Any) -> tuple[str, Any]:
        return type, {"object": type, "delta": delta, "iteration": self._iteration}

    def _tool_call(self, content: Mapping[str, Any]) -> tuple[str, Any]:
        self._iteration = content["loop_num"] + 1
        return "agent.tool_call.completed", {
            "id": content["tool_run_id"],
            "object": "agent.tool_call",
            "result": encode(content["result"]).decode(),
            "input": content["input"],
            "iteration": content["loop_num"],
            "tool": {name: content["tool"][name] for name in ("name", "type")},
        }
