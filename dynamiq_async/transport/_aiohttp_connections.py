"""Connections of our own sessions: exactly one response for each request.

aiohttp takes bytes that come on an idle connection in the pool for the next request's response, and
loses a response that is followed by more bytes than it announced. Here, such bytes only end the
connection.
"""

from __future__ import annotations

import re
import select
import socket
import ssl
from functools import partial
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp.client_proto import ResponseHandler

from dynamiq_async._tasks import patient_timeout

if TYPE_CHECKING:
    import asyncio

MAX_LINE = 64 * 1024
"""The most bytes of a line in a response's head, or of one of its fields."""

_INTERIM = re.compile(rb"HTTP/\d\.\d 1(?!01)\d\d\b")
_BODYLESS = re.compile(rb"HTTP/\d\.\d (204|304)\b")
_LENGTH = re.compile(rb"(?i)content-length[ \t]*:(.*)\r?\n", re.DOTALL)

# A failure to connect that aiohttp names itself.
_NAMED = (aiohttp.ClientConnectorError, aiohttp.ClientSSLError, aiohttp.ClientHttpProxyError)


# A dead peer is noticed after about a minute instead of the system's two hours.
_KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPALIVE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}


class _Socket(socket.socket):
    """A socket that lets the peer's last bytes be read before it fails.

    A server that refuses a request while it is still being sent (a TLS alert, an early response)
    closes its end, and the next `send` fails. asyncio would then drop the connection and all unread
    bytes. So `send` drops its own data instead, for as long as there is something to read.
    """

    def send(self, data: Any, flags: int = 0, /) -> int:
        try:
            return super().send(data, flags)
        except (BrokenPipeError, ConnectionResetError):
            if not self._has_data():
                raise
            return memoryview(data).nbytes

    def sendmsg(self, buffers: Any, /, *rest: Any) -> int:
        try:
            return super().sendmsg(buffers, *rest)
        except (BrokenPipeError, ConnectionResetError):
            if not self._has_data():
                raise
            return sum(memoryview(buffer).nbytes for buffer in buffers)

    def _has_data(self) -> bool:
        try:
            return bool(self.recv(1, socket.MSG_PEEK))
        except OSError:
            return False


def own_socket(addr_info: Any) -> socket.socket:
    """The socket of a new connection."""
    family, kind, proto, _, _ = addr_info
    sock = _Socket(family=family, type=kind, proto=proto)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE.items():
        if number := getattr(socket, option, None):
            sock.setsockopt(socket.IPPROTO_TCP, number, value)
    return sock


class NotConnectedError(aiohttp.ClientConnectionError):
    """The connection broke before it could take requests: in a proxy's tunnel, or in the part of
    a TLS 1.3 handshake that ends only after the client has sent data. No request was processed."""

    def __init__(self, reason: Exception) -> None:
        super().__init__()
        self.reason = reason


CONNECT_TURNS = 10
"""Turns of grace for a connection that was made while the process was suspended. Several tasks pass
it on before a request can use it; two turns are enough for the first of them."""


class OwnTimeout(aiohttp.ClientTimeout):
    """aiohttp's limits, with one for connecting that `OwnConnector` keeps."""

    connecting: float | None = None


def own_timeout(connect: float | None) -> OwnTimeout:
    """A limit of `connect` seconds for a new connection, and no other."""
    timeout = OwnTimeout(total=None, connect=None, sock_connect=None, sock_read=None)
    object.__setattr__(timeout, "connecting", connect)  # its base is frozen
    return timeout


class OwnConnector(aiohttp.TCPConnector):
    """Makes connections that take one response for each request."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        make: Any = partial(OwnHandler, loop=self._loop)
        self._factory = make

    async def _create_connection(self, req: Any, traces: Any, timeout: Any) -> Any:
        async with patient_timeout(timeout.connecting, turns=CONNECT_TURNS):
            return await super()._create_connection(req, traces, timeout)

    async def _resolve_host(self, host: str, port: int, traces: Any = None) -> Any:
        # Names under .localhost are this machine (RFC 6761, 6.3), which few resolvers know.
        if not host.lower().removesuffix(".").endswith(".localhost"):
            return await super()._resolve_host(host, port, traces)
        found = await super()._resolve_host("localhost", port, traces)
        return [{**address, "hostname": host} for address in found]

    async def connect(self, req: Any, traces: Any, timeout: Any) -> Any:
        try:
            return await super().connect(req, traces, timeout)
        except (aiohttp.ClientError, ConnectionError) as error:
            if isinstance(error, _NAMED):
                raise
            failure = NotConnectedError(error.with_traceback(None))
        raise failure


class OwnHandler(ResponseHandler):
    """One connection. Bytes that no request awaits, or that follow a response, end it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._fresh = True  # nothing has come yet
        self._awaited = False  # whether the head of a response is awaited
        self._status = b""  # the first line of the head, once it has come
        self._held = b""  # the beginning of a line of the head
        self._length = b""

    def is_connected(self) -> bool:
        """Whether another request can be sent. Not if there are unread bytes."""
        return super().is_connected() and not _has_unread(self.transport)

    def set_response_params(self, **params: Any) -> None:
        """Note that a response is awaited from here on."""
        self._awaited, self._status = True, b""
        super().set_response_params(**params)

    def connection_lost(self, exc: BaseException | None) -> None:
        # In TLS 1.3 a server checks the client's certificate after the client's handshake is done
        # (RFC 8446, 4.4). Until then it reads no request.
        if self._fresh and isinstance(exc, ssl.SSLError) and "_ALERT_" in (exc.reason or ""):
            exc = NotConnectedError(exc.with_traceback(None))
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._fresh = False
        if data and self._payload_parser is None and not self._upgraded:
            if self._awaited:
                data = self._take_head(data)
            # An upgrade may come with this very head.
            if data and not self._upgraded and self._is_surplus():
                self.close()
                return
            if not data:
                return
        before = len(self._buffer)
        super().data_received(data)
        if self._payload_parser is None and len(self._buffer) > before:
            while len(self._buffer) > before:  # another response behind the body
                self._buffer.pop()
            self.close()

    def _is_surplus(self) -> bool:
        """Whether the bytes that come now belong to no response."""
        whole = self._payload is None or self._payload.is_eof()
        return whole or _BODYLESS.match(self._status) is not None

    def _take_head(self, data: bytes) -> bytes:
        """Pass the bytes of the head on. Returns the bytes after it.

        A repeated length is left out: RFC 9110, 8.6 allows it, but aiohttp's parser refuses it.
        """
        data, self._held = self._held + data, b""
        lines, start = [], 0
        while self._awaited and (end := data.find(b"\n", start) + 1):
            line, start = data[start:end], end
            lines.append(self._checked(line))
        if self._awaited:
            rest, data = data[start:], b""
            if len(rest) <= MAX_LINE and (self._status or rest[:5] == b"HTTP/"[: len(rest)]):
                self._held = rest
            else:
                lines.append(rest)  # the parser reports what is wrong with it
        else:
            data = data[start:]
        if head := b"".join(lines):
            super().data_received(head)
        return data

    def _checked(self, line: bytes) -> bytes:
        """A line of the head, as the parser gets it."""
        if not self._status:
            self._status, self._length = line.strip(), b""
        elif line in (b"\r\n", b"\n"):
            if _INTERIM.match(self._status):
                self._status = b""
            else:
                self._awaited = False
        elif found := _LENGTH.fullmatch(line):
            lengths = {length.strip() for length in found[1].split(b",")}
            length = lengths.pop()
            if not lengths and length == self._length:
                return b""
            if not lengths and not self._length:
                self._length = length
                return b"Content-Length: %b\r\n" % length
        return line


def _has_unread(transport: Any) -> bool:
    """Whether the system has bytes, or the end of the connection, that the loop has not read."""
    if not hasattr(select, "poll"):  # pragma: no cover - on Windows
        return False
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
    return bool(poll.poll(0))
