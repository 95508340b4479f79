"""Runs as the page shows them. Runs of the Runs API and invocations through the root endpoint or
the WebSocket look alike."""

from __future__ import annotations

from dataclasses import dataclass, field
from heapq import merge
from itertools import islice
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal

from ..app.questions import Approval
from .views import value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime

    from ..app.questions import Question
    from ..app.recent import Recent
    from ..app.runs import Run
    from ..app.state import AppState
    from ..core.feed import Feed

MAX_RUNS = 100
"""How many runs are listed."""


@dataclass(eq=False, kw_only=True)
class ShownRun:
    """A run.

    Attributes:
        kind: "run" for a run of the Runs API, "root" for another invocation.
        feed: its events, as far as they are kept.
        nodes: the workflow's map of nodes, for an invocation.
        cancel: cancels the run.
    """

    id: str
    kind: Literal["run", "root"]
    app: str
    status: str
    started_at: datetime
    ended_at: datetime | None
    input: Any
    output: Any
    error: str | None
    user_id: str | None
    session_id: str | None
    questions: Sequence[Question]
    feed: Feed
    cancel: Callable[[], None]
    nodes: Mapping[str, Any] | None = None
    usage: Mapping[str, int] = field(default_factory=dict)

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.ended_at is not None

    @property
    def open_questions(self) -> list[Question]:
        """The questions that wait for an answer."""
        return [] if self.over else [question for question in self.questions if question.open]

    def summary(self) -> dict[str, Any]:
        """The entry in the list of runs."""
        return {
            "id": self.id,
            "kind": self.kind,
            "app": self.app,
            "status": self.status,
            "started_at": self.started_at,
            "ended_at": self.ended_at,
            "events": self.feed.sequence,
            "questions": len(self.open_questions),
        }

    def state(self) -> tuple[object, ...]:
        """A value that changes whenever the result of `whole` changes."""
        return (self.status, self.ended_at, [question.open for question in self.questions])

    def whole(self) -> dict[str, Any]:
        """All data of the run but its events."""
        summary = self.summary()
        del summary["events"]  # the list has it, live
        return {
            **summary,
            "user_id": self.user_id,
            "session_id": self.session_id,
            "input": value(self.input),
            "output": value(self.output),
            "error": self.error,
            "nodes": value(self.nodes),
            "usage": value(self.usage or None),
            "asked": [self._question(question) for question in self.questions],
        }

    def _question(self, question: Question) -> dict[str, Any]:
        params = question.params or {}
        return {
            "id": question.id,
            "kind": question.kind,
            "prompt": question.prompt,
            "open": question in self.open_questions,
            "answer": _answer(question),
            "params": [
                {
                    "name": name,
                    "value": value(param),
                    "text": param if isinstance(param, str) else None,
                    "editable": name in question.editable,
                }
                for name, param in params.items()
            ],
            "parts": value(question.questions or None),
        }


def newest(apps: AppState) -> list[ShownRun]:
    """The newest runs, newest first."""
    runs = (_run(run) for run in reversed(apps.runs.values()))
    invocations = (_invocation(recent) for recent in reversed(apps.recent))
    return list(islice(_by_time(runs, invocations), MAX_RUNS))


def find(apps: AppState, id: str) -> ShownRun | None:
    """The run with this id."""
    if id in apps.runs:
        return _run(apps.runs[id])
    return next((_invocation(each) for each in apps.recent if each.execution.id == id), None)


def _by_time(*sorted: Iterator[ShownRun]) -> Iterator[ShownRun]:
    return merge(*sorted, key=attrgetter("started_at"), reverse=True)


def _run(run: Run) -> ShownRun:
    return ShownRun(
        id=run.id,
        kind="run",
        app=run.app,
        status=run.shown_status,
        started_at=run.started_at,
        ended_at=run.ended_at,
        input=run.input,
        output=run.output,
        error=run.error,
        user_id=run.user_id,
        session_id=run.session_id,
        questions=run.questions,
        feed=run.feed,
        cancel=run.cancel,
    )


def _invocation(recent: Recent) -> ShownRun:
    execution = recent.execution
    waits = execution.status == "running" and any(each.open for each in execution.questions)
    return ShownRun(
        id=execution.id,
        kind="root",
        app=execution.app,
        status="awaiting_input" if waits else execution.status,
        started_at=execution.started_at,
        ended_at=execution.ended_at,
        input=execution.input,
        output=execution.output,
        error=execution.error,
        user_id=execution.user_id,
        session_id=execution.session_id,
        questions=execution.questions,
        feed=recent.feed,
        cancel=execution.cancel,
        nodes=execution.nodes,
        usage=execution.usage,
    )


def _answer(question: Question) -> str | None:
    """The person's answer as a short text; None without one."""
    given = question.answer
    if not given.done() or given.cancelled() or given.result() is None:
        return None
    answer = given.result()
    if isinstance(answer, Approval):
        verdict = "approved" if answer.approved else "rejected"
        return f"{verdict}: {answer.feedback}" if answer.feedback else verdict
    return str(answer)
