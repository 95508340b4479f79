"""How many requests of one client are under way at once, and from when on none may start.

A client and all its `with_options` views share one gate. A server that says "slow down" to one
call has said it to all of them: the cooldown is the gate's, not the call's.
"""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict
from time import monotonic

# After a cooldown, those who waited come back spread over this fraction of it, two seconds at most.
_SPREAD = 0.1
_MAX_SPREAD = 2.0


class Gate:
    """A limit of `limit` requests under way, first come first served, with a shared cooldown.

    Attributes:
        limit: the most that may be under way.
        in_flight: how many are.
        throttled: how often a server asked to slow down.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.in_flight = 0
        self.throttled = 0
        self._waiters: OrderedDict[asyncio.Future[None], None] = OrderedDict()
        self._opens_at = 0.0
        self._spread = 0.0

    @property
    def cooldown(self) -> float:
        """Seconds until requests may start again; 0 when they may."""
        return max(0.0, self._opens_at - monotonic()) if self._opens_at else 0.0

    def cool_down(self, seconds: float) -> None:
        """Let nothing start for `seconds`. Never shortens a cooldown under way."""
        self.throttled += 1
        opens_at = monotonic() + seconds
        if opens_at > self._opens_at:
            self._opens_at = opens_at
            self._spread = min(seconds * _SPREAD, _MAX_SPREAD)

    def try_enter(self) -> bool:
        """Take a slot if that needs no waiting."""
        if self._waiters or self.in_flight >= self.limit or self.cooldown:
            return False
        self.in_flight += 1
        return True

    def enter_urgently(self) -> None:
        """Take a slot over the limit and through a cooldown: for what frees or ends other work,
        such as an answer that a stream in the last slot is waiting for."""
        self.in_flight += 1

    async def wait_cooldown(self) -> None:
        """Return when the cooldown is over. Takes no slot."""
        while left := self.cooldown:  # noqa: ASYNC110 - it may have been lengthened meanwhile
            await asyncio.sleep(left + random.random() * self._spread)  # noqa: S311

    async def enter(self) -> None:
        """Wait for the cooldown, then for a slot, and take it."""
        while True:
            await self.wait_cooldown()
            await self._take_slot()
            if not self.cooldown:
                return
            self.leave()

    async def _take_slot(self) -> None:
        if self.in_flight < self.limit and not self._waiters:
            self.in_flight += 1
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiters[waiter] = None
        try:
            await waiter
        except BaseException:
            if waiter.cancelled():
                self._waiters.pop(waiter, None)  # `leave` may have passed over it already
            else:
                self.leave()  # the slot came with the cancellation: hand it on
            raise

    def leave(self) -> None:
        """Give a slot back, to the first who waits if there is one."""
        self.in_flight -= 1
        while self._waiters and self.in_flight < self.limit:
            waiter, _ = self._waiters.popitem(last=False)
            loop = waiter.get_loop()
            if waiter.done() or loop.is_closed():
                continue
            self.in_flight += 1
            if loop is asyncio._get_running_loop():
                waiter.set_result(None)
            else:
                loop.call_soon_threadsafe(self._hand_over, waiter)

    def _hand_over(self, waiter: asyncio.Future[None]) -> None:
        """Give a slot to a waiter of this loop that was found from another thread."""
        if waiter.done():
            self.leave()
        else:
            waiter.set_result(None)
