"""aiohttp's server, with its connections counted."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from aiohttp import web

from .json import encode
from .refusals import RefusalError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class _Connection(NamedTuple):
    number: int
    transport: asyncio.Transport
    timer: asyncio.TimerHandle | None  # until the first request


class Connections:
    """The connections of the server, numbered from 1.

    Args:
        changed: called whenever a connection is opened or closed.
        head_timeout: seconds after which a connection without a first request is closed; None:
            never.
    """

    def __init__(self, changed: Callable[[], None], head_timeout: float | None) -> None:
        self.made: int = 0
        self.open: dict[object, _Connection] = {}
        self._changed = changed
        self._head_timeout = head_timeout

    def add(self, protocol: object, transport: asyncio.Transport) -> None:
        """Number a new connection."""
        self.made += 1
        timer = None
        if self._head_timeout is not None:
            timer = asyncio.get_running_loop().call_later(self._head_timeout, transport.abort)
        self.open[protocol] = _Connection(self.made, transport, timer)
        self._changed()

    def remove(self, protocol: object) -> None:
        """Forget a connection that is closed."""
        self.heard(protocol)
        self.open.pop(protocol, None)
        self._changed()

    def heard(self, protocol: object) -> int:
        """Note that a request came. Returns its connection's number; 0 for one that is closed."""
        connection = self.open.get(protocol)
        if connection is None:
            return 0
        if connection.timer is not None:
            connection.timer.cancel()
        return connection.number

    def abort(self) -> None:
        """Close every connection at once."""
        for connection in self.open.values():
            connection.transport.abort()


class _Connected(web.RequestHandler):
    """One connection. Bytes that are not HTTP get an error response, and no traceback."""

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Respond to a request that could not be read, or whose handler failed."""
        if status >= 500:
            return super().handle_error(request, status, exc, message)
        refusal = RefusalError(status, "bad_request", (message or "this is no HTTP").strip())
        response = web.Response(
            status=status, body=encode(refusal.envelope()), content_type="application/json"
        )
        response.force_close()
        return response


class CountingServer(web.Server):
    """aiohttp's server, which reads the requests, with its connections counted."""

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        connections: Connections,
        *,
        keepalive_timeout: float,
        lingering_time: float = 10.0,
    ) -> None:
        super().__init__(handler)
        self._counted = connections
        self._make = partial(
            _Connected,
            self,
            access_log=None,  # type: ignore[arg-type]  # None, as its own server takes it
            keepalive_timeout=keepalive_timeout,
            lingering_time=lingering_time,
        )
        self.handler_cancellation = True

    def __call__(self) -> web.RequestHandler:
        return self._make(loop=asyncio.get_running_loop())

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """Count a connection."""
        super().connection_made(handler, transport)
        self._counted.add(handler, transport)

    def connection_lost(
        self, handler: web.RequestHandler, exc: BaseException | None = None
    ) -> None:
        """Stop counting a connection."""
        super().connection_lost(handler, exc)
        self._counted.remove(handler)
