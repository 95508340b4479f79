"""How many requests of one client are under way at once, and from when on none may start.

A client and all its `with_options` views share one gate. A server that says "slow down" to one
call has said it to all of them: the cooldown is the gate's, not the call's.
"""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from dynamiq_async._http.rates import AdaptiveLimit, Quota, RateLimit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dynamiq_async.options import Adaptive


def now() -> float:
    """The time that limits are kept in: the event loop's, whose timers they set."""
    loop = asyncio._get_running_loop()
    return loop.time() if loop is not None else monotonic()


class Demand(NamedTuple):
    """What fan-out asks of its client's gate while it runs: room for so many requests, adaptive
    within bounds or not, at most one every `interval` seconds."""

    room: int
    adaptive: Adaptive | None = None
    interval: float = 0.0


class Limiter:
    """A limit of `limit` requests under way, first come first served, with a shared cooldown.

    Args:
        limit: the most that may be under way, without a demand for more.
        quota: what the service says of its rate limit, where it says something.

    Attributes:
        limit: the most that may be under way now.
        in_flight: how many are.
        throttled: how often a server asked to slow down.
    """

    def __init__(self, limit: int, quota: Quota | None = None) -> None:
        self.limit = self._size = limit
        self.in_flight = 0
        self.throttled = 0
        self.quota = quota
        self.adaptive: AdaptiveLimit | None = None
        self._rate_limit = RateLimit()
        self._demands: list[Demand] = []
        self._waiters: OrderedDict[asyncio.Future[bool], None] = OrderedDict()
        self._opens_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    # --- the cooldown ----------------------------------------------------------------------------

    @property
    def cooldown(self) -> float:
        """Seconds until requests may start again; 0 when they may."""
        return max(0.0, self._opens_at - now()) if self._opens_at else 0.0

    def cool_down(self, seconds: float) -> None:
        """Let nothing start for `seconds`. Never shortens a cooldown under way.

        Those who wait in line are sent away, to come back afterwards: how long each is willing to
        wait is its own decision.
        """
        self.throttled += 1
        time = now()
        if self.adaptive is not None and time >= self._opens_at:
            # Others of the same volley may be refused too; they tell nothing new.
            self.adaptive.refused(time, self.in_flight)
            self._resize()
        self._opens_at = max(self._opens_at, time + seconds)
        waiters, self._waiters = self._waiters, OrderedDict()
        for waiter in waiters:
            self._tell(waiter, acquired=False)

    # --- slots -----------------------------------------------------------------------------------

    @property
    def metered(self) -> bool:
        """Whether requests wait for more than a slot: for a rate or a quota."""
        return self._rate_limit.interval > 0 or self.quota is not None

    def try_acquire(self) -> bool:
        """Take a slot if that needs no waiting."""
        if self._waiters or self.in_flight >= self.limit or (self._opens_at and self.cooldown):
            return False
        if self.metered:
            if self._delay(now()):
                return False
            self._rate_limit.take(now())
        self.in_flight += 1
        return True

    def acquire_urgently(self) -> None:
        """Take a slot over the limit and through a cooldown: for what frees or ends other work,
        such as an answer that a stream in the last slot is waiting for."""
        if self.metered:
            self._rate_limit.take(now())
        self.in_flight += 1

    async def acquire(self) -> bool:
        """Wait in line for a slot, and take it; False when a cooldown begins meanwhile."""
        waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiters[waiter] = None
        self._admit()
        try:
            return await waiter
        except BaseException:
            if waiter.cancelled():
                self._waiters.pop(waiter, None)  # `release` may have passed over it already
            elif waiter.result():
                self.release()  # the slot came with the cancellation: hand it on
            raise

    def release(self) -> None:
        """Give a slot back, to the first who waits if there is one."""
        self.in_flight -= 1
        if self._waiters:
            self._admit()

    def succeeded(self) -> None:
        """A request was answered well: what adapts may grow."""
        if self.adaptive is not None and self.adaptive.succeeded(now(), self.in_flight):
            self._resize()

    def _delay(self, time: float) -> float:
        """Seconds until rate and quota let one start; infinity: not before one was answered."""
        quota = 0.0 if self.quota is None else self.quota.delay(time, self.in_flight)
        return max(self._rate_limit.delay(time), quota)

    def _admit(self) -> None:
        """Let in whom there is room for, and come back when a rate or quota allows the next."""
        while self._waiters and self.in_flight < self.limit:
            waiter = next(iter(self._waiters))
            if waiter.done() or waiter.get_loop().is_closed():
                del self._waiters[waiter]
                continue
            if self.metered:
                if delay := self._delay(now()):
                    self._come_back(waiter.get_loop(), delay)
                    return
                self._rate_limit.take(now())
            del self._waiters[waiter]
            self.in_flight += 1
            self._tell(waiter, acquired=True)

    def _come_back(self, loop: asyncio.AbstractEventLoop, delay: float) -> None:
        if delay == math.inf:
            return  # the answer that is waited for leads here
        if loop is asyncio._get_running_loop():
            if self._timer is not None:
                self._timer.cancel()
            self._timer = loop.call_later(delay, self._admit)
        else:
            loop.call_soon_threadsafe(self._admit)

    def _tell(self, waiter: asyncio.Future[bool], *, acquired: bool) -> None:
        """Answer a waiter, which may be of a loop in another thread."""
        loop = waiter.get_loop()
        if loop is asyncio._get_running_loop():
            self._hand_over(waiter, acquired)
        elif not loop.is_closed():
            loop.call_soon_threadsafe(self._hand_over, waiter, acquired)

    def _hand_over(self, waiter: asyncio.Future[bool], acquired: bool) -> None:
        if not waiter.done():
            waiter.set_result(acquired)
        elif acquired:
            self.release()

    # --- demands ---------------------------------------------------------------------------------

    @contextmanager
    def demand(self, demand: Demand) -> Iterator[None]:
        """Make room, adapt or keep to a rate for as long as this lasts."""
        self._demands.append(demand)
        self._arrange()
        try:
            yield
        finally:
            self._demands.remove(demand)
            self._arrange()

    def _arrange(self) -> None:
        """Room for all demands together; the slowest rate, and the bounds of who adapts last."""
        self._rate_limit.interval = max((demand.interval for demand in self._demands), default=0.0)
        bounds = [demand.adaptive for demand in self._demands if demand.adaptive is not None]
        if not bounds:
            self.adaptive = None
        elif self.adaptive is None or self.adaptive.bounds is not bounds[-1]:
            self.adaptive = AdaptiveLimit(bounds[-1])
        self._resize()

    def _resize(self) -> None:
        size = max(self._size, sum(demand.room for demand in self._demands))
        self.limit = size if self.adaptive is None else min(size, self.adaptive.limit)
        self._admit()
