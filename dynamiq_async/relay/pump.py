"""The task that reads a relay's upstream, and the buffer of what it has read ahead.

Reading cannot be interrupted to send a heartbeat, so a separate task reads. It owns the upstream:
it opens it, and closes it however it ends. It reads at most `LOOK_AHEAD` bytes, plus one read from
the network, ahead of the browser.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from typing import TYPE_CHECKING, Any

from dynamiq_async import errors
from dynamiq_async._tasks import release_on
from dynamiq_async._telemetry import extra

if TYPE_CHECKING:
    from collections.abc import Callable

    from dynamiq_async.relay.formats.base import Context, Format
    from dynamiq_async.relay.upstream import Upstream

log: logging.Logger = logging.getLogger("dynamiq_async")

LOOK_AHEAD = 64 * 1024
"""Bytes to buffer for a slow browser before reading from the upstream pauses."""

CANCEL_SECONDS = 5.0
"""Seconds that it may take to cancel a run after its browser has disconnected."""

_tasks: set[asyncio.Task[None]] = set()  # the event loop keeps only weak references


class Pump:
    """Reads the upstream, encodes its events as frames, and buffers the frames.

    Attributes:
        opened: a future; its result is whether the upstream could be opened.
        left: whether the reader is gone: the browser disconnected or the relay was closed.
        stopped: whether `stop` was called.
        failure: the error that ended the stream early, or the failure that its end reports.
        ended: whether all was read and the upstream is closed.
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
        self.left: bool = False
        self.stopped: bool = False
        self.ended: bool = False
        self.failure: Exception | None = None

    def start(self) -> None:
        """Start the reading task. Call this once."""
        self._loop = asyncio.get_running_loop()
        self.opened = self._loop.create_future()
        self._task = self._loop.create_task(self._run())
        _tasks.add(self._task)
        self._task.add_done_callback(_tasks.discard)
        if self._cancel_run:
            self._upstream.before_close.add(self.say_goodbye)

    async def take(self) -> bytes:
        """Wait for frames to send; `b""` after the last one."""
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
        """The reader is gone: stop reading, close the upstream and, if `cancel_run`, cancel the
        run."""
        if self.left or self.ended:
            return
        stopped_before, self.left = self.stopped, True
        if not stopped_before:
            self._cut_short()

    def stop(self) -> None:
        """Stop reading and, if `cancel_run`, cancel the run. Buffered frames can still be taken,
        and `failure` says that the stream is incomplete."""
        if not (self.stopped or self.left or self.ended):
            self.stopped = True
            self._cut_short()

    def _cut_short(self) -> None:
        """End the task. If the run is to be canceled, first read until its id is known."""
        if self._task is None or not self._begun:
            return  # the task checks `left` and `stopped` when it begins
        if self._wanted:
            self._limit = self._loop.call_later(CANCEL_SECONDS, self._task.cancel)
            _wake(self._room)
        else:
            self._task.cancel()

    async def say_goodbye(self) -> None:
        """Call `stop` when the client closes, and wait until the run is canceled."""
        self.stop()
        assert self._task is not None  # noqa: S101 - `start` registers this
        await asyncio.wait([self._task])

    async def aclose(self) -> None:
        """Call `leave`, and wait until the upstream is closed."""
        self.leave()
        if self._task is not None:
            await asyncio.wait([self._task])
        elif not self.ended:
            self.ended = True
            await self._upstream.aclose()

    def abandon(self) -> None:
        """Call `leave` on the event loop, from a finaliser."""
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
        except Exception as error:  # noqa: BLE001 - the reader gets it as `failure`
            failure = error
        except BaseException:
            if not self.left:  # cancelled from outside: the stream is incomplete
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
        self._upstream.before_close.discard(self.say_goodbye)
        for timer in (self._timer, self._limit):
            if timer is not None:
                timer.cancel()
        _wake(self._news)
        if not self.opened.done():
            self.opened.set_result(False)
        if isinstance(failure, errors.DynamiqError):
            log.info(
                "a relay broke off: %s: %s",
                type(failure).__name__,
                _visible(failure),
                extra=self._fields(failure),
            )
        elif failure is not None and self.left:
            log.error(
                "an error in a relay whose reader has left",
                exc_info=failure,
                extra=self._fields(failure),
            )

    def _fields(self, error: Exception) -> dict[str, Any]:
        """Fields of a log record: the run and the position, from the error if it has them."""
        known = extra(error)
        run_id, sequence = self._upstream.run_id, self._upstream.sequence
        return known | {
            "run_id": known["run_id"] or run_id,
            "sequence": sequence if known["sequence"] is None else known["sequence"],
        }

    @property
    def _wanted(self) -> bool:
        """Whether to keep reading: for the browser, or, after it has disconnected or the relay was
        stopped, for the id of a run to cancel."""
        return not self._over or (self._cancel_run and not self._upstream.can_cancel)

    @property
    def _over(self) -> bool:
        """Whether events are no longer sent."""
        return self.left or self.stopped

    async def _read(self) -> None:
        upstream = self._upstream
        await upstream.open()
        self.opened.set_result(True)
        while self._wanted:
            batch = await upstream.batch()
            if batch is None:
                upstream.raise_for_failure()
                break
            if self._over:
                continue
            if self._format.asks:
                self._context.answered |= await upstream.answered(batch)
            await self._frame(batch)
            if self._format.complete:
                return
            while self._size >= LOOK_AHEAD and not self._over:
                self._room = self._loop.create_future()
                await self._room
        if self.stopped:
            raise _cut_off("shut down")

    async def _frame(self, batch: list[Any]) -> None:
        show, context, frame = self._show, self._context, self._format.event
        frames: list[bytes] = []
        try:
            frames.append(self._format.run_known())
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
        """Close the upstream. Before that, cancel its run if `on_leave="cancel"`. Every exit passes
        here, so the time is limited."""
        try:
            if self._over and self._cancel_run:
                async with asyncio.timeout(CANCEL_SECONDS):
                    await self._upstream.aclose()
                    await self._upstream.cancel()
        except (errors.DynamiqError, TimeoutError) as error:
            log.info(
                "a run whose reader has left could not be canceled: %s",
                _visible(error),
                extra=self._fields(error),
            )
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


def _visible(error: Exception) -> str:
    """An error's text on one line of a log. The text may contain what a server sent."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(error))


def _cut_off(how: str) -> errors.StreamClosedError:
    return errors.StreamClosedError(f"the relay was {how}")


def _wake(waiting: asyncio.Future[None] | None) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(None)
