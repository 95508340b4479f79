"""The events of the Runs API, and how the library's messages and questions become events.

The vendor documents the names and fields of the events. Our guesses: that events are made from the
library's messages at all, `agent.response.delta`, the values of `object`, the type name of a
request for feedback, and the data of the events about questions.

| library message | run event |
|---|---|
| a model's chunk with text; an agent's `answer` | `agent.response.delta` |
| an agent's `reasoning`, partial | `agent.reasoning.delta` |
| an agent's `tool` | `agent.tool_call.completed` |
| other steps (whole `reasoning`, `tool_input…`, `hook`, managers'); usage; empty chunks | none |
| approval; feedback to `ask` | `approval_request.created`; `agent.human_feedback.requested` |
| feedback to `info` | none |
| the workflow's own | `run.completed`, `run.failed` or `run.canceled`, depending on its end |
| any other data | an event with the message's name and data |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from ..core.json import encode
from .questions import Approval, Question, is_notice, is_question

Event: TypeAlias = tuple[str, Any]
"""An event's type and data."""


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
    elif question.questions:
        request["questions"] = question.questions
    return request


def question_event(question: Question) -> tuple[str, dict[str, Any]]:
    """The event that announces a question: its type and data."""
    if question.kind == "human_feedback":
        return "agent.human_feedback.requested", input_request(question)
    return "approval_request.created", input_request(question)


def answer_event(question: Question) -> tuple[str, dict[str, Any]]:
    """The event that says that a question was answered: its type and data."""
    answer = question.answer.result()
    data: dict[str, Any] = {"request_id": question.id}
    if isinstance(answer, Approval):
        verdict = "confirmed" if answer.approved else "rejected"
        data |= {"params": answer.params, "feedback": answer.feedback}
        return f"run.approval_request.{verdict}", data
    data["feedback"] = answer
    if answer is not None and answer.answers:
        data["answers"] = answer.answers
    return "run.human_feedback.received", data


class Translator:
    """Turns the library's messages into the events of the Runs API."""

    def __init__(self) -> None:
        self._iteration = 1
        self._steps: Mapping[str | None, Callable[[Any], Event | None]] = {
            None: self._response,  # a model's chunk
            "answer": self._response,
            "reasoning": self._reasoning,
            "tool": self._tool_call,
        }

    def translate(self, message: Mapping[str, Any]) -> Event | None:
        """The event's type and data; None for a message that has no event."""
        data = message["data"]
        if is_notice(message):
            return None
        if is_question(message):
            return question_event(Question(message=message))
        choices = data.get("choices") if isinstance(data, Mapping) else None
        if choices is None:
            return message["event"], data
        delta = choices[0]["delta"] if choices else {}
        known = self._steps.get(delta.get("step"))
        return known(delta.get("content")) if known else None

    def _response(self, content: Any) -> Event | None:
        return self._delta("agent.response.delta", content) if content else None

    def _reasoning(self, content: Any) -> Event | None:
        if not isinstance(content, Mapping) or "action" in content:
            return None  # the whole reasoning, whose pieces have been sent already
        return self._delta("agent.reasoning.delta", content["thought"])

    def _delta(self, type: str, delta: Any) -> Event:
        return type, {"object": type, "delta": delta, "iteration": self._iteration}

    def _tool_call(self, content: Mapping[str, Any]) -> Event:
        self._iteration = content["loop_num"] + 1
        return "agent.tool_call.completed", {
            "id": content["tool_run_id"],
            "object": "agent.tool_call",
            "result": encode(content["result"]).decode(),
            "input": content["input"],
            "iteration": content["loop_num"],
            "tool": {name: content["tool"][name] for name in ("name", "type")},
        }
