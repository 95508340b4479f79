"""Requests on bare sockets, and the servers they go to."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import uvicorn
from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

TOKEN = "a-token"
PATIENCE = 10.0
"""Seconds after which a test that waits is stuck."""


@dataclass
class Response:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        code: str = self.json["error"]["code"]
        return code


class Sender:
    """One connection to a server on this machine."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def __aenter__(self) -> Sender:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()

    async def head(
        self, path: str = "/", *, method: str = "POST", token: str | None = TOKEN, **headers: object
    ) -> None:
        fields: dict[str, object] = {"host": "localhost", "content-type": "application/json"}
        fields |= {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            fields["authorization"] = f"Bearer {token}"
        lines = [f"{name}: {value}" for name, value in fields.items()]
        await self.write(
            "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode("latin-1")
        )

    async def write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def read_response(self, *, bodyless: bool = False) -> Response:
        async with asyncio.timeout(PATIENCE):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
            length = 0 if bodyless else int(headers.get("content-length", 0))
            body = await self.reader.readexactly(length)
        return Response(int(head[0].split()[1]), headers, body)


async def post(port: int, content: Any = None, path: str = "/", **head: Any) -> Response:
    """One request with `content` (bytes, or what becomes JSON) as its body."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    async with Sender(port) as sender:
        await sender.head(path, content_length=len(body), **head)
        await sender.write(body)
        return await sender.read_response()


def callback(id: str = "run-1", **fields: Any) -> dict[str, Any]:
    return {
        "id": id,
        "status": "succeeded",
        "timestamp": "2026-05-04T03:02:01.123456789Z",
        "output": {"answer": 42},
        **fields,
    }


class _Server(uvicorn.Server):
    """uvicorn as a guest: it leaves the process' signals alone, and says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listens = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listens.set()


@contextlib.asynccontextmanager
async def under_uvicorn(app: Any, http: str = "h11") -> AsyncIterator[int]:
    """The port that an ASGI application is served at."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(app, log_config=None, http=http, timeout_graceful_shutdown=1)
        server = _Server(config)
        task = asyncio.ensure_future(server.serve([listener]))
        ready = asyncio.ensure_future(server.listens.wait())
        await asyncio.wait([task, ready], return_when=asyncio.FIRST_COMPLETED, timeout=PATIENCE)
        ready.cancel()
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            await task


@contextlib.asynccontextmanager
async def under_aiohttp(routes: Iterable[web.RouteDef]) -> AsyncIterator[int]:
    """The port that an aiohttp application is served at."""
    connections = set()

    @web.middleware
    async def note(request: web.Request, handler: Any) -> web.StreamResponse:
        connections.add(request.task)
        response: web.StreamResponse = await handler(request)
        return response

    app = web.Application(middlewares=[note])
    app.add_routes(routes)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
        for task in connections:  # aiohttp itself forgets some
            task.cancel()
        if connections:
            await asyncio.wait(connections)
