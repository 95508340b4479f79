"""What becomes of a run whose reader leaves before its end: `on_leave="cancel"`.

A run is canceled once, at whichever comes first: its stream is closed, its reader is cancelled or
out of time, the last reference to the stream goes, or the client closes. It takes two seconds at
most, and nobody who is cancelled meanwhile cuts it short. A run that ended by itself is left alone.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from dynamiq_async import errors
from dynamiq_async._tasks import outlast

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from dynamiq_async._http.request import Request
    from dynamiq_async.events.run_events import RunEvent
    from dynamiq_async.runs.requests import RunRequests
    from dynamiq_async.streaming.event_reader import EventReader

LEAVE_SECONDS = 2.0
"""How long canceling a run may keep the one who leaves."""

log = logging.getLogger("dynamiq_async")

_tasks: set[asyncio.Task[None]] = set()  # an event loop by itself does not hold its tasks


class Leaving:
    """Cancels a run when its reader leaves. It does not hold the stream, which may be dropped.

    Args:
        run_id: the run's id, if it is known already.
        session_id: a session that was made for this run alone.

    Attributes:
        due: whether the run is to be canceled if its reader leaves now.
        canceled: whether the service was told to cancel the run.
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
        self.due = False
        self.canceled = False

    @property
    def started(self) -> bool:
        """Whether the reader has left."""
        return self._task is not None

    def begin(self) -> None:
        """The run is there, or may be from now on."""
        self.due = True
        self._requests.api.sender.before_close.add(self._client_closes)

    def name(self, run_id: str) -> None:
        """The run has this id."""
        self._run_id = run_id
        self._told.set()

    def end(self) -> None:
        """The run is over, or its reader did not leave: there is nothing to cancel."""
        self.due = False
        self._told.set()
        if self._task is None:
            self._requests.api.sender.before_close.discard(self._client_closes)

    async def opening(self, connecting: Coroutine[None, None, None], create: Request) -> None:
        """Await the request that creates the run. If its reader leaves when it was sent, it is
        still waited for: the run's id comes with its response."""
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
        """Wait until the run has told its id to the one who reads it."""
        if self.due and self._run_id is None:
            try:
                async with asyncio.timeout_at(self._limit()):
                    await self._told.wait()
            except TimeoutError:
                return

    async def finish(self, reader: EventReader[RunEvent] | None) -> None:
        """The reader has left. `reader` is what the stream read from, which is closed here."""
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
                run_id = self._run_id or await self._learn(reader)
                if reader is not None:
                    reader.close()
                if run_id is not None:
                    await self._requests.cancel(run_id)
                    self.canceled = True
        except (errors.DynamiqError, TimeoutError) as error:
            # Its text may quote what a server sent.
            kind = type(error).__name__
            log.info("a run whose reader has left could not be canceled: %s", kind)
        finally:
            if reader is not None:
                reader.close()
            self.end()
            self._requests.api.sender.before_close.discard(self._client_closes)

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
