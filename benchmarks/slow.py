"""Many slow streams at once: ten events a second each, as people watch agents think.

Every event arrives alone, so waking up costs more than decoding. At 1,000 streams, 10,000 events
a second, a microsecond per event is one per cent of a core.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from typing import TYPE_CHECKING, Any

from benchmarks._clients import BARE, BYTES, HTTPX_SSE, INPUT, Clients
from benchmarks._loops import clients
from benchmarks._measure import Sample, WrongResultError, take_turns
from benchmarks._results import OURS, Comparison, Goal, compared
from benchmarks._server import SLOW_RATE
from dynamiq_async import StreamEvent
from dynamiq_async.sse import SSEDecoder

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from benchmarks._measure import Sampler, Settings

    Hold = Callable[[Clients, "Seen"], Awaitable[None]]

TABLES = {"slow streams": "Slow streams, 10 events a second each"}

STREAMS = (10, 100, 1_000)
GOAL_AT = 1_000
GOAL = 1.25
PATH = "/slow"
LATE = 0.9  # a client that sees fewer of the events than this does not keep up


def run(settings: Settings) -> Iterator[Comparison]:
    with clients(settings) as opened:
        for streams in (20,) if settings.quick else STREAMS:
            yield from _compare(settings, opened, streams)


def _compare(settings: Settings, opened: dict[str, Clients], streams: int) -> Iterator[Comparison]:
    window = 0.3 if settings.quick else 2.0
    turns: dict[str, Sampler] = {}
    for loop, its in opened.items():
        for name, hold in contenders(its).items():
            turns[f"{loop} {name}"] = _turn(settings, loop, its, hold, streams, window)
    samples, failed = take_turns(turns, settings.rounds(5))
    for loop, its in opened.items():
        start = f"{loop} "
        yield compared(
            "slow streams",
            f"{streams:,} streams" + ("" if loop == "asyncio" else f", on {loop}"),
            (
                {k.removeprefix(start): v for k, v in samples.items() if k.startswith(start)},
                {k.removeprefix(start): v for k, v in failed.items() if k.startswith(start)},
            ),
            unit="µs of CPU per event",
            per_second=1e6,
            columns=contenders(its),
            goals=[Goal(OURS, BYTES, at_most=GOAL)] if streams == GOAL_AT else (),
        )


def _turn(
    settings: Settings, loop: str, its: Clients, hold: Hold, streams: int, window: float
) -> Sampler:
    return lambda: settings.runners[loop].run(_sample(its, hold, streams, window))


class Tally:
    """What the streams of a turn have seen together."""

    def __init__(self, streams: int) -> None:
        self.events = 0
        self.missing = streams
        self.all_open = asyncio.get_running_loop().create_future()

    def opened(self) -> None:
        self.missing -= 1
        if not self.missing:
            self.all_open.set_result(None)


class Seen:
    """What one stream has seen."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._events = 0
        self._last: Any = None

    def __call__(self, event: Any = None) -> None:
        if not self._events:
            self._tally.opened()
        self._events += 1
        self._tally.events += 1
        self._last = event

    def check(self) -> None:
        """Check the last event, if it was told, whose number tells how many there were."""
        event = self._last
        if event is None:
            return
        told = bytes(event.raw_data) if isinstance(event, StreamEvent) else json.dumps(event)
        number = int(re.findall(r"piece (\d+)", str(told))[-1])
        if number != self._events - 1:
            raise WrongResultError(f"{self._events} events up to number {number}")


async def _sample(its: Clients, hold: Hold, streams: int, window: float) -> Sample:
    tally = Tally(streams)
    tasks = [asyncio.ensure_future(_checked(its, hold, tally)) for _ in range(streams)]
    try:
        await asyncio.wait([tally.all_open, *tasks], return_when=asyncio.FIRST_COMPLETED)
        cpu, wall, seen = time.process_time(), time.perf_counter(), tally.events
        await asyncio.sleep(window)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        seen = tally.events - seen
    finally:
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
    for end in ends:
        if isinstance(end, Exception):
            raise end
    sent = wall * streams * SLOW_RATE
    if seen < LATE * sent:
        raise WrongResultError(f"saw {seen / wall:,.0f} of {sent / wall:,.0f} events a second")
    return Sample(cpu / seen, wall / seen)


async def _checked(its: Clients, hold: Hold, tally: Tally) -> None:
    seen = Seen(tally)
    try:
        await hold(its, seen)
    finally:
        seen.check()


# --- the contenders: each holds one stream until it is cancelled ------------------------------


def contenders(its: Clients) -> dict[str, Hold]:
    found: dict[str, Hold] = {OURS: _ours, BYTES: _bytes, BARE: _bare}
    if its.httpx_sse:
        found[HTTPX_SSE] = _httpx_sse
    return found


async def _ours(its: Clients, seen: Seen) -> None:
    async with its.app(PATH).stream(INPUT) as stream:
        async for event in stream:
            seen(event)


async def _bytes(its: Clients, seen: Seen) -> None:
    """It counts reads, each of which is an event as long as it keeps up."""
    async with its._post(PATH) as response:
        while await response.content.readany():
            seen()


async def _bare(its: Clients, seen: Seen) -> None:
    feed = SSEDecoder(StreamEvent).feed
    async with its._post(PATH) as response:
        while chunk := await response.content.readany():
            for event in feed(chunk):
                seen(event)


async def _httpx_sse(its: Clients, seen: Seen) -> None:
    async with its.httpx_sse.aconnect_sse(
        its.httpx, "POST", f"{its.url}{PATH}/", json={"input": INPUT, "stream": True}
    ) as source:
        async for event in source.aiter_sse():
            seen(json.loads(event.data))
