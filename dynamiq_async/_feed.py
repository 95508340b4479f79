"""One response's body as batches of decoded events, with a watch over its silence.

The watch is one timer per response, re-armed only when it goes off: reading costs it a look at
the clock. It runs only while bytes are waited for, so a slow consumer is never an idle timeout.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from dynamiq_async import errors
from dynamiq_async._calls import read_beginning
from dynamiq_async._request import SSE_TYPE
from dynamiq_async._response import content_type, request_id, type_error
from dynamiq_async.models import ResponseInfo

if TYPE_CHECKING:
    from dynamiq_async._calls import Lease
    from dynamiq_async.sse import SSEDecoder

E = TypeVar("E")

DRAIN_SECONDS = 0.25
DRAIN_BYTES = 64 * 1024


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


class Feed(Generic[E]):
    """The events of one response.

    Everything complete that arrived is handed out before the error behind it is raised.
    """

    __slots__ = ("_deferred", "_feed", "_lease", "_read", "_watch", "decoder", "response")

    def __init__(self, lease: Lease, decoder: SSEDecoder[E], watch: IdleWatch) -> None:
        self._lease = lease
        self._watch = watch
        self._deferred: errors.SSEError | None = None
        self.response = lease.response
        self.decoder = decoder
        self._read = lease.response.read
        self._feed = decoder.feed

    @property
    def whole(self) -> bool:
        """At the end of the body: whether HTTP says that it was whole, and no event was cut."""
        return self.response.framed and not self.decoder.pending

    async def batch(self) -> list[E] | None:
        """The next events, at least one; None at the end of the body.

        Raises:
            APIConnectionError, APITimeoutError: the connection broke or a limit passed.
            SSEError: an event is broken or too large.
        """
        if self._deferred is not None:
            raise self._deferred
        watch = self._watch
        while True:
            watch.wait()
            chunk = await self._read()
            watch.arrived()
            if not chunk:
                return None
            try:
                events = self._feed(chunk)
            except errors.SSEError as error:
                events, error.events = error.events, []
                if not events:
                    raise
                self._deferred = error
            if events:
                return events

    async def settle(self) -> None:
        """After the last event: wait shortly for the end of the body, so that the connection can
        be used again, then give it up either way."""
        drained = 0
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                while not self.response.at_end and drained < DRAIN_BYTES:
                    drained += len(await self._read())
        except (TimeoutError, errors.DynamiqError):
            # The stream was complete before; what comes now only decides over the connection.
            drained = DRAIN_BYTES
        finally:
            self.close()

    def fail(self, error: Exception) -> None:
        """Make a `batch` that waits raise `error`."""
        self.response.fail(error)

    def close(self) -> None:
        self._watch.stop()
        self._lease.close()


async def event_stream_info(lease: Lease, label: str, key: str | None) -> ResponseInfo:
    """What is known of a response that has to be an event stream.

    Raises:
        ContentTypeError: it is not one.
    """
    response = lease.response
    headers = {name.lower(): value for name, value in response.headers.items()}
    if content_type(headers) != SSE_TYPE:
        body = await read_beginning(response)
        raise type_error(label, SSE_TYPE, response.status, headers, body, key)
    return ResponseInfo(
        status=response.status,
        headers=headers,
        request_id=request_id(headers),
        attempts=lease.attempts,
    )
