"""The server that the clients are measured against: canned answers, written as cheaply as can be,
in a process of its own, so that the measured process does nothing but be a client.

    with serving() as url: ...
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

EVENTS = 2_000
PIECE = 15 * 1024

ANSWER = json.dumps(
    {"output": {"answer": "The customer is on the pro tier.", "tickets": 2}}
).encode()
_JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
_SSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def message(number: int) -> bytes:
    """An agent's piece of an answer, as the root endpoint sends it."""
    event = {
        "run_id": "ca031829-924e-4883-b11d-70634f5253dd",
        "wf_run_id": "69984f85-1af9-4d83-b55d-4a6e0da9eeec",
        "entity_id": "agent-1",
        "data": {
            "choices": [
                {
                    "delta": {
                        "content": f"piece {number} of a longer answer, ",
                        "source": "Support Agent",
                        "step": "answer",
                    }
                }
            ]
        },
        "event": "data",
        "source": {
            "id": "agent-1",
            "name": "Support Agent",
            "group": "agents",
            "type": "dynamiq.nodes.agents.Agent",
        },
    }
    return b"data: " + json.dumps(event, separators=(",", ":")).encode() + b"\n\n"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def _patterns() -> dict[bytes, list[bytes]]:
    """For each path, the writes of its stream.

    `each` is an HTTP chunk and a write for every event, `coalesced` the same chunks in writes of
    15 KB, as when the network joins them, and `pieces` chunks of 15 KB.
    """
    events = [message(number) for number in range(EVENTS)]
    chunks = [_chunk(event) for event in events]
    body, wire = b"".join(events), b"".join(chunks)
    return {
        b"/each": chunks,
        b"/coalesced": [wire[i : i + PIECE] for i in range(0, len(wire), PIECE)],
        b"/pieces": [_chunk(body[i : i + PIECE]) for i in range(0, len(body), PIECE)],
    }


class _Server(asyncio.Protocol):
    patterns = _patterns()
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
        path = head.split(b" ", 2)[1].rstrip(b"/")
        if path in self.patterns:
            task = asyncio.get_running_loop().create_task(self.stream(self.patterns[path]))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
        else:
            self.transport.write(_JSON % (len(ANSWER), ANSWER))

    async def stream(self, writes: list[bytes]) -> None:
        self.transport.write(_SSE)
        for piece in writes:
            self.transport.write(piece)
            while self.transport.get_write_buffer_size():
                await asyncio.sleep(0)
        self.transport.write(b"0\r\n\r\n")


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
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=_serve, args=(theirs,), daemon=True
    )
    process.start()
    theirs.close()  # so that a server that dies at its start is noticed
    try:
        yield f"http://127.0.0.1:{ours.recv()}"
    finally:
        process.terminate()
        process.join()
