"""Responses written to the connection by hand, byte for byte, so that faults are exact.

aiohttp's server reads the requests. Responses do not use its response classes: they are written to
the transport as a status line, headers, and a body in one of three framings. The `Fault` of the
request is applied here, exactly: the client's system receives all bytes before its position, even
if the connection is reset right after them, and no others.
"""

from __future__ import annotations

import asyncio
import math
import socket
import struct
import sys
from http import HTTPStatus
from typing import TYPE_CHECKING, Literal, NoReturn

from aiohttp import web
from multidict import CIMultiDict

from .faults import BODYLESS, NO_FAULT
from .response_headers import add_common_headers

if sys.platform == "linux":
    from fcntl import ioctl
    from termios import TIOCOUTQ

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, MutableMapping, Sequence

    from .request_record import RequestRecord

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER with zero seconds: close() sends RST
PHRASES = {status.value: status.phrase for status in HTTPStatus}
"""The reason phrase of each status."""


class DroppedError(Exception):
    """The fault closed the connection: no response can be sent any more."""


async def pause(seconds: float) -> None:
    """Sleep for some seconds. 0 does not sleep at all; `math.inf` sleeps until canceled."""
    if seconds == math.inf:
        await asyncio.get_running_loop().create_future()
    elif seconds:
        await asyncio.sleep(seconds)


class Wire:
    """Writes one response to the client, and applies the request's fault to it.

    Call `start`, then `write` and `write_event`, then `finish`. Each of them raises `DroppedError`
    when the fault closes the connection.

    Args:
        before_write: called before each write. If it raises, nothing is written and the connection
            is closed.
    """

    def __init__(
        self,
        request: web.BaseRequest,
        record: RequestRecord,
        before_write: Callable[[], None] | None = None,
    ) -> None:
        self._before_write = before_write
        self._request = request
        self._record = record
        self._fault = record.fault
        self._framing: Literal["chunked", "length", "close"] = "chunked"
        # The unread rest of a body would precede the next request on this connection.
        self._keep_alive = request.keep_alive and request.content.is_eof()
        self._headers: MutableMapping[str, str]
        self._whole: list[tuple[bytes, bool]] | None = None  # a body whose length is needed first
        self._held = b""  # shorter than write_size, waiting for more
        self._ahead = self._fault.positioned  # the fault's position is still to come

    @property
    def request(self) -> web.BaseRequest:
        """The request that this responds to."""
        return self._request

    @property
    def response(self) -> web.StreamResponse:
        """The object that aiohttp gets once the response is written."""
        return written(keep_alive=self._keep_alive)

    async def start(
        self, status: int, headers: Mapping[str, str], *, length: int | None = None
    ) -> None:
        """Send the head. `length` is that of the body; if it is None, the body is chunked."""
        self._record.status = status
        self._headers = CIMultiDict(headers)
        add_common_headers(self._headers, self._record)
        self._framing = self._fault.framing or ("chunked" if length is None else "length")
        if self._framing == "chunked" and self._request.version < (1, 1):
            self._framing = "close"
        if self._framing == "length" and length is None:
            self._whole = []  # `finish` sends it
        else:
            await self._send_head(length)

    async def respond(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Send a whole response."""
        if self._fault is NO_FAULT:  # then it takes one write
            self._record.status = status
            self._record.count(body)
            self._headers = dict(headers)  # nothing replaces one whatever its case
            add_common_headers(self._headers, self._record)
            self._framing = "length"
            head = self._make_head(len(body))
            self._raw(head if self._record.method == "HEAD" else head + body)
            await self._request.writer.drain()
            return
        await self.start(status, headers, length=len(body))
        await self.write(body)
        await self.finish()

    async def upgraded(self) -> None:
        """Note that a 101 was sent. From now on bytes are sent without HTTP framing."""
        self._record.status = 101
        self._framing = "close"
        self._keep_alive = False
        if self._fault.after_events == 0 or self._fault.at_byte == 0:
            await self._at_position()

    async def write(self, data: bytes) -> None:
        """Send a piece of the body that is not an event."""
        await self._put(data, event=False)

    async def write_event(self, data: bytes) -> None:
        """Send one whole event."""
        await self._put(data, event=True)

    async def write_events(self, events: Sequence[bytes]) -> None:
        """Send whole events, in one write unless the fault affects them."""
        plain = not self._ahead and self._fault.write_size is None and self._whole is None
        if len(events) < 2 or not plain:
            for event in events:
                await self.write_event(event)
            return
        self._record.count_events(events)
        self._raw(b"".join(map(self._chunk, events)))
        await self._request.writer.drain()

    async def finish(self) -> None:
        """End the body."""
        if self._whole is not None:
            pieces, self._whole = self._whole, None
            await self._send_head(sum(len(data) for data, _ in pieces))
            for data, event in pieces:
                await self._put(data, event=event)
        self.flush()
        if self._fault.terminator == "missing":
            await self.drop("close")
        await pause(self._fault.terminator)
        if self._framing == "chunked":
            self._raw(b"0\r\n\r\n")
        await self._request.writer.drain()

    async def drop(self, how: Literal["reset", "close", "truncate"]) -> NoReturn:
        """Close the connection after the bytes written so far, and raise `DroppedError`."""
        self._keep_alive = False
        transport = self._transport
        if how == "reset":
            await reset(transport)
        transport.close()
        raise DroppedError

    @property
    def _transport(self) -> asyncio.Transport:
        return transport_of(self._request)

    # --- the head and the framing ------------------------------------------------------------

    async def _send_head(self, length: int | None) -> None:
        self._raw(self._make_head(length))
        if self._fault.after_events == 0 or self._fault.at_byte == 0:
            await self._at_position()

    def _make_head(self, length: int | None) -> bytes:
        status = self._record.status or 200
        if self._framing == "chunked":
            self._headers["Transfer-Encoding"] = "chunked"
        elif self._framing == "close":
            self._keep_alive = False
        elif status not in BODYLESS:
            self._headers["Content-Length"] = str(length)
        if not self._keep_alive:
            self._headers["Connection"] = "close"
        head = f"HTTP/1.1 {status} {PHRASES.get(status, '')}\r\n"
        for name, value in self._headers.items():
            head += f"{name}: {value}\r\n"
        return f"{head}\r\n".encode()

    def _piece(self, data: bytes, *, announced: int | None = None) -> None:
        """Write `data`, as one chunk if the body is chunked. `announced` is the size in the head of
        a chunk that is cut short."""
        if announced is not None and self._framing == "chunked":
            self._raw(b"%x\r\n%b" % (announced, data))
        elif data and self._record.method != "HEAD":
            self._raw(self._chunk(data))

    def _chunk(self, data: bytes) -> bytes:
        """`data` as a chunk, if the body is chunked. An empty chunk would end the body."""
        return b"%x\r\n%b\r\n" % (len(data), data) if self._framing == "chunked" else data

    def _raw(self, data: bytes) -> None:
        if self._before_write is not None:
            try:
                self._before_write()
            except BaseException:
                self._transport.abort()
                raise
        self._transport.write(data)

    # --- the body: cut at the fault's position, and split into writes --------------------------

    async def _put(self, data: bytes, *, event: bool) -> None:
        if self._whole is not None:
            self._whole.append((data, event))
            return
        record, fault = self._record, self._fault
        if self._ahead and fault.at_byte is not None:
            cut = fault.at_byte - record.bytes_sent
            if cut <= len(data):
                head, data = data[:cut], data[cut:]
                await self._at_position(head, data)
        await self._send(data)
        if event:
            record.events_sent += 1
            if self._ahead and record.events_sent == fault.after_events:
                await self._at_position()
        await self._request.writer.drain()

    async def _send(self, data: bytes) -> None:
        self._record.count(data)
        size = self._fault.write_size
        if size is None:
            self._piece(data)
            return
        self._held += data
        while len(self._held) >= size:
            self._piece(self._held[:size])
            self._held = self._held[size:]
            await self._request.writer.drain()
            await asyncio.sleep(0)  # so that a reader in this loop gets each write separately

    def flush(self) -> None:
        """Send what `write_size` holds back."""
        self._piece(self._held)
        self._held = b""

    async def _at_position(self, head: bytes = b"", rest: bytes = b"") -> None:
        """Apply the fault at its position, which is between `head` and `rest`."""
        self._ahead = False
        fault = self._fault
        cut_short = fault.drop == "truncate" and not (fault.send or fault.stall)
        if cut_short and fault.write_size is None:
            self._record.count(head)
            self._held = head  # the beginning of the chunk that is cut
        else:
            await self._send(head)
        if not cut_short:
            self.flush()
        self._piece(fault.send)
        await pause(fault.stall)
        if fault.drop == "truncate":
            self._piece(self._held, announced=len(self._held) + (len(rest) or 1))
        if fault.drop:
            await self.drop(fault.drop)


class Nowhere(Wire):
    """Discards a response that the fault replaces."""

    async def start(
        self, status: int, headers: Mapping[str, str], *, length: int | None = None
    ) -> None:
        """Send nothing."""

    async def respond(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Send nothing."""

    async def _put(self, data: bytes, *, event: bool) -> None:
        """Send nothing."""

    async def finish(self) -> None:
        """Send nothing."""


class _Written(web.StreamResponse):
    """Tells aiohttp that the response is written, and whether to keep the connection."""

    def __init__(self, *, keep_alive: bool) -> None:
        super().__init__()
        self._reusable = keep_alive

    @property
    def keep_alive(self) -> bool:
        return self._reusable

    async def prepare(self, request: web.BaseRequest) -> None:
        """The head is written."""

    async def write_eof(self, data: bytes = b"") -> None:
        """The body is written."""


_REUSABLE, _LAST = _Written(keep_alive=True), _Written(keep_alive=False)


def written(*, keep_alive: bool) -> web.StreamResponse:
    """The object that aiohttp gets once a response is written. It is the same for all requests."""
    return _REUSABLE if keep_alive else _LAST


def transport_of(request: web.BaseRequest) -> asyncio.Transport:
    """The connection of a request. Raises `ConnectionResetError` when the client has left."""
    transport = request.transport
    if transport is None:  # pragma: no cover - the client left in this turn of the loop
        raise ConnectionResetError("the client left")
    return transport


async def reset(transport: asyncio.Transport) -> None:
    """Send RST once the client's system has acknowledged all bytes written before."""
    sock = transport.get_extra_info("socket")
    while transport.get_write_buffer_size() or _unsent(sock):  # noqa: ASYNC110 - the system can only be asked
        await asyncio.sleep(0.001)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    transport.abort()


def _unsent(sock: socket.socket) -> int:
    """How many bytes the peer has not acknowledged; 0 on systems that do not report it."""
    if sys.platform != "linux":  # pragma: no cover - other systems do not tell
        return 0
    count = struct.unpack("i", ioctl(sock.fileno(), TIOCOUTQ, b"\0\0\0\0"))
    return int(count[0])
