"""Open clients of each kind on one event loop, and what each of them does: read a stream to its
end, hold a slow one, make a call. A client that is not installed is left out."""

from __future__ import annotations

import json
from functools import cached_property, partial
from typing import Any

import aiohttp
import msgspec

from benchmarks import _peer_clients
from benchmarks._measure import expect
from benchmarks.peers import optional
from dynamiq_async import AsyncApp, StreamEvent, Timeout
from dynamiq_async.events.run_events import RunEvent
from dynamiq_async.sse import SSEDecoder

BYTES = "aiohttp's bytes"
BARE = "its bytes and SSEDecoder"
HTTPX_SSE = "httpx + httpx-sse + json"
OPENAI = "openai, as dicts"
BARE_CALL = "aiohttp + msgspec"
TYPED = "dynamiq_async, typed"


class Output(msgspec.Struct):
    answer: str
    tickets: int


class Answer(msgspec.Struct):
    output: Output


INPUT = {"question": "What tier is customer-7421?"}
FINAL_TYPE = "dynamiq.workflows.Workflow"
AUTHORIZATION = {"Authorization": "Bearer k"}
HEADERS = AUTHORIZATION | {"Content-Type": "application/json"}
CONNECTIONS = 2_000


class Clients:
    """Make it while the loop runs, and close it there."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._apps: dict[str, AsyncApp] = {}
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=None)
        )
        # Calls have aiohttp's usual time limit, since ours have theirs.
        self.calling = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        self._opened: list[Any] = [self.session, self.calling]
        self._openais: dict[str, Any] = {}

    def app(self, path: str = "") -> AsyncApp:
        app = self._apps.get(path)
        if app is None:
            app = self._apps[path] = AsyncApp(
                self.url + path, access_key="k", max_connections=CONNECTIONS, timeout=Timeout()
            )
        return app

    # Importing them takes long, so it is put off until they are asked for.

    @cached_property
    def httpx(self) -> Any:
        if (httpx := optional("httpx")) is None:
            return None
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=CONNECTIONS)
        client = httpx.AsyncClient(timeout=60, limits=limits)
        self._opened.append(client)
        return client

    @cached_property
    def httpx_sse(self) -> Any:
        return optional("httpx_sse") if self.httpx else None

    @cached_property
    def openai(self) -> Any:
        return optional("openai")

    @cached_property
    def peers(self) -> list[_peer_clients.PeerClient]:
        peers = _peer_clients.opened(HEADERS, CONNECTIONS)
        self._opened += peers
        return peers

    def _openai(self, path: str) -> Any:
        client = self._openais.get(path)
        if client is None:
            client = self._openais[path] = self.openai.AsyncOpenAI(
                base_url=self.url + path, api_key="k", max_retries=0
            )
            self._opened.append(client)
        return client

    async def aclose(self) -> None:
        for app in self._apps.values():
            await app.aclose()
        for client in self._opened:
            await client.aclose() if hasattr(client, "aclose") else await client.close()

    # Streams, read to the end. Each has to see every event, and the final one as the last.

    def root_streams(self) -> dict[str, Any]:
        streams: dict[str, Any] = {
            "dynamiq_async": self.stream,
            BYTES: self.stream_bytes,
            BARE: self.stream_bare,
        }
        if self.httpx_sse:
            streams[HTTPX_SSE] = self.stream_httpx_sse
        if self.openai:
            streams[OPENAI] = self.stream_openai
        for peer in self.peers:
            streams[peer.package] = partial(self.stream_peer, peer)
        return streams

    async def stream_peer(self, peer: _peer_clients.PeerClient, path: str, events: int) -> None:
        await peer.stream(f"{self.url}{path}/", {"input": INPUT, "stream": True}, events)

    async def stream(self, path: str, events: int) -> None:
        seen = 0
        async for event in self.app(path).stream(INPUT):  # noqa: B007 - the last is checked
            seen += 1
        expect(seen, events)
        expect(event.is_final, True, "as whether the last one is final")

    async def stream_bytes(self, path: str, size: int) -> None:
        await _read_bytes(self._post(path), size)

    async def stream_bare(self, path: str, events: int) -> None:
        event = await _read_bare(self._post(path), StreamEvent, events)
        expect(event.is_final, True, "as whether the last one is final")

    async def stream_httpx_sse(self, path: str, events: int) -> None:
        body = {"input": INPUT, "stream": True}
        data = await self._read_httpx_sse(events, "POST", f"{self.url}{path}/", json=body)
        expect(data["source"]["type"], FINAL_TYPE, "as the source of the last one")

    async def stream_openai(self, path: str, events: int) -> None:
        seen = 0
        stream = await self._openai(path).post(
            "/",
            cast_to=object,
            body={"input": INPUT, "stream": True},
            stream=True,
            stream_cls=self.openai.AsyncStream[object],
        )
        async for data in stream:  # noqa: B007 - the last is checked
            seen += 1
        expect(seen, events)
        expect(data["source"]["type"], FINAL_TYPE, "as the source of the last one")

    def _post(self, path: str) -> Any:
        body = {"input": INPUT, "stream": True}
        return self.session.post(f"{self.url}{path}/", json=body, headers=AUTHORIZATION)

    # The streams of runs, the same way.

    def run_streams(self) -> dict[str, Any]:
        streams: dict[str, Any] = {
            "dynamiq_async": self.follow,
            BYTES: self.follow_bytes,
            BARE: self.follow_bare,
        }
        if self.httpx_sse:
            streams[HTTPX_SSE] = self.follow_httpx_sse
        return streams

    async def follow(self, path: str, events: int) -> None:
        seen = 0
        async for event in self.app(path).runs.follow("run-1"):  # noqa: B007 - the last is checked
            seen += 1
        expect(seen, events)
        expect(event.sequence, events, "as the last sequence number")

    async def follow_bytes(self, path: str, size: int) -> None:
        await _read_bytes(self._get(path), size)

    async def follow_bare(self, path: str, events: int) -> None:
        event = await _read_bare(self._get(path), RunEvent, events)
        expect(event.sequence, events, "as the last sequence number")

    async def follow_httpx_sse(self, path: str, events: int) -> None:
        url = f"{self.url}{path}/v1/runs/run-1/stream"
        data = await self._read_httpx_sse(events, "GET", url)
        expect(data["sequence"], events, "as the last sequence number")

    def _get(self, path: str) -> Any:
        return self.session.get(f"{self.url}{path}/v1/runs/run-1/stream", headers=AUTHORIZATION)

    async def _read_httpx_sse(self, events: int, *request: str, **options: Any) -> Any:
        """The data of the last one."""
        seen = 0
        async with self.httpx_sse.aconnect_sse(self.httpx, *request, **options) as source:
            async for event in source.aiter_sse():
                data = json.loads(event.data)
                seen += 1
        expect(seen, events)
        return data

    # Calls.

    def calls(self) -> dict[str, Any]:
        calls: dict[str, Any] = {
            "dynamiq_async": self.call,
            TYPED: self.call_typed,
            BARE_CALL: self.call_bare,
        }
        if self.httpx:
            calls["httpx"] = self.call_httpx
        for peer in self.peers:
            calls[peer.package] = partial(peer.call, f"{self.url}/", {"input": INPUT})
        return calls

    async def call(self) -> Any:
        return await self.app().invoke(INPUT)

    async def call_typed(self) -> Any:
        answer = await self.app().invoke(INPUT, output_type=Answer)
        return {"output": {"tickets": answer.output.tickets}}

    async def call_bare(self) -> Any:
        body = msgspec.json.encode({"input": INPUT})
        async with self.calling.post(f"{self.url}/", data=body, headers=HEADERS) as response:
            return msgspec.json.decode(await response.read())

    async def call_httpx(self) -> Any:
        response = await self.httpx.post(
            f"{self.url}/", json={"input": INPUT}, headers=AUTHORIZATION
        )
        return response.json()


async def _read_bytes(request: Any, size: int) -> None:
    got = 0
    async with request as response:
        while chunk := await response.content.readany():
            got += len(chunk)
    expect(got, size, "bytes")


async def _read_bare(request: Any, type: Any, events: int) -> Any:
    """The last one."""
    decoder, seen = SSEDecoder(type), 0
    async with request as response:
        while chunk := await response.content.readany():
            for event in decoder.feed(chunk):  # noqa: B007 - the last is checked
                seen += 1
    expect(seen, events)
    return event
