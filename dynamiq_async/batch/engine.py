"""The engine of a batch: a fixed set of workers between lazily read inputs and lists of results.

One task supervises the workers and cleans up after them. A single task reads and closes async
inputs, because a cancel scope or a context variable in them requires that. The items held at any
time (under way, waiting for their turn in the order, finished and unread) are bounded by a small
multiple of the workers, so a slow reader slows the workers down. Closing starts no new item,
cancels those under way or gives them some time, and returns when none is running.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from dynamiq_async import errors
from dynamiq_async._tasks import anyio_shield, release_on
from dynamiq_async._words import counted
from dynamiq_async.batch.models import BatchProgress

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dynamiq_async._http.limiter import Demand, Limiter
    from dynamiq_async._http.outage import Outage
    from dynamiq_async._telemetry import Batch
    from dynamiq_async.batch.displays import Display
    from dynamiq_async.batch.inputs import Item, Items
    from dynamiq_async.batch.tally import Tally

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

HELD = 4
"""How many inputs and results may be held for each worker. With `ordered`, this also bounds how far
later inputs may be ahead."""


class HaltError(Exception):
    """Raised by a handler to end the batch. No more items are begun, and `error` is raised when the
    items under way have finished, or at once with `at_once`."""

    def __init__(self, error: Exception, *, at_once: bool = False) -> None:
        super().__init__(error)
        self.error = error
        self.at_once = at_once


class Handler(Protocol[R_co]):
    """The work that a batch does for each item."""

    async def open(self) -> None:
        """Called before the first item. `aclose` is called even if this raises."""

    async def __call__(self, item: Item) -> R_co:
        """The result of one item. An exception ends the whole batch."""

    async def aclose(self) -> None:
        """Called after the last item."""


class Fanout(Generic[R]):
    """One batch while it runs.

    Args:
        items: the items to work on.
        handler: does the work for each item.
        limiter: the client's.
        demand: what the batch demands of the limiter; its room is the number of workers.
        outage: where the calls wait while there is no connection.
        ordered: return results in the order of the items.
        grace: seconds that items under way have to finish when the batch is closed.
        display: shows the figures while the batch runs.
    """

    def __init__(
        self,
        items: Items,
        handler: Handler[R],
        tally: Tally,
        limiter: Limiter,
        demand: Demand,
        outage: Outage,
        *,
        ordered: bool = False,
        grace: float = 0.0,
        display: Display | None = None,
    ) -> None:
        self._items = items
        self._handler = handler
        self._tally = tally
        self._limiter = limiter
        self._demand = demand
        self._outage = outage
        self._grace = grace
        self._display = display
        self._room = HELD * demand.room
        self._ahead: dict[int, R] | None = {} if ordered else None
        self._next_place = 0
        self._out: list[R] = []
        self._handed = 0  # of the list that is being read
        self._held = 0
        self._busy = 0
        self._starters: deque[asyncio.Future[None]] = deque()
        self._emitters: deque[asyncio.Future[None]] = deque()
        self._reader: asyncio.Future[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._watch: asyncio.Task[None] | None = None
        self._workers: list[asyncio.Task[None]] = []
        self._feeder: asyncio.Task[None] | None = None
        self._feeding = False
        self._askers: deque[asyncio.Future[Item | None]] = deque()
        self._asked = asyncio.Event()
        self._stopped = self._closed = self._cancelled = self._over = False
        self._failure: BaseException | None = None
        self._throttled = 0

    # --- what the reader sees --------------------------------------------------------------------

    def start(self) -> None:
        """Start the workers. Further calls do nothing."""
        if self._watch is None and not self._closed:
            self._loop = asyncio.get_running_loop()
            self._throttled = self._limiter.throttled
            self._tally.begin()
            self._watch = self._loop.create_task(self._run())

    async def take(self) -> list[R] | None:
        """Wait for results, and return all that are unread; None at the end.

        Raises:
            BaseException: the error that ended the batch early.
            StreamClosedError: the batch was closed.
        """
        self.start()
        self._held -= self._handed
        self._handed = 0
        self._wake()
        while not self._out:
            if self._closed and self._failure is None:
                raise errors.StreamClosedError("the batch was closed")
            if self._over:
                if self._failure is not None:
                    raise self._failure
                return None
            await self._something()
        batch, self._out = self._out, []
        self._handed = len(batch)
        return batch

    async def _something(self) -> None:
        if self._reader is not None:
            raise errors.StreamError(
                "another task is reading this batch; let one task read and hand the results on"
            )
        self._reader = asyncio.get_running_loop().create_future()
        try:
            await self._reader
        finally:
            self._reader = None

    def progress(self) -> BatchProgress:
        """The figures of this moment."""
        tally, total = self._tally, self._items.total
        rate = tally.rate
        left = None if total is None else max(0, total - tally.done)
        return BatchProgress(
            total=total,
            started=tally.started,
            in_flight=self._busy,
            limit=min(self._demand.room, self._limiter.limit),
            done=tally.done,
            failed=tally.failed,
            unknown=tally.unknown,
            skipped=tally.skipped,
            found=tally.found,
            usage=tally.usage,
            throttled=self._limiter.throttled - self._throttled if self._watch is not None else 0,
            cooldown=self._limiter.cooldown,
            offline=self._outage.seconds,
            rate=rate,
            eta=left / rate if left and rate else 0.0 if left == 0 else None,
        )

    # --- its end ---------------------------------------------------------------------------------

    def close(self) -> None:
        """Start no new item. Items under way are cancelled, now or when the grace is over."""
        if self._closed or self._over:
            return
        self._closed = True
        self._stop()
        self._notify()
        if self._grace and self._loop is not None:
            self._timer = self._loop.call_later(self._grace, self._cancel)
        else:
            self._cancel()

    async def aclose(self) -> None:
        """Close the batch, and return when nothing runs any more."""
        self.close()
        if self._watch is None or asyncio.current_task() in (self._feeder, *self._workers):
            return  # from within, where it would wait for itself
        with anyio_shield():
            try:
                await asyncio.wait([self._watch])
            except asyncio.CancelledError:
                self._cancel()  # this task was cancelled, so the grace is over
                await asyncio.wait([self._watch])
                raise

    def abandon(self) -> None:
        """`close`, for a finaliser."""
        if self._loop is not None and not self._loop.is_closed() and not self._over:
            release_on(self._loop, self.close)

    def _stop(self) -> None:
        if self._stopped:
            return
        self._stopped = True
        waits: tuple[deque[asyncio.Future[Any]], ...]
        waits = (self._starters, self._emitters, self._askers)
        for waiting in waits:
            while waiting:
                _release(waiting.popleft())
        if self._feeding and self._feeder is not None:
            self._feeder.cancel()

    def _cancel(self) -> None:
        self._cancelled = True
        for task in self._workers:
            task.cancel()

    def _end(self, error: BaseException, *, at_once: bool) -> None:
        """End the batch with `error`, unless it ends with another one already."""
        if self._failure is None:
            self._failure = error
        if at_once:
            self.close()
        else:
            self._stop()

    # --- the task that supervises the others -----------------------------------------------------

    async def _run(self) -> None:
        with self._tally.telemetry.batch() as self._tally.batch:
            await self._run_all()
            if self._tally.batch is not None:
                self._tell(self._tally.batch)

    def _tell(self, batch: Batch) -> None:
        tally = self._tally
        counts = {"done": tally.done, "failed": tally.failed, "skipped": tally.skipped}
        batch.told(self._failure, total=self._items.total, **counts)

    async def _run_all(self) -> None:
        try:
            try:
                await self._handler.open()
                with self._limiter.demand(self._demand):
                    await self._work_shown()
            finally:
                await self._items.aclose()
                await self._handler.aclose()
        except BaseException as error:
            self._end(error, at_once=True)
            if not isinstance(error, Exception):
                raise
        finally:
            self._finish()

    async def _work_shown(self) -> None:
        if self._display is None:
            await self._work_all()
            return
        showing = asyncio.create_task(self._show(self._display))
        try:
            await self._work_all()
        finally:
            showing.cancel()
            await asyncio.wait([showing])

    async def _show(self, display: Display) -> None:
        """Show the figures now and then, and at the end. If the display raises, the batch ends."""
        try:
            try:
                while True:
                    display.update(self.progress())
                    await asyncio.sleep(display.seconds)
            finally:
                display.close(self.progress())
        except Exception as error:  # noqa: BLE001 - of a caller's function
            self._end(error, at_once=True)

    async def _work_all(self) -> None:
        if self._stopped:
            return
        self._items.start()
        loop = asyncio.get_running_loop()
        if self._items.waits:
            self._feeding = True
            self._feeder = loop.create_task(self._feed())
        count, total = self._demand.room, self._items.total
        if total is not None:
            count = max(1, min(count, total))
        for _ in range(count):  # one by one: a task that starts at once may end the batch
            self._workers.append(loop.create_task(self._work()))
        tasks = self._workers if self._feeder is None else [*self._workers, self._feeder]
        try:
            await asyncio.wait(tasks)
        except asyncio.CancelledError:  # from the loop's shutdown: nothing else refers to this task
            self._stop()
            self._cancel()
            await asyncio.wait(tasks)
            raise

    def _finish(self) -> None:
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
        self._tally.end()
        if self._failure is None:
            self._failure = self._items.failure or self._objection()
        if self._ahead:  # results after a missing one, when the batch ended early
            self._out += [self._ahead[index] for index in sorted(self._ahead)]
            self._ahead.clear()
        self._notify()

    def _objection(self) -> errors.BatchStoppedError | None:
        rules, done = self._tally.rules, self._tally.done
        if rules.cause is None:
            return None
        total = self._items.total
        not_tried = None if total is None else max(0, total - self._tally.started)
        left = "the rest was"
        if not_tried is not None:
            left = f"{not_tried:,} {'was' if not_tried == 1 else 'were'}"
        stopped = errors.BatchStoppedError(
            f"the batch was stopped: {rules.why} ({counted(done, 'input', grouped=True)} with a "
            f"result, {left} not tried)",
            cause=rules.cause,
            done=done,
            not_tried=not_tried,
        )
        stopped.__cause__ = rules.cause
        return stopped

    # --- the workers -----------------------------------------------------------------------------

    async def _work(self) -> None:
        items, handler, limiter, tally = self._items, self._handler, self._limiter, self._tally
        try:
            while not self._stopped:
                if self._held >= self._room or self._busy >= limiter.limit:
                    await self._park(self._starters)
                    continue
                item = items.take() if not items.waits else await self._ask()
                if item is None:
                    self._stop()
                    break
                tally.started += 1
                self._held += 1
                self._busy += 1
                try:
                    result = await handler(item)
                finally:
                    self._busy -= 1
                self._put(item.place, result)
                if tally.rules.cause is not None:
                    self._stop()
                if self._starters:
                    self._wake()
        except HaltError as halt:
            self._end(halt.error, at_once=halt.at_once)
        except BaseException as error:
            if not self._cancelled:
                self._end(error, at_once=True)
            if not isinstance(error, Exception):
                raise

    async def _ask(self) -> Item | None:
        """The next item of an async iterable; None also when the batch is stopped meanwhile."""
        asker: asyncio.Future[Item | None] = asyncio.get_running_loop().create_future()
        self._askers.append(asker)
        self._asked.set()
        return await asker

    async def _feed(self) -> None:
        """Read an async iterable, one item for each worker that asks."""
        try:
            try:
                while True:
                    await self._asked.wait()
                    item = await self._items.wait()
                    if item is None or self._stopped:
                        break
                    _release(self._askers.popleft(), item)
                    if not self._askers:
                        self._asked.clear()
            finally:
                self._feeding = False  # the clean-up must not be cancelled
                await self._items.aclose()
        except BaseException as error:
            if not (self._stopped and isinstance(error, asyncio.CancelledError)):
                self._end(error, at_once=True)
            if not isinstance(error, Exception):
                raise
        finally:
            self._stop()

    def _put(self, place: int, result: R) -> None:
        ahead = self._ahead
        if ahead is None:
            self._out.append(result)
        else:
            ahead[place] = result
            while self._next_place in ahead:
                self._out.append(ahead.pop(self._next_place))
                self._next_place += 1
        if self._reader is not None and self._out:
            self._notify()

    async def emit(self, results: Iterable[R]) -> None:
        """Return results before the item's own result, and wait while too many are unread."""
        before = len(self._out)
        self._out += results
        self._held += len(self._out) - before
        self._notify()
        while self._held >= self._room and not self._cancelled:
            await self._park(self._emitters)

    async def _park(self, queue: deque[asyncio.Future[None]]) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(waiter)
        await waiter

    def _wake(self) -> None:
        """Wake as many waiting workers as there is room for."""
        room = self._room - self._held
        if room <= 0:
            return
        while self._emitters:
            _release(self._emitters.popleft())
        starters = self._starters
        for _ in range(min(room, self._limiter.limit - self._busy, len(starters))):
            _release(starters.popleft())

    def _notify(self) -> None:
        if self._reader is not None:
            _release(self._reader)


def _release(waiter: asyncio.Future[Any], result: object = None) -> None:
    if not waiter.done():
        waiter.set_result(result)
