"""The server that the clients are measured against: canned answers, written as cheaply as can be,
in a process of its own, so that the measured process does nothing but be a client.

    with serving() as url: ...

A path begins with the way the events are to be written, and how many: `/each/2000/` answers with
a root stream of 2,000 messages, `/each/2000/v1/runs/…/stream` with as many events of a run. Any
other path gets one small JSON answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
import os
import threading
import time
from collections import deque
from functools import lru_cache
from typing import TYPE_CHECKING

from benchmarks.payloads import FINAL_MESSAGE, final_run_event, message, run_event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from multiprocessing.connection import Connection

PIECE = 15 * 1024
BLOCK = 1_000
CACHED = 20_000

SLOW_RATE = 10
"""Events a second of each `/slow/` stream."""

SLOW_PAUSE = 0.0001

PATTERNS = {
    "each": "a write per event",
    "coalesced": "coalesced writes",
    "pieces": "writes of 15 KB",
}
"""`each` is an HTTP chunk and a write for every event, `coalesced` the same chunks in writes of
15 KB, as when the network joins them, and `pieces` chunks of 15 KB."""

ANSWER = json.dumps(
    {"output": {"answer": "The customer is on the pro tier.", "tickets": 2}}
).encode()
_JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
    len(ANSWER),
    ANSWER,
)
_SSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def root_block(number: int) -> bytes:
    return b"data: %b\n\n" % message(number)


def run_block(number: int) -> bytes:
    return b"event: agent.reasoning.delta\ndata: %b\n\n" % run_event(number)


def final_block(*, run: bool, number: int) -> bytes:
    if run:
        return b"event: run.completed\ndata: %b\n\n" % final_run_event(number)
    return b"data: %b\n\n" % FINAL_MESSAGE


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _cut(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), PIECE):
        yield data[start : start + PIECE]


def _writes(pattern: str, events: int, *, run: bool) -> Iterator[bytes]:
    """The writes of a stream of `events` events, the last of which is the final one."""
    make: Callable[[int], bytes] = run_block if run else _root_block_again
    for first in range(1, events + 1, BLOCK):
        numbers = range(first, min(first + BLOCK, events))
        blocks = [make(number) for number in numbers]
        if first + BLOCK > events:
            blocks.append(final_block(run=run, number=events))
        if pattern == "each":
            yield from map(_chunk, blocks)
        elif pattern == "coalesced":
            yield from _cut(b"".join(map(_chunk, blocks)))
        else:
            yield from map(_chunk, _cut(b"".join(blocks)))


@lru_cache(maxsize=BLOCK)
def _root_block_again(number: int) -> bytes:
    return root_block((number - 1) % BLOCK + 1)


@lru_cache(maxsize=64)
def _cached_writes(pattern: str, events: int, run: bool) -> list[bytes]:
    return list(_writes(pattern, events, run=run))


def writes(pattern: str, events: int, *, run: bool) -> Iterable[bytes]:
    if events <= CACHED:
        return _cached_writes(pattern, events, run)
    return _writes(pattern, events, run=run)


def body_size(events: int, *, run: bool) -> int:
    """The bytes of such a stream's body."""
    chunks = writes("pieces", events, run=run)
    return sum(len(chunk) - len(b"%x" % len(chunk)) - 4 for chunk in chunks)


class _Slow:
    """Streams that get an event every tenth of a second each, spread evenly over time.

    A thread writes them one by one: an event loop's timers are too coarse for it, and would send
    bursts, which cost their reader less.
    """

    def __init__(self) -> None:
        self._chunk = _chunk(b"data: %b\n\n" % message(10_000_000)).replace(b"10000000", b"%08d")
        self._streams: deque[tuple[int, int]] = deque()  # file descriptor, number of next event
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, transport: asyncio.Transport) -> None:
        transport.write(_SSE + self._chunk % 0)
        with self._lock:
            self._streams.append((transport.get_extra_info("socket").fileno(), 1))
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()

    def remove(self, transport: asyncio.Transport) -> None:
        gone = transport.get_extra_info("socket").fileno()
        with self._lock:
            self._streams = deque(stream for stream in self._streams if stream[0] != gone)

    def _run(self) -> None:
        last, due = time.monotonic(), 0.0
        while True:
            time.sleep(SLOW_PAUSE)
            now = time.monotonic()
            with self._lock:
                due += (now - last) * SLOW_RATE * len(self._streams)
                while due >= 1 and self._streams:
                    self._write(*self._streams.popleft())
                    due -= 1
            last = now

    def _write(self, descriptor: int, number: int) -> None:
        with contextlib.suppress(OSError):  # whoever has gone is removed by the event loop
            os.write(descriptor, self._chunk % number)
        self._streams.append((descriptor, number + 1))


class _Server(asyncio.Protocol):
    slow = _Slow()
    tasks: set[asyncio.Task[None]] = set()  # noqa: RUF012 - shared on purpose

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.received = b""

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, found, body = self.received.partition(b"\r\n\r\n")
        if not found:
            return
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line[15:])
        if len(body) < length:
            return
        self.received = body[length:]
        _, pattern, *rest = head.split(b" ", 2)[1].decode().split("/")
        if pattern in PATTERNS:
            task = asyncio.get_running_loop().create_task(
                self.stream(writes(pattern, int(rest[0]), run="stream" in rest))
            )
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
        elif pattern == "slow":
            self.slow.add(self.transport)
        else:
            self.transport.write(_JSON)

    def connection_lost(self, _: Exception | None) -> None:
        self.slow.remove(self.transport)  # before its descriptor is closed, and used again

    async def stream(self, pieces: Iterable[bytes]) -> None:
        transport = self.transport
        transport.write(_SSE)
        for piece in pieces:
            if transport.is_closing():
                return
            transport.write(piece)
            while transport.get_write_buffer_size():
                await asyncio.sleep(0)
        transport.write(b"0\r\n\r\n")


def _serve(pipe: Connection) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(_Server, "127.0.0.1", 0, backlog=4096)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())


@contextlib.contextmanager
def serving() -> Iterator[str]:
    """The server's URL, while its process runs."""
    with helper(_serve) as pipe:
        yield f"http://127.0.0.1:{pipe.recv()}"


@contextlib.contextmanager
def helper(work: Callable[[Connection], None]) -> Iterator[Connection]:
    """The pipe to a process of its own that does this work."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=work, args=(theirs,), daemon=True)
    process.start()
    theirs.close()  # so that a process that dies at its start is noticed
    try:
        yield ours
    finally:
        process.terminate()
        process.join()
