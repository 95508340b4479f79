"""The time limits of calls, kept by one timer for all calls of an event loop.

Nearly every call is over long before its limit. So a call only notes when its time is up, and the
timer, armed for the nearest such point, looks at the notes when it goes off. That costs a call
a tenth of a timer of its own, which would be made, sorted in and cancelled.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self, cast

if TYPE_CHECKING:
    from types import TracebackType

    from dynamiq_async.options import Timeout
from typing import TYPE_CHECKING, Protocol

from dynamiq_async import errors


def deadline_in(seconds: float | None) -> float | None:
    """The point in the running loop's time that lies `seconds` ahead; None for no limit."""
    return None if seconds is None else asyncio.get_running_loop().time() + seconds


class Alarm:
    """Ends what runs over its time, on one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._due: dict[Clock, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def set(self, clock: Clock, when: float | None) -> None:
        """Call `clock.expire()` at `when`, in the loop's time; None for never."""
        if when is None:
            self._due.pop(clock, None)
            return
        self._due[clock] = when
        if self._timer is None or when < self._timer.when():
            self._arm(when)

    def _arm(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_at(when, self._ring)

    def _ring(self) -> None:
        self._timer = None
        now = self.loop.time()
        for clock in [clock for clock, when in self._due.items() if when <= now]:
            del self._due[clock]
            clock.expire()
        if self._due:
            self._arm(min(self._due.values()))


class Clock:
    """The limits of one attempt. The nearest one counts; `limit` is its name and `seconds` its
    length.

        with clock.start("first_byte"):
            ...
            clock.turn_to("idle")

    raises TimeoutError when it passes, as `asyncio.timeout` does and by the same means.
    """

    __slots__ = (
        "_alarm",
        "_cancelling",
        "_deadline",
        "_expired",
        "_task",
        "_timeout",
        "limit",
        "seconds",
    )

    _task: asyncio.Task[object]

    def __init__(self, timeout: Timeout, deadline: float | None, alarm: Alarm) -> None:
        self._timeout = timeout
        self._deadline = deadline
        self._alarm = alarm
        self._expired = False
        self.limit = "total"
        self.seconds = timeout.total

    def start(self, limit: str) -> Self:
        self.limit = limit
        return self

    def turn_to(self, limit: str) -> None:
        """From now on, `limit` is the one that runs."""
        if not self._expired:
            self._alarm.set(self, self._point(limit))

    def expire(self) -> None:
        """The time is up."""
        self._expired = True
        self._task.cancel()

    def __enter__(self) -> None:
        self._task = cast("asyncio.Task[object]", asyncio.current_task())
        self._cancelling = self._task.cancelling()
        self.turn_to(self.limit)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._alarm.set(self, None)
        # Somebody else may have cancelled the task too, and then that counts.
        if (
            self._expired
            and self._task.uncancel() <= self._cancelling
            and kind is asyncio.CancelledError
        ):
            raise TimeoutError from error

    def _point(self, limit: str) -> float | None:
        seconds: float | None = getattr(self._timeout, limit)
        deadline = self._deadline
        if seconds is not None:
            point = self._alarm.loop.time() + seconds
            if deadline is None or point < deadline:
                self.limit, self.seconds = limit, seconds
                return point
        self.limit, self.seconds = "total", self._timeout.total
        return deadline


class Failing(Protocol):
    """What can be made to fail while it is read."""

    def fail(self, error: Exception) -> None:
        """Make a read that waits, and every later one, raise `error`."""


class IdleWatch:
    """Fails a response whose next bytes are waited for longer than `idle` seconds, or beyond
    `deadline` (in the loop's time; `total` is what it is called in the error)."""

    __slots__ = (
        "_alarm",
        "_deadline",
        "_deadline_alarm",
        "_loop",
        "_response",
        "_waiting_since",
        "label",
        "total",
    )

    def __init__(
        self,
        response: Failing,
        label: str,
        *,
        idle: float | None,
        total: float | None,
        deadline: float | None,
    ) -> None:
        self._response = response
        self.label = label
        self.total = total
        self._loop = loop = asyncio.get_running_loop()
        self._waiting_since: float | None = None
        self._alarm: asyncio.Handle | None = (
            loop.call_later(idle, self._check, idle) if idle is not None else None
        )
        self._deadline_alarm = (
            loop.call_at(deadline, self._expire) if deadline is not None else None
        )

    def wait(self) -> None:
        """Bytes are waited for from now on."""
        self._waiting_since = self._loop.time()

    def arrived(self) -> None:
        self._waiting_since = None

    def stop(self) -> None:
        for alarm in (self._alarm, self._deadline_alarm):
            if alarm is not None:
                alarm.cancel()

    def _check(self, idle: float, again: bool = False) -> None:
        now = self._loop.time()
        since = self._waiting_since if self._waiting_since is not None else now
        if now - since < idle:
            self._alarm = self._loop.call_at(since + idle, self._check, idle)
        elif not again:
            # If the loop was held up, bytes may be here whose reader has not had its turn yet.
            self._alarm = self._loop.call_soon(self._check, idle, True)
        else:
            self._response.fail(
                errors.IdleTimeoutError(
                    f"{self.label}: not a byte for {idle} s, the idle limit",
                    limit="idle",
                    seconds=idle,
                )
            )

    def _expire(self) -> None:
        self._response.fail(
            errors.APITimeoutError(
                f"{self.label}: the total limit of {self.total} s passed",
                limit="total",
                seconds=self.total,
            )
        )
