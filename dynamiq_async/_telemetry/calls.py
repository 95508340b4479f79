"""One call of a method: its span and its metrics."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from contextvars import ContextVar
from time import perf_counter
from typing import TYPE_CHECKING, Any

from dynamiq_async import errors
from dynamiq_async._telemetry import names
from dynamiq_async._telemetry.instruments import never_raises

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from dynamiq_async._telemetry.instruments import Instruments

current: ContextVar[Call | None] = ContextVar("dynamiq_async_call", default=None)
"""The call that a request is a part of."""


class Call:
    """A call that has begun.

    Args:
        telemetry: the owner of the call.
        attributes: the attributes of its metrics.

    Attributes:
        telemetry: the owner; None once the call has ended.
    """

    __slots__ = (
        "_attributes",
        "_first",
        "_instruments",
        "_resends",
        "_span",
        "_started",
        "telemetry",
    )

    def __init__(
        self,
        telemetry: object,
        span: Any,
        instruments: Instruments | None,
        attributes: dict[str, Any],
    ) -> None:
        self.telemetry: object | None = telemetry
        self._span = span
        self._instruments = instruments
        self._attributes = attributes
        self._started = perf_counter()
        self._first = False
        self._resends = 0
        self._in_flight(1)

    @property
    def is_traced(self) -> bool:
        """Whether it has a span."""
        return self._span is not None

    @contextmanager
    def inside(self) -> Iterator[Call]:
        """Make this the call of the requests in the body, and its span the current one."""
        token = current.set(self)
        attached = self._attach()
        try:
            yield self
        finally:
            self._detach(attached)
            current.reset(token)

    async def within(self, work: Coroutine[Any, Any, None]) -> None:
        """Await `work` inside this call."""
        with self.inside():
            await work

    @never_raises
    def told(self, **known: Any) -> None:
        """Set attributes of the span, by the names in `names`. A value of None changes nothing."""
        if self._span is not None:
            found = {getattr(names, n): v for n, v in known.items() if v is not None}
            self._span.set_attributes(found)

    def answered(self, status: int | None, attempts: int | None) -> None:
        """Note that a request of this call has ended."""
        self._resends += max(0, (attempts or 1) - 1)
        self.told(STATUS=status, RESENDS=self._resends or None)

    def first_chunk(self) -> None:
        """Note that the first events have arrived; later calls do nothing."""
        if not self._first:
            self._first = True
            seconds = perf_counter() - self._started
            self.told(FIRST_CHUNK=seconds)
            if self._instruments is not None:
                self._record(self._instruments.first_chunk, seconds, self._attributes)

    def end(self, error: BaseException | None = None) -> None:
        """End the call. Leaving a stream and cancellation are not failures. Later calls do
        nothing."""
        if self.telemetry is None:
            return
        self.telemetry = None
        failed = error is not None and not isinstance(error, _LEFT)
        attributes = self._attributes
        if failed:
            attributes = {**attributes, names.ERROR: type(error).__name__}
        self._in_flight(-1)
        if self._instruments is not None:
            seconds = perf_counter() - self._started
            self._record(self._instruments.duration, seconds, attributes)
        if self._span is not None:
            self._end_span(error if failed else None)

    @never_raises
    def _end_span(self, error: BaseException | None) -> None:
        if error is not None:
            from opentelemetry.trace import Status, StatusCode

            name = type(error).__name__
            # Not its message, which may repeat text from a server.
            self._span.set_status(Status(StatusCode.ERROR, name))
            self._span.set_attribute(names.ERROR, name)
        self._span.end()

    @never_raises
    def _record(self, histogram: Any, seconds: float, attributes: dict[str, Any]) -> None:
        histogram.record(seconds, attributes)

    @never_raises
    def _in_flight(self, change: int) -> None:
        if self._instruments is not None:
            self._instruments.in_flight.add(change, self._attributes)

    @never_raises
    def _attach(self) -> Any:
        return None if self._span is None else attach(self._span)

    @never_raises
    def _detach(self, token: Any) -> None:
        if token is not None:
            detach(token)


_LEFT = (asyncio.CancelledError, GeneratorExit, errors.StreamClosedError)


def attach(span: Any) -> Any:
    """Make a span the current one; returns the token for `detach`."""
    from opentelemetry import context, trace

    return context.attach(trace.set_span_in_context(span))


def detach(token: Any) -> None:
    from opentelemetry import context

    context.detach(token)


@contextmanager
def outside() -> Iterator[None]:
    """Leave the current call while the caller's own code runs: its requests are calls of their
    own."""
    if current.get() is None:
        yield
        return
    token = current.set(None)
    try:
        yield
    finally:
        current.reset(token)
