"""The transport below aiohttp's session: it uses aiohttp's connector and parser directly.

Three quarters of a call's cost in `ClientSession` are cookies, redirects, traces and header objects
that our calls do not need. The session still sends requests that need it: those through proxies,
upgrades, and requests that frame their bodies themselves. It sends all requests while it is
patched, as aioresponses, vcrpy and tracing agents do.
"""

from __future__ import annotations

import zlib
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import aiohttp
from multidict import istr

from dynamiq_async.transport import _aiohttp_private as private
from dynamiq_async.transport._aiohttp_errors import translated
from dynamiq_async.transport._aiohttp_response import ContentResponse
from dynamiq_async.transport._decoding import decoder_for
from dynamiq_async.transport._direct_connections import DirectConnector
from dynamiq_async.transport._direct_heads import Heads
from dynamiq_async.transport.aiohttp import AiohttpTransport
from dynamiq_async.transport.proxies import proxy_for

if TYPE_CHECKING:
    from dynamiq_async.transport._direct_connections import DirectHandler
    from dynamiq_async.transport._direct_heads import Head
    from dynamiq_async.transport.base import Request


_ENCODED = istr("Content-Encoding")


class DirectResponse(ContentResponse):
    """A response on a direct connection."""

    __slots__ = ("_connection", "_failure", "_whole")

    status: int

    def __init__(
        self,
        connection: DirectHandler,
        answer: tuple[int, Any, Any],
        request: Request,
        key: str | None,
    ) -> None:
        # Not by `super()`, which would cost time in every call.
        self.status, self._headers, body = answer
        self._request = request
        self._key = key
        self._connection = connection
        self._failure: Exception | None = None
        self._whole: bytes | None = None
        self._content = self._decoder = None
        if type(body) is bytes:
            self._whole = body
            return
        self._content = body
        if _ENCODED in self._headers:
            self._decoder = decoder_for(self._headers[_ENCODED])

    async def _read_raw(self) -> bytes:
        if self._failure is not None:
            raise self._failure
        body = self._content
        if body is None:
            whole, self._whole = self._whole, None
            return whole or b""
        if private.has_arrived(body):  # ahead of a break, too
            return private.rest_of(body)
        arrived: bytes = await body.readany()
        return arrived

    def arrived(self) -> bytes | None:
        if self._failure is not None or self._decoder is not None:
            return None
        content = self._content
        if content is None:
            return self._whole or b""
        return private.whole_of(content) if content.is_eof() else None

    def fail(self, error: Exception) -> None:
        """Make a pending read raise `error`."""
        if self._failure is None:
            self._failure = error
            if self._content is not None:
                self._content.set_exception(error)

    def close(self) -> None:
        """Release the connection. It is closed unless the body was read to its end."""
        if self._content is not None and not self._content.is_eof():
            with suppress(RuntimeError):  # of a closed loop
                self._connection.abandon()


class DirectTransport(AiohttpTransport):
    """Sends requests directly where it can, else by the session on the same connections."""

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self._heads = Heads()

    async def send(self, request: Request, *, connect_timeout: float | None) -> ContentResponse:
        """Send a request on a pooled connection, else by the session. See `Transport.send`."""
        session = self._running() or await self._session()
        head = self._heads.of(request)
        if head is None or not private.is_untouched() or self._has_proxy(request.url):
            return await super().send(request, connect_timeout=connect_timeout)
        connector: Any = session.connector
        request.sent = False
        connection: DirectHandler | None = None
        try:
            connection = connector.take(head.target.connection_key)
            if connection is None:
                connection = await self._open(connector, head, connect_timeout)
            answer = await connection.write(head, request)
            response = DirectResponse(connection, answer, request, self._key)
        except (aiohttp.ClientError, OSError, ValueError, RuntimeError, zlib.error) as error:
            failure = translated(error, str(request), ca=self._ca_name(), key=self._key)
        except BaseException:
            if connection is not None:
                connection.abandon()
            raise
        else:
            return response
        if connection is not None:
            connection.abandon()
        try:
            raise failure
        finally:
            del failure  # which holds this frame

    async def _open(
        self, connector: DirectConnector, head: Head, connect_timeout: float | None
    ) -> DirectHandler:
        try:
            return await connector.open(head.target, self._timeout(connect_timeout))
        except TimeoutError:
            raise aiohttp.ConnectionTimeoutError from None

    def _has_proxy(self, url: str) -> bool:
        return self._trust_env and proxy_for(url, None, trust_env=True) is not None

    def _new_connector(self, **options: Any) -> DirectConnector:
        return DirectConnector(**options)
