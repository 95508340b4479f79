"""A server on a port of this machine. aiohttp reads requests, and closing leaves nothing behind.

The emulator or a tape gives it the function that responds to them.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from .connections import Connections, CountingServer
from .hosts import is_loopback
from .tasks import stop

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Collection

    from aiohttp import web

    from .log import Changes

_LINGERING = 10.0
"""The most seconds to wait for the rest of a body that already has its response."""


class Listener:
    """Listens, and calls `handle` for each request.

    Args:
        host, port: where to listen; port 0 is any free one.
        ssl_context: serve HTTPS with it.
        keepalive_timeout: seconds after which an idle connection is closed.
        read_timeout: seconds after which a connection without a first request is closed.

    Attributes:
        handlers: the tasks that handle requests now; `handle` maintains the set.
        on_loopback: whether only this machine can reach the server.
    """

    def __init__(
        self,
        handle: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        changes: Changes,
        *,
        host: str,
        port: int,
        ssl_context: ssl.SSLContext | None = None,
        keepalive_timeout: float = 75.0,
        read_timeout: float | None = 60.0,
    ) -> None:
        self.host = host
        self.port: int = port
        self.read_timeout = read_timeout
        self.connections: Connections = Connections(changes.notify, read_timeout)
        self.handlers: set[asyncio.Task[Any]] = set()
        self.on_loopback: bool = True
        self._handle = handle
        self._changes = changes
        self._ssl = ssl_context
        self._keepalive_timeout = keepalive_timeout
        self._server: asyncio.Server | None = None

    @property
    def running(self) -> bool:
        """Whether it listens."""
        return self._server is not None

    @property
    def scheme(self) -> str:
        """`http` or `https`."""
        return "https" if self._ssl else "http"

    @property
    def url(self) -> str:
        """The URL at which this machine reaches it."""
        if self._server is None:
            raise RuntimeError("the emulator is not running")
        # If it listens at every address, this machine reaches it at the loopback address.
        host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104
        host = f"[{host}]" if ":" in host else host
        return f"{self.scheme}://{host}:{self.port}"

    async def start(self) -> None:
        """Listen. After `aclose`: listen again, on the same port."""
        if self._server is not None:
            raise RuntimeError("the emulator is running")
        counting = CountingServer(
            self._handle,
            self.connections,
            keepalive_timeout=self._keepalive_timeout,
            lingering_time=min(_LINGERING, self.read_timeout or _LINGERING),
        )
        self._server = await self._listen(counting)
        addresses = [sock.getsockname() for sock in self._server.sockets]
        self.port = addresses[0][1]
        self.on_loopback = all(is_loopback(address[0]) for address in addresses)

    async def _listen(self, counting: CountingServer) -> asyncio.Server:
        """Listen at every address of the host, with the same port."""
        loop = asyncio.get_running_loop()
        port, attempts = self.port, 10
        while True:
            try:
                server = await loop.create_server(
                    counting, self.host, port, ssl=self._ssl, backlog=1024
                )
            except OSError:  # the port that is free at one address may be taken at another
                attempts -= 1
                if port == self.port or not attempts:
                    raise
                port = self.port
                continue
            ports = {sock.getsockname()[1] for sock in server.sockets}
            if len(ports) == 1:
                return server
            server.close()
            port = ports.pop()

    async def aclose(self, tasks: Collection[asyncio.Task[None]] = ()) -> None:
        """Stop at once, and cancel the handlers of requests and `tasks`. May be called twice."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        for _ in range(3):  # turns of the loop from a connection's accept to `connection_made`
            await asyncio.sleep(0)
        await stop({*tasks, *self.handlers})
        self.connections.abort()
        await self._changes.wait_until(lambda: not self.connections.open, None)
        await server.wait_closed()
