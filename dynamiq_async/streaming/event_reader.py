"""One response's body as batches of decoded events, with an idle timeout.

One timer per event loop checks the timeouts of all responses, so each read only looks at the clock.
`idle` runs only while a read is awaited, so a slow consumer never causes an idle timeout.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

from dynamiq_async import _json, errors
from dynamiq_async._credentials import mask
from dynamiq_async._http.error_responses import content_type, request_id, type_error
from dynamiq_async._http.headers import SSE_TYPE
from dynamiq_async._http.response import ResponseInfo
from dynamiq_async._http.sender import read_beginning
from dynamiq_async._http.timers import reading_limits
from dynamiq_async.options import check_one_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from dynamiq_async._http.request import Request
    from dynamiq_async._http.request_options import SendOptions
    from dynamiq_async._http.sender import OpenResponse, Sender
    from dynamiq_async._http.timers import TimeLimits
    from dynamiq_async.sse import SSEDecoder

T = TypeVar("T")

OnBadEvent = Literal["raise", "pass"]


def read_event(
    read: Callable[[bytes], T | None], key: str | None, data: bytes, _: Exception
) -> T | None:
    """The event in `data`, read more tolerantly than its type allows. A decoder calls this for data
    that it cannot decode.

    Raises:
        EventDecodeError: `data` holds no event.
    """
    try:
        return read(data)
    except _json.DECODE_ERRORS as error:
        text = data.decode("utf-8", "surrogateescape")
        masked = mask(text, key).encode("utf-8", "surrogateescape")
        shown = masked[:200].decode("utf-8", "replace")
        raise errors.EventDecodeError(
            f"an event is broken: {error}; it begins: {shown!r}", data=masked
        ) from error


def recovery(
    read: Callable[[bytes], T | None],
    broken: Callable[[bytes], T],
    on_bad_event: OnBadEvent,
    key: str | None,
) -> Callable[[bytes, Exception], T | None]:
    """A function that handles a message which a decoder cannot read. It returns the event that
    `read` finds in it. If there is none, `on_bad_event` decides: "raise" raises an error, and
    "pass" returns the event that `broken` makes.

    Raises:
        InvalidArgumentError: `on_bad_event` is not one of the two.
    """
    check_one_of(on_bad_event, ("raise", "pass"), "on_bad_event")
    if on_bad_event == "pass":
        return partial(_pass_on, read, broken)
    return partial(read_event, read, key)


def _pass_on(
    read: Callable[[bytes], T | None], broken: Callable[[bytes], T], data: bytes, _: Exception
) -> T | None:
    try:
        return read(data)
    except _json.DECODE_ERRORS:
        return broken(data)


E = TypeVar("E")

DRAIN_SECONDS = 0.05
DRAIN_BYTES = 64 * 1024


class EventReader(Generic[E]):
    """The events of one response.

    All complete events that arrived are returned before the error after them is raised.
    """

    __slots__ = ("_deferred", "_feed", "_limits", "_opened", "_read", "decoder")

    def __init__(self, opened: OpenResponse, decoder: SSEDecoder[E], limits: TimeLimits) -> None:
        self._opened = opened
        self._limits = limits
        self._deferred: errors.SSEError | None = None
        self.decoder: SSEDecoder[E] = decoder
        self._read = opened.response.read
        self._feed = decoder.feed

    @property
    def whole(self) -> bool:
        """At the end of the body: whether it is complete by HTTP's framing and cuts no event."""
        return self._opened.response.framed and not self.decoder.pending

    async def batch(self) -> list[E] | None:
        """The next events, at least one; None at the end of the body.

        Raises:
            APIConnectionError, APITimeoutError: the connection broke or a limit passed.
            SSEError: an event is broken or too large.
        """
        if self._deferred is not None:
            raise self._deferred
        limits = self._limits
        while True:
            limits.run("idle")
            chunk = await self._read()
            limits.pause()
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

    async def drain(self) -> None:
        """After the last event: wait briefly for the end of the body, so that the connection can
        be reused, then close the response in any case."""
        drained = 0
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                while drained < DRAIN_BYTES and (piece := await self._read()):
                    drained += len(piece)
        except (TimeoutError, errors.DynamiqError):
            # The stream is complete already; an error here only keeps the connection from reuse.
            drained = DRAIN_BYTES
        finally:
            self.close()

    def fail(self, error: Exception) -> None:
        """Make a pending `batch` call raise `error`."""
        self._opened.response.fail(error)

    def close(self) -> None:
        """Close the response, and stop its timer. May be called twice."""
        self._limits.stop()
        self._opened.close()


async def open_events(
    sender: Sender,
    request: Request,
    options: SendOptions,
    decoder: SSEDecoder[E],
    *,
    label: str,
    deadline: float | None,
) -> tuple[EventReader[E], ResponseInfo]:
    """Send a request whose response has to be an event stream; return its reader and its info.

    Args:
        label: what errors call the stream.
        deadline: of the whole stream, in the loop's time.

    Raises:
        ContentTypeError: the response is something else.
        DynamiqError: what `AsyncApp.invoke` raises for a request that does not succeed.
    """
    opened = await sender.open(request, options, deadline=deadline)
    try:
        info = await _event_stream_info(opened, label, sender.key)
    except BaseException:
        opened.close()
        raise
    limits = reading_limits(opened.response, label, options.timeout, deadline, sender.timer())
    return EventReader(opened, decoder, limits), info


async def _event_stream_info(opened: OpenResponse, label: str, key: str | None) -> ResponseInfo:
    """The information on a response that has to be an event stream.

    Raises:
        ContentTypeError: it is not one.
    """
    response = opened.response
    headers = {name.lower(): value for name, value in response.headers.items()}
    if content_type(headers) != SSE_TYPE:
        body = await read_beginning(response)
        raise type_error(label, SSE_TYPE, response.status, headers, body, key)
    return ResponseInfo(
        status=response.status,
        headers=headers,
        request_id=request_id(headers),
        attempts=opened.attempts,
    )
