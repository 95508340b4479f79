"""The body, status and headers of a relay's response, for any framework to send."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self, TypeVar

from dynamiq_async import errors
from dynamiq_async.options import OnLeave, check_seconds
from dynamiq_async.relay.formats import Context, Format, FormatName, format_of
from dynamiq_async.relay.problems import end_kind, problem_of
from dynamiq_async.relay.pump import Pump
from dynamiq_async.relay.upstream import upstream_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable

    from dynamiq_async.relay.problems import EndKind
    from dynamiq_async.relay.upstream import Upstream

E = TypeVar("E")


HEADERS = {
    "Cache-Control": "no-cache, no-store, no-transform",
    "X-Accel-Buffering": "no",  # nginx forwards each piece at once
    "X-Content-Type-Options": "nosniff",
}


class Relay:
    """A stream as the body of a response: an async iterator of bytes, with a status and headers.

    A framework's adapter awaits `open()`, sends `status` and `headers`, then every piece of the
    iteration, and finally awaits `aclose()`, also after an error. Without `open()`, the status is
    200 and all errors are sent in the body.

    The upstream is closed by `aclose()`, when a read is cancelled, and when the last reference to
    the relay is dropped. The upstream's errors are sent in the body; iterating raises them only if
    the format cannot express errors (`format="text"`). An error of the backend's own (such as one
    that `map` raised) is sent in general terms and then raised.

    Attributes:
        status: the response's status; known after `open()`, as the headers are.
        told: at the end, whether the body says how the stream ended. If it does not, and iterating
            has raised, break the connection so that the browser notices.
        error: why the upstream's events ended early, if they did.
    """

    def __init__(self, upstream: Upstream, format: Format, context: Context, pump: Pump) -> None:
        self._upstream = upstream
        self._format = format
        self._context = context
        self._pump = pump
        self._reading = False
        self._opening: bytes | None = None
        # The pieces to send, or errors to raise, after the last event. None until then.
        self._last: list[bytes | Exception] | None = None
        self.status: int = 200
        self.headers: dict[str, str] = {
            "Content-Type": format.media_type,
            **HEADERS,
            **format.headers,
        }
        self.told: bool = False

    @property
    def media_type(self) -> str:
        """The content type without its parameters; `""` if the response has no content."""
        return self.headers.get("Content-Type", "").partition(";")[0]

    @property
    def must_break(self) -> bool:
        """Whether the server stops, and the format wants the body to end by a broken connection,
        which is then not a mistake."""
        return self._pump.stopped and self._pump.ended and not self.told

    @property
    def error(self) -> Exception | None:
        return self._pump.failure

    async def open(self, *, last_event_id: str = "") -> None:
        """Send the request upstream, and wait until the response's status is known.

        It is known when the upstream's headers or an error have arrived. With heartbeats, the wait
        lasts one interval at most; the response then begins with 200.

        Args:
            last_event_id: the browser's `Last-Event-ID` header. If it says that the browser has
                received the end, or that its stream cannot be resumed, nothing is sent upstream and
                the response is 204, which tells an `EventSource` not to reconnect.

        Raises:
            StreamClosedError: the relay was closed before.

        And an error of the backend's own, such as a wrong argument: respond with 500.
        """
        if self._pump.left:
            raise _closed()
        if last_event_id and self._upstream.repeats(last_event_id):
            self._replace(204, {"Cache-Control": "no-store"})
            return
        pump = self._pump
        self._start()
        try:
            await asyncio.wait([pump.opened], timeout=self._context.heartbeat)
        except BaseException:
            pump.leave()
            raise
        if pump.failure is not None and not pump.opened.result():
            problem = problem_of(pump.failure)
            if problem.internal:
                raise pump.failure
            body = problem.json()
            self._replace(problem.status, problem.headers(len(body)), body)

    def _start(self) -> None:
        if self._opening is None:
            self._opening = self._format.opening(self._context)
            self._pump.start()

    def _replace(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        """Send this status, these headers and this body in place of the events."""
        self.status, self.headers, self._last = status, headers, [body] if body else []

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._reading:
            raise errors.StreamError("another task is reading this relay")
        self._reading = True
        try:
            return await self._piece()
        except BaseException:
            self._pump.leave()  # does nothing after the end
            raise
        finally:
            self._reading = False

    async def _piece(self) -> bytes:
        pump = self._pump
        if self._last is None:
            if pump.left:
                raise _closed()
            self._start()
            if opening := self._opening:
                self._opening = b""
                return opening
            if data := await pump.take():
                return data
            if pump.left:
                raise _closed()
            self._last = self._ending(pump.failure)
        if not self._last:
            raise StopAsyncIteration
        step = self._last.pop(0)
        if isinstance(step, StopAsyncIteration):
            # Raised unchanged, it would end this iteration.
            raise RuntimeError("map raised StopAsyncIteration") from step
        if isinstance(step, Exception):
            raise step
        return step

    def _ending(self, failure: Exception | None) -> list[bytes | Exception]:
        """The steps after the events: the last frame, then the error to raise, if any."""
        if self._format.complete:
            self.told = True
            return []
        frame = self._end("completed") if failure is None else self._failure(failure)
        self.told = bool(frame) or failure is None
        steps: list[bytes | Exception] = [frame] if frame else []
        if failure is not None and (not frame or problem_of(failure).internal):
            steps.append(failure)
        return steps

    def _failure(self, failure: Exception) -> bytes:
        if (kind := end_kind(failure)) is not None:
            return self._end(kind)
        if self._pump.stopped and self._format.on_shutdown == "abort":
            return b""
        self._context.stopping = self._pump.stopped
        problem = problem_of(failure)
        position = None if problem.lasting else self._context.position
        return self._format.failure(problem, position)

    def _end(self, kind: EndKind) -> bytes:
        self._context.ended = True
        return self._format.end(kind)

    def shut_down(self) -> None:
        """End the response because the server that sends it has to stop.

        Events that were already read are still sent. Then the format's `on_shutdown` decides:
        either a last frame says that the stream is incomplete and where to resume, or no frame is
        sent and iterating raises `StreamClosedError`. With `on_leave="cancel"` the run is canceled
        first, which takes five seconds at most.
        """
        self._pump.stop()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the upstream, and cancel its run if `on_leave="cancel"` and it has not ended.

        May be called from any task, at any time, any number of times. Cancelling this call does not
        stop the closing. A read that another task awaits raises `StreamClosedError` there.
        """
        await self._pump.aclose()

    def __del__(self) -> None:
        self._pump.abandon()


def _closed() -> errors.StreamClosedError:
    return errors.StreamClosedError("the relay was closed")


def relay(
    stream: AsyncIterable[E],
    *,
    format: FormatName | Format = "sse",
    map: Callable[[E], Any] | None = None,
    heartbeat: float | None = 15.0,
    retry: float | None = 2.0,
    on_leave: OnLeave = "detach",
) -> Relay:
    """A stream as the body of a response to a browser.

    Args:
        stream: `app.stream(...)`, its `text()`, `app.runs.follow(...)`, `app.runs.stream(...)`, or
            any async iterable of events, texts or JSON values. It need not be open, and is closed
            by the relay.
        format: "sse", "jsonl" (a line of JSON for each event), "text" (the reader's text only),
            "ui-message-stream" (`useChat` of the AI SDK), "ag-ui" (CopilotKit and others), or a
            `Format` of your own, for this relay only. "ui-message-stream" and "ag-ui" send texts,
            thoughts, tool calls and questions; `dynamiq_async.relay.formats` has their options.
        map: called with each event, and may be async. The relay sends its result in the event's
            place: any JSON value, text, bytes, a `ServerSentEvent`, an event, or None to send
            nothing. Without it, "sse" and "jsonl" send events byte for byte as they arrived,
            including all details of the App and of its failures.
        heartbeat: seconds of silence after which the format's heartbeat is sent, so that proxies
            keep the connection; None for never. "jsonl" and "text" have no heartbeat; that of the
            others is a comment.
        retry: seconds after which an `EventSource` that lost its connection reconnects; None
            leaves it to the browser.
        on_leave: whether a run continues ("detach") or is canceled ("cancel") when the browser
            disconnects before the end, or the server stops. Use "detach" if the browser may
            reconnect.

    An `sse` relay ends with an event named `end`, or with one named `error` whose data is
    `{"error": {"code", "message", "last_event_id"?}}`. A run that failed or was canceled ends with
    `error`, too. A response that ends with neither was cut off.

    Raises:
        InvalidArgumentError: an argument cannot be used.
    """
    upstream = upstream_of(stream)
    chosen = format_of(format)
    if on_leave not in ("detach", "cancel"):
        raise errors.InvalidArgumentError(
            f"on_leave must be one of 'detach', 'cancel', not {on_leave!r}",
            argument="on_leave",
        )
    check_seconds(heartbeat, "heartbeat")
    if retry != 0:
        check_seconds(retry, "retry")
    if map is not None and not callable(map):
        raise errors.InvalidArgumentError("map must be a function of an event", argument="map")
    cancel_run = on_leave == "cancel"
    if cancel_run and not upstream.has_cancel:
        raise errors.InvalidArgumentError(
            "on_leave='cancel' is for streams of runs; this stream has no cancel()",
            argument="on_leave",
        )
    beats = heartbeat if chosen.heartbeat else None
    context = Context(upstream, heartbeat=beats, retry=retry)
    pump = Pump(upstream, chosen, context, map, cancel_run=cancel_run)
    return Relay(upstream, chosen, context, pump)
