"""Runs with a life of their own: their state, their events, the questions they ask."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

from ..core.feed import Feed
from .execution import Execution
from .messages import encode
from .run_context import Question, RunContext

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from .files_api import InputFile
    from .state import Deployment, State

Status = Literal["created", "started", "paused", "completed", "failed", "canceled"]

TERMINAL = {"completed", "failed", "canceled"}

_ENDS: Mapping[str, Status] = {
    "success": "completed",
    "failure": "failed",
    "canceled": "canceled",
}


# --- guesses: nobody has written these down ------------------------------------------------------


def input_request(question: Question) -> dict[str, Any]:
    """An entry of `input_requests`. The type's name for feedback is a guess."""
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
    """The event that announces a question. Its data is a guess: the input request."""
    if question.kind == "human_feedback":
        return "agent.human_feedback.requested", input_request(question)
    return "approval_request.created", input_request(question)


def answer_event(question: Question) -> tuple[str, dict[str, Any]]:
    """The event that says that an answer came. Known by name only."""
    answer = question.answer.result()
    if question.kind == "human_feedback":
        return "run.human_feedback.received", {"request_id": question.id, "feedback": answer}
    verdict = "confirmed" if answer.approved else "rejected"
    data = {"request_id": question.id, "params": answer.params, "feedback": answer.feedback}
    return f"run.approval_request.{verdict}", data


class Translator:
    """Turns the library's messages into the events of the Runs API.

    That the one is made from the other is a guess, and so are `agent.response.delta` here and the
    values of `object`; the names and fields of the other events are documented.
    """

    def __init__(self) -> None:
        self._iteration = 1

    def translate(self, message: Mapping[str, Any]) -> tuple[str, Any] | None:
        """The event's type and data; None when the Runs API has nothing to say about it."""
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


# -------------------------------------------------------------------------------------------------


@dataclass(eq=False, kw_only=True)
class Run:
    """The truth about a run.

    Attributes:
        app: the name of its App, `app_id` its id; other Apps do not know the run.
        status: as it is; `shown_status` is what the API shows.
        feed: its events; `feed.events` are those that are kept.
    """

    id: str
    app: str
    app_id: str
    input: Mapping[str, Any]
    user_id: str | None
    session_id: str | None
    feed: Feed = field(repr=False)
    status: Status = "created"
    output: Mapping[str, Any] | None = None
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    ended_at: datetime | None = None
    questions: list[Question] = field(default_factory=list)
    task: asyncio.Task[None] = field(init=False, repr=False)

    @property
    def terminal(self) -> bool:
        """Whether it is over."""
        return self.status in TERMINAL

    @property
    def open_questions(self) -> list[Question]:
        """Those that wait for an answer."""
        return [question for question in self.questions if question.open]

    @property
    def shown_status(self) -> str:
        """`awaiting_input` takes the place of started and paused while a question is open."""
        waiting = self.status in ("started", "paused") and self.open_questions
        return "awaiting_input" if waiting else self.status

    def public(self) -> dict[str, Any]:
        """What the API shows of it. What is not known is left out."""
        shown = {
            "id": self.id,
            "app_id": self.app_id,
            "status": self.shown_status,
            "started_at": self.started_at,
            "ended_at": self.ended_at,
            "input": self.input,
            "output": self.output,
            "user_id": self.user_id,
            "session_id": self.session_id,
        }
        if not self.terminal and self.open_questions:
            shown["input_requests"] = list(map(input_request, self.open_questions))
        return {name: value for name, value in shown.items() if value is not None}

    async def put(self, type: str, data: Any) -> None:
        """Add an event, when there is room for it."""
        await self.feed.room()
        self.feed.append(type, self._envelope(type, data))

    def enter(self, status: Status, output: Mapping[str, Any] | None = None, **more: Any) -> None:
        """Change the status, and say so in an event. A run that is over stays as it is."""
        if self.terminal:
            return
        self.status = status
        data: dict[str, Any] = {"id": self.id, "object": "run", "status": status, **more}
        if output is not None:
            data["output"] = self.output = output
        self.feed.append(f"run.{status}", self._envelope(f"run.{status}", data))
        if status in TERMINAL:
            self.ended_at = datetime.now(UTC)
            self.feed.close()

    def resume(self) -> None:
        """Go on after a pause."""
        self.status = "started"
        data = {"id": self.id, "object": "run", "status": "started"}
        self.feed.append("run.resumed", self._envelope("run.resumed", data))

    def cancel(self) -> None:
        """End it as canceled, unless it is over."""
        self.enter("canceled")
        self.kill()

    def kill(self) -> None:
        """Stop the App without a word, as when its server dies: the status stays as it is."""
        self.task.cancel()

    def _envelope(self, type: str, data: Any) -> bytes:
        return encode(
            {
                "id": str(uuid4()),
                "type": type,
                "sequence": self.feed.sequence + 1,
                "timestamp": datetime.now(UTC),
                "data": data,
            }
        )


class RunChannel:
    """A run's output as the events of the Runs API."""

    def __init__(self, state: State, run: Run) -> None:
        self._state = state
        self._run = run
        self._translator = Translator()

    async def message(self, name: str, message: bytes | Mapping[str, Any]) -> None:
        """Add the event that the message is translated to; bytes stand for a whole event."""
        if isinstance(message, bytes):
            await self._run.feed.room()
            self._run.feed.append(name, message)
        elif event := self._translator.translate(message):
            await self._run.put(*event)

    async def event(self, type: str, data: Any) -> None:
        """Add this event."""
        await self._run.put(type, data)

    async def ask(self, question: Question) -> None:
        """Show the question, and pause when it wants that."""
        self._run.questions.append(question)
        await self._run.put(*question_event(question))
        if question.pauses:
            self._run.enter("paused", checkpoint_id=str(uuid4()))
        self._state.changes.notify()

    async def answered(self, question: Question) -> None:
        """Go on from the checkpoint if there is one, and say what was answered."""
        if self._run.status == "paused":
            self._run.resume()
        await self._run.put(*answer_event(question))

    def skip(self, count: int) -> None:
        """Leave out sequence numbers."""
        self._run.feed.skip(count)


def start(
    state: State,
    deployment: Deployment,
    input: Mapping[str, Any],
    *,
    user_id: str | None,
    session_id: str | None,
    files: Sequence[InputFile],
) -> Run:
    """Create a run, and have it begin as soon as the caller lets go of the loop."""
    run = Run(
        id=str(uuid4()),
        app=deployment.name,
        app_id=deployment.id,
        input=input,
        user_id=user_id,
        session_id=session_id,
        feed=Feed(state.settings.event_window),
    )
    state.runs[run.id] = run
    context = RunContext(
        id=run.id,
        app=deployment.name,
        user_id=user_id,
        session_id=session_id,
        files=files,
        pace=state.settings.pace,
        channel=RunChannel(state, run),
    )
    run.task = state.spawn(_live(state, deployment, run, context))
    return run


async def _live(state: State, deployment: Deployment, run: Run, context: RunContext) -> None:
    execution = Execution(
        id=run.id,
        app=run.app,
        input=run.input,
        user_id=run.user_id,
        session_id=run.session_id,
        questions=run.questions,
    )
    run.enter("started")
    await state.execute(deployment.app, execution, context)
    run.enter(_ENDS[execution.status], execution.output)
    state.changes.notify()
