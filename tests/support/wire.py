"""A server on bare sockets: exact bytes at exact moments, and a record of what came in.

`Wire` accepts connections, reads requests and hands each to a handler, which sends whatever bytes
it likes through its `Peer`. Nothing here checks that they are HTTP: that is the point.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import msgspec

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import trustme

    Handler = Callable[["Peer"], Awaitable[None]]

PATIENCE = 5.0
"""Seconds after which a test that waits is stuck."""


class Seen(NamedTuple):
    """One request, as it arrived."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    raw_head: bytes

    def json(self) -> Any:
        return msgspec.json.decode(self.body)


class Peer:
    """The server's end of one connection, with the request that was read from it last."""

    request: Seen

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.closed = False

    async def send(self, *pieces: bytes) -> None:
        """Write the pieces as one, and let the other side run."""
        self.writer.write(b"".join(pieces))
        await self.writer.drain()

    async def send_slowly(self, data: bytes, size: int = 1) -> None:
        """The same bytes in segments of `size`."""
        for start in range(0, len(data), size):
            await self.send(data[start : start + size])
            await asyncio.sleep(0)

    def close(self) -> None:
        """Send FIN behind what was written."""
        self.closed = True
        self.writer.close()

    def reset(self) -> None:
        """Send RST: the other side's unread bytes may be lost, and its next read fails."""
        self.closed = True
        linger = struct.pack("ii", 1, 0)
        sock: socket.socket = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()

    async def gone(self) -> None:
        """Return when the client has closed the connection."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                continue

    async def read_request(self) -> Seen:
        raw = await self.reader.readuntil(b"\r\n\r\n")
        first, *lines = raw.decode("latin-1").split("\r\n")[:-2]
        method, target, _ = first.split(" ", 2)
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        return Seen(method, target, headers, await self.read_body(headers), raw)

    async def read_body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") == "chunked":
            pieces = []
            while size := int(await self.reader.readuntil(b"\r\n"), 16):
                pieces.append(await self.reader.readexactly(size))
                await self.reader.readexactly(2)
            await self.reader.readexactly(2)
            return b"".join(pieces)
        return await self.reader.readexactly(int(headers.get("content-length", 0)))


class Wire:
    """A listening socket on loopback and its record.

    Attributes:
        requests: the requests that came in, in order.
        connections: how many connections were ever accepted.
        open: how many are open now.
    """

    def __init__(self, handler: Handler, *, tls: ssl.SSLContext | None = None) -> None:
        self.handler = handler
        self.requests: list[Seen] = []
        self.connections = 0
        self.open = 0
        self._tls = tls
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Condition()
        self._server: asyncio.Server | None = None
        self.port = 0

    @property
    def url(self) -> str:
        name = "https://localhost" if self._tls else "http://127.0.0.1"
        return f"{name}:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(
            self._accept, "127.0.0.1", 0, ssl=self._tls, limit=2**20
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def all_closed(self) -> None:
        """Return when no client holds a connection any more."""
        await self._until(lambda: self.open == 0)

    async def asked(self, times: int = 1) -> None:
        """Return when so many requests have come in."""
        await self._until(lambda: len(self.requests) >= times)

    async def _until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE), self._changed:
            await self._changed.wait_for(condition)

    async def _note(self, opened: int = 0) -> None:
        self.open += opened
        self.connections += max(0, opened)
        async with self._changed:
            self._changed.notify_all()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._note(+1)
            await self._serve(Peer(reader, writer))
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client went, or the test is over
        finally:
            self._tasks.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await writer.wait_closed()
            await self._note(-1)

    async def _serve(self, peer: Peer) -> None:
        while not peer.closed:
            peer.request = await peer.read_request()
            self.requests.append(peer.request)
            await self._note()
            await self.handler(peer)


# --- what handlers send --------------------------------------------------------------------------


def head(status: int = 200, *lines: str) -> bytes:
    """A response's head with these header lines."""
    return "\r\n".join([f"HTTP/1.1 {status} Whatever", *lines, "", ""]).encode("latin-1")


CHUNKED = head(200, "Content-Type: text/event-stream", "Transfer-Encoding: chunked")
UNFRAMED = head(200, "Content-Type: text/event-stream", "Connection: close")
LAST_CHUNK = b"0\r\n\r\n"


def sized(length: int) -> bytes:
    return head(200, "Content-Type: text/event-stream", f"Content-Length: {length}")


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def make_response(
    value: Any = None, status: int = 200, *lines: str, kind: str = "application/json"
) -> bytes:
    """A whole response with a JSON body, or the very bytes given."""
    body = value if isinstance(value, bytes) else msgspec.json.encode(value)
    lines = (f"Content-Type: {kind}", f"Content-Length: {len(body)}", *lines)
    return head(status, *lines) + body


def sse(*events: Any) -> bytes:
    """Events as the wire has them, a block each."""
    return b"".join(b"data: %s\n\n" % msgspec.json.encode(event) for event in events)


def says(text: str, entity_id: str = "agent-1", event: str = "data") -> dict[str, Any]:
    """An agent's piece of its answer."""
    delta = {"content": text, "source": "Agent", "step": "answer"}
    return {
        "run_id": None,
        "wf_run_id": "wf-1",
        "entity_id": entity_id,
        "data": {"choices": [{"delta": delta}]},
        "event": event,
        "source": {"id": entity_id, "name": "Agent", "group": "agents", "type": "Agent"},
    }


def final(data: Any = None) -> dict[str, Any]:
    """The workflow's own event."""
    if data is None:
        data = {"agent-1": {"status": "success", "input": {}, "output": {"content": "hi"}}}
    return {
        "run_id": None,
        "wf_run_id": "wf-1",
        "entity_id": "wf",
        "data": data,
        "event": "streaming",
        "source": {
            "id": "wf",
            "name": None,
            "group": None,
            "type": "dynamiq.workflows.Workflow",
        },
    }


def server_context(ca: trustme.CA) -> ssl.SSLContext:
    """For a server called localhost whose certificate `ca` has signed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost").configure_cert(context)
    return context


def script(*responses: bytes) -> Handler:
    """A handler that gives one response per request, and the last one for ever."""
    left = list(responses)

    async def handler(peer: Peer) -> None:
        await peer.send(left.pop(0) if len(left) > 1 else left[0])

    return handler
