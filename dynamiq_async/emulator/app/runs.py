"""Runs of the Runs API: status, events, questions. A run outlives the request that creates it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, Protocol

import msgspec

from ..core.clock import utc_now
from ..core.feed import FeedEvent
from ..core.ids import new_id
from ..core.json import encode
from .replay import Replay, ReplayError
from .run_events import Translator, answer_event, input_request, question_event

if TYPE_CHECKING:
    import asyncio

    from ..core.feed import Feed
    from ..core.log import Changes
    from .questions import Question

Status = Literal["created", "started", "paused", "completed", "failed", "canceled"]

TERMINAL = {"completed", "failed", "canceled"}


class RunStore(Protocol):
    """Keeps runs across a restart of the emulator."""

    def change_run(self, run: Run) -> None:
        """Keep the status of a run, with its output, error and end."""

    def add_event(self, run: Run, event: FeedEvent) -> None:
        """Keep the newest event of a run."""

    def keep_question(self, run: Run, number: int) -> None:
        """Keep a question of a run, by its number in the run, and its answer if it has one."""


@dataclass(eq=False, kw_only=True)
class Run:
    """A run of the Runs API.

    Attributes:
        app: the name of its App; `app_id` is the App's id. Requests to other Apps do not find it.
        status: the status regardless of questions; the API shows `shown_status`.
        output: what its caller gets, once it is completed.
        error: why it failed. We guess that the API shows it.
        feed: its events; `feed.events` are those that are kept.
        task: runs the App; None if nothing runs it after a restart.
        created: the monotonic time of its creation, for `age`.
        store: keeps it across a restart; None: it is lost.
        replay: the events that its App has to repeat after a restart.
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
    started_at: datetime = field(default_factory=utc_now)
    ended_at: datetime | None = None
    questions: list[Question] = field(default_factory=list)
    task: asyncio.Task[None] | None = field(default=None, repr=False)
    created: float = field(default_factory=time.monotonic, repr=False)
    store: RunStore | None = field(default=None, repr=False)
    replay: Replay | None = field(default=None, repr=False)
    _asked: int = field(default=0, init=False, repr=False)

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
        """The status that the API shows: with an open question, `awaiting_input` replaces `started`
        and `paused`."""
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
        """Add an event, once the feed has room for it; bytes are a whole event."""
        if self._is_repeated(type, data):
            return
        await self.feed.room()
        self._append(type, data)

    def ask(self, question: Question) -> None:
        """Add a question. A question that repeats one from before a restart gets its id and
        answer."""
        number, self._asked = self._asked, self._asked + 1
        if number < len(self.questions):
            question.id = self.questions[number].id
            question.answer = self.questions[number].answer
            self.questions[number] = question
        else:
            self.questions.append(question)
            self.keep(question)

    def keep(self, question: Question) -> None:
        """Store a question, with its answer if it has one, so that it outlives a restart."""
        if self.store is not None:
            self.store.keep_question(self, self.questions.index(question))

    def skip(self, count: int) -> None:
        """Leave out sequence numbers."""
        if self.replaying is not None:
            self.replaying.skip(count)
        else:
            self.feed.skip(count)

    def enter(
        self, status: Status, output: Any = None, error: str | None = None, **more: Any
    ) -> None:
        """Change the status and add the event that says so, unless the run is over."""
        if self.terminal:
            return
        if self.replay is not None and output is not None:
            output = msgspec.json.decode(self.replay.renamed(encode(output)))
        data: dict[str, Any] = {"id": self.id, "object": "run", "status": status, **more}
        told = {"output": output, "error": error}
        data |= {name: value for name, value in told.items() if value is not None}
        if self._is_repeated(f"run.{status}", data):
            return
        self.status, self.output, self.error = status, output, error
        self._append(f"run.{status}", data)
        if status in TERMINAL:
            self.ended_at = utc_now()
            self.feed.close()
        self._changed()

    def pause(self, checkpoint_id: str | None) -> None:
        """Stop at a checkpoint. Its id is generated if it is None."""
        self.enter("paused", checkpoint_id=checkpoint_id or new_id())

    def resume(self) -> None:
        """Continue after a pause, if there is one."""
        replaying = self.replaying
        if not (self.status == "paused" if replaying is None else replaying.paused):
            return
        data = {"id": self.id, "object": "run", "status": "started"}
        if self._is_repeated("run.resumed", data):
            return
        self.status = "started"
        self._append("run.resumed", data)
        self._changed()

    def cancel(self) -> None:
        """End the run as canceled, unless it is over."""
        self.replay = None
        self.enter("canceled")
        self.kill()

    def kill(self) -> None:
        """Stop the App without an event or a new status, as when its server dies."""
        if self.task is not None:
            self.task.cancel()

    @property
    def replaying(self) -> Replay | None:
        """The replay after a restart, while the App still has events to repeat; else None."""
        return None if self.replay is None or self.replay.over else self.replay

    def _is_repeated(self, type: str, data: Any) -> bool:
        """Whether an event repeats one from before a restart.

        Raises `ReplayError` if it differs from the stored event. The run has then failed.
        """
        if self.replaying is None or self.terminal:
            return False
        try:
            self.replaying.take(type, data)
        except ReplayError as error:
            self.replay = None
            self.enter("failed", error=str(error))
            raise
        return True

    def _append(self, type: str, data: Any) -> None:
        if self.feed.closed:
            return
        event = data if isinstance(data, bytes) else self._envelope(type, data)
        if self.replay is not None:
            event = self.replay.renamed(event)
        self.feed.append(type, event)
        if self.store is not None:
            self.store.add_event(self, FeedEvent(self.feed.sequence, type, event))

    def _changed(self) -> None:
        if self.store is not None:
            self.store.change_run(self)

    def _envelope(self, type: str, data: Any) -> bytes:
        return encode(
            {
                "id": new_id(),
                "type": type,
                "sequence": self.feed.sequence + 1,
                "timestamp": utc_now(),
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
            await self._run.put(name, message)
        elif event := self._translator.translate(message):
            await self._run.put(*event)

    async def event(self, type: str, data: Any) -> None:
        """Add this event."""
        await self._run.put(type, data)

    async def ask(self, question: Question) -> None:
        """Add the event of the question, and pause the run if the question requires it."""
        self._run.ask(question)
        await self._run.put(*question_event(question))
        if question.pauses:
            self._run.pause(None)
        self._changes.notify()

    async def answered(self, question: Question) -> None:
        """Resume if the run is paused, and add the event of the answer."""
        self._run.keep(question)
        if self._run.replaying is not None:
            await self._run.replaying.turn(*answer_event(question))
        self.resume()
        await self._run.put(*answer_event(question))

    def pause(self, checkpoint_id: str | None) -> None:
        """Pause the run."""
        self._run.pause(checkpoint_id)
        self._changes.notify()

    def resume(self) -> None:
        """Resume the run if it is paused."""
        self._run.resume()
        self._changes.notify()

    def skip(self, count: int) -> None:
        """Leave out sequence numbers."""
        self._run.skip(count)
