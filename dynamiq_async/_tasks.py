"""Tasks, cancellation and finalisers, for objects that are opened and closed."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

from dynamiq_async import errors

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine


T = TypeVar("T")


class Openable:
    """A base for objects opened in a task of their own, which a close from elsewhere cancels."""

    _label = "not made yet"  # for the report of a constructor that failed

    def __init__(self, label: str) -> None:
        self._label = label
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    async def _in_task(self, work: Coroutine[Any, Any, None]) -> None:
        """Await `work` in a task of its own, which `_stop_opening` can cancel from elsewhere."""
        self._loop = asyncio.get_running_loop()
        task = self._task = self._loop.create_task(work)
        cancelled_before = cancel_requests()
        try:
            await task
        except asyncio.CancelledError:
            if self._closed and cancel_requests() == cancelled_before:
                raise self._closed_error() from None
            raise
        finally:
            self._task = None
            del task  # it holds its error, whose traceback has this frame

    def _closed_error(self) -> errors.StreamClosedError:
        return errors.StreamClosedError(f"{self._label}: the stream was closed")

    async def _stop_opening(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])


def release_on(loop: asyncio.AbstractEventLoop | None, release: Callable[[], object]) -> None:
    """Call `release` from a finaliser, on the loop that owns what is released."""
    if loop is None or loop.is_closed() or asyncio._get_running_loop() is loop:
        release()
    else:
        # The finaliser runs in another thread, or between two runs of the loop.
        loop.call_soon_threadsafe(release)


def anyio_shield() -> AbstractContextManager[Any]:
    """A shield against anyio's cancel scopes. They cancel a task again at each await, so that its
    clean-up could not await anything. If anyio was never imported, no shield is needed."""
    anyio = sys.modules.get("anyio")
    return nullcontext() if anyio is None else anyio.CancelScope(shield=True)


async def outlast(task: asyncio.Task[Any]) -> None:
    """Wait for the end of a task that ends soon, even when cancelled, and raise that afterwards."""
    cancelled: asyncio.CancelledError | None = None
    with anyio_shield():
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as error:
                cancelled = error
    if cancelled is not None:
        raise cancelled


def cancel_requests() -> int:
    """How often the current task was cancelled. This count distinguishes its own cancellation from
    that of a task that it awaits."""
    task = asyncio.current_task()
    return task.cancelling() if task is not None else 0


async def in_thread(work: Callable[..., T], *arguments: Any) -> T:
    """Run `work` in a thread, and wait for its end even when cancelled: otherwise the caller would
    discard a file that the thread is still using."""
    future = asyncio.get_running_loop().run_in_executor(None, work, *arguments)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        while not future.done():
            try:
                await asyncio.wait([future])
            except asyncio.CancelledError:  # the first one is raised below
                continue
        raise


@asynccontextmanager
async def patient_timeout(seconds: float | None, *, turns: int = 2) -> AsyncIterator[None]:
    """`asyncio.timeout` with some turns of the loop as grace.

    If the loop or the process was suspended, the awaited data may have arrived meanwhile. The first
    turn lets the loop find it, and later turns let the waiting task take it.

    Raises:
        TimeoutError: the body took longer.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as limit:
        expiry: list[asyncio.Handle] = []
        if seconds is not None:
            expiry.append(loop.call_later(seconds, _expire, limit, expiry, turns))
        try:
            yield
        finally:
            for handle in expiry:
                handle.cancel()  # which also ends its cycle with the task and the task's error


def _expire(limit: asyncio.Timeout, expiry: list[asyncio.Handle], turns: int) -> None:
    loop = asyncio.get_running_loop()
    if turns:
        expiry[0] = loop.call_soon(_expire, limit, expiry, turns - 1)
    else:
        limit.reschedule(loop.time())
