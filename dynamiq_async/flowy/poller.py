"""Waits for runs and generations by polling, within the service's rate limit.

One poller serves all the waits of a client. Polls take turns, and together they use at most a
share of the requests that are left in the service's window. The rest is for starting runs. Waits
for the same run share its polls. There are no background tasks: one of the tasks that wait for
a run polls it, and if that task is cancelled, another one takes over.

In this module, "run" also means a generation.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from weakref import WeakKeyDictionary, WeakValueDictionary

from dynamiq_async import errors
from dynamiq_async._http.limiter import Limiter, now
from dynamiq_async._http.rates import AdaptiveLimit
from dynamiq_async._http.status import may_pass

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from dynamiq_async._http.rates import Quota
    from dynamiq_async.options import Adaptive


class Polled(Protocol):
    """A run or a generation to wait for."""

    @property
    def status(self) -> str: ...
    @property
    def is_terminal(self) -> bool: ...


P = TypeVar("P", bound=Polled)

POLL_SECONDS = (2.0, 15.0)
"""The first and the longest pause between two polls of a run, in seconds. The vendor recommends
a couple of seconds."""

PAUSE_SHARE = 0.1
"""The part of a run's time so far that a pause takes. So a long run is polled rarely."""

POLL_SHARE = 0.5
"""The part of the requests left in a window that polls may use."""

MAX_POLLS = 4
"""How many polls may be under way, or wait for the next window, at once."""

MAX_LOST_POLLS = 5
"""How many polls in a row may fail before a wait gives up."""


class RunLimiter(Limiter):
    """Limits the runs in flight. It finds the limit by trying, since the service does not say it.

    `max_limit` is its upper bound.
    """

    def __init__(self, bounds: Adaptive) -> None:
        super().__init__(bounds.max)
        self.max_limit: int = bounds.max
        self.adaptive: AdaptiveLimit | None = AdaptiveLimit(bounds)
        self._resize()


class RequestLimiter(Limiter):
    """A client's limiter that distinguishes the service's two limits. If a start is refused while
    requests are left, too many runs are in flight."""

    def __init__(self, limit: int, quota: Quota, runs: RunLimiter) -> None:
        super().__init__(limit, quota)
        self._runs = runs

    def note_refusal(self, method: str | None, seconds: float) -> None:
        if method == "POST":
            self.cool_down(seconds)
        else:  # nothing else puts a run in flight
            super().cool_down(seconds)

    def cool_down(self, seconds: float) -> None:
        super().cool_down(seconds)
        if self.quota is None or self.quota.remaining != 0:
            self._runs.cool_down(seconds)


class _Watch:
    """A run that tasks wait for. All waits for the run share it, and the last one removes it."""

    def __init__(self) -> None:
        self.began = self.due = now()
        self.lost_polls = 0
        self.run: Any = None
        self.lock = asyncio.Lock()


class _LoopState:
    """The state that the waits on one event loop share."""

    def __init__(self) -> None:
        self.watches: MutableMapping[tuple[str, str], _Watch] = WeakValueDictionary()
        self.polls = asyncio.Semaphore(MAX_POLLS)
        self.turn = asyncio.Lock()
        self.last = 0.0


class Poller:
    """Waits for the runs of one client.

    Args:
        limiter: the client's limiter, whose quota says how many requests are left.
    """

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopState] = WeakKeyDictionary()

    async def wait(
        self,
        run_id: str,
        get_run: Callable[[str], Awaitable[P]],
        *,
        timeout: float | None,
        deadline: float | None,
        started: P | None = None,
        kind: str = "run",
    ) -> P:
        """The run, once it is over.

        Args:
            get_run: gets a run as it is now.
            timeout: the seconds allowed for the whole wait, for the message.
            deadline: the point in the loop's time when they are over; None for no limit.
            started: the run, if it was started just now. It is first polled after a pause. Any
                other run is polled at once.
            kind: `run` or `generation`.

        Raises:
            APITimeoutError: the run was not over in time.
            DynamiqError: polling failed for a reason that is not temporary.
        """
        state = self._loops.setdefault(asyncio.get_running_loop(), _LoopState())
        watch = state.watches.setdefault((kind, run_id), _Watch())
        if started is not None:
            watch.run, watch.due = started, watch.began + POLL_SECONDS[0]
        limit = asyncio.timeout_at(deadline)
        try:
            async with limit:
                await self._poll_to_end(state, watch, run_id, get_run)
                run: P = watch.run
                return run
        except TimeoutError as error:
            if isinstance(error, errors.DynamiqError) or not limit.expired():
                raise  # a limit of one request passed, not the limit of the wait
        raise _timeout_error(kind, run_id, watch.run, timeout)

    async def _poll_to_end(
        self,
        state: _LoopState,
        watch: _Watch,
        run_id: str,
        get_run: Callable[[str], Awaitable[Polled]],
    ) -> None:
        while watch.run is None or not watch.run.is_terminal:
            async with watch.lock:
                # Another wait for the run may have seen its end in the meantime.
                if watch.run is None or not watch.run.is_terminal:
                    await self._poll(state, watch, run_id, get_run)

    async def _poll(
        self,
        state: _LoopState,
        watch: _Watch,
        run_id: str,
        get_run: Callable[[str], Awaitable[Polled]],
    ) -> None:
        await asyncio.sleep(watch.due - now())
        try:
            async with state.polls:
                await self._wait_for_turn(state)
                watch.run = await get_run(run_id)
            watch.lost_polls = 0
        except errors.DynamiqError as error:
            watch.lost_polls += 1
            refused = isinstance(error, errors.RateLimitError)  # for longer than the client waits
            if refused or watch.lost_polls > MAX_LOST_POLLS or not may_pass(error):
                raise
        time = now()
        shortest, longest = POLL_SECONDS
        watch.due = time + min(max((time - watch.began) * PAUSE_SHARE, shortest), longest)

    async def _wait_for_turn(self, state: _LoopState) -> None:
        """Wait until the next poll may start. The spacing makes the polls' share of the requests
        last until the end of the window."""
        async with state.turn:
            await asyncio.sleep(state.last + self._spacing() - now())
            state.last = now()

    def _spacing(self) -> float:
        quota = self._limiter.quota
        if quota is None or quota.remaining is None:
            return 0.0
        return quota.window(now()) / max(1.0, quota.remaining * POLL_SHARE)


def _timeout_error(
    kind: str, run_id: str, run: Polled | None, timeout: float | None
) -> errors.APITimeoutError:
    """The error for a run that was not over in time."""
    status = run.status if run is not None else "unknown"
    return errors.APITimeoutError(
        f"{kind} {run_id} was not over within {timeout} s; its status is {status}. It goes on: "
        f"wait for it with flowy.{kind}s.wait({run_id!r})",
        limit="total",
        seconds=timeout,
        run_id=run_id,
    )
