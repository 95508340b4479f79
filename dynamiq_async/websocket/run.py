"""One run on a socket: its events, and the handling of its end."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NamedTuple

from dynamiq_async import _json, errors
from dynamiq_async._http.timers import deadline_in
from dynamiq_async._telemetry import extra
from dynamiq_async.events.app_events import StreamEvent
from dynamiq_async.streaming.app_stream import WorkflowStream, broken_event
from dynamiq_async.streaming.event_reader import OnBadEvent, recovery
from dynamiq_async.streaming.output_stream import T_co

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from dynamiq_async._http.response import ResponseInfo
    from dynamiq_async._http.sender import Sender
    from dynamiq_async._http.timers import TimeLimits
    from dynamiq_async.options import Timeout
    from dynamiq_async.websocket.connection import WebSocket
    from dynamiq_async.websocket.protocol import SocketProtocol

    Recover = Callable[[bytes, Exception], StreamEvent | None]

log: logging.Logger = logging.getLogger("dynamiq_async")


class Line(NamedTuple):
    """What a run needs of its socket.

    Attributes:
        label: the name of the socket in errors.
        read: the event in a message; raises ValueError for a broken message.
        begin: gives the socket to the run.
        closing_error: the error for the server's close frame.
        response: information on the handshake's response, once it has come.
    """

    sender: Sender
    label: str
    read: Callable[[bytes], StreamEvent | None]
    begin: Callable[[Timeout, float | None, Recover], Awaitable[RunReader]]
    closing_error: Callable[[WebSocket], errors.DynamiqError]
    response: Callable[[], ResponseInfo | None]


class SocketRun(WorkflowStream[T_co]):
    """The events of one run on a WebSocket, from `AppSocket.run`.

    It is used like an `AppStream`: iterate it, or its `text()`, or ask for its `output()`. Leaving
    it before its end closes the socket.

    Attributes:
        run_id: the workflow run's id, once an event has given it.
        final: the workflow's final event, once it has arrived.
    """

    final: StreamEvent | None
    _reader: RunReader | None = None
    _advice = "The App may have run to its end all the same"

    def __init__(
        self,
        line: Line,
        message: bytes,
        timeout: Timeout,
        *,
        event: str | None,
        on_bad_event: OnBadEvent,
        output_type: Any = Any,
    ) -> None:
        super().__init__(line.sender, line.label, output_type, event=event)
        self._line = line
        self._message = message
        self._timeout = timeout
        self._recover = recovery(line.read, broken_event, on_bad_event, self._key)

    async def _open(self) -> None:
        deadline = deadline_in(self._timeout.total)
        self._reader = await self._line.begin(self._timeout, deadline, self._recover)
        try:
            await self._reader.wire.send(self._message)
        except errors.DynamiqError as error:
            raise self._explained(error) from error.__cause__

    def _up_to_final(self, batch: list[StreamEvent]) -> list[StreamEvent]:
        for event in batch:
            self._note_usage(event)
        if self._reader is not None and self._reader.complete:
            self.final = batch[-1]
        return batch

    def _check_whole(self) -> None:
        if self._reader is not None and not self._reader.closed_properly:
            raise self._explained(self._line.closing_error(self._reader.wire))

    def _known(self) -> dict[str, Any]:
        info = self._line.response()
        return {
            "run_id": self.run_id,
            "request_id": info.request_id if info is not None else None,
        }


class RunReader:
    """The events of one run, out of the messages of its socket."""

    def __init__(
        self,
        protocol: SocketProtocol,
        ended: Collection[str],
        wire: WebSocket,
        limits: TimeLimits,
        recover: Recover,
        finish: Callable[[RunReader], None],
    ) -> None:
        self._protocol = protocol
        self._ended = ended
        self._finish = finish
        self._limits = limits
        self._recover = recover
        self._deferred: errors.SSEError | None = None
        self._waiting = False
        self._open_questions = 0
        self._heard = False
        self.wire = wire
        self.run_id: str | None = None
        self.complete: bool = False  # whether the event that ends the run has come

    async def batch(self) -> list[StreamEvent] | None:
        """The next events, at least one; None when the server has closed the socket.

        All complete events that arrived are returned before the error after them is raised.
        """
        if self._deferred is not None:
            raise self._deferred
        while (messages := await self._receive()) is not None:
            if events := self._events(messages):
                return events
        return None

    async def _receive(self) -> list[bytes | None] | None:
        self._waiting = True
        self._watch_silence()
        try:
            return await self.wire.receive()
        except errors.APITimeoutError as error:
            if not self._heard and (advice := self._protocol.silence_advice):
                error.message += f". {advice}"
                error.args = (error.message,)
            raise
        finally:
            self._waiting = False
            self._limits.pause()

    def _watch_silence(self) -> None:
        """Run the idle limit, unless a question is open: then the server waits for us."""
        if self._waiting and not self._open_questions:
            self._limits.run("idle")

    def _events(self, messages: list[bytes | None]) -> list[StreamEvent]:
        events: list[StreamEvent] = []
        for message in messages:
            if message is None:
                self._ended = ()  # the fence: after it, an old id belongs to a new run
                continue
            try:
                event = self._event(message)
            except errors.SSEError as error:
                if not events:
                    raise
                self._deferred = error
                break
            if event is None or not self._takes(event):
                continue
            events.append(event)
            if self._protocol.ends_run(event):
                self.complete = True
                break
        return events

    def _event(self, message: bytes) -> StreamEvent | None:
        try:
            event = self._protocol.read(message)
        except _json.DECODE_ERRORS as error:
            event = self._recover(message, error)
        if event is not None:
            _json.keep(event, memoryview(message))
        return event

    def _takes(self, event: StreamEvent) -> bool:
        """Note the facts of an event of this run; False if it belongs to another run."""
        if not self._protocol.belongs(event, self.run_id, self._ended):
            log.debug(
                "an event of run %s was passed over: another is under way",
                event.wf_run_id,
                extra=extra(run_id=event.wf_run_id),
            )
            return False
        self._heard = True
        if self.run_id is None:
            self.run_id = event.wf_run_id
        if event.question is not None:
            self._open_questions += 1
        return True

    def answered(self) -> None:
        """Note that a question of this run was answered."""
        self._open_questions = max(0, self._open_questions - 1)
        self._watch_silence()

    @property
    def closed_properly(self) -> bool:
        """Whether the server's close means that the run is complete without its final event."""
        closing = self.wire.closing
        said_all = self._heard and not self._open_questions
        return closing is not None and said_all and self._protocol.is_complete(closing.code)

    def fail(self, error: Exception) -> None:
        """Make a waiting `batch` raise `error`."""
        self.wire.fail(error)

    async def drain(self) -> None:
        """Leave the socket to the next run."""
        self.close()

    def close(self) -> None:
        """Release the socket, and close it if the run is not complete."""
        self._limits.stop()
        self._finish(self)
