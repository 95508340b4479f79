"""Other HTTP clients, each in the cheapest way that its user has: JSON by msgspec, and a stream's
bytes by `SSEDecoder` where the client reads no events itself.

One that is not installed is left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from benchmarks._measure import expect
from benchmarks.peers import optional
from dynamiq_async import StreamEvent
from dynamiq_async.sse import SSEDecoder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_encode, _decode = msgspec.json.encode, msgspec.json.decode
_decode_event = msgspec.json.Decoder(StreamEvent).decode


class PeerClient:
    """One client, open on one event loop.

    Args:
        package: the module, imported already.
        headers: sent with every request.
        connections: how many it may have.
    """

    package: str

    def __init__(self, package: Any, headers: dict[str, str], connections: int) -> None:
        self.headers = headers
        self.client = self.made(package, connections)

    def made(self, package: Any, connections: int) -> Any:
        raise NotImplementedError

    async def post(self, url: str, body: bytes) -> bytes:
        """The whole body of the answer."""
        raise NotImplementedError

    def pieces(self, url: str, body: bytes) -> AsyncIterator[bytes]:
        """The body of the answer as it comes."""
        raise NotImplementedError

    async def aclose(self) -> None:
        raise NotImplementedError

    async def call(self, url: str, value: Any) -> Any:
        return _decode(await self.post(url, _encode(value)))

    async def stream(self, url: str, value: Any, events: int) -> None:
        """Read a stream to its end."""
        decoder, seen = SSEDecoder(StreamEvent), 0
        async for piece in self.pieces(url, _encode(value)):
            for event in decoder.feed(piece):  # noqa: B007 - the last is checked
                seen += 1
        expect(seen, events)
        expect(event.is_final, True, "as whether the last one is final")


class Ry(PeerClient):
    package = "ry"

    def made(self, package: Any, connections: int) -> Any:
        return package.Client()

    async def post(self, url: str, body: bytes) -> bytes:
        response = await self.client.post(url, body=body, headers=self.headers)
        return bytes(await response.bytes())

    async def stream(self, url: str, value: Any, events: int) -> None:
        response = await self.client.post(url, body=_encode(value), headers=self.headers)
        seen = 0
        async for found in response.sse():
            event = _decode_event(found.data)
            seen += 1
        expect(seen, events)
        expect(event.is_final, True, "as whether the last one is final")

    async def aclose(self) -> None:
        """It closes when it is collected."""


class Pyreqwest(PeerClient):
    package = "pyreqwest"

    def made(self, package: Any, connections: int) -> Any:
        from pyreqwest.client import ClientBuilder

        return ClientBuilder().max_connections(connections).build()

    async def post(self, url: str, body: bytes) -> bytes:
        request = self.client.post(url).headers(self.headers).body_bytes(body).build()
        return bytes(await (await request.send()).bytes())

    async def pieces(self, url: str, body: bytes) -> AsyncIterator[bytes]:
        request = self.client.post(url).headers(self.headers).body_bytes(body).build_streamed()
        async with request as response:
            while (piece := await response.body_reader.read_chunk()) is not None:
                yield bytes(piece)

    async def aclose(self) -> None:
        await self.client.close()


class Httpx2(PeerClient):
    package = "httpx2"

    def made(self, package: Any, connections: int) -> Any:
        limits = package.Limits(max_connections=None, max_keepalive_connections=connections)
        return package.AsyncClient(timeout=60, limits=limits)

    async def post(self, url: str, body: bytes) -> bytes:
        response = await self.client.post(url, content=body, headers=self.headers)
        content: bytes = response.content
        return content

    async def pieces(self, url: str, body: bytes) -> AsyncIterator[bytes]:
        request = self.client.stream("POST", url, content=body, headers=self.headers)
        async with request as response:
            async for piece in response.aiter_raw():
                yield piece

    async def aclose(self) -> None:
        await self.client.aclose()


class Niquests(PeerClient):
    package = "niquests"

    def made(self, package: Any, connections: int) -> Any:
        return package.AsyncSession(pool_maxsize=connections)

    async def post(self, url: str, body: bytes) -> bytes:
        response = await self.client.post(url, data=body, headers=self.headers)
        content: bytes = response.content
        return content

    async def pieces(self, url: str, body: bytes) -> AsyncIterator[bytes]:
        response = await self.client.post(url, data=body, headers=self.headers, stream=True)
        async for piece in await response.iter_raw(-1):
            yield piece

    async def aclose(self) -> None:
        await self.client.close()


KINDS: tuple[type[PeerClient], ...] = (Ry, Pyreqwest, Httpx2, Niquests)


def opened(headers: dict[str, str], connections: int) -> list[PeerClient]:
    """One of each kind that is installed."""
    return [
        kind(package, headers, connections)
        for kind in KINDS
        if (package := optional(kind.package)) is not None
    ]
