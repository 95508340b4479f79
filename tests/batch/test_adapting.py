"""Concurrency that adapts to a service that takes so many at a time and refuses the others."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from dynamiq_async import Adaptive, AsyncApp
from tests.support.travel import travel

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


class Service(asyncio.Protocol):
    """Takes `capacity` requests at a time, each for `seconds`; to others it says when to come
    back."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.received = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data
        _, found, body = self.received.partition(b"\r\n\r\n")
        if not found or not body:
            return
        self.received = b""
        record, loop = self.record, asyncio.get_running_loop()
        time = loop.time()
        record.within += any(since < time < until for since, until in record.cooldowns)
        if record.busy >= record.capacity:
            record.cooldowns.append((time, time + record.cooldown))
            self.answer(b"429 Too Many Requests\r\nRetry-After: %g" % record.cooldown)
        else:
            record.busy += 1
            loop.call_later(record.seconds, self.done)

    def done(self) -> None:
        self.record.busy -= 1
        self.record.done += 1
        self.answer(b"200 OK")

    def answer(self, status: bytes) -> None:
        self.transport.write(
            b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}" % status
        )


class Record:
    """What a service can do, and what it has seen."""

    capacity, seconds, cooldown = 20, 0.05, 0.5
    busy = done = within = 0

    def __init__(self) -> None:
        self.cooldowns: list[tuple[float, float]] = []


def served(work: Callable[[AsyncApp, Record], Coroutine[Any, Any, None]]) -> None:
    """Run `work` where time passes by waiting only: how fast the machine is makes no difference."""

    async def serve(_: Callable[[], float]) -> None:
        record = Record()
        server = await asyncio.get_running_loop().create_server(
            lambda: Service(record), "127.0.0.1", 0, backlog=512
        )
        port = server.sockets[0].getsockname()[1]
        async with AsyncApp(f"http://127.0.0.1:{port}", access_key="k") as app:
            await work(app, record)
        server.close()
        await server.wait_closed()

    travel(serve)


def test_it_finds_what_the_service_takes_within_twice_the_least_time() -> None:
    """Smaller than 5,000 jobs of 100 ms with `Retry-After: 1`, and in the same ratio."""
    jobs = 600

    async def work(app: AsyncApp, record: Record) -> None:
        least = jobs * record.seconds / record.capacity
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with app.map(({} for _ in range(jobs)), concurrency=Adaptive()) as results:
            assert all([result.ok async for result in results])
        assert loop.time() - began < 2 * least
        assert record.done == jobs
        assert record.within == 0
        assert 1 <= len(record.cooldowns) <= 10

    served(work)


def test_a_fixed_concurrency_that_is_too_large_costs_time_and_no_input() -> None:
    async def work(app: AsyncApp, record: Record) -> None:
        results = await app.batch([{}] * 60, concurrency=50)
        assert all(result.ok for result in results)
        assert record.done == 60
        assert record.within == 0

    served(work)
