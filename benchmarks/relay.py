"""A web backend that relays an App's stream to a browser, from request to last byte.

The backend (aiohttp's server, with the client in the same process) is what is measured; the App
and the browser are processes of their own. "raw bytes" copies what comes, without a look at it,
heartbeats or an end; "decoded and encoded" is what one writes by hand: `app.stream`, `json.dumps`,
a write for each event.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from typing import TYPE_CHECKING, Any

from aiohttp import web

from benchmarks._clients import INPUT, Clients
from benchmarks._loops import Task, clients, on_each_loop
from benchmarks._measure import expect
from benchmarks._results import OURS, Goal
from benchmarks._server import PATTERNS, body_size, helper
from dynamiq_async.relay.aiohttp import relay_response

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from multiprocessing.connection import Connection

    from benchmarks._measure import Settings
    from benchmarks._results import Comparison

TABLES = {"relay": "A stream relayed to a browser"}

RAW = "raw bytes"
TEXT = "map to text"
BY_HAND = "decoded and encoded"

GOALS = {"each": 2.5, "coalesced": 3.0, "pieces": 10.0}


def run(settings: Settings) -> Iterator[Comparison]:
    events = 200 if settings.quick else 5_000
    with clients(settings) as opened, helper(browse) as pipe:
        backends = {loop: Backend(its, pipe) for loop, its in opened.items()}
        try:
            for loop, backend in backends.items():
                settings.runners[loop].run(backend.start())
            for pattern in PATTERNS:
                yield from on_each_loop(
                    settings,
                    "relay",
                    PATTERNS[pattern],
                    {
                        loop: its.tasks(f"/{pattern}/{events}", events)
                        for loop, its in backends.items()
                    },
                    unit="µs of CPU per event",
                    per_second=1e6,
                    goals=[
                        Goal(OURS, RAW, at_most=GOALS[pattern]),
                        Goal(BY_HAND, OURS, at_least=2.0),
                    ],
                )
        finally:
            for loop, backend in backends.items():
                settings.runners[loop].run(backend.aclose())


class Backend:
    """The server of one event loop; each path of it is a contender."""

    def __init__(self, its: Clients, browser: Connection) -> None:
        self._its = its
        self._browser = browser
        application = web.Application()
        application.add_routes(
            [
                web.get("/relay{path:.*}", self.relay),
                web.get("/text{path:.*}", self.text),
                web.get("/raw{path:.*}", self.raw),
                web.get("/hand{path:.*}", self.by_hand),
            ]
        )
        self._runner = web.AppRunner(application)
        self._port = 0

    async def start(self) -> None:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self._port = self._runner.addresses[0][1]

    async def aclose(self) -> None:
        await self._runner.cleanup()

    def tasks(self, path: str, events: int) -> Mapping[str, Task]:
        size = body_size(events, run=False)

        def asking(contender: str, least: int) -> Task:
            return Task(lambda: self._ask(f"/{contender}{path}", least), events)

        return {
            OURS: asking("relay", size),
            RAW: asking("raw", size),
            TEXT: asking("text", events),
            BY_HAND: asking("hand", size // 4),
        }

    async def _ask(self, path: str, least: int) -> None:
        self._browser.send((self._port, path))
        got = await asyncio.get_running_loop().run_in_executor(None, self._browser.recv)
        expect(got >= least, True, "as whether everything arrived")

    # The contenders.

    async def relay(self, request: web.Request) -> web.StreamResponse:
        stream = self._its.app(request.match_info["path"]).stream(INPUT)
        return await relay_response(request, stream)

    async def text(self, request: web.Request) -> web.StreamResponse:
        stream = self._its.app(request.match_info["path"]).stream(INPUT)
        return await relay_response(request, stream, map=lambda event: event.text or None)

    async def raw(self, request: web.Request) -> web.StreamResponse:
        response = await _begin(request)
        url = f"{self._its.url}{request.match_info['path']}/"
        async with self._its.session.post(url, json={"input": INPUT}) as upstream:
            while chunk := await upstream.content.readany():
                await response.write(chunk)
        return response

    async def by_hand(self, request: web.Request) -> web.StreamResponse:
        response = await _begin(request)
        async for event in self._its.app(request.match_info["path"]).stream(INPUT):
            told: dict[str, Any] = {"event": event.event, "data": event.data}
            await response.write(f"data: {json.dumps(told)}\n\n".encode())
        return response


async def _begin(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    return response


def browse(pipe: Connection) -> None:
    """Read what the pipe tells to: takes a port and a path, gives a number of bytes."""
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            port, path = pipe.recv()
            size = 0
            with socket.create_connection(("127.0.0.1", port)) as sock:
                sock.sendall(
                    f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode()
                )
                while chunk := sock.recv(256 * 1024):
                    size += len(chunk)
            pipe.send(size)
