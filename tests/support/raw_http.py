"""A client of sockets only, so that what the emulator puts on the wire is seen as it is."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from dynamiq_async.emulator import Emulator, Player, Recorder

BOUNDARY = "----boundary"


@dataclass
class RawResponse:
    """A response, chunk by chunk, and how it ended: whole, closed (FIN too early) or reset."""

    status: int
    headers: dict[str, str]
    chunks: list[bytes] = field(default_factory=list)
    end: str = "whole"
    announced: int = 0  # the size of a chunk or body that did not come whole

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> Any:
        return self.json["error"]

    @property
    def blocks(self) -> list[bytes]:
        return [block for block in self.body.split(b"\n\n") if block]

    @property
    def events(self) -> list[Any]:
        lines = [block.rsplit(b"data: ", 1) for block in self.blocks if b"data: " in block]
        return [json.loads(line[1]) for line in lines]

    @property
    def sequences(self) -> list[int]:
        return [event["sequence"] for event in self.events]

    @property
    def sequences_stored(self) -> list[int]:
        return [event["sequence"] for event in self.json["data"]]


class RawClient:
    """One connection."""

    def __init__(self, emulator: Emulator | Player | Recorder) -> None:
        self.emulator = emulator
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter

    async def connect(self) -> RawClient:
        self.reader, self.writer = await asyncio.open_connection(
            self.emulator.host, self.emulator.port
        )
        return self

    async def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str | None = "",
        version: str = "1.1",
        host: str | None = None,
        **headers: str,
    ) -> None:
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            headers = {"content_type": "application/json", **headers}
        lines = [
            f"{method} {path} HTTP/{version}",
            f"Host: {host or urlsplit(self.emulator.url).netloc}",
        ]
        if key is not None and (token := key or self.emulator.access_key):
            lines.append(f"Authorization: Bearer {token}")
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        lines += (f"{name.replace('_', '-')}: {value}" for name, value in headers.items())
        self.writer.write("\r\n".join((*lines, "", "")).encode() + (body or b""))
        await self.writer.drain()

    async def head(self) -> RawResponse:
        status_line = await self.reader.readuntil(b"\r\n")
        headers = {}
        while (line := await self.reader.readuntil(b"\r\n")) != b"\r\n":
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        return RawResponse(int(status_line.split()[1]), headers)

    async def read(self) -> RawResponse:
        response = await self.head()
        try:
            await self.read_body(response)
        except asyncio.IncompleteReadError as error:
            response.chunks.append(error.partial)
            response.end = "closed"
        except ConnectionResetError:
            response.end = "reset"
        return response

    async def read_body(self, response: RawResponse) -> None:
        if response.headers.get("transfer-encoding") == "chunked":
            while True:
                response.announced = int(await self.reader.readuntil(b"\r\n"), 16)
                if not response.announced:
                    break
                response.chunks.append(await self.reader.readexactly(response.announced))
                response.announced = 0
                assert await self.reader.readexactly(2) == b"\r\n"
            assert await self.reader.readexactly(2) == b"\r\n"
        else:
            without = 0 if response.status == 204 else -1  # -1: until the connection is closed
            length = int(response.headers.get("content-length", without))
            response.announced = max(length, 0)
            while len(response.body) != length and (piece := await self.reader.read(2**16)):
                response.chunks.append(piece)
            if length > len(response.body):
                raise asyncio.IncompleteReadError(b"", None)
            response.announced = 0

    async def call(self, method: str, path: str, body: Any = None, **more: Any) -> RawResponse:
        await self.send(method, path, body, **more)
        return await self.read()

    async def post(self, path: str = "/", body: Any = None, **more: Any) -> RawResponse:
        return await self.call("POST", path, {"input": {}} if body is None else body, **more)

    async def stream(self, path: str = "/", **more: Any) -> RawResponse:
        return await self.post(path, {"input": {}, "stream": True}, **more)

    async def get(self, path: str, **more: Any) -> RawResponse:
        return await self.call("GET", path, **more)

    async def form(self, path: str, *parts: tuple[str, bytes]) -> RawResponse:
        """Send parts, each a content disposition behind `form-data; ` and a content."""
        body = b"".join(
            f"--{BOUNDARY}\r\nContent-Disposition: form-data; {what}\r\n\r\n".encode()
            + content
            + b"\r\n"
            for what, content in parts
        )
        kind = f"multipart/form-data; boundary={BOUNDARY}"
        return await self.post(path, body + f"--{BOUNDARY}--\r\n".encode(), content_type=kind)

    def close(self) -> None:
        self.writer.close()

    def abort(self) -> None:
        self.writer.transport.abort()


class RawClients:
    """Opens connections, and closes them after the test."""

    def __init__(self) -> None:
        self.opened: list[RawClient] = []

    async def __call__(self, emulator: Emulator | Player | Recorder) -> RawClient:
        client = await RawClient(emulator).connect()
        self.opened.append(client)
        return client

    def close(self) -> None:
        for client in self.opened:
            client.close()
