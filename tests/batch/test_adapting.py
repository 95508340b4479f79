"""Concurrency that adapts to a service that takes so many at a time and refuses the others."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest_asyncio

from dynamiq_async import Adaptive, AsyncApp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

LATE = 0.02
"""Seconds for which an answer is under way, during which others are sent."""


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
        record.within += any(since + LATE < time < until for since, until in record.cooldowns)
        if record.busy >= record.capacity:
            record.cooldowns.append((time, time + record.cooldown))
            self.answer(b"429 Too Many Requests\r\nRetry-After: %g" % record.cooldown)
        else:
            record.busy += 1
            record.worked += record.seconds / min(record.allowed(), record.capacity)
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
    """What a service can do, and what it has seen.

    Attributes:
        allowed: how many requests the client lets be under way now.
        worked: how long the requests taken so far last, so many at a time.
    """

    capacity, seconds, cooldown = 20, 0.05, 0.5
    busy = done = within = 0
    worked = 0.0
    allowed: Callable[[], int]

    def __init__(self) -> None:
        self.cooldowns: list[tuple[float, float]] = []


@pytest_asyncio.fixture
async def service() -> AsyncIterator[tuple[AsyncApp, Record]]:
    record = Record()
    server = await asyncio.get_running_loop().create_server(
        lambda: Service(record), "127.0.0.1", 0, backlog=512
    )
    port = server.sockets[0].getsockname()[1]
    async with AsyncApp(f"http://127.0.0.1:{port}", access_key="k") as app:
        record.allowed = lambda: app._api.sender.limiter.limit
        yield app, record
    server.close()
    await server.wait_closed()


async def test_it_finds_what_the_service_takes_within_twice_the_least_time(
    service: tuple[AsyncApp, Record],
) -> None:
    """Smaller than 5,000 jobs of 100 ms with `Retry-After: 1`, and in the same ratio."""
    app, record = service
    jobs = 600
    least = jobs * record.seconds / record.capacity
    async with app.map(({} for _ in range(jobs)), concurrency=Adaptive()) as results:
        assert all([result.ok async for result in results])
    assert record.done == jobs
    assert record.within == 0
    assert 1 <= len(record.cooldowns) <= 10
    # By what the service counted, so that a slow machine changes nothing. A refusal within
    # a cooldown belongs to the same volley.
    cooled = ended = 0.0
    for since, until in record.cooldowns:
        cooled += until - max(since, ended)
        ended = until
    assert record.worked + cooled < 2 * least


async def test_a_fixed_concurrency_that_is_too_large_costs_time_and_no_input(
    service: tuple[AsyncApp, Record],
) -> None:
    app, record = service
    results = await app.batch([{}] * 60, concurrency=50)
    assert all(result.ok for result in results)
    assert record.done == 60
    assert record.within == 0
