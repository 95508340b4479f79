"""A transport on httpx, by the public names of `dynamiq_async.transport` only: the seam holds for
another library than the one that it was made for."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Self

import httpx

from dynamiq_async import errors

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from dynamiq_async.transport import Body, Request

HEADERS_START = {"http11.send_request_headers.started", "http2.send_request_headers.started"}


class HttpxTransport:
    """Requests by an `httpx.AsyncClient` of its own, whose options it takes."""

    def __init__(self, **options: Any) -> None:
        limits = httpx.Limits(max_connections=None)
        self._client = httpx.AsyncClient(timeout=None, limits=limits, **options)
        self._closing: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def send(self, request: Request, *, connect_timeout: float | None) -> HttpxResponse:
        async def trace(event: str, _: Any) -> None:
            request.sent = request.sent or event in HEADERS_START

        headers, body = dict(request.headers), request.body
        content: bytes | AsyncIterator[bytes] | None
        if body is None or isinstance(body, bytes):
            content = body
        else:
            content = _pieces(body)
            if body.length is not None:
                headers["Content-Length"] = str(body.length)
        outgoing = self._client.build_request(
            request.method,
            request.url,
            headers=headers,
            content=content,
            timeout=httpx.Timeout(None, connect=connect_timeout),
            extensions={"trace": trace},
        )
        request.sent = False
        try:
            raw = await self._client.send(outgoing, stream=True, follow_redirects=False)
        except httpx.ConnectTimeout:
            failure: errors.DynamiqError = errors.ConnectTimeoutError(
                f"{request}: no connection in time", limit="connect", seconds=connect_timeout
            )
        except (httpx.ConnectError, httpx.ProxyError) as error:
            failure = errors.ConnectError(f"{request}: cannot connect: {error}")
        except httpx.TransportError as error:
            failure = errors.APIConnectionError(f"{request}: the connection broke: {error}")
        else:
            return HttpxResponse(raw, str(request), self)
        raise failure

    async def aclose(self) -> None:
        if self._closing:
            await asyncio.wait(self._closing)
        await self._client.aclose()

    def close_soon(self, raw: httpx.Response) -> None:
        """httpx closes by awaiting, which `Response.close` cannot."""
        task = asyncio.get_running_loop().create_task(raw.aclose())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


class HttpxResponse:
    """A response of httpx's."""

    def __init__(self, raw: httpx.Response, label: str, owner: HttpxTransport) -> None:
        self._raw = raw
        self._label = label
        self._owner = owner
        self._pieces = raw.aiter_bytes()
        self.status = raw.status_code
        self.headers: Mapping[str, str] = raw.headers

    @property
    def framed(self) -> bool:
        chunked = "chunked" in self.headers.get("transfer-encoding", "").lower()
        return chunked or "content-length" in self.headers or self._raw.http_version == "HTTP/2"

    async def read(self) -> bytes:
        try:
            async for piece in self._pieces:
                if piece:  # what is compressed may give nothing at first
                    return piece
        except httpx.HTTPError as error:
            failure = errors.APIConnectionError(f"{self._label}: the connection broke: {error}")
        else:
            return b""
        raise failure

    def close(self) -> None:
        if not self._raw.is_closed:
            self._owner.close_soon(self._raw)


async def _pieces(body: Body) -> AsyncIterator[bytes]:
    async with aclosing(aiter(body)) as pieces:
        async for piece in pieces:
            yield piece
