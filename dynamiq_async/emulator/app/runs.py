"""Runs of the Runs API, which outlive the requests that create them: status, events, questions."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

from ..core.json import encode
from .run_events import Translator, answer_event, input_request, question_event

if TYPE_CHECKING:
    import asyncio

    from ..core.feed import Feed
    from ..core.log import Changes
    from .questions import Question

Status = Literal["created", "started", "paused", "completed", "failed", "canceled"]

TERMINAL = {"completed", "failed", "canceled"}


@dataclass(eq=False, kw_only=True)
class Run:
    """A run of the Runs API.

    Attributes:
        app: the name of its App; `app_id` is the App's id. Other Apps do not have the run.
        status: without regard to questions; `shown_status` is what the API shows.
        output: what its caller gets, once it is completed.
        error: why it failed; that the API shows it is our guess.
        feed: its events; `feed.events` are those that are kept.
        task: runs the App.
        created: when, on the clock that `age` is by.
    """

    id: str
    app: str
    app_id: str
    input: Mapping[str, Any]
    user_id: str | None
    session_id: str | None
    feed: Feed = field(repr=False)
    status: Status = "created"
    output: Any = None
    error: str | None = None
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    ended_at: datetime | None = None
    questions: list[Question] = field(default_factory=list)
    task: asyncio.Task[None] = field(init=False, repr=False)
    created: float = field(default_factory=time.monotonic, repr=False)

    @property
    def age(self) -> float:
        """Seconds since it was created."""
        return time.monotonic() - self.created

    @property
    def terminal(self) -> bool:
        """Whether it is over."""
        return self.status in TERMINAL

    @property
    def open_questions(self) -> list[Question]:
        """The questions that wait for an answer."""
        return [question for question in self.questions if question.open]

    @property
    def shown_status(self) -> str:
        """The status; while a question is open, `awaiting_input` replaces started and paused."""
        waiting = self.status in ("started", "paused") and self.open_questions
        return "awaiting_input" if waiting else self.status

    def public(self) -> dict[str, Any]:
        """The run as the API shows it. Fields without a value are left out."""
        shown = {
            "id": self.id,
            "app_id": self.app_id,
            "status": self.shown_status,
            "started_at": self.started_at,
            "ended_at": self.ended_at,
            "input": self.input,
            "output": self.output,
            "error": self.error,
            "user_id": self.user_id,
            "session_id": self.session_id,
        }
        if not self.terminal and self.open_questions:
            shown["input_requests"] = list(map(input_request, self.open_questions))
        return {name: value for name, value in shown.items() if value is not None}

    async def put(self, type: str, data: Any) -> None:
        """Add an event, once the feed has room for it."""
        await self.feed.room()
        self.feed.append(type, self._envelope(type, data))

    def enter(
        self, status: Status, output: Any = None, error: str | None = None, **more: Any
    ) -> None:
        """Change the status and add the event that says so, unless the run is over."""
        if self.terminal:
            return
        self.status, self.output, self.error = status, output, error
        data: dict[str, Any] = {"id": self.id, "object": "run", "status": status, **more}
        told = {"output": output, "error": error}
        data |= {name: value for name, value in told.items() if value is not None}
        self.feed.append(f"run.{status}", self._envelope(f"run.{status}", data))
        if status in TERMINAL:
            self.ended_at = datetime.now(UTC)
            self.feed.close()

    def pause(self, checkpoint_id: str | None) -> None:
        """Stop at a checkpoint, whose id is made up if it is not given."""
        self.enter("paused", checkpoint_id=checkpoint_id or str(uuid4()))

    def resume(self) -> None:
        """Continue after a pause, if there is one."""
        if self.status != "paused":
            return
        self.status = "started"
        data = {"id": self.id, "object": "run", "status": "started"}
        self.feed.append("run.resumed", self._envelope("run.resumed", data))

    def cancel(self) -> None:
        """End the run as canceled, unless it is over."""
        self.enter("canceled")
        self.kill()

    def kill(self) -> None:
        """Stop the App without an event or a new status, as when its server dies."""
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

    kind: Literal["root", "run"] = "run"

    def __init__(self, run: Run, changes: Changes) -> None:
        self._run = run
        self._changes = changes
        self._translator = Translator()

    async def message(self, name: str, message: bytes | Mapping[str, Any]) -> None:
        """Add the event that the message becomes, if any; bytes are a whole event."""
        if isinstance(message, bytes):
            await self._run.feed.room()
            self._run.feed.append(name, message)
        elif event := self._translator.translate(message):
            await self._run.put(*event)

    async def event(self, type: str, data: Any) -> None:
        """Add this event."""
        await self._run.put(type, data)

    async def ask(self, question: Question) -> None:
        """Add the event of the question, and pause if it says so."""
        self._run.questions.append(question)
        await self._run.put(*question_event(question))
        if question.pauses:
            self._run.pause(None)
        self._changes.notify()

    async def answered(self, question: Question) -> None:
        """Resume if the run is paused, and add the event of the answer."""
        self.resume()
        await self._run.put(*answer_event(question))

    def pause(self, checkpoint_id: str | None) -> None:
        """Pause the run."""
        self._run.pause(checkpoint_id)
        self._changes.notify()

    def resume(self) -> None:
        """Resume it if it is paused."""
        self._run.resume()
        self._changes.notify()

    def skip(self, count: int) -> None:
        """Leave out sequence numbers."""
        self._run.feed.skip(count)
