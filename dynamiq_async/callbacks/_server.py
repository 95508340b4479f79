"""The inbox's server: aiohttp's, with a time limit for connections that send no request."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

HEAD_SECONDS = 30.0
"""How long the head of a connection's first request may take, in seconds. For later requests,
aiohttp's keep-alive applies."""


class Server(web.Server):
    """Accepts connections, and passes their requests to `handler`.

    Args:
        options: those of aiohttp's server.
    """

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        **options: Any,
    ) -> None:
        super().__init__(self._heard, **options)
        self._answer = handler
        self._silent: dict[object, asyncio.TimerHandle] = {}

    async def _heard(self, request: web.BaseRequest) -> web.StreamResponse:
        self._forget(request.protocol)
        if request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0  # as aiohttp's own applications do
        return await self._answer(request)

    def _forget(self, connection: object) -> None:
        if (timer := self._silent.pop(connection, None)) is not None:
            timer.cancel()

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        loop = asyncio.get_running_loop()
        self._silent[handler] = loop.call_later(HEAD_SECONDS, transport.abort)

    def connection_lost(
        self, handler: web.RequestHandler, exc: BaseException | None = None
    ) -> None:
        super().connection_lost(handler, exc)
        self._forget(handler)
