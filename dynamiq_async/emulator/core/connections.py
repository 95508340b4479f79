"""aiohttp's server, with its connections counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable


class Connections:
    """The connections of the server, numbered from 1.

    Args:
        changed: called whenever a connection is opened or closed.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self.made = 0
        self.open: dict[object, tuple[int, asyncio.Transport]] = {}
        self._changed = changed

    def add(self, protocol: object, transport: asyncio.Transport) -> None:
        """Number a new connection."""
        self.made += 1
        self.open[protocol] = self.made, transport
        self._changed()

    def remove(self, protocol: object) -> None:
        """Forget a connection that is closed."""
        self.open.pop(protocol, None)
        self._changed()

    def number(self, protocol: object) -> int:
        """The number of a connection; 0 for one that is closed."""
        return self.open[protocol][0] if protocol in self.open else 0

    def abort(self) -> None:
        """Close every connection at once."""
        for _, transport in self.open.values():
            transport.abort()


class CountingServer(web.Server):
    """aiohttp's server, which reads the requests, with its connections counted."""

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        connections: Connections,
        *,
        keepalive_timeout: float,
    ) -> None:
        super().__init__(
            handler,
            handler_cancellation=True,
            access_log=None,
            keepalive_timeout=keepalive_timeout,
        )
        self._counted = connections

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        self._counted.add(handler, transport)

    def connection_lost(
        self, handler: web.RequestHandler, exc: BaseException | None = None
    ) -> None:
        super().connection_lost(handler, exc)
        self._counted.remove(handler)
