"""The time limits of calls and streams, kept by one timer for each event loop.

Nearly every call is over long before its limit. So a call only records when its limit passes. The
timer is set for the nearest of these times, and checks the limits when it fires. That costs a tenth
of a timer for each call, which would have to be made, sorted in and cancelled. A stream restarts
its idle limit with every read. That changes the recorded time, but does not set the timer anew.
"""

from __future__ import annotations

import asyncio
import sys
from math import inf
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol, Self

from dynamiq_async import errors

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from dynamiq_async.options import Timeout

MAX_SHARE = 0.05
"""The largest share of the loop's time for checks, however many limits there are."""


def deadline_in(seconds: float | None) -> float | None:
    """The point in the running loop's time that lies `seconds` ahead; None for no limit."""
    return None if seconds is None else asyncio.get_running_loop().time() + seconds


def seconds_left(deadline: float | None) -> float | None:
    """The seconds until a point in the running loop's time, always above 0; None for no limit."""
    if deadline is None:
        return None
    return max(deadline - asyncio.get_running_loop().time(), sys.float_info.min)


class Timer:
    """Checks the limits that run on one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._checks: dict[TimeLimits, float] = {}
        self._handle: asyncio.TimerHandle | None = None

    def check_at(self, limits: TimeLimits, when: float) -> None:
        """Call `limits.check()` at `when`, in the loop's time. That is before its planned time."""
        self._checks[limits] = limits.planned = when
        if self._handle is None or when < self._handle.when():
            self._arm(when)

    def forget(self, limits: TimeLimits) -> None:
        """Stop checking these limits. May be called twice."""
        if limits.planned < inf:
            limits.planned = inf
            self._checks.pop(limits, None)

    def _arm(self, when: float) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._handle = self.loop.call_at(when, self._fire)

    def _fire(self) -> None:
        began = perf_counter()
        self._handle = None
        now = self.loop.time()
        for limits in [limits for limits, when in self._checks.items() if when <= now]:
            del self._checks[limits]
            limits.planned = inf
            limits.check(now)
        if self._checks:
            pause = (perf_counter() - began) / MAX_SHARE
            self._arm(max(min(self._checks.values()), now + pause))


class TimeLimits:
    """The limits of `timeout` for one attempt or stream. One of them runs at a time, together with
    the deadline of the whole call. The one that passes first counts.

    Args:
        timeout: the limits, in seconds.
        deadline: of the whole call, in the loop's time; None for no deadline.
        timer: the loop's.
        expire: called once when a limit has passed.

    Attributes:
        limit: the name of the limit that counts, `total` for the deadline.
        seconds: the length of that limit.
        planned: when the timer checks the limits, in the loop's time; infinite: never.
    """

    __slots__ = (
        "_deadline",
        "_due",
        "_expire",
        "_timeout",
        "_timer",
        "limit",
        "planned",
        "seconds",
    )

    def __init__(
        self,
        timeout: Timeout,
        deadline: float | None,
        timer: Timer,
        expire: Callable[[], None],
    ) -> None:
        self._timeout = timeout
        self._deadline = deadline
        self._timer = timer
        self._expire: Callable[[], None] | None = expire
        self.planned: float = inf
        self.limit: str = "total"
        self.seconds = timeout.total
        self._due = deadline

    def run(self, limit: str) -> None:
        """Let `limit` run from now on."""
        seconds: float | None = getattr(self._timeout, limit)
        if seconds is None:
            self.pause()
            return
        due = self._timer.loop.time() + seconds
        if self._deadline is not None and self._deadline <= due:
            self.pause()
            return
        self.limit, self.seconds, self._due = limit, seconds, due
        if due < self.planned and self._expire is not None:
            self._timer.check_at(self, due)

    def pause(self) -> None:
        """Let only the deadline run from now on."""
        due = self._deadline
        self.limit, self.seconds, self._due = "total", self._timeout.total, due
        if due is not None and due < self.planned and self._expire is not None:
            self._timer.check_at(self, due)

    def stop(self) -> None:
        """Stop all limits. May be called any number of times, also by a finaliser."""
        self._expire = None
        self._timer.forget(self)

    def check(self, now: float) -> None:
        """Expire if the running limit has passed, else plan the next check."""
        if self._due is None:
            return
        if now < self._due:
            self._timer.check_at(self, self._due)
        else:
            # If the loop or the process was suspended, the awaited data may have arrived.
            # The next turn lets the loop find it, and the one after lets its reader take it.
            self._timer.loop.call_soon(self._check_again, self._due, 2)

    def _check_again(self, due: float, turns: int) -> None:
        if self._due != due:
            self.check(self._timer.loop.time())
        elif turns:
            self._timer.loop.call_soon(self._check_again, due, turns - 1)
        elif self._expire is not None:
            expire, self._expire = self._expire, None
            expire()


class Failing(Protocol):
    """A reader that can be made to fail from outside."""

    def fail(self, error: Exception) -> None:
        """Make a waiting read, and every later one, raise `error`."""


def reading_limits(
    reading: Failing, label: str, timeout: Timeout, deadline: float | None, timer: Timer
) -> TimeLimits:
    """Limits that make `reading` fail when they pass: for streams, which any task may read."""

    def expire() -> None:
        if limits.limit == "idle":
            kind: type[errors.APITimeoutError] = errors.IdleTimeoutError
            said = f"not a byte for {limits.seconds} s, the idle limit"
        else:
            kind = errors.APITimeoutError
            said = f"the {limits.limit} limit of {limits.seconds} s passed"
        reading.fail(kind(f"{label}: {said}", limit=limits.limit, seconds=limits.seconds))

    limits = TimeLimits(timeout, deadline, timer, expire)
    limits.pause()
    return limits


class TaskLimits(TimeLimits):
    """Limits that cancel the task's work in the body:

        with TaskLimits(timeout, deadline, timer).starting("first_byte") as limits:
            ...
            limits.run("idle")

    When a limit passes, TimeoutError is raised, in the same way as by `asyncio.timeout`.
    """

    __slots__ = ("_cancelling", "_passed", "_task")

    _task: Any  # which there is, for the limits begin within it

    def __init__(self, timeout: Timeout, deadline: float | None, timer: Timer) -> None:
        # Not by `super()`, which would cost time in every call.
        self._timeout = timeout
        self._deadline = deadline
        self._timer = timer
        self._expire = self._cancel
        self.planned = inf
        self._passed = False

    def starting(self, limit: str) -> Self:
        """These limits, with `limit` as the first one to run."""
        self.limit = limit
        return self

    def _cancel(self) -> None:
        self._passed = True
        self._task.cancel()

    def __enter__(self) -> Self:
        self._task = asyncio.current_task(self._timer.loop)
        self._cancelling = self._task.cancelling()
        self.run(self.limit)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        task = self._task
        del self._task  # which will hold an error whose traceback leads to these limits
        # The task may also have been cancelled from outside. Then that cancellation counts.
        if self._passed and task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error
