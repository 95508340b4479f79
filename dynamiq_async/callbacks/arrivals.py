"""Results in the order of their arrival, and the tasks that wait for them. No network, no clock."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from typing import TYPE_CHECKING, NoReturn

from dynamiq_async._telemetry import extra
from dynamiq_async.errors import StreamClosedError

if TYPE_CHECKING:
    from .results import CallbackResult

log: logging.Logger = logging.getLogger("dynamiq_async")


class Arrivals:
    """Keeps the newest `limit` results, even after they were returned, and wakes waiting tasks.

    Attributes:
        count: how many results have arrived in total.
        dropped: how many of them were dropped before any task asked for them.
    """

    def __init__(self, limit: int) -> None:
        self.count: int = 0
        self.dropped: int = 0
        self._limit = limit
        self._closed = False
        self._kept: dict[int, CallbackResult] = {}  # by number from 1, without gaps
        self._numbers: dict[str, int] = {}
        self._unasked: set[int] = set()
        self._waiting: defaultdict[str | None, set[asyncio.Future[CallbackResult | None]]]
        self._waiting = defaultdict(set)  # by id; None: those that wait for any next result

    def add(self, result: CallbackResult) -> None:
        """Keep a result. Its id must not be among those kept."""
        self.count += 1
        self._kept[self.count] = result
        self._numbers[result.id] = self.count
        if not self._wake(result.id, result):
            self._unasked.add(self.count)
        self._wake(None, result)
        if len(self._kept) > self._limit:
            self._drop(self.count - self._limit)

    async def get(self, id: str) -> CallbackResult:
        """The result with this id. Waits until it arrives. Raises StreamClosedError on `close`."""
        if (number := self._numbers.get(id)) is not None:
            return self._get_kept(number)
        result = None if self._closed else await self._wait(id)
        return result if result is not None else self._raise_closed(id)

    async def after(self, number: int) -> tuple[int, CallbackResult]:
        """The first kept result after this number, with its own number. Waits until there is one.
        Raises StreamClosedError on `close`."""
        while (following := max(number, self.count - len(self._kept)) + 1) > self.count:
            if self._closed:
                self._raise_closed(None)
            await self._wait(None)
        return following, self._get_kept(following)

    def close(self) -> None:
        """Make waiting tasks raise StreamClosedError. Kept results stay available."""
        self._closed = True
        for key in list(self._waiting):
            self._wake(key, None)

    def _get_kept(self, number: int) -> CallbackResult:
        self._unasked.discard(number)
        return self._kept[number]

    def _drop(self, number: int) -> None:
        result = self._kept.pop(number)
        del self._numbers[result.id]
        if number in self._unasked:
            self._unasked.remove(number)
            self.dropped += 1
            log.warning(
                "dropped the result of run %s, which nobody asked for",
                result.id,
                extra=extra(run_id=result.id),
            )

    async def _wait(self, key: str | None) -> CallbackResult | None:
        future: asyncio.Future[CallbackResult | None] = asyncio.get_running_loop().create_future()
        self._waiting[key].add(future)
        try:
            return await future
        finally:
            waiting = self._waiting[key]
            waiting.discard(future)
            if not waiting:
                del self._waiting[key]

    def _wake(self, key: str | None, result: CallbackResult | None) -> bool:
        """Give the result to the tasks that wait for `key`. Return whether there were any."""
        waiting = [future for future in self._waiting.get(key, ()) if not future.done()]
        for future in waiting:
            future.set_result(result)
        return bool(waiting)

    def _raise_closed(self, id: str | None) -> NoReturn:
        what = "the next callback" if id is None else f"the callback of run {id}"
        raise StreamClosedError(f"the inbox was closed before {what} came", run_id=id)
