"""Web backends and browsers on real sockets: what a relay stands between."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import sys
from typing import TYPE_CHECKING, Any, ClassVar

import uvicorn
from aiohttp import web
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.routing import Route

from dynamiq_async.relay.aiohttp import relay_response
from dynamiq_async.relay.starlette import RelayResponse
from dynamiq_async.sse import ServerSentEvent, SSEDecoder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from starlette.requests import Request
    from starlette.responses import Response

    from dynamiq_async.emulator import Emulator

    MakeStream = Callable[[Mapping[str, str]], Any]

BACKENDS = ["uvicorn", "middleware", "middleware that reads", "aiohttp"]
PATIENCE = 5.0


def listening() -> socket.socket:
    sock = socket.create_server(("127.0.0.1", 0), backlog=64)
    sock.setblocking(False)
    return sock


@contextlib.asynccontextmanager
async def uvicorn_serving(app: Any, **config: Any) -> AsyncIterator[int]:
    """The port on which uvicorn serves `app`, in this loop."""
    settings = {"lifespan": "off", "ws": "none", "log_config": None, "http": "h11", **config}
    server = uvicorn.Server(uvicorn.Config(app, **settings))
    server.config.load()
    server.lifespan = server.config.lifespan_class(server.config)
    sock = listening()
    await server.startup(sockets=[sock])
    try:
        yield sock.getsockname()[1]
    finally:
        # Connections that a browser keeps are no reason to wait.
        for connection in list(server.server_state.connections):
            connection.transport.abort()
        while server.server_state.connections or server.server_state.tasks:
            await asyncio.sleep(0.001)
        await server.shutdown(sockets=[sock])
        sock.close()


@contextlib.asynccontextmanager
async def process_serving(
    *arguments: str, emulator: Emulator
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A Python process with a backend of uvicorn's for the emulator's App, once it is listening."""
    known = {"DYNAMIQ_APP_URL": emulator.url, "DYNAMIQ_ACCESS_KEY": emulator.access_key or ""}
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, env={**os.environ, **known}, stderr=asyncio.subprocess.PIPE
    )
    try:
        assert process.stderr is not None
        async with asyncio.timeout(60):
            while b"running on" not in (line := await process.stderr.readline()):
                assert line, "it has not begun to listen"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def free_port() -> int:
    """A port that nothing listens at."""
    with listening() as probe:
        return int(probe.getsockname()[1])


@contextlib.asynccontextmanager
async def aiohttp_serving(app: web.Application) -> AsyncIterator[int]:
    """The port on which aiohttp serves `app`, in this loop."""
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    sock = listening()
    try:
        await web.SockSite(runner, sock).start()
        yield sock.getsockname()[1]
    finally:
        await runner.cleanup()


class Passing(BaseHTTPMiddleware):
    """Does nothing, in Starlette's way."""

    async def dispatch(self, request: Request, call_next: Any) -> Response:
        response: Response = await call_next(request)
        return response


class Reading(BaseHTTPMiddleware):
    """Has read the request's body before the endpoint is called."""

    async def dispatch(self, request: Request, call_next: Any) -> Response:
        await request.body()
        response: Response = await call_next(request)
        return response


@contextlib.asynccontextmanager
async def backend(kind: str, make: MakeStream, **options: Any) -> AsyncIterator[int]:
    """The port of a backend of this kind that relays what `make` makes of a request's headers."""
    if kind == "aiohttp":

        async def handler(request: web.Request) -> web.StreamResponse:
            return await relay_response(request, make(request.headers), **options)

        application = web.Application()
        application.router.add_route("*", "/", handler)
        async with aiohttp_serving(application) as port:
            yield port
        return

    async def endpoint(request: Request) -> Response:
        return RelayResponse(make(request.headers), **options)

    middleware = {
        "middleware": [Middleware(Passing)],
        "middleware that reads": [Middleware(Reading)],
    }
    app = Starlette(
        routes=[Route("/", endpoint, methods=["GET", "POST"])], middleware=middleware.get(kind)
    )
    async with uvicorn_serving(app) as port:
        yield port


class Browser:
    """One request on a bare socket, read only when and as far as it is told to.

    Attributes:
        status, headers: of the answer, once `head()` has returned.
    """

    opened: ClassVar[list[Browser]] = []

    def __init__(self, sock: socket.socket) -> None:
        self.opened.append(self)
        self._sock = sock
        self._bytes = b""
        self.ended = False
        self.status = 0
        self.headers: dict[str, str] = {}

    @classmethod
    async def ask(
        cls, port: int, path: str = "/", *, method: str = "GET", body: bytes = b"", **headers: str
    ) -> Browser:
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, ("127.0.0.1", port))
        lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        await loop.sock_sendall(sock, "\r\n".join([*lines, "", ""]).encode() + body)
        return cls(sock)

    async def _more(self) -> bool:
        async with asyncio.timeout(PATIENCE):
            data = await asyncio.get_running_loop().sock_recv(self._sock, 256 * 1024)
        self._bytes += data
        return bool(data)

    async def _until(self, end: bytes) -> bytes:
        while end not in self._bytes:
            if not await self._more():
                raise EOFError
        found, _, self._bytes = self._bytes.partition(end)
        return found

    async def head(self) -> None:
        first, *lines = (await self._until(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        self.status = int(first.split(" ")[1])
        self.headers = {n.lower(): v for n, _, v in (line.partition(": ") for line in lines)}

    async def piece(self) -> bytes:
        """The next chunk; `b""` at a proper end of the body. EOFError at any other."""
        if not self.status:
            await self.head()
        if "content-length" in self.headers:
            while len(self._bytes) < int(self.headers["content-length"]):
                if not await self._more():
                    raise EOFError
            data, self._bytes, self.headers["content-length"] = self._bytes, b"", "0"
            return data
        size = int(await self._until(b"\r\n"), 16)
        while len(self._bytes) < size + 2:
            if not await self._more():
                raise EOFError
        data, self._bytes = self._bytes[:size], self._bytes[size + 2 :]
        return data

    async def body(self) -> bytes:
        """All of it, up to its proper end."""
        pieces = []
        while piece := await self.piece():
            pieces.append(piece)
        return b"".join(pieces)

    async def until(self, text: bytes) -> bytes:
        """The body up to and with `text`, or a little further."""
        seen = b""
        while text not in seen:
            piece = await self.piece()
            assert piece, f"the body ended without {text!r}: {seen!r}"
            seen += piece
        return seen

    async def events(self) -> list[ServerSentEvent]:
        return SSEDecoder().feed(await self.body())

    def leave(self, *, how: str = "close") -> None:
        """Close the connection, or reset it, or say that no more requests come."""
        if how == "half":
            self._sock.shutdown(socket.SHUT_WR)
            return
        if how == "reset":
            linger = struct.pack("ii", 1, 0)
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._sock.close()
