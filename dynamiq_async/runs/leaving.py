"""Cancels a run whose reader leaves before its end: `on_leave="cancel"`.

A run is canceled once, when the first of these happens: its stream is closed, its reader is
cancelled or times out, the last reference to the stream is dropped, or the client closes. Canceling
takes at most two seconds, and a further cancellation of the reader does not interrupt it. A run
that has ended by itself is left alone.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from dynamiq_async import errors
from dynamiq_async._tasks import outlast, release_on
from dynamiq_async._telemetry import extra
from dynamiq_async.events.run_events import RunEvent
from dynamiq_async.options import OnLeave, check_one_of
from dynamiq_async.streaming.output_stream import OutputStream, T_co

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from dynamiq_async._http.request import Request
    from dynamiq_async.runs.requests import RunRequests
    from dynamiq_async.streaming.event_reader import EventReader

LEAVE_SECONDS = 2.0
"""How long canceling a run may delay the reader who leaves."""

log: logging.Logger = logging.getLogger("dynamiq_async")

_tasks: set[asyncio.Task[None]] = set()  # an event loop by itself does not hold its tasks


class Leaving:
    """Cancels a run when its reader leaves. It holds no reference to the stream.

    Args:
        run_id: the run's id, if it is known already.
        session_id: a session that was made for this run alone.

    Attributes:
        due: whether the run is canceled if its reader leaves now.
        canceled: whether the service was asked to cancel the run.
    """

    def __init__(
        self, requests: RunRequests, *, run_id: str | None = None, session_id: str | None = None
    ) -> None:
        self._requests = requests
        self._run_id = run_id
        self._session_id = session_id
        self._until: float | None = None
        self._task: asyncio.Task[None] | None = None
        self._told = asyncio.Event()
        self.due: bool = False
        self.canceled: bool = False

    @property
    def started(self) -> bool:
        """Whether the reader has left."""
        return self._task is not None

    def begin(self) -> None:
        """Note that the run exists, or may exist from now on."""
        self.due = True
        self._requests.api.sender.before_close.add(self._client_closes)

    def name(self, run_id: str) -> None:
        """Note the run's id."""
        self._run_id = run_id
        self._told.set()

    def end(self) -> None:
        """Note that there is nothing to cancel: the run is over, or its reader did not leave."""
        self.due = False
        self._told.set()
        if self._task is None:
            self._requests.api.sender.before_close.discard(self._client_closes)

    async def opening(self, connecting: Coroutine[None, None, None], create: Request) -> None:
        """Await the request that creates the run. If the reader leaves after it was sent, the
        response is still awaited, because it has the run's id."""
        task = asyncio.get_running_loop().create_task(connecting)
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if create.taken:
                late = asyncio.get_running_loop().call_at(self._limit(), task.cancel)
            else:
                self.end()
                late = None
                task.cancel()
            try:
                await outlast(task)
            finally:
                if late is not None:
                    late.cancel()
            raise

    async def named(self) -> None:
        """Wait until an event has given the run's id to the task that reads."""
        if self.due and self._run_id is None:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._limit()):
                    await self._told.wait()

    async def finish(self, reader: EventReader[RunEvent] | None) -> None:
        """Cancel the run, because its reader has left. `reader`, the stream's source, is closed."""
        await outlast(self.start(reader))

    def start(self, reader: EventReader[RunEvent] | None) -> asyncio.Task[None]:
        """`finish`, without waiting."""
        if self._task is None:
            self._limit()
            self._task = asyncio.get_running_loop().create_task(self._cancel(reader))
            _tasks.add(self._task)
            self._task.add_done_callback(_tasks.discard)
            self.due = False
        elif reader is not None:
            reader.close()
        return self._task

    def _limit(self) -> float:
        if self._until is None:
            self._until = asyncio.get_running_loop().time() + LEAVE_SECONDS
        return self._until

    async def _client_closes(self) -> None:
        await self.named()
        if self.due or self._task is not None:
            await self.finish(None)

    async def _cancel(self, reader: EventReader[RunEvent] | None) -> None:
        try:
            async with asyncio.timeout_at(self._limit()):
                await self._tell(reader)
        except (errors.DynamiqError, TimeoutError) as error:
            # Its text may quote what a server sent.
            kind = type(error).__name__
            log.info(
                "a run whose reader has left could not be canceled: %s",
                kind,
                extra=extra(error, run_id=self._run_id),
            )
        finally:
            if reader is not None:
                reader.close()
            self.end()
            self._requests.api.sender.before_close.discard(self._client_closes)

    async def _tell(self, reader: EventReader[RunEvent] | None) -> None:
        run_id = self._run_id or await self._learn(reader)
        if reader is not None:
            reader.close()  # the connection is free for the request
        if run_id is not None:
            await self._requests.cancel(run_id)
            self.canceled = True

    async def _learn(self, reader: EventReader[RunEvent] | None) -> str | None:
        """The id of the run, by its session or from its first event; None if there is none, or
        the run is over already."""
        if self._session_id is not None:
            options = self._requests.api.options
            run = await self._requests.search(self._session_id, options, settle=LEAVE_SECONDS)
            return None if run is None or run.is_terminal else run.id
        while reader is not None and (batch := await reader.batch()) is not None:
            if any(event.is_final for event in batch):
                return None
            for event in batch:
                if (state := event.state) is not None and state.id is not None:
                    return state.id
        return None


class CancelableStream(OutputStream[RunEvent, T_co]):
    """The stream of a run. The run can be canceled, and is canceled when the reader leaves if
    `on_leave` asks for that."""

    run_id: str | None
    _reader: EventReader[RunEvent] | None = None
    _leaving: Leaving | None = None

    def __init__(self, requests: RunRequests, label: str, output_type: Any) -> None:
        super().__init__(label, requests.api.sender.key, output_type)
        self._requests = requests

    def _leave(self, on_leave: OnLeave, session_id: str | None) -> None:
        """Set whether the run is canceled when its reader leaves.

        Raises:
            InvalidArgumentError: `on_leave` is not one of the two.
        """
        check_one_of(on_leave, ("detach", "cancel"), "on_leave")
        if on_leave == "cancel":
            self._leaving = Leaving(self._requests, run_id=self.run_id, session_id=session_id)

    async def cancel(self) -> None:
        """Cancel the run, whether or not this stream is closed. Does nothing when it is over.

        Raises:
            StreamError: the run's id is not known yet.
        """
        if self._leaving is not None and self._leaving.canceled:
            return
        await self._requests.cancel(self._id())
        self._stay()

    def detach(self) -> None:
        """Let the run go on when this stream is left, whatever `on_leave` says."""
        self._stay()

    @property
    def before_close(self) -> set[Callable[[], Awaitable[None]]]:
        """The functions that the client awaits before it closes, such as cancels that are due."""
        return self._requests.api.sender.before_close

    def _id(self) -> str:
        if self.run_id is None:
            raise errors.StreamError(f"{self._label}: the run has not told its id yet")
        return self.run_id

    def _named(self, run_id: str) -> None:
        self.run_id = run_id
        if self._leaving is not None:
            self._leaving.name(run_id)

    def _stay(self) -> None:
        """Note that this stream must not cancel the run, or that the run is over."""
        if self._leaving is not None:
            self._leaving.end()

    async def aclose(self) -> None:
        if self._leaving is not None and self._reading and self._opened:
            await self._leaving.named()  # while another task still reads
        await super().aclose()

    async def _left(self, error: BaseException | None) -> None:
        leaving = self._leaving
        if leaving is None:
            return
        lost = isinstance(error, errors.DynamiqError) and not self._closed
        if self._complete or (lost and not isinstance(error, TimeoutError)):
            leaving.end()  # the run is over, or can be followed again
        elif leaving.due or leaving.started:
            reader, self._reader = self._reader, None
            await leaving.finish(reader)

    def __del__(self) -> None:
        leaving = self._leaving  # None also where the constructor failed
        if leaving is None or not leaving.due or self._loop is None or self._loop.is_closed():
            super().__del__()
            return
        self._end_call()
        reader, self._reader = self._reader, None
        release_on(self._loop, partial(leaving.start, reader))
