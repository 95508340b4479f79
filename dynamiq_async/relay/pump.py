"""The task that reads a relay's upstream, and what it has read ahead.

Reading cannot be interrupted to send a heartbeat, so a task of its own reads; it owns the upstream
from its opening to its closing, and closes it on every way out. It reads at most `LOOK_AHEAD`
bytes, and one read from the network, beyond what the browser has taken.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from typing import TYPE_CHECKING, Any

from dynamiq_async import errors
from dynamiq_async._tasks import release_on

if TYPE_CHECKING:
    from collections.abc import Callable

    from dynamiq_async.relay.formats.base import Context, Format
    from dynamiq_async.relay.upstream import Upstream

log = logging.getLogger("dynamiq_async")

LOOK_AHEAD = 64 * 1024
"""Bytes that may wait for a slow browser; then the upstream has to wait, too."""

CANCEL_SECONDS = 5.0
"""How long the cancelling of a run whose browser has left may take."""

_tasks: set[asyncio.Task[None]] = set()  # the event loop itself does not keep them alive


class Pump:
    """Reads, frames and keeps.

    Attributes:
        opened: done once the upstream was opened (true), or could not be (false).
        left: whether nobody reads any more.
        stopped: whether it was told to read no more.
        failure: what ended it before its end, or why the end is none to be content with.
        ended: whether nothing more comes, and the upstream is closed.
    """

    def __init__(
        self,
        upstream: Upstream,
        format: Format,
        context: Context,
        show: Callable[[Any], Any] | None,
        *,
        cancel_run: bool,
    ) -> None:
        self._upstream = upstream
        self._format = format
        self._context = context
        self._show = show
        self._heartbeat = context.heartbeat
        self._cancel_run = cancel_run
        self._ready: list[bytes] = []
        self._size = 0
        self._news: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._limit: asyncio.TimerHandle | None = None
        self._idle_since = 0.0
        self._begun = False
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop
        self.opened: asyncio.Future[bool]
        self.left = False
        self.stopped = False
        self.ended = False
        self.failure: Exception | None = None

    def start(self) -> None:
        """Begin to read. To be called once."""
        self._loop = asyncio.get_running_loop()
        self.opened = self._loop.create_future()
        self._task = self._loop.create_task(self._run())
        _tasks.add(self._task)
        self._task.add_done_callback(_tasks.discard)

    async def take(self) -> bytes:
        """What is to be sent next; `b""` when nothing more comes."""
        while not self._ready and not self.ended:
            self._idle_since = self._loop.time()
            if self._timer is None and self._heartbeat is not None:
                self._timer = self._loop.call_later(self._heartbeat, self._beat, self._heartbeat)
            self._news = self._loop.create_future()
            await self._news
        data = b"".join(self._ready)
        self._ready.clear()
        self._size = 0
        _wake(self._room)
        return data

    def leave(self) -> None:
        """Nobody reads any more: stop, close the upstream and, if so agreed, cancel the run."""
        if self.left or self.ended:
            return
        self.left = True
        if self._task is None or not self._begun:
            return  # it will see
        if self._wanted:
            self._limit = self._loop.call_later(CANCEL_SECONDS, self._task.cancel)
            _wake(self._room)
        else:
            self._task.cancel()

    def stop(self) -> None:
        """Read no more: what was read can still be taken, and `failure` says that it is not all.
        The run goes on."""
        self.stopped = True
        if self._task is not None and self._begun and not self.left:
            self._task.cancel()

    async def aclose(self) -> None:
        """Leave, and wait until all is closed. What was never started is only closed."""
        self.leave()
        if self._task is not None:
            await asyncio.wait([self._task])
        elif not self.ended:
            self.ended = True
            await self._upstream.aclose()

    def abandon(self) -> None:
        """Leave, from a finaliser."""
        if self._task is not None and not (self.ended or self._loop.is_closed()):
            release_on(self._loop, self.leave)

    # The task.

    async def _run(self) -> None:
        self._begun = True
        failure: Exception | None = None
        try:
            if self.stopped:
                raise _cut_off("shut down")
            if not self.left:
                await self._read()
        except Exception as error:  # noqa: BLE001 - whoever takes gets it
            failure = error
        except BaseException:
            if not self.left:  # somebody else's cancelling is no end to be content with
                failure = _cut_off("shut down" if self.stopped else "cancelled")
            raise
        finally:
            try:
                await self._finish()
            except Exception as error:  # noqa: BLE001 - the same
                failure = failure or error
            finally:
                self._end(failure)

    def _end(self, failure: Exception | None) -> None:
        self.ended = True
        self.failure = failure
        for timer in (self._timer, self._limit):
            if timer is not None:
                timer.cancel()
        _wake(self._news)
        if not self.opened.done():
            self.opened.set_result(False)
        if isinstance(failure, errors.DynamiqError):
            log.info("a relay broke off: %s: %s", type(failure).__name__, failure)
        elif failure is not None and self.left:
            log.error("an error in a relay whose reader has left", exc_info=failure)

    @property
    def _wanted(self) -> bool:
        """Whether anything is to be read: for the browser or, when it has left, for the id of a run
        that is to be canceled, which is there or about to be."""
        return not self.left or (self._cancel_run and not self._upstream.can_cancel)

    async def _read(self) -> None:
        upstream = self._upstream
        await upstream.open()
        self.opened.set_result(True)
        while self._wanted:
            batch = await upstream.batch()
            if batch is None:
                upstream.raise_for_failure()
                return
            if self.left:
                continue
            await self._frame(batch)
            while self._size >= LOOK_AHEAD and not self.left:
                self._room = self._loop.create_future()
                await self._room

    async def _frame(self, batch: list[Any]) -> None:
        show, context, frame = self._show, self._context, self._format.event
        frames: list[bytes] = []
        try:
            for event in batch:
                shown = event
                if show is not None:
                    shown = show(event)
                    if inspect.isawaitable(shown):
                        self._add(frames)
                        frames = []
                        shown = await shown
                    if shown is None:
                        continue
                context.event = event
                frames.append(frame(shown))
        finally:
            self._add(frames)

    def _add(self, frames: list[bytes]) -> None:
        if size := sum(map(len, frames)):
            self._ready += frames
            self._size += size
            _wake(self._news)

    async def _finish(self) -> None:
        """Close the upstream. This is the way out in every case, so it must not take long."""
        try:
            if self.left and self._cancel_run:
                async with asyncio.timeout(CANCEL_SECONDS):
                    await self._upstream.aclose()
                    await self._upstream.cancel()
        except (errors.DynamiqError, TimeoutError) as error:
            log.info("a run whose reader has left could not be canceled: %s", error)
        finally:
            await self._upstream.aclose()

    # Heartbeats.

    def _beat(self, interval: float) -> None:
        now = self._loop.time()
        waiting = self._news is not None and not self._news.done()
        since = self._idle_since if waiting else now
        if now - since >= interval:
            self._add([self._format.heartbeat])
            since = now
        self._timer = self._loop.call_at(since + interval, self._beat, interval)


def _cut_off(how: str) -> errors.StreamClosedError:
    return errors.StreamClosedError(f"the relay was {how}")


def _wake(waiting: asyncio.Future[None] | None) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(None)
