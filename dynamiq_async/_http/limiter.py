"""The limit of a client's concurrent requests, and the cooldown in which no request starts.

A client and all its `with_options` views share one limiter. When a server asks one call to slow
down, that applies to all calls, so the cooldown belongs to the limiter and not to the call.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections import OrderedDict
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from dynamiq_async._http.rates import AdaptiveLimit, Quota, RateLimit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dynamiq_async.options import Adaptive


def now() -> float:
    """The clock of all limits: the running loop's, which their timers use.

    Outside of a loop, the clock that asyncio's own loops use.
    """
    loop = asyncio._get_running_loop()
    return loop.time() if loop is not None else monotonic()


class Demand(NamedTuple):
    """What a batch demands of its client's limiter while it runs.

    Attributes:
        room: how many requests the batch wants under way.
        adaptive: the bounds within which the limit adapts; None: it does not adapt.
        interval: the least time between the starts of two requests, in seconds.
    """

    room: int
    adaptive: Adaptive | None = None
    interval: float = 0.0


class Limiter:
    """A limit of `limit` requests under way, first come first served, with a shared cooldown.

    Args:
        limit: the most requests under way, unless a demand raises it.
        quota: the rate limit that the service reports; None for a service that reports none.
        max_streams: the most streams that may be open as well; None: streams count as requests.

    Attributes:
        limit: the most requests that may be under way now.
        in_flight: how many are under way.
        throttled: how often a server asked to slow down.
        streams: the limiter of streams, with the same cooldown and rate.
        for_streams: whether this is a limiter of streams.
        warned: whether the present wait for slots was logged already.
    """

    def __init__(
        self, limit: int, quota: Quota | None = None, *, max_streams: int | None = None
    ) -> None:
        self.limit: int = limit
        self._own_limit = limit
        # One client may be used by the event loops of several threads. A finaliser may run in
        # a thread that holds the lock, so the lock is reentrant.
        self._lock = threading.RLock()
        self.in_flight: int = 0
        self.throttled: int = 0
        self.quota = quota
        self.adaptive: AdaptiveLimit | None = None
        self._rate_limit = RateLimit()
        self._demands: list[Demand] = []
        self._waiters: OrderedDict[asyncio.Future[bool], None] = OrderedDict()
        self._cool_until = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.warned: bool = False
        self.for_streams: bool = False
        self.streams: Limiter = self
        if max_streams is not None:
            self.streams = Limiter(max_streams, quota)
            self.streams.for_streams = True
            self.streams._lock, self.streams._rate_limit = self._lock, self._rate_limit

    # --- the cooldown ----------------------------------------------------------------------------

    @property
    def cooldown(self) -> float:
        """Seconds until requests may start again; 0 when they may."""
        return max(0.0, self._cool_until - now()) if self._cool_until else 0.0

    def note_refusal(self, method: str | None, seconds: float) -> None:
        """Cool down because a request with this method was refused for now."""
        self.cool_down(seconds)

    def cool_down(self, seconds: float) -> None:
        """Let no request start for `seconds`. This never shortens a cooldown under way.

        Every waiting `acquire` returns False: each call decides for itself whether it waits for
        the end of the cooldown.
        """
        with self._lock:
            self.throttled += 1
            time = now()
            if self.adaptive is not None and time >= self._cool_until:
                # Refusals during the cooldown are of requests sent before it: nothing new.
                self.adaptive.refused(time, self.in_flight)
                self._resize()
            until = max(self._cool_until, time + seconds)
            for limiter in {self, self.streams}:
                limiter._cool(until)

    def _cool(self, until: float) -> None:
        self._cool_until = until
        waiters, self._waiters = self._waiters, OrderedDict()
        for waiter in waiters:
            self._wake(waiter, acquired=False)

    # --- slots -----------------------------------------------------------------------------------

    @property
    def metered(self) -> bool:
        """Whether requests wait for more than a slot: for a rate or a quota."""
        return self._rate_limit.interval > 0 or self.quota is not None

    def try_acquire(self, *, over_limit: bool = False) -> bool:
        """Take a slot if that needs no waiting. With `over_limit`, even beyond the limit."""
        with self._lock:
            if (self._waiters or self.in_flight >= self.limit) and not over_limit:
                return False
            if self._cool_until and self.cooldown:
                return False
            if self.metered:
                if self._delay(now()):
                    return False
                self._rate_limit.record_start(now())
            self.in_flight += 1
            return True

    def acquire_urgently(self) -> None:
        """Take a slot over the limit and through a cooldown.

        It is for requests that free or end other work, such as the answer to a question for which
        a stream in the last slot waits.
        """
        with self._lock:
            if self.metered:
                self._rate_limit.record_start(now())
            self.in_flight += 1

    async def acquire(self) -> bool:
        """Wait in line for a slot, and take it. Returns False when a cooldown begins meanwhile."""
        waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        with self._lock:
            self.warned = self.warned and bool(self._waiters)
            self._waiters[waiter] = None
            self._admit()
        try:
            return await waiter
        except BaseException:
            if waiter.cancelled():
                with self._lock:
                    self._waiters.pop(waiter, None)  # `_admit` may have removed it already
            elif waiter.result():
                self.release()  # the slot was given just before the cancellation: pass it on
            raise

    def release(self) -> None:
        """Give a slot back. The first waiting request gets it, if there is one."""
        with self._lock:
            self.in_flight -= 1
            if self._waiters:
                self._admit()

    def succeeded(self) -> None:
        """A request succeeded, so an adaptive limit may grow."""
        if self.adaptive is None:
            return
        with self._lock:
            if self.adaptive is not None and self.adaptive.succeeded(now(), self.in_flight):
                self._resize()

    def _delay(self, time: float) -> float:
        """Seconds until rate and quota let a request start; infinite: not before a response."""
        quota = 0.0 if self.quota is None else self.quota.delay(time, self.in_flight)
        return max(self._rate_limit.delay(time), quota)

    def _admit(self) -> None:
        """Give slots to waiting requests, as far as the limit, the rate and the quota allow."""
        with self._lock:
            self._admit_locked()

    def _admit_locked(self) -> None:
        while self._waiters and self.in_flight < self.limit:
            waiter = next(iter(self._waiters))
            if waiter.done() or waiter.get_loop().is_closed():
                del self._waiters[waiter]
                continue
            if self.metered:
                if delay := self._delay(now()):
                    self._admit_later(waiter.get_loop(), delay)
                    return
                self._rate_limit.record_start(now())
            del self._waiters[waiter]
            self.in_flight += 1
            self._wake(waiter, acquired=True)

    def _admit_later(self, loop: asyncio.AbstractEventLoop, delay: float) -> None:
        if delay == math.inf:
            return  # when the awaited response comes, `release` calls `_admit`
        if loop is asyncio._get_running_loop():
            if self._timer is not None:
                self._timer.cancel()
            self._timer = loop.call_later(delay, self._admit)
        else:  # only a loop itself may set its timers
            loop.call_soon_threadsafe(self._admit)

    def _wake(self, waiter: asyncio.Future[bool], *, acquired: bool) -> None:
        """Give `acquired` to a waiter, which may belong to a loop in another thread."""
        loop = waiter.get_loop()
        if loop is asyncio._get_running_loop():
            self._set_result(waiter, acquired)
        elif not loop.is_closed():
            loop.call_soon_threadsafe(self._set_result, waiter, acquired)

    def _set_result(self, waiter: asyncio.Future[bool], acquired: bool) -> None:
        if not waiter.done():
            waiter.set_result(acquired)
        elif acquired:
            self.release()

    # --- demands ---------------------------------------------------------------------------------

    @contextmanager
    def demand(self, demand: Demand) -> Iterator[None]:
        """Apply `demand` until the body is left: raise the limit, adapt it, and keep to a rate."""
        with self._lock:
            self._demands.append(demand)
            self._apply_demands()
        try:
            yield
        finally:
            with self._lock:
                self._demands.remove(demand)
                self._apply_demands()

    def _apply_demands(self) -> None:
        """Apply all demands together: the sum of room, the slowest rate and the newest bounds."""
        self._rate_limit.interval = max((demand.interval for demand in self._demands), default=0.0)
        bounds = [demand.adaptive for demand in self._demands if demand.adaptive is not None]
        if not bounds:
            self.adaptive = None
        elif self.adaptive is None or self.adaptive.bounds is not bounds[-1]:
            self.adaptive = AdaptiveLimit(bounds[-1])
        self._resize()

    def _resize(self) -> None:
        limit = max(self._own_limit, sum(demand.room for demand in self._demands))
        self.limit = limit if self.adaptive is None else min(limit, self.adaptive.limit)
        self._admit()
