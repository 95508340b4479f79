"""The emulator beside a bare aiohttp handler that writes the same bytes.

What counts is the CPU of the server's process, because the emulator must not be what a benchmark
of a client measures. The handler is given the bodies that the emulator has sent before; it reads
and decodes a request, and writes each event by itself. Live events are made by an App that does not
pause, which the handler need not do, so they have no goal.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks._measure import Sample, expect, take_turns
from benchmarks._results import OURS, Comparison, Goal, compared
from benchmarks._server import helper

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection

    from aiohttp import web

    from benchmarks._measure import Settings

TABLES = {"emulator": "The emulator's process"}

BARE = "a bare handler"
GOAL = 2.0
EVENTS = 2_000
SLOW_EVENTS = 5
SLOW_PAUSE = 0.5
"""Seconds between the events of each of the many streams."""

KEY = "dynamiq_acc_bench"
ANSWER = {"answer": "The customer is on the pro tier.", "tickets": 2}


class Work(NamedTuple):
    """What one client asks for again and again.

    Attributes:
        request: as it goes over the wire.
        clients: how many at a time.
        calls: how many in all, for each sample.
        units: what the cost is divided by, for each call.
    """

    request: bytes
    clients: int
    calls: int
    units: int = 1


def run(settings: Settings) -> Iterator[Comparison]:
    calls, streams = (40, 20) if settings.quick else (2_000, 1_000)
    runner = next(iter(settings.runners.values()))
    with contextlib.ExitStack() as stack:
        ours = Server(stack.enter_context(helper(serve_emulator)))
        stored = runner.run(ours.stored_run())
        works = {
            "requests": Work(post("/", {"input": {"question": "Hi"}}), 20, calls),
            "coalesced events": Work(get(stored), 2, 2 if settings.quick else 20, EVENTS),
            "live events": Work(post("/live/"), 2, 2 if settings.quick else 10, EVENTS),
            f"{streams:,} streams": Work(post("/slow/"), streams, streams, SLOW_EVENTS),
        }
        bodies = {work.request: runner.run(ours.body(work.request)) for work in works.values()}
        bare = Server(stack.enter_context(helper(serve_bare)), bodies)
        for name, work in works.items():
            yield _compare(settings, runner, {OURS: ours, BARE: bare}, name, work)


def _compare(
    settings: Settings,
    runner: asyncio.Runner,
    servers: dict[str, Server],
    name: str,
    work: Work,
) -> Comparison:
    turns = {
        contender: lambda server=server: runner.run(server.sample(work))
        for contender, server in servers.items()
    }
    has_goal = name in ("requests", "coalesced events")
    return compared(
        "emulator",
        name,
        take_turns(turns, settings.rounds(3 if "streams" in name else 9)),
        unit="µs of CPU per request" if work.units == 1 else "µs of CPU per event",
        per_second=1e6,
        columns=servers,
        goals=[Goal(OURS, BARE, at_most=GOAL)] if has_goal else (),
    )


# --- the client: its cost does not count --------------------------------------------------------


def post(path: str, fields: dict[str, Any] | None = None) -> bytes:
    """A request to the root of an App; without fields, for a stream."""
    body = json.dumps(fields or {"input": {}, "stream": True}).encode()
    return _head("POST", path) + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


def get(path: str) -> bytes:
    return _head("GET", path) + b"\r\n"


def _head(method: str, path: str) -> bytes:
    return (
        f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n"
        "Content-Type: application/json\r\n"
    ).encode()


class Server:
    """A server's process, by its pipe. `bodies` are what it is to send."""

    def __init__(self, pipe: Connection, bodies: dict[bytes, list[bytes]] | None = None) -> None:
        self._pipe = pipe
        pipe.send({_target(request): body for request, body in (bodies or {}).items()})
        self._port = pipe.recv()
        self._sizes: dict[bytes, int] = {}

    def cpu(self) -> float:
        """The seconds of CPU that it has used."""
        self._pipe.send(None)
        used: float = self._pipe.recv()
        return used

    async def sample(self, work: Work) -> Sample:
        cpu, wall = self.cpu(), time.perf_counter()
        left = iter(range(work.calls))
        async with asyncio.TaskGroup() as tasks:
            for _ in range(work.clients):
                tasks.create_task(self._client(work, left))
        units = work.calls * work.units
        return Sample((self.cpu() - cpu) / units, (time.perf_counter() - wall) / units)

    async def _client(self, work: Work, left: Iterator[int]) -> None:
        async with self._connection() as (reader, writer):
            for _ in left:
                writer.write(work.request)
                pieces = await _body(reader)
                self._sizes.setdefault(work.request, len(pieces))
                expect(len(pieces), self._sizes[work.request])

    async def body(self, request: bytes) -> list[bytes]:
        """The body that responds to a request, by its chunks."""
        async with self._connection() as (reader, writer):
            writer.write(request)
            return await _body(reader)

    async def stored_run(self) -> str:
        """The path of a stream of a run that is over."""
        [body] = await self.body(post("/live/v1/runs", {"input": {}}))
        return f"/live/v1/runs/{json.loads(body)['data']['id']}/stream"

    @contextlib.asynccontextmanager
    async def _connection(self) -> Any:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, limit=2**20)
        try:
            yield reader, writer
        finally:
            writer.close()


def _target(request: bytes) -> str:
    return request.split(b" ", 2)[1].decode()


async def _body(reader: asyncio.StreamReader) -> list[bytes]:
    """The chunks of a response, or its body. Raises where it is cut."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    expect(head[9:12], b"200", "as the status")
    if b"\r\ncontent-length:" in head:
        length = int(head.partition(b"\r\ncontent-length:")[2].split(b"\r\n", 1)[0])
        return [await reader.readexactly(length)]
    pieces = []
    while size := int(await reader.readuntil(b"\r\n"), 16):
        pieces.append((await reader.readexactly(size + 2))[:-2])
    await reader.readexactly(2)
    return pieces


# --- the servers, each in a process of its own ----------------------------------------------------


async def answers(input: dict[str, Any], run: Any) -> Any:
    return ANSWER


async def speaks(input: dict[str, Any], run: Any) -> Any:
    for _ in range(EVENTS - 2):
        await run.text("a piece of text")
    return ANSWER


async def waits(input: dict[str, Any], run: Any) -> Any:
    for _ in range(SLOW_EVENTS - 1):
        await asyncio.sleep(SLOW_PAUSE)
        await run.text("a piece of text")
    return ANSWER


def serve_emulator(pipe: Connection) -> None:
    from dynamiq_async.emulator import Emulator

    apps = {"live": speaks, "slow": waits}

    async def listen(bodies: Any) -> int:
        emulator = Emulator(answers, apps=apps, access_key=KEY)
        await emulator.start()
        return emulator.port

    _serve(pipe, listen)


def serve_bare(pipe: Connection) -> None:
    from aiohttp import web

    async def listen(bodies: dict[str, list[bytes]]) -> int:
        server = web.Server(_handler(bodies), access_log=None)
        loop = asyncio.get_running_loop()
        listening = await loop.create_server(server, "127.0.0.1", 0, backlog=1024)
        port: int = listening.sockets[0].getsockname()[1]
        return port

    _serve(pipe, listen)


def _handler(bodies: dict[str, list[bytes]]) -> Callable[[Any], Any]:
    from aiohttp import web

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        json.loads(await request.read() or b"{}")
        pieces = bodies[request.path]
        headers = {"x-request-id": uuid.uuid4().hex}
        if request.path == "/":
            return web.Response(body=pieces[0], content_type="application/json", headers=headers)
        headers |= {"Content-Type": "text/event-stream", "Cache-Control": "no-cache"}
        response = web.StreamResponse(headers=headers)
        response.enable_chunked_encoding()
        await response.prepare(request)
        for piece in pieces:
            if request.path == "/slow/" and piece is not pieces[-1]:
                await asyncio.sleep(SLOW_PAUSE)
            await response.write(piece)
        await response.write_eof()
        return response

    return handle


def _serve(pipe: Connection, listen: Callable[[Any], Any]) -> None:
    async def main() -> None:
        pipe.send(await listen(pipe.recv()))
        threading.Thread(target=_tell, args=(pipe,), daemon=True).start()
        await asyncio.Event().wait()

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())


def _tell(pipe: Connection) -> None:
    """Say how much CPU this process has used, as often as it is asked."""
    with contextlib.suppress(EOFError):
        while True:
            pipe.recv()
            pipe.send(time.process_time())
