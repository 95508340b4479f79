"""Serves a `CallbackReceiver` over ASGI and in aiohttp's server. Neither framework is imported
before it is used."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiohttp import StreamReader, web

    from .verifier import CallbackReply

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Handle = Callable[..., Awaitable["CallbackReply"]]
"""`CallbackReceiver.receive`, which handles a request."""


class _DisconnectedError(Exception):
    """The sender disconnected before its body was complete."""


class _ASGIBody:
    """The pieces of a request's body, from ASGI."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._more = True

    def __aiter__(self) -> _ASGIBody:
        return self

    async def __anext__(self) -> bytes:
        if not self._more:
            raise StopAsyncIteration
        message = await self._receive()
        if message["type"] != "http.request":
            raise _DisconnectedError
        self._more = message.get("more_body", False)
        piece: bytes = message.get("body", b"")
        return piece


class _AiohttpBody:
    """The pieces of a request's body, from aiohttp."""

    def __init__(self, content: StreamReader) -> None:
        self._content = content

    def __aiter__(self) -> _AiohttpBody:
        return self

    async def __anext__(self) -> bytes:
        try:
            piece = await self._content.readany()
        except ConnectionError as error:
            raise _DisconnectedError from error
        if not piece:
            raise StopAsyncIteration
        return piece


async def serve_asgi(handle: Handle, scope: Scope, receive: Receive, send: Send) -> None:
    """Serve one ASGI call: a request, the server's lifespan, or a WebSocket, which is refused."""
    if scope["type"] == "lifespan":
        await _serve_lifespan(receive, send)
    elif scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close"})
    else:
        try:
            reply = await handle(scope["headers"], _ASGIBody(receive), method=scope["method"])
        except _DisconnectedError:
            return  # nobody reads a response any more
        await _send(reply, send)


async def _serve_lifespan(receive: Receive, send: Send) -> None:
    """Complete each phase at once: there is nothing to start or to stop."""
    for phase in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{phase}.complete"})


async def _send(reply: CallbackReply, send: Send) -> None:
    headers = {**reply.headers, "Content-Length": str(len(reply.body))}
    await send(
        {
            "type": "http.response.start",
            "status": reply.status,
            "headers": [(k.lower().encode(), v.encode()) for k, v in headers.items()],
        }
    )
    await send({"type": "http.response.body", "body": reply.body})


async def serve_aiohttp(handle: Handle, request: web.BaseRequest) -> web.Response:
    """Serve one request to aiohttp's server."""
    from aiohttp import web

    body = _AiohttpBody(request.content)
    try:
        reply = await handle(request.headers, body, method=request.method)
    except _DisconnectedError:
        return web.Response(status=400)  # nobody reads it any more, but aiohttp wants a response
    return web.Response(status=reply.status, headers=reply.headers, body=reply.body)
