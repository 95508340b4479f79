"""The client end to end over loopback: streams in three write patterns, and calls at concurrency.

    python -m benchmarks.client [--quick] [--uvloop]

Streams: CPU of the client per event. "bytes" is aiohttp's body and nothing else, "bare" the
decoder on those bytes. Calls: CPU of the client per call; "bare" is aiohttp with msgspec. The
server runs in a second process; contenders take turns. Every one has to deliver every event.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import TYPE_CHECKING, Any

import aiohttp
import httpx
import httpx_sse
import msgspec

from benchmarks._measure import header, measure, table
from benchmarks._server import EVENTS, serving
from dynamiq_async import AsyncApp, StreamEvent, Timeout
from dynamiq_async.sse import SSEDecoder

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

INPUT = {"question": "What tier is customer-7421?"}
BODY = {"input": INPUT, "stream": True}
CONCURRENCY = 100


class Contenders:
    """One open client of each kind, and what each does in one turn."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.apps: dict[str, AsyncApp] = {}
        self.session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        self.httpx = httpx.AsyncClient(
            timeout=60, limits=httpx.Limits(max_connections=None, max_keepalive_connections=1000)
        )
        self.app = self.app_at("")

    def app_at(self, path: str) -> AsyncApp:
        app = self.apps[path] = AsyncApp(
            self.url + path, access_key="k", max_connections=1000, timeout=Timeout()
        )
        return app

    async def aclose(self) -> None:
        for app in self.apps.values():
            await app.aclose()
        await self.session.close()
        await self.httpx.aclose()

    # Streams: each returns how many events it saw.

    async def stream_ours(self, path: str) -> int:
        app = self.apps.get(path) or self.app_at(path)
        seen = 0
        async for _ in app.stream(INPUT):
            seen += 1
        return seen

    async def stream_bare(self, path: str) -> int:
        decoder = SSEDecoder(StreamEvent)
        seen = 0
        async with self.session.post(f"{self.url}{path}/", json=BODY) as response:
            while chunk := await response.content.readany():
                for _ in decoder.feed(chunk):
                    seen += 1
        return seen

    async def stream_bytes(self, path: str) -> int:
        size = 0
        async with self.session.post(f"{self.url}{path}/", json=BODY) as response:
            while chunk := await response.content.readany():
                size += len(chunk)
        return EVENTS if size else 0

    async def stream_httpx_sse(self, path: str) -> int:
        seen = 0
        async with httpx_sse.aconnect_sse(
            self.httpx, "POST", f"{self.url}{path}/", json=BODY
        ) as source:
            async for event in source.aiter_sse():
                json.loads(event.data)
                seen += 1
        return seen

    # Calls: each answers one.

    async def call_ours(self) -> Any:
        return await self.app.invoke(INPUT)

    async def call_bare(self) -> Any:
        async with self.session.post(
            f"{self.url}/",
            data=msgspec.json.encode({"input": INPUT}),
            headers={"Content-Type": "application/json", "Authorization": "Bearer k"},
        ) as response:
            return msgspec.json.decode(await response.read())

    async def call_httpx(self) -> Any:
        response = await self.httpx.post(
            f"{self.url}/", json={"input": INPUT}, headers={"Authorization": "Bearer k"}
        )
        return response.json()


async def fan_out(call: Callable[[], Awaitable[Any]], calls: int) -> int:
    """`calls` calls by CONCURRENCY workers."""
    left = iter(range(calls))

    async def worker() -> int:
        done = 0
        for _ in left:
            assert (await call())["output"]["tickets"] == 2
            done += 1
        return done

    return sum(await asyncio.gather(*(worker() for _ in range(CONCURRENCY))))


def compare_streams(runner: asyncio.Runner, with_: Contenders, rounds: int) -> None:
    def turn(work: Callable[[str], Awaitable[int]], path: str) -> Callable[[], object]:
        async def checked() -> None:
            assert await work(path) == EVENTS

        return lambda: runner.run(checked())

    rows = []
    for path in ("/each", "/coalesced", "/pieces"):
        times = measure(
            {
                name: turn(work, path)
                for name, work in (
                    ("ours", with_.stream_ours),
                    ("bare", with_.stream_bare),
                    ("bytes", with_.stream_bytes),
                    ("httpx", with_.stream_httpx_sse),
                )
            },
            rounds=rounds,
        )
        ours = times["ours"]
        rows.append(
            [
                path[1:],
                *(f"{times[n].median / EVENTS * 1e6:.2f}" for n in ("bytes", "bare", "ours")),
                f"{ours / times['bare']:.2f}x",
                f"{times['httpx'].median / EVENTS * 1e6:.2f}",
                f"{times['httpx'] / ours:.1f}x",
                f"{ours.spread:.0%}",
            ]
        )
    print(f"Streams of {EVENTS} events, µs of client CPU per event")
    print(
        table(
            ["writes", "bytes", "bare", "ours", "ours/bare", "httpx-sse", "httpx/ours", "spread"],
            rows,
        )
    )


def compare_calls(runner: asyncio.Runner, with_: Contenders, rounds: int, calls: int) -> None:
    def turn(call: Callable[[], Awaitable[Any]], count: int) -> Callable[[], object]:
        async def checked() -> None:
            assert await fan_out(call, count) == count

        return lambda: runner.run(checked())

    # httpx is so much slower that it gets a tenth of the calls, counted per call.
    counts = {"ours": calls, "bare": calls, "httpx": max(CONCURRENCY, calls // 10)}
    times = measure(
        {
            "ours": turn(with_.call_ours, counts["ours"]),
            "bare": turn(with_.call_bare, counts["bare"]),
            "httpx": turn(with_.call_httpx, counts["httpx"]),
        },
        rounds=rounds,
    )
    each = {name: timing.median / counts[name] * 1e6 for name, timing in times.items()}
    print(f"\nCalls at concurrency {CONCURRENCY}, µs of client CPU per call")
    print(
        table(
            [
                "bare aiohttp + msgspec",
                "ours",
                "throughput of bare",
                "httpx",
                "httpx/ours",
                "spread",
            ],
            [
                [
                    f"{each['bare']:.0f}",
                    f"{each['ours']:.0f}",
                    f"{each['bare'] / each['ours']:.2f}x",
                    f"{each['httpx']:.0f}",
                    f"{each['httpx'] / each['ours']:.1f}x",
                    f"{times['ours'].spread:.0%}",
                ]
            ],
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="prove that it works; few rounds")
    parser.add_argument("--uvloop", action="store_true", help="on uvloop's event loop")
    arguments = parser.parse_args()
    rounds, calls = (3, 200) if arguments.quick else (15, 2_000)
    factory = None
    if arguments.uvloop:
        import uvloop

        factory = uvloop.new_event_loop
    print(header("aiohttp", "msgspec", "httpx", "httpx-sse"), end="\n\n")
    with serving() as url, asyncio.Runner(loop_factory=factory) as runner:

        async def start() -> Contenders:
            return Contenders(url)

        contenders = runner.run(start())
        try:
            compare_streams(runner, contenders, rounds)
            compare_calls(runner, contenders, rounds, calls)
        finally:
            runner.run(contenders.aclose())


if __name__ == "__main__":
    main()
