"""Logs of what happened in the emulator, and how a test waits for it instead of sleeping."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar, overload

T = TypeVar("T")


class Log(Sequence[T], Generic[T]):
    """The newest entries, at most `limit`, oldest first. `total` counts all that were added."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._entries: deque[T] = deque(maxlen=limit)
        self.total: int = 0

    def add(self, entry: T) -> None:
        """Add the newest entry."""
        self._entries.append(entry)
        self.total += 1

    def clear(self) -> None:
        """Forget all entries, and set `total` to 0."""
        self._entries.clear()
        self.total = 0

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        if isinstance(index, slice):
            return list(self._entries)[index]
        return self._entries[index]

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[T]:
        return iter(self._entries)

    def __repr__(self) -> str:
        return f"<Log of {self.total}>"


class Changes:
    """Wakes the tasks that wait for something to happen in the emulator."""

    def __init__(self) -> None:
        self._waiters: set[asyncio.Event] = set()

    def notify(self) -> None:
        """Make every waiter check its condition again."""
        for waiter in self._waiters:
            waiter.set()

    async def wait_until(self, condition: Callable[[], object], timeout: float | None) -> None:
        """Return as soon as `condition()` is true; `TimeoutError` after `timeout` seconds."""
        news = asyncio.Event()
        self._waiters.add(news)
        try:
            async with asyncio.timeout(timeout):
                while not condition():
                    await news.wait()
                    news.clear()
        finally:
            self._waiters.discard(news)
