"""The socket: its handshake, its messages, the order of its runs, and its end."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self, TypedDict, TypeVar, Unpack, overload

from dynamiq_async import errors
from dynamiq_async._credentials import mask
from dynamiq_async._http.error_responses import beginning, error_class, request_id, type_error
from dynamiq_async._http.request_options import UNSET, TimeoutLike
from dynamiq_async._http.response import ResponseInfo
from dynamiq_async._http.sender import read_beginning
from dynamiq_async._http.timers import reading_limits
from dynamiq_async._json import encode, encode_object
from dynamiq_async._tasks import Openable, release_on
from dynamiq_async.events import Question, StreamEvent
from dynamiq_async.websocket._frames import check_installed
from dynamiq_async.websocket.connection import WebSocket
from dynamiq_async.websocket.run import Line, RunReader, SocketRun

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dynamiq_async._http.request_options import SendOptions
    from dynamiq_async._http.sender import Sender
    from dynamiq_async.options import Timeout
    from dynamiq_async.streaming.event_reader import OnBadEvent
    from dynamiq_async.websocket.handshake import Handshake
    from dynamiq_async.websocket.protocol import SocketProtocol
    from dynamiq_async.websocket.run import Recover

T = TypeVar("T")

_REMEMBERED = 64  # earlier runs whose last messages are not taken for those of the present run


class _RunOptions(TypedDict, total=False):
    """The arguments of `run` that do not change the type it returns."""

    event: str | None
    on_bad_event: OnBadEvent
    user_id: str | None
    session_id: str | None
    last_node_output: bool | None
    error_on_node_failure: bool | None
    timeout: TimeoutLike
    extra_body: Mapping[str, Any] | None


class AppSocket(Openable):
    """A WebSocket to an App, from `AsyncApp.connect`. Experimental: its messages are our guess.

    Enter it with `async with`, or let the first run open it and call `aclose()` when done. It
    takes one of the client's `max_streams` as long as it is open. It has one run at a time: for
    several runs at once, open several sockets.

    Attributes:
        response: information on the handshake's response, once it has come.
    """

    _wire: WebSocket | None = None

    def __init__(
        self,
        sender: Sender,
        request: Handshake,
        options: SendOptions,
        *,
        protocol: SocketProtocol,
        heartbeat: float | None,
        max_event_bytes: int,
    ) -> None:
        check_installed()  # raises now rather than when the socket opens
        super().__init__(str(request))
        self._sender = sender
        self._request = request
        self._options = options
        self._protocol = protocol
        self._heartbeat = heartbeat
        self._max_event_bytes = max_event_bytes
        self._reader: RunReader | None = None  # of the run under way
        self._ended: deque[str] = deque(maxlen=_REMEMBERED)
        self._used = False
        self._why = ""
        self.response: ResponseInfo | None = None

    # Messages.

    @overload
    def run(
        self, input: Any, *, output_type: type[T], **options: Unpack[_RunOptions]
    ) -> SocketRun[T]: ...
    @overload
    def run(
        self, input: Any, *, output_type: Any, **options: Unpack[_RunOptions]
    ) -> SocketRun[Any]: ...
    @overload
    def run(self, input: Any, **options: Unpack[_RunOptions]) -> SocketRun[Any]: ...
    def run(
        self,
        input: Any,
        *,
        output_type: Any = Any,
        event: str | None = None,
        on_bad_event: OnBadEvent = "raise",
        user_id: str | None = None,
        session_id: str | None = None,
        last_node_output: bool | None = None,
        error_on_node_failure: bool | None = None,
        timeout: TimeoutLike = UNSET,
        extra_body: Mapping[str, Any] | None = None,
    ) -> SocketRun[Any]:
        """Run the App and follow its events, as `AsyncApp.stream` does.

        The input is sent with the first read, or on entering `async with`. Read the run to its
        end. No message can stop a run, so leaving it earlier (`break`, an exception, cancellation,
        `aclose`) closes the socket.

        Args:
            timeout: for this run instead of the socket's: its `idle` and `total`.

        The other arguments are those of `AsyncApp.stream`.

        Raises:
            InvalidArgumentError: an argument cannot be used; nothing was sent.
        """
        encode_object(input, "input")
        if not isinstance(extra_body, Mapping | None):
            raise errors.InvalidArgumentError("extra_body must be a mapping", argument="extra_body")
        given = {
            "user_id": user_id,
            "session_id": session_id,
            "last_node_output": last_node_output,
            "error_on_node_failure": error_on_node_failure,
        }
        known = {name: value for name, value in given.items() if value is not None}
        request = {"input": input, "stream": True, **known, **(extra_body or {})}
        message = encode(self._protocol.start(request), "extra_body")
        limits = self._options.with_timeout(timeout).timeout
        line = Line(
            self._sender,
            self._label,
            self._protocol.read,
            self._begin,
            self._closing_error,
            lambda: self.response,
        )
        return SocketRun(
            line,
            message,
            limits,
            event=event,
            on_bad_event=on_bad_event,
            output_type=output_type,
        )

    async def answer(
        self,
        event: StreamEvent,
        content: str,
        *,
        answers: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        """Answer the question of an event of this socket's run.

        Args:
            event: the event; its `question` asks for feedback.
            content: the answer, as text.
            answers: answers to the parts of the question, if the event's `data` has `questions`:
                objects with `question_id`, `selected` (a list) and `custom_text` (seen in the
                vendor's library).

        Raises:
            InvalidArgumentError: the event has no question, or needs `approve` or `reject`.
            QuestionError: the event only informs, or its run is not under way here any more.
            StreamClosedError, APIConnectionError: the socket is closed or broken.
        """
        self._asked(event).check_kind("feedback", "event")
        if not isinstance(content, str):
            raise errors.InvalidArgumentError("content must be a string", argument="content")
        await self._reply(event, self._protocol.answer(event, content, answers), "answers")

    async def approve(
        self,
        event: StreamEvent,
        params: Mapping[str, Any] | None = None,
        *,
        feedback: str | None = None,
    ) -> None:
        """Approve what an event asks approval for.

        Args:
            event: the event; its `question` is of the kind `approval`.
            params: parameters to change; only those in the question's `editable_params`.
            feedback: a remark.

        Raises:
            InvalidArgumentError: the event asks for no approval, or a parameter is not editable.
            QuestionError, StreamClosedError, APIConnectionError: as for `answer`.
        """
        await self._decide(event, approved=True, params=params, feedback=feedback)

    async def reject(self, event: StreamEvent, feedback: str | None = None) -> None:
        """Reject what an event asks approval for. Raises what `approve` raises."""
        await self._decide(event, approved=False, params=None, feedback=feedback)

    async def send(self, message: Any) -> None:
        """Send any JSON message, for purposes without a method here.

        Raises:
            InvalidArgumentError: the message cannot be encoded as JSON.
            StreamClosedError, APIConnectionError: the socket is closed or broken.
        """
        await self._send(encode(message, "message"))

    # Lifecycle.

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def open(self) -> None:
        """Connect now, rather than with the first run. `async with` does this.

        Raises:
            DynamiqError: what `AsyncApp.invoke` raises for a request that does not succeed.
        """
        if self._closed:
            raise self._closed_error()
        if self._wire is not None:
            return
        if self._task is not None:
            raise errors.StreamError(f"{self._label}: another task is opening this WebSocket")
        try:
            await self._in_task(self._connect())
        except BaseException:
            self._let_go()
            raise

    async def aclose(self) -> None:
        """Send a close frame and free the connection. May be called from any task, at any time, any
        number of times.

        A read that another task is waiting in raises `StreamClosedError` there.
        """
        self._closed = True
        reader = self._reader
        try:
            await self._stop_opening()
            if reader is not None:
                reader.fail(self._closed_error())
            if self._wire is not None:
                await self._wire.aclose()
        finally:
            if reader is not None:
                reader.close()
            self._let_go()

    @property
    def closed(self) -> bool:
        """Whether the socket is known to be closed, so that no run can start."""
        return self._closed or (self._wire is not None and self._wire.ended)

    def __repr__(self) -> str:
        return f"<AppSocket {self._label}>"

    def __del__(self) -> None:
        if self._wire is not None:
            release_on(self._loop, self._wire.close)

    # Inside.

    async def _connect(self) -> None:
        opened = await self._sender.open(self._request, self._options)
        response = opened.response
        try:
            headers = {name.lower(): value for name, value in response.headers.items()}
            if response.status != 101:
                body = await read_beginning(response)
                key = self._sender.key
                raise type_error(self._label, "a WebSocket", response.status, headers, body, key)
            if not self._request.is_accepted(headers):
                raise errors.APIResponseError(
                    f"{self._label}: the server agreed to a WebSocket, and then answered with "
                    "another handshake than the one asked for",
                    status=response.status,
                )
            self._wire = WebSocket(
                opened,
                self._label,
                max_message_bytes=self._max_event_bytes,
                heartbeat=self._heartbeat,
            )
        except BaseException:
            opened.close()
            raise
        self.response = ResponseInfo(
            status=response.status,
            headers=headers,
            request_id=request_id(headers),
            attempts=opened.attempts,
        )

    async def _begin(self, timeout: Timeout, deadline: float | None, recover: Recover) -> RunReader:
        """Give the socket to a run, and return the reader of its events."""
        await self.open()
        if self._reader is not None:
            raise errors.StreamError(
                f"{self._label}: a run is under way on this WebSocket; read it to its end first, "
                "or connect once more for another one beside it"
            )
        wire = self._open_wire()
        if wire.ended:
            raise await self._too_late(wire)
        if self._used:
            wire.take()  # messages after the end of the run before; more may still arrive
            wire.fence()
        self._used = True
        limits = reading_limits(wire, self._label, timeout, deadline, self._sender.timer())
        self._reader = RunReader(self._protocol, self._ended, wire, limits, recover, self._finish)
        return self._reader

    def _open_wire(self) -> WebSocket:
        if self._closed or self._wire is None:
            raise self._closed_error()
        return self._wire

    async def _too_late(self, wire: WebSocket) -> errors.DynamiqError:
        """The error for a run that was not sent, because the connection had ended before."""
        last_words = [message for message in wire.take() if message is not None]
        try:
            await wire.receive()
        except errors.DynamiqError as error:
            failure: errors.DynamiqError = errors.ConnectError(
                f"{error.message}. The run was not sent; connect again"
            )
        else:
            failure = self._closing_error(wire, sent=False)
        if last_words:
            failure.body = beginning(last_words[-1], self._sender.key)
            failure.message += f". The last that came was {failure.body[:200]!r}"
            failure.args = (failure.message,)
        return failure

    def _closing_error(self, wire: WebSocket, *, sent: bool = True) -> errors.DynamiqError:
        """The error for the server's close frame."""
        assert wire.closing is not None  # noqa: S101 - for the type checker
        code, reason = wire.closing
        key = self._sender.key
        status = self._protocol.status(code, reason)
        kind: type[errors.DynamiqError] = (
            errors.StreamInterruptedError if sent else errors.ConnectError
        )
        if status is not None:
            kind = error_class(status, None)
        said = f"{code} ({reason})" if reason else f"{code}"
        became = (
            "before the run had ended; the App may have run to its end all the same"
            if sent
            else "before the run was sent; connect again"
        )
        return kind(
            mask(f"{self._label}: the server closed the WebSocket with {said} {became}", key),
            status=status,
            code=str(code),
            body=mask(reason, key),
            request_id=self.response.request_id if self.response is not None else None,
        )

    def _finish(self, reader: RunReader) -> None:
        """Note that a run is over. If it did not come to its end, the socket is closed."""
        if self._reader is not reader:
            return
        self._reader = None
        if reader.run_id is not None:
            self._ended.append(reader.run_id)
        if not (reader.complete or self._closed):
            self._closed = True
            self._why = ", because a run on it did not come to its end; connect again"
            self._let_go()

    def _let_go(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.close()

    def _closed_error(self) -> errors.StreamClosedError:
        return errors.StreamClosedError(f"{self._label}: the WebSocket was closed{self._why}")

    def _asked(self, event: StreamEvent) -> Question:
        """The question of an event.

        Raises:
            InvalidArgumentError: the event has no question.
            QuestionError: the event only informs.
        """
        question = event.question if isinstance(event, StreamEvent) else None
        if question is not None:
            return question
        if isinstance(event, StreamEvent) and event.notice:
            raise errors.QuestionError(f"{self._label}: this only informs; it wants no answer")
        raise errors.InvalidArgumentError(
            "event must be an event of this socket whose `question` is set", argument="event"
        )

    async def _decide(
        self,
        event: StreamEvent,
        *,
        approved: bool,
        params: Mapping[str, Any] | None,
        feedback: str | None,
    ) -> None:
        question = self._asked(event)
        question.check_kind("approval", "event")
        question.check_params(params or {})
        reply = self._protocol.decide(
            event, question, approved=approved, params=params, feedback=feedback
        )
        await self._reply(event, reply, "params")

    async def _reply(self, event: StreamEvent, reply: Any, argument: str) -> None:
        message = encode(reply, argument)
        self._open_wire()
        reader = self._reader
        if reader is None or reader.complete or event.wf_run_id not in (None, reader.run_id):
            raise errors.QuestionError(
                f"{self._label}: the run that asked is not under way on this WebSocket",
                run_id=event.wf_run_id,
            )
        await self._send(message)
        reader.answered()

    async def _send(self, message: bytes) -> None:
        wire = self._open_wire()
        await wire.send(message)
        if wire.closing is not None:
            raise self._closing_error(wire)
