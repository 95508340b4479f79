"""The events of one run on their way from the App to the streams that send them.

A `Feed` keeps all its events, or only a window of the newest. A window bounds the memory of a feed
of any length; the App waits while a reader is a whole window behind. Any number of readers follow a
feed, each at its own pace and from its own position.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

_BATCH = 256

_BURST = 0.001
"""Seconds. An event that follows others within this time is part of a burst."""
_MAX_TURNS = 16
"""For how many turns of the event loop, at most, a reader waits while a burst grows."""


class FeedEvent(NamedTuple):
    """One event: its place in the feed, its name, and its JSON."""

    sequence: int
    type: str
    data: bytes


class Feed:
    """Events in order.

    Args:
        window: how many events are kept. None: all of them; 0: none, while there is no reader.
    """

    def __init__(self, window: int | None = None) -> None:
        self.window = window
        self.events: list[FeedEvent] | deque[FeedEvent] = [] if window is None else deque()
        self.sequence: int = 0
        """The sequence number of the newest event."""
        self.forgotten: int = 0
        """How many events fell out of the window."""
        self.closed: bool = False
        self.readers: set[Reader] = set()
        self._room = asyncio.Event()

    @classmethod
    def of(cls, events: Sequence[FeedEvent], window: int | None) -> Feed:
        """A feed that continues after these events."""
        feed = cls(window)
        feed.forgotten = 0 if window is None else max(len(events) - window, 0)
        feed.events.extend(events[feed.forgotten :])
        feed.sequence = events[-1].sequence if events else 0
        return feed

    @property
    def unread(self) -> bool:
        """Whether an event added now would be lost: nothing is kept, and there is no reader."""
        return self.window == 0 and not self.readers

    async def room(self) -> None:
        """Wait until one more event fits into the window."""
        while self.window is not None and len(self.events) >= max(self.window, 1):
            await self._make_room()

    def append(self, type: str, data: bytes) -> None:
        """Add an event under the next sequence number, unless the feed is closed."""
        if self.closed:
            return
        self.sequence += 1
        if self.unread:
            self.forgotten += 1
            return
        self.events.append(FeedEvent(self.sequence, type, data))
        self._wake()

    def skip(self, count: int = 1) -> None:
        """Leave a hole in the sequence numbers."""
        self.sequence += count

    def tail(self, limit: int) -> Feed:
        """A closed feed that keeps the newest events, up to `limit` bytes."""
        tail, events = Feed(), []
        for event in reversed(self.events):
            limit -= len(event.data)
            if limit < 0:
                break
            events.append(event)
        tail.events = events[::-1]
        tail.sequence = self.sequence
        tail.forgotten = self.forgotten + len(self.events) - len(events)
        tail.close()
        return tail

    def close(self) -> None:
        """End the feed: no more events are added."""
        self.closed = True
        self._wake()

    def after(self, sequence: int) -> int:
        """The position after `sequence`, counted in events since the beginning."""
        return self.forgotten + bisect_right(self.events, sequence, key=lambda e: e.sequence)

    def slice(self, position: int, count: int = _BATCH) -> Sequence[FeedEvent]:
        """Up to `count` events from `position` on, as far as they are kept."""
        start = max(position - self.forgotten, 0)
        if isinstance(self.events, list):
            return self.events[start : start + count]
        return list(islice(self.events, start, start + count))

    async def _make_room(self) -> None:
        slowest = min((reader.position for reader in self.readers), default=None)
        if slowest is not None and slowest <= self.forgotten:
            self._room.clear()
            await self._room.wait()
        else:
            del self.events[0]  # cheap: only a feed with a window runs out of room, and has a deque
            self.forgotten += 1

    def _wake(self) -> None:
        for reader in self.readers:
            reader.news.set()

    def _moved(self) -> None:
        self._room.set()


class Reader:
    """One reader's position in a feed. A feed with a window waits for it until it is closed."""

    def __init__(self, feed: Feed, *, after: int = 0) -> None:
        self.feed = feed
        self.position: int = feed.after(after)
        self.news: asyncio.Event = asyncio.Event()
        self._turns = 0
        self._last = 0.0
        feed.readers.add(self)

    async def batch(
        self, timeout: float | None = None, *, gathers: bool = False
    ) -> Sequence[FeedEvent]:
        """The next events, at least one; none after `timeout` seconds or at the end.

        If events come faster than they can be sent one by one, `gathers` waits a few turns of the
        event loop, to return more events at once.
        """
        events = self.feed.slice(self.position)
        if not events and not self.feed.closed:
            await self._wait(timeout)
            if gathers:
                await self._gather()
            events = self.feed.slice(self.position)
        self.position = max(self.position, self.feed.forgotten) + len(events)
        self.feed._moved()
        return events

    async def _wait(self, timeout: float | None) -> None:
        """Wait for news. `call_later` is cheaper than `asyncio.timeout`."""
        self.news.clear()
        alarm = None
        if timeout is not None:
            alarm = asyncio.get_running_loop().call_later(timeout, self.news.set)
        try:
            await self.news.wait()
        finally:
            if alarm is not None:
                alarm.cancel()

    async def _gather(self) -> None:
        """Wait while each turn of the loop brings another event, for a few turns at most. The first
        events of a burst are not delayed."""
        time, feed = asyncio.get_running_loop().time, self.feed
        self._turns = min(2 * self._turns + 1, _MAX_TURNS) if time() - self._last < _BURST else 0
        for _ in range(self._turns):
            seen = feed.sequence
            await asyncio.sleep(0)
            if feed.sequence == seen:
                break
        self._last = time()

    @property
    def at_end(self) -> bool:
        """Whether the feed is closed and everything in it was read."""
        feed = self.feed
        return feed.closed and self.position >= feed.forgotten + len(feed.events)

    def close(self) -> None:
        """Detach from the feed."""
        self.feed.readers.discard(self)
        self.feed._moved()
