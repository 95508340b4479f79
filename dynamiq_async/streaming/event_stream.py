"""The lifecycle that all streams share.

A stream is an async iterator and an async context manager. It opens with the first read. It frees
its connection at its end, on `aclose()` from any task, on an error, on cancellation, and when the
last reference is lost (a plain `break`). It uses no generator and holds no cancel scope between
reads, so it may be read and closed from different tasks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar

from dynamiq_async import errors
from dynamiq_async._tasks import Openable, release_on
from dynamiq_async.errors import untraced

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from dynamiq_async._telemetry import Call


E = TypeVar("E")
V = TypeVar("V")


class Source(Protocol):
    """What a stream reads from, such as the `EventReader` of an HTTP body."""

    def fail(self, error: Exception) -> None:
        """Make a pending read raise `error`."""

    async def drain(self) -> None:
        """Release the source after its last event, so that its connection can be reused."""

    def close(self) -> None:
        """Release the source at once. May be called at any time, also by a finaliser."""


class EventStream(Openable, Generic[E]):
    """The lifecycle of a stream. The subclass defines what is read and when it is complete."""

    _reader: Source | None = None
    _call: Call | None = None  # also for a stream whose constructor failed

    def __init__(self, label: str) -> None:
        super().__init__(label)
        self._ready: Iterator[E] = iter(())
        self._reading = False
        self._opened = False
        self._ended = False
        self._failure: errors.DynamiqError | None = None

    # What a subclass defines.

    async def _open(self) -> None:
        """Set `_reader`. Runs in a task of its own, which `aclose()` may cancel."""
        raise NotImplementedError

    async def _next(self) -> list[E] | None:
        """The next events to hand out, or None when the stream is complete."""
        raise NotImplementedError

    @property
    def _complete(self) -> bool:
        """Whether the last event has been seen, so that only the end of the body is missing."""
        raise NotImplementedError

    async def _left(self, error: BaseException | None) -> None:
        """Called when the reader leaves, by `error` or by closing. The connection is still open."""

    def _begin_call(self) -> Call | None:
        """The call that reports this stream to OpenTelemetry."""
        raise NotImplementedError

    def _facts(self) -> dict[str, Any]:
        """The telemetry attributes known at the stream's end, by the names in `names`."""
        raise NotImplementedError

    def _outcome(self) -> BaseException | None:
        """The error that the last event reports, where it was seen."""
        raise NotImplementedError

    # The iterator.

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> E:
        # `_advance`, inlined: that saves a coroutine for each read.
        for event in self._ready:
            return event
        batch = await self._pull()
        if batch is None:
            raise StopAsyncIteration
        self._ready = ready = iter(batch)
        return next(ready)

    async def _advance(self) -> E:
        """The first event of the next batch; the others are put in `_ready`."""
        batch = await self._pull()
        if batch is None:
            raise StopAsyncIteration
        self._ready = ready = iter(batch)
        return next(ready)

    def batches(self) -> Batches[E]:
        """The same events, a list for each read from the network: for throughput."""
        return Batches(self)

    async def _take(self) -> list[E] | None:
        """The rest of the last batch, or the next batch."""
        return list(self._ready) or await self._pull()

    async def _pull(self, *, opening: bool = False) -> list[E] | None:
        """Open the stream if needed; read the next events unless `opening`."""
        if self._ended:
            return None
        if self._failure is not None:
            raise untraced(self._failure)
        if self._closed:
            raise self._closed_error()
        if self._reading:
            raise errors.StreamError(
                f"{self._label}: another task is reading this stream; let one task read and "
                "hand the events on"
            )
        self._reading = True
        try:
            if not self._opened:
                self._call = self._begin_call()
                await self._in_task(self._told(self._open()))
                self._opened = True
            batch = [] if opening else await self._next()
            if batch and self._call is not None:
                self._call.first_chunk()
            if self._closed:
                raise self._closed_error()
        except BaseException as error:
            if isinstance(error, errors.DynamiqError) and not self._closed:
                self._failure = untraced(error)
            try:
                await self._left(error)
            finally:
                self._release()
                self._end_call(error)
            raise
        finally:
            self._reading = False
        if batch is None:
            self._ended = True
            self._end_call()
            await self._drain()
        return batch

    def _told(self, work: Coroutine[Any, Any, None]) -> Coroutine[Any, Any, None]:
        """`work`, with its requests reported as a part of this stream's call."""
        return work if self._call is None else self._call.within(work)

    def _end_call(self, error: BaseException | None = None) -> None:
        call, self._call = self._call, None
        if call is not None:
            call.told(**self._facts())
            call.end(error or self._outcome())

    # The lifecycle.

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def open(self) -> None:
        """Send the request now, rather than with the first read. `async with` does this.

        Raises:
            DynamiqError: what `invoke` raises for a request that does not succeed.
        """
        if not self._opened:
            await self._pull(opening=True)

    async def aclose(self) -> None:
        """Free the connection. May be called from any task, at any time, any number of times.

        A read that another task is waiting in raises `StreamClosedError` there.
        """
        self._closed = True
        self._ready = iter(())
        try:
            await self._stop_opening()
            if self._reading and self._reader is not None:
                self._reader.fail(self._closed_error())
            elif self._complete:
                await self._drain()
            await self._left(None)
        finally:
            self._release()
            self._end_call()

    @property
    def closed(self) -> bool:
        """Whether the stream is over: closed, failed or read to its end."""
        return self._closed or self._ended or self._failure is not None

    async def _drain(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            await reader.drain()

    def _release(self) -> None:
        self._closed = True
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()

    def __del__(self) -> None:
        self._end_call()
        reader = self._reader
        if reader is None:
            return
        release_on(self._loop, reader.close)


class View(Generic[V, E]):
    """Another way to iterate a stream. Closing the view closes the stream."""

    def __init__(self, stream: EventStream[E]) -> None:
        self._stream = stream

    @property
    def stream(self) -> EventStream[E]:
        """The stream behind it."""
        return self._stream

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> V:
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        await self._stream.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stream.aclose()

    async def aclose(self) -> None:
        """Close the stream behind it."""
        await self._stream.aclose()


class Batches(View[list[E], E]):
    """A stream's events in lists, as they come from the network."""

    async def __anext__(self) -> list[E]:
        batch = await self._stream._take()
        if batch is None:
            raise StopAsyncIteration
        return batch
