"""Responses of aiohttp: how they are read, and how they fail."""

from __future__ import annotations

import asyncio
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import aiohttp

from dynamiq_async import errors
from dynamiq_async.transport import _aiohttp_private as private
from dynamiq_async.transport._aiohttp_errors import translated
from dynamiq_async.transport._decoding import decoder_for
from dynamiq_async.transport._headers import Headers

if TYPE_CHECKING:
    from dynamiq_async.transport._decoding import Decoder
    from dynamiq_async.transport.base import Request

READ_AHEAD = 64 * 1024
"""The limit for unread bytes of a body. Up to twice as many may wait."""


class ContentResponse:
    """A response with a body of aiohttp's.

    Args:
        headers: a mapping with `getall`.
        content: the body.
        key: masked in headers and in error messages.
    """

    __slots__ = ("_content", "_decoder", "_headers", "_key", "_request", "status")

    _decoder: Decoder | None

    def __init__(
        self, status: int, headers: Any, content: Any, request: Request, key: str | None
    ) -> None:
        self.status: int = status
        self._headers = headers
        self._content = content
        self._request = request
        self._key = key
        self._decoder = None
        if encoding := headers.get("Content-Encoding"):
            self._decoder = decoder_for(encoding)

    @property
    def headers(self) -> Headers:
        return Headers(self._headers, self._key)

    @property
    def framed(self) -> bool:
        headers = self.headers
        return (
            "Content-Length" in headers or "chunked" in headers.get("Transfer-Encoding", "").lower()
        )

    async def read(self) -> bytes:
        """The next piece of the body, decoded; empty at its end. Raises errors of this package."""
        try:
            if self._decoder is None:
                return await self._read_raw()
            return await self._decoded(self._decoder)
        except errors.DynamiqError:  # that `fail` was given
            raise
        except (aiohttp.ClientError, OSError, RuntimeError, zlib.error) as error:
            failure = translated(error, str(self._request), ca="", key=self._key)
        try:
            raise failure
        finally:
            del failure  # which holds this frame

    async def _decoded(self, decoder: Decoder) -> bytes:
        while True:
            data = b"" if decoder.waiting else await self._read_raw()
            piece = decoder.decode(data)
            if piece:
                return piece
            if not data and not decoder.waiting:
                decoder.finish()
                return b""

    async def _read_raw(self) -> bytes:
        try:
            content: bytes = await self._content.readany()
        except (aiohttp.ClientError, OSError, RuntimeError):
            # aiohttp raises before it returns the bytes that arrived before the break.
            if rest := private.rest_of(self._content):
                return rest
            raise
        return content

    def arrived(self) -> bytes | None:
        """See `ClientResponse`. None, because only `read` shows it for a session's response."""
        return None

    def fail(self, error: Exception) -> None:
        """Make a pending read raise `error`."""
        if self._content.exception() is None:
            self._content.set_exception(error)

    def close(self) -> None:
        """Release the connection."""
        raise NotImplementedError


class AiohttpResponse(ContentResponse):
    """A response of a session."""

    __slots__ = ("_lost", "_protocol", "_raw")

    def __init__(self, raw: aiohttp.ClientResponse, request: Request, key: str | None) -> None:
        super().__init__(raw.status, raw.headers, raw.content, request, key)
        self._raw = raw
        self._lost: asyncio.Future[None] | None = None
        self._protocol: Any = raw.connection.protocol if raw.connection is not None else None
        if self._protocol is not None:  # the body is still coming
            self._lost = self._protocol.closed
            if self._lost is None:
                self._break()
            else:
                self._lost.add_done_callback(self._break)

    def close(self) -> None:
        if self._lost is not None:
            self._lost.remove_done_callback(self._break)
            if not self._lost.get_loop().is_closed():
                self._lost.remove_done_callback(_overlook)  # one is enough for a connection
                self._lost.add_done_callback(_overlook)
        connection = self._raw.connection
        if connection is None:
            return  # the whole body came, and the connection is back in the pool
        # On a closed loop aiohttp does not close the connection, and would warn about it later.
        with suppress(RuntimeError):
            if self._content.at_eof():
                self._raw.release()
            else:
                self._raw.close()
            connection.close()

    def _break(self, lost: asyncio.Future[None] | None = None) -> None:
        """Fail the body of a lost connection where aiohttp would let its reader wait for ever:
        after a violation of the framing, and after the session was closed."""
        if lost is not None:
            _overlook(lost)
        if not self._content.is_eof():
            violation = self._protocol.exception()
            self.fail(aiohttp.ClientPayloadError(str(violation or "it was closed")))


class AiohttpConnection(AiohttpResponse):
    """A connection that was upgraded. Its bytes are read like a body."""

    __slots__ = ()

    def __init__(self, response: AiohttpResponse) -> None:
        super().__init__(response._raw, response._request, response._key)
        protocol = self._protocol
        if protocol is not None:  # or else aiohttp saw no upgrade, and there is nothing to read
            self._content = aiohttp.StreamReader(
                protocol, READ_AHEAD, loop=asyncio.get_running_loop()
            )
            protocol.set_parser(_Raw(self._content), None)
            if protocol.transport is None:
                self._content.feed_eof()

    @property
    def unsent(self) -> int:
        transport = self._protocol.transport
        return transport.get_write_buffer_size() if transport is not None else 0

    def write(self, data: bytes) -> None:
        transport = self._protocol.transport
        if transport is not None and not transport.is_closing():
            transport.write(data)

    async def drain(self) -> None:
        with suppress(OSError):  # `read` raises it
            await private.drain(self._protocol)

    def close(self) -> None:
        with suppress(RuntimeError):  # of a closed loop
            if self._protocol is not None and self.unsent:
                self._protocol.transport.abort()
        super().close()


class _Raw:
    """A parser for aiohttp that passes bytes to a reader unchanged, in place of parsing frames."""

    def __init__(self, content: aiohttp.StreamReader) -> None:
        self._content = content

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self._content.feed_data(data)
        return False, b""

    def feed_eof(self) -> None:
        self._content.feed_eof()


def _overlook(lost: asyncio.Future[None]) -> None:
    """Retrieve the exception of a connection that is no longer read, so that asyncio does not
    warn."""
    if not lost.cancelled():
        lost.exception()
