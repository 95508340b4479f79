"""The stream that a relay reads: opening, reading, closing, position and end.

Any async iterable can be relayed. The streams of an App or a run also have positions or a cancel.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterable, Awaitable, Callable
from typing import Any

from dynamiq_async import errors
from dynamiq_async.events.run_events import ANSWER_EVENTS, RunEvent
from dynamiq_async.relay.position import NO_POSITION, Position, can_be_told, parse
from dynamiq_async.runs.questions import QuestionEvent
from dynamiq_async.runs.stream import RunStream
from dynamiq_async.streaming.app_stream import WorkflowStream
from dynamiq_async.streaming.event_stream import Batches, EventStream, View

_END = object()


class Upstream:
    """Any async iterable.

    The relay uses three methods of the iterable if it has them. It awaits `aclose()` when the relay
    ends. It calls `raise_for_failure()` at the end of the iteration, which raises if the work has
    failed. `cancel()` stops the source, such as a run.

    Attributes:
        restarts: whether a reader that reconnects would start the stream again, not resume it.
        start: the position from which the stream is read; None if it has no positions.
        of_run: whether it is the stream of a run, which can be canceled and answered by its id.
        before_close: functions that the stream's client awaits before it closes.
    """

    restarts = True
    start: str | None = None

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._events = stream.stream if isinstance(stream, View) else stream
        self.of_run: bool = isinstance(self._events, RunStream)
        self._items = aiter(stream)
        self.before_close: set[Callable[[], Awaitable[None]]] = set()

    async def open(self) -> None:
        """Wait for the upstream's headers, which decide the response's status."""
        if isinstance(self._events, EventStream):
            await self._events.open()

    async def batch(self) -> list[Any] | None:
        """The next events, at least one; None at the end."""
        item = await anext(self._items, _END)
        return None if item is _END else [item]

    async def answered(self, batch: list[Any]) -> set[int]:
        """The sequence numbers of those questions in `batch` that no longer wait for an answer."""
        return set()

    async def aclose(self) -> None:
        """Close the iterable, and its iterator if that is another object."""
        try:
            await _close(self._items)
        finally:
            if self._items is not self._stream:
                await _close(self._stream)

    @property
    def has_cancel(self) -> bool:
        """Whether the stream has a `cancel()`, as that of a run has."""
        return callable(getattr(self._stream, "cancel", None))

    @property
    def can_cancel(self) -> bool:
        """Whether `cancel` would work now."""
        return True

    async def cancel(self) -> None:
        """Stop the source, such as a run."""
        await self._stream.cancel()

    def raise_for_failure(self) -> None:
        """Raise if the stream has ended with a failure."""
        check = getattr(self._stream, "raise_for_failure", None)
        if check is not None:
            check()

    def repeats(self, last_event_id: str) -> bool:
        """Whether a reader that reconnects with this id would receive the same events again."""
        return last_event_id == NO_POSITION

    @property
    def run_id(self) -> str | None:
        """The id of the run, once it is known."""
        return getattr(self._events, "run_id", None)

    @property
    def sequence(self) -> int | None:
        """The sequence number up to which a run's stream was read; None for other streams."""
        return self._events.sequence if isinstance(self._events, RunStream) else None

    def position_of(self, event: Any) -> str | None:
        """The position to resume from after `event`; None if there is none."""
        return None

    @property
    def end(self) -> str | None:
        """The position that says that the whole stream was read; None if there is none."""
        return None


async def _close(what: Any) -> None:
    if (close := getattr(what, "aclose", None)) is not None:
        await close()


class WorkflowUpstream(Upstream):
    """A stream of events, read in batches."""

    def __init__(self, stream: WorkflowStream[Any] | RunStream[Any]) -> None:
        super().__init__(stream)
        self._items = stream.batches()

    async def batch(self) -> list[Any] | None:
        batch: list[Any] | None = await anext(self._items, None)
        return batch


class RunUpstream(WorkflowUpstream):
    """The stream of a run."""

    before_close: set[Callable[[], Awaitable[None]]]
    start: str | None

    def __init__(self, stream: RunStream[Any]) -> None:
        super().__init__(stream)
        self.before_close = stream.before_close
        self.restarts: bool = stream.starts_run
        self.start = None if stream.starts_run else self._position(stream.sequence or 0)

    async def answered(self, batch: list[Any]) -> set[int]:
        found: set[int] = set()
        # Two questions may have the same id, so the answers among the events say more than the
        # service's list of open questions. Each belongs to the question before it.
        answers: Counter[str] = Counter()
        for event in reversed(batch):
            if event.type in ANSWER_EVENTS and isinstance(event.data, dict):
                answers[str(event.data.get("request_id"))] += 1
            elif isinstance(event, QuestionEvent):
                question = event.question
                if answers[question.id]:
                    answers[question.id] -= 1
                    found.add(event.sequence)
                elif question.answered or not await question.is_open():
                    found.add(event.sequence)
        return found

    @property
    def can_cancel(self) -> bool:
        return self._stream.run_id is not None

    def repeats(self, last_event_id: str) -> bool:
        position = parse(last_event_id)
        if position is None:
            return super().repeats(last_event_id)
        return self.restarts or (position.finished and position.run_id == self._stream.run_id)

    def position_of(self, event: RunEvent) -> str | None:
        return self._position(event.sequence)

    @property
    def end(self) -> str | None:
        return self._position(self._stream.sequence or 0, finished=True)

    def _position(self, sequence: int, *, finished: bool = False) -> str | None:
        run_id = self._stream.run_id
        if run_id is None or not can_be_told(run_id):
            return None
        return str(Position(run_id, sequence, finished))


def upstream_of(stream: Any) -> Upstream:
    """The upstream for a stream. Raises InvalidArgumentError if it is not an async iterable."""
    if isinstance(stream, Batches):
        stream = stream.stream
    if isinstance(stream, WorkflowStream):
        return WorkflowUpstream(stream)
    if isinstance(stream, RunStream):
        return RunUpstream(stream)
    if not isinstance(stream, AsyncIterable):
        raise errors.InvalidArgumentError(
            "stream must be a stream (app.stream(...), app.runs.follow(...)) or another async "
            f"iterable, not {type(stream).__name__}",
            argument="stream",
        )
    return Upstream(stream)
