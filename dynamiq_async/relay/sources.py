"""What is relayed, and the little that a relay has to know of it: how to open, read and close it,
where it stands, and how it ended.

Every async iterable will do; a stream of an App or of a run can do more.
"""

from __future__ import annotations

from collections.abc import AsyncIterable
from typing import TYPE_CHECKING, Any

from dynamiq_async import errors
from dynamiq_async.relay.position import NO_POSITION, Position, can_be_told, parse
from dynamiq_async.relay.verbatim import keep_app_events, keep_run_events
from dynamiq_async.runs.stream import RunStream
from dynamiq_async.streaming.app_stream import AppStream
from dynamiq_async.streaming.event_stream import Batches, View

if TYPE_CHECKING:
    from dynamiq_async.streaming.event_stream import EventStream

_END = object()


class Source:
    """Any async iterable.

    If it has them, `aclose()` is awaited when the relay is done with it, `raise_for_failure()` says
    by what it raises that the end was none to be content with, and `cancel()` stops what it reads
    from.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._items = aiter(stream)

    async def open(self) -> None:
        """Wait for what decides over the status of the answer: the upstream's headers."""
        if isinstance(self._stream, View):
            await self._stream._stream.open()

    async def batch(self) -> list[Any] | None:
        """The next events, at least one; None at the end."""
        item = await anext(self._items, _END)
        return None if item is _END else [item]

    async def aclose(self) -> None:
        try:
            await _close(self._items)
        finally:
            if self._items is not self._stream:
                await _close(self._stream)

    @property
    def has_cancel(self) -> bool:
        """Whether there is something to cancel, such as a run."""
        return callable(getattr(self._stream, "cancel", None))

    @property
    def can_cancel(self) -> bool:
        """Whether `cancel` would work now."""
        return True

    async def cancel(self) -> None:
        await self._stream.cancel()

    def raise_for_failure(self) -> None:
        """At the end: raise if it was a failure."""
        check = getattr(self._stream, "raise_for_failure", None)
        if check is not None:
            check()

    def repeats(self, last_event_id: str) -> bool:
        """Whether a browser that comes back with this id would start again what it has seen."""
        return last_event_id == NO_POSITION

    def position(self, *, end: bool = False) -> str | None:
        """What to resume behind, by the last event read. `end`: nothing follows."""
        return None

    def prefix(self) -> bytes:
        """The beginning of the ids of events, which their sequence completes; `b""` for none."""
        return b""

    @property
    def opening_id(self) -> str | None:
        """The id that a browser has before its first event."""
        return NO_POSITION


async def _close(what: Any) -> None:
    if (close := getattr(what, "aclose", None)) is not None:
        await close()


class _StreamSource(Source):
    """A stream of events, which opens by itself and reads many at once."""

    def __init__(self, stream: EventStream[Any]) -> None:
        super().__init__(stream.batches())
        self._events = stream

    async def open(self) -> None:
        await self._events.open()

    async def batch(self) -> list[Any] | None:
        batch: list[Any] | None = await anext(self._items, None)
        return batch


class AppSource(_StreamSource):
    """The stream of an App's root endpoint."""

    def __init__(self, stream: AppStream[Any]) -> None:
        super().__init__(stream)
        self._app = stream
        keep_app_events(stream)

    def raise_for_failure(self) -> None:
        self._app.raise_for_failure()


class RunSource(_StreamSource):
    """The stream of a run."""

    def __init__(self, stream: RunStream[Any]) -> None:
        super().__init__(stream)
        self._run = stream
        self._starts_one = stream._create is not None
        self._prefix: tuple[str | None, bytes] = (None, b"")
        keep_run_events(stream)

    @property
    def has_cancel(self) -> bool:
        return True

    @property
    def can_cancel(self) -> bool:
        return self._run.run_id is not None

    async def cancel(self) -> None:
        await self._run.cancel()

    def raise_for_failure(self) -> None:
        self._run.raise_for_failure()

    def repeats(self, last_event_id: str) -> bool:
        position = parse(last_event_id)
        if position is None:
            return super().repeats(last_event_id)
        return self._starts_one or (position.finished and position.run_id == self._run.run_id)

    def position(self, *, end: bool = False) -> str | None:
        run_id = self._run.run_id
        if run_id is None or not can_be_told(run_id):
            return None
        return str(Position(run_id, self._run.sequence or 0, end))

    def prefix(self) -> bytes:
        run_id = self._run.run_id
        if run_id != self._prefix[0]:
            told = f"{run_id}:".encode() if run_id is not None and can_be_told(run_id) else b""
            self._prefix = run_id, told
        return self._prefix[1]

    @property
    def opening_id(self) -> str | None:
        return NO_POSITION if self._starts_one else self.position()


def source_of(stream: Any) -> Source:
    """Raises InvalidArgumentError for what cannot be iterated."""
    if isinstance(stream, Batches):
        stream = stream._stream
    if isinstance(stream, AppStream):
        return AppSource(stream)
    if isinstance(stream, RunStream):
        return RunSource(stream)
    if not isinstance(stream, AsyncIterable):
        raise errors.InvalidArgumentError(
            "stream must be a stream (app.stream(...), app.runs.follow(...)) or another async "
            f"iterable, not {type(stream).__name__}",
            argument="stream",
        )
    return Source(stream)
