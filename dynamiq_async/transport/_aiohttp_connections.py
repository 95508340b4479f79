"""Connections of our own sessions: one response for each request, and nothing else.

aiohttp takes whatever comes on a connection that waits in the pool for the next request's response,
and loses a response with more bytes behind it than it announced. Here such bytes end the connection
and nothing more.
"""

from __future__ import annotations

import re
import select
from functools import partial
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp.client_proto import ResponseHandler

if TYPE_CHECKING:
    import asyncio

MAX_LINE = 64 * 1024
"""Bytes that a line of a response's head, or one of its fields, may have."""

_INTERIM = re.compile(rb"HTTP/\d\.\d 1(?!01)\d\d\b")
_BODYLESS = re.compile(rb"HTTP/\d\.\d (204|304)\b")
_LENGTH = re.compile(rb"(?i)content-length[ \t]*:(.*)\r?\n", re.DOTALL)

# A failure to connect that aiohttp names itself.
_NAMED = (aiohttp.ClientConnectorError, aiohttp.ClientSSLError, aiohttp.ClientHttpProxyError)


class NotConnectedError(aiohttp.ClientConnectionError):
    """What broke before there was a connection, such as a proxy's tunnel: nothing was sent."""

    def __init__(self, reason: Exception) -> None:
        super().__init__()
        self.reason = reason


class OwnConnector(aiohttp.TCPConnector):
    """Makes connections that take one response for each request."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        make: Any = partial(OwnHandler, loop=self._loop)
        self._factory = make

    async def connect(self, req: Any, traces: Any, timeout: Any) -> Any:
        try:
            return await super().connect(req, traces, timeout)
        except (aiohttp.ClientError, ConnectionError) as error:
            if isinstance(error, _NAMED):
                raise
            failure = NotConnectedError(error.with_traceback(None))
        raise failure


class OwnHandler(ResponseHandler):
    """One connection. What comes on it unasked, or behind a response, ends it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._awaited = False  # whether the head of a response is
        self._status = b""  # the first line of the head, once it has come
        self._held = b""  # the beginning of a line of the head
        self._length = b""

    def is_connected(self) -> bool:
        """Asked before another request is sent: no, if there is something to be read before."""
        return super().is_connected() and not _has_unread(self.transport)

    def set_response_params(self, **params: Any) -> None:
        self._awaited, self._status = True, b""
        super().set_response_params(**params)

    def data_received(self, data: bytes) -> None:
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
        """Whether what comes now belongs to no response."""
        whole = self._payload is None or self._payload.is_eof()
        return whole or _BODYLESS.match(self._status) is not None

    def _take_head(self, data: bytes) -> bytes:
        """Pass on what there is of the head. Returns what is behind it.

        A length that is said again is left out, which RFC 9110, 8.6 allows and aiohttp's parser
        refuses.
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
                lines.append(rest)  # the parser says what is wrong with it
        else:
            data = data[start:]
        if head := b"".join(lines):
            super().data_received(head)
        return data

    def _checked(self, line: bytes) -> bytes:
        """A line of the head as it is to be parsed."""
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
