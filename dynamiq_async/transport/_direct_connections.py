"""Connections on which the client itself speaks HTTP/1.1. aiohttp's connector makes and keeps them,
and its parser reads the responses.

aiohttp's session uses the same connections. A connection is direct from `write` until its response
is complete; otherwise it behaves like its base class. A head that the parser refuses also goes to
the base class, which reads line by line and tolerates harmless errors.
"""

from __future__ import annotations

import asyncio
import inspect
import select
from contextlib import aclosing
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import HttpResponseParser

from dynamiq_async.transport import _aiohttp_private as private
from dynamiq_async.transport._aiohttp_body import PIECE
from dynamiq_async.transport._aiohttp_connections import (
    MAX_LINE,
    NotConnectedError,
    OwnConnector,
    OwnHandler,
)
from dynamiq_async.transport._aiohttp_response import READ_AHEAD
from dynamiq_async.transport._plain_responses import plain_response

if TYPE_CHECKING:
    from dynamiq_async.transport._direct_heads import Head, Target
    from dynamiq_async.transport.base import Request

PARSER: dict[str, Any] = {
    "read_until_eof": True,
    "auto_decompress": False,
    "max_line_size": MAX_LINE,
    "max_field_size": MAX_LINE,
    "max_headers": 512,
}

_TAKEN = inspect.signature(ResponseHandler.set_response_params).parameters
_INHERITED_PARSER = {name: value for name, value in PARSER.items() if name in _TAKEN}

_BODYLESS = (204, 304)
_LF = b"\n"[0]


class DirectConnector(OwnConnector):
    """Makes connections, and keeps those that can be used again."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        make: Any = partial(DirectHandler, loop=self._loop)
        self._factory = make

    def take(self, key: Any) -> DirectHandler | None:
        """A connection that was kept, or None."""
        kept: Any = self._conns.get(key)
        if not kept:
            return None
        taken: DirectHandler | None = None
        oldest = monotonic() - (self._keepalive_timeout or 0)
        while kept and taken is None:
            connection, since = kept.popleft()
            if since >= oldest and connection.is_connected():
                taken = connection
                taken.home = self, key
                self._acquired.add(taken)
            else:
                connection.close()
        if not kept:
            del self._conns[key]
        return taken

    def keep(self, key: Any, connection: DirectHandler) -> None:
        """Keep a connection for the next request to `key`, unless it is to be closed."""
        if self._cleanup_handle is None or self._closed or connection.is_over:
            self._release(key, connection)  # does the same, at three times the cost
        else:
            self._acquired.discard(connection)
            self._conns[key].append((connection, monotonic()))

    async def open(self, target: Target, timeout: aiohttp.ClientTimeout) -> DirectHandler:
        """A new connection. Raises what aiohttp raises."""
        made: Any = await self.connect(target, [], timeout)
        connection: DirectHandler = private.protocol_of(made)
        connection.home = self, target.connection_key
        return connection


class DirectHandler(OwnHandler):
    """One connection.

    Attributes:
        home: the connector that it goes back to, and its key there.
        is_over: whether it takes no more requests.
    """

    home: tuple[DirectConnector, Any]

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._direct = False  # whether a request sent by `write` is under way
        self._own_parser: Any = None
        self._feed: Any = None  # feeds the parser; None while the base class reads
        self._reading = False  # whether the base class is reading now
        self._head: asyncio.Future[Any] | None = None  # of the response, until it has come
        self._begun = b""  # the beginning of the head
        self._body: Any = None  # the body that is still coming
        self._chunked = False
        self._behind_head = 0  # bytes that came after the head, as far as they are counted
        self._ends_line = True  # whether the last byte that came ends a line
        self._upload: asyncio.Task[None] | None = None
        self.is_over: bool = False
        self._unread: Any = None  # asks the system whether there are unread bytes

    # --- the request ----------------------------------------------------------------------------

    def write(self, head: Head, request: Request) -> asyncio.Future[Any]:
        """Send a request. The future's result is the status of the response, the headers and the
        body: a reader, None if there is no body, or bytes if the whole body has arrived."""
        transport: Any = self.transport
        if transport is None or transport.is_closing():  # the server closed it immediately
            self._should_close = self.is_over = True
            self._go_home()
            raise NotConnectedError(aiohttp.ServerDisconnectedError())
        if self._own_parser is None:
            self._own_parser = HttpResponseParser(
                self, self._loop, READ_AHEAD, payload_exception=aiohttp.ClientPayloadError, **PARSER
            )
        self._parser = self._own_parser  # the session may have set another one
        self._direct, self._feed = True, self._own_parser.feed_data
        self._head = answered = self._loop.create_future()
        body = request.body
        if body is None:
            request.sent = True
            transport.write(head.data)
        elif isinstance(body, bytes) and len(body) <= PIECE:
            request.sent = True
            transport.write(b"%b%d\r\n\r\n%b" % (head.data, len(body), body))
        else:
            self._upload = self._loop.create_task(self._send(head, request))
        return answered

    async def _send(self, head: Head, request: Request) -> None:
        """Send a large body piece by piece. The response may already come meanwhile."""
        try:
            await self._send_pieces(head, request)
        except Exception as error:  # noqa: BLE001 - reported through the response
            self._upload = None
            if self._direct:
                self._end(error)
        self._upload = None

    async def _send_pieces(self, head: Head, request: Request) -> None:
        body: Any = request.body
        length = len(body) if isinstance(body, bytes) else body.length
        request.sent = True
        self._put(head.chunked if length is None else b"%b%d\r\n\r\n" % (head.data, length))
        if isinstance(body, bytes):
            view = memoryview(body)
            for start in range(0, len(view), PIECE):
                self._put(view[start : start + PIECE])
                await private.drain(self)
            return
        async with aclosing(aiter(body)) as pieces:
            async for piece in pieces:
                self._put(b"%x\r\n%b\r\n" % (len(piece), piece) if length is None else piece)
                await private.drain(self)
        if length is None:
            self._put(b"0\r\n\r\n")

    def _put(self, data: Any) -> None:
        if self.transport is None or self.transport.is_closing():
            raise aiohttp.ClientConnectionResetError("Cannot write to closing transport")
        self.transport.write(data)

    # --- the response ---------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._feed is None:
            self._reading = True
            super().data_received(data)
            self._reading = False
            if self._direct:
                self._settle()
            return
        if self._head is not None and not self._begun and (plain := plain_response(data)):
            head, self._head, self._fresh = self._head, None, False
            if not head.done():
                head.set_result(plain)
            self._finish()
            return
        if data:  # otherwise bytes that were held back are parsed
            self._behind_head += len(data)
            self._ends_line = data[-1] == _LF
        try:
            messages, _, _ = self._feed(data)
        except Exception as error:  # noqa: BLE001 - its exceptions all mean a refusal
            self._refused(data, error)
            return
        if messages:
            came = self._begun + data
            for message, payload in messages:
                self._take(message, payload)
            if self._head is not None:  # it was an interim response
                self._begun = came.rpartition(b"\r\n\r\n")[2]
                return
            self._behind_head = len(came) - _end_of_head(came, len(messages))
        elif self._head is not None:
            self._begun += data
            return
        body = self._body
        if body is None or self._chunked:
            if body is None or body.is_eof():
                self._finish(surplus=not self._ends_line)
        elif body.is_eof():
            self._finish(surplus=self._behind_head != body.total_bytes)

    def _take(self, message: Any, payload: Any) -> None:
        head, status = self._head, message.code
        if head is None or status == 101:
            self._should_close = self.is_over = True  # another response, or no more HTTP
        if head is None or (100 <= status < 200 and status != 101):
            return
        self._head, self._begun, self._fresh = None, b"", False
        if message.should_close:
            self._should_close = self.is_over = True
        if status in _BODYLESS or payload is aiohttp.streams.EMPTY_PAYLOAD:
            payload = None
        self._body = self._payload = payload
        self._chunked = message.chunked
        if not head.done():
            head.set_result((status, message.headers, payload))

    def _refused(self, data: bytes, error: Exception) -> None:
        """Handle data that the parser refuses."""
        if self._head is not None:
            data, self._begun = self._begun + data, b""
            self._feed = self._own_parser = None
            self.set_response_params(read_bufsize=READ_AHEAD, **_INHERITED_PARSER)
            self.data_received(data)
        elif self._body is None or self._body.is_eof():
            self._finish(surplus=True)
        else:
            self._end(error)

    def _settle(self) -> None:
        """Handle what the base class has read, or the end of the connection."""
        while self._buffer:
            message, payload = self._buffer.popleft()[0]
            self._take(message, payload)
        if self._head is None and (self._body is None or self._body.is_eof()):
            self._finish()
        elif self._exception is not None or self.transport is None:
            self._end(self._exception)

    def _finish(self, *, surplus: bool = False) -> None:
        """Handle the end of a complete response."""
        self._direct, self._feed, self._body = False, None, None
        if surplus:
            self._should_close = self.is_over = True
        if self._upload is not None:
            self._upload.cancel()
            self._should_close = self.is_over = True
        self._go_home()

    def abandon(self) -> None:
        """Give up the rest of the response."""
        if self._direct:
            self._end(None)

    def _end(self, error: BaseException | None) -> None:
        """Give up the response and the connection."""
        self._direct, self._feed = False, None
        head, self._head = self._head, None
        body, self._body = self._body, None
        if head is not None and not head.done():
            head.set_exception(_told(error))
        if body is not None and not body.is_eof() and body.exception() is None:
            body.set_exception(aiohttp.ClientPayloadError(str(error or "it was closed")))
        if self._upload is not None:
            self._upload.cancel()
        self._should_close = self.is_over = True
        self._go_home()

    def _go_home(self) -> None:
        transport = self.transport
        if self.is_over and transport is not None and transport.get_write_buffer_size():
            transport.abort()  # unsent bytes would delay closing
        connector, key = self.home
        connector.keep(key, self)

    # --- called by the connector and by the loop ------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if hasattr(select, "poll"):
            poll = select.poll()
            poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
            self._unread = poll.poll

    def is_connected(self) -> bool:
        transport = self.transport
        if transport is None or transport.is_closing():
            return False
        return not (self._unread and self._unread(0))

    def resume_reading(self, *given: Any, **options: Any) -> None:
        """Continue reading, if it was paused."""
        if self._reading_paused:  # the reader of a body calls this with each read
            super().resume_reading(*given, **options)

    def close(self) -> None:
        """Close the connection. An awaited response fails."""
        super().close()
        if self._direct and not self._reading:
            self._settle()

    def abort(self) -> None:
        """Abort the connection. An awaited response fails."""
        super().abort()
        if self._direct:
            self._settle()

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        if self._direct:
            self._settle()


def _end_of_head(data: bytes, heads: int) -> int:
    """The end of the last of the `heads` heads at the beginning of `data`."""
    end = 0
    for _ in range(heads):
        end = data.find(b"\r\n\r\n", end) + 4
    return end


def _told(error: BaseException | None) -> BaseException:
    """The exception for the task that awaits the response."""
    if isinstance(error, HttpProcessingError):
        nothing: Any = None
        return aiohttp.ClientResponseError(
            nothing, (), status=error.code, message=error.message or ""
        )
    return error if error is not None else aiohttp.ServerDisconnectedError()
