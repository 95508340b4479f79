"""Waiting for runs by asking, where a service has nothing better, without asking it too much.

One poller serves all the waits of a client. Polls take turns, and together they use at most a
share of the requests that are left in the service's window; the rest is for starting runs. Waits
for the same run share its polls. There are no tasks: whoever waits does the polling in its own,
one at a time, and the next in line goes on where one is cancelled.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, WeakValueDictionary

from dynamiq_async import errors
from dynamiq_async._http.limiter import Limiter, now
from dynamiq_async._http.rates import AdaptiveLimit
from dynamiq_async._http.status import may_pass

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from dynamiq_async._http.rates import Quota
    from dynamiq_async.flowy.models import FlowyRun
    from dynamiq_async.options import Adaptive

    Look = Callable[[str], Awaitable[FlowyRun]]

POLL_SECONDS = (2.0, 15.0)
"""The first and the longest pause between two looks at a run; the vendor recommends a couple of
seconds."""

PATIENCE = 0.1
"""A pause is this part of the time that the run has taken: what takes long is looked at rarely."""

POLL_SHARE = 0.5
"""The part of the requests left in a window that polls may use."""

MAX_POLLS = 4
"""Polls that may be under way, or wait for the next window, at once."""

MAX_LOST_POLLS = 5
"""How many looks in a row may fail before a wait gives up."""


class RunLimiter(Limiter):
    """How many runs a client has in flight: found by trying, since the service does not say.

    `most` is the upper bound.
    """

    def __init__(self, bounds: Adaptive) -> None:
        super().__init__(bounds.max)
        self.most = bounds.max
        self.adaptive = AdaptiveLimit(bounds)
        self._resize()


class RequestLimiter(Limiter):
    """A client's gate that can tell the two limits of a service apart: a refusal while requests
    were left means that there are too many runs."""

    def __init__(self, limit: int, quota: Quota, runs: RunLimiter) -> None:
        super().__init__(limit, quota)
        self._runs = runs

    def cool_down(self, seconds: float) -> None:
        super().cool_down(seconds)
        if self.quota is None or self.quota.remaining != 0:
            self._runs.cool_down(seconds)


class _Watch:
    """One run that somebody waits for; it lasts as long as somebody does."""

    def __init__(self) -> None:
        self.began = self.due = now()
        self.lost = 0
        self.run: FlowyRun | None = None
        self.looking = asyncio.Lock()


class _Loop:
    """What the waits of one event loop share."""

    def __init__(self) -> None:
        self.watches: MutableMapping[str, _Watch] = WeakValueDictionary()
        self.polls = asyncio.Semaphore(MAX_POLLS)
        self.turn = asyncio.Lock()
        self.last = 0.0


class Poller:
    """Waits for the runs of one client.

    Args:
        gate: the client's; its quota tells how many requests are left.
    """

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, _Loop] = WeakKeyDictionary()

    async def wait(
        self,
        run_id: str,
        look: Look,
        *,
        timeout: float | None,
        deadline: float | None,
        started: FlowyRun | None = None,
    ) -> FlowyRun:
        """The run, once it is over.

        Args:
            look: gets a run as it is now.
            timeout: the seconds that were allowed for all of it, for the message.
            deadline: the point in the loop's time when they are over; None for no limit.
            started: the run as it was when it was started, just now: it is left alone for a
                moment, while any other run is looked at at once.

        Raises:
            APITimeoutError: the run was not over in time.
            DynamiqError: looking at it failed, in a way that does not pass.
        """
        here = self._loops.setdefault(asyncio.get_running_loop(), _Loop())
        watch = here.watches.setdefault(run_id, _Watch())
        if started is not None:
            watch.run, watch.due = started, watch.began + POLL_SECONDS[0]
        limit = asyncio.timeout_at(deadline)
        try:
            async with limit:
                return await self._until_over(here, watch, run_id, look)
        except TimeoutError as error:
            if isinstance(error, errors.DynamiqError) or not limit.expired():
                raise  # a request's
        raise _not_over(run_id, watch.run, timeout)

    async def _until_over(self, here: _Loop, watch: _Watch, run_id: str, look: Look) -> FlowyRun:
        while watch.run is None or not watch.run.is_terminal:
            async with watch.looking:
                # Another who waits for it may have seen its end meanwhile.
                if watch.run is None or not watch.run.is_terminal:
                    await self._poll(here, watch, run_id, look)
        return watch.run

    async def _poll(self, here: _Loop, watch: _Watch, run_id: str, look: Look) -> None:
        await asyncio.sleep(watch.due - now())
        try:
            async with here.polls:
                await self._take_turn(here)
                watch.run = await look(run_id)
            watch.lost = 0
        except errors.DynamiqError as error:
            watch.lost += 1
            refused = isinstance(error, errors.RateLimitError)  # for longer than the client waits
            if refused or watch.lost > MAX_LOST_POLLS or not may_pass(error):
                raise
        time = now()
        shortest, longest = POLL_SECONDS
        watch.due = time + min(max((time - watch.began) * PATIENCE, shortest), longest)

    async def _take_turn(self, here: _Loop) -> None:
        """Wait until the next poll may start: so long after the last that all that is left to
        polls lasts until the end of the window."""
        async with here.turn:
            await asyncio.sleep(here.last + self._spacing() - now())
            here.last = now()

    def _spacing(self) -> float:
        quota = self._limiter.quota
        if quota is None or quota.remaining is None:
            return 0.0
        return quota.window(now()) / max(1.0, quota.remaining * POLL_SHARE)


def _not_over(run_id: str, run: FlowyRun | None, timeout: float | None) -> errors.APITimeoutError:
    """The error for a run whose end did not come in time."""
    status = run.status if run is not None else "unknown"
    return errors.APITimeoutError(
        f"run {run_id} was not over within {timeout} s; its status is {status}. It goes on: wait "
        f"for it with flowy.runs.wait({run_id!r})",
        limit="total",
        seconds=timeout,
        run_id=run_id,
    )
