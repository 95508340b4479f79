"""How cost grows with size. In each table the work gets bigger from column to column, and the cost
of a unit of it has to stay the same: then the whole grows linearly.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks._clients import Clients
from benchmarks._loops import Task, clients, on_each_loop
from benchmarks._measure import Settings, Work, expect, measure
from benchmarks._results import Comparison, Goal, compared
from benchmarks.decoder import DOUBLING_GOAL, decode_all
from benchmarks.invoke import fan_out
from benchmarks.payloads import chunked

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

TABLES = {
    "scaling: events": "Events in one `AsyncApp.stream`, in writes of 15 KB",
    "scaling: event size": "Size of each event, decoded in chunks of 16 KB",
    "scaling: streams": "`AsyncApp.stream`s at once, of 200 events each, a write per event",
    "scaling: concurrency": "`AsyncApp.invoke`s at once",
}

EVENTS = (1_000, 10_000, 100_000, 1_000_000)
SIZES = {
    "100 B": 100,
    "1 KB": 1_000,
    "10 KB": 10_000,
    "100 KB": 100_000,
    "1 MB": 1_000_000,
    "8 MB": 8_000_000,
}
STREAMS = (1, 10, 100, 1_000)
CONCURRENCY = (1, 10, 100, 1_000)

# The cost of a unit of the largest work, against one of the next smaller.
LINEAR = 1.2
# The same from 1 MB to 8: what the goal for doubling an event's size comes to over three doublings.
LARGER = (DOUBLING_GOAL / 2) ** 3


def run(settings: Settings) -> Iterator[Comparison]:
    yield _event_size(settings)
    with clients(settings) as opened:
        loops = {next(iter(opened)): next(iter(opened.values()))}
        yield from _curve(settings, loops, "events", EVENTS, _events, 5)
        yield from _curve(settings, loops, "streams", STREAMS, _streams, 7)
        yield from _curve(settings, loops, "concurrency", CONCURRENCY, _calls, 7)


def _curve(
    settings: Settings,
    opened: Mapping[str, Clients],
    what: str,
    sizes: tuple[int, ...],
    task: Any,
    rounds: int,
) -> Iterator[Comparison]:
    if settings.quick:
        sizes = sizes[:2]
    yield from on_each_loop(
        settings,
        f"scaling: {what}",
        what,
        {loop: {f"{n:,}": task(its, n) for n in sizes} for loop, its in opened.items()},
        unit="µs of CPU each",
        per_second=1e6,
        rounds=rounds,
        seconds=0.1,
        base=f"{sizes[0]:,}",
        goals=[Goal(f"{sizes[-1]:,}", f"{sizes[-2]:,}", at_most=LINEAR)],
    )


def _events(its: Clients, events: int) -> Task:
    return Task(partial(its.stream, f"/pieces/{events}", events), events)


def _streams(its: Clients, streams: int) -> Task:
    events = 200

    async def all_at_once() -> None:
        path = f"/each/{events}"
        await asyncio.gather(*(its.stream(path, events) for _ in range(streams)))

    return Task(all_at_once, streams * events)


def _calls(its: Clients, concurrency: int) -> Task:
    calls = 2_000
    return Task(partial(fan_out, its.call, calls, concurrency), calls)


def _event_size(settings: Settings) -> Comparison:
    works = {}
    for name, size in SIZES.items():
        count = max(1, 2_000_000 // size)
        block = b'data: "' + b"x" * (size - 2) + b'"\n\n'
        chunks = chunked([block] * count, 16 * 1024)
        check = partial(_count, count)
        works[name] = Work(partial(decode_all, Any, chunks), size * count, check)
    return compared(
        "scaling: event size",
        "size",
        measure(works, rounds=settings.rounds(11), seconds=settings.seconds(0.03)),
        unit="ns of CPU per byte",
        per_second=1e9,
        columns=works,
        base="1 MB",
        goals=[Goal("8 MB", "1 MB", at_most=round(LARGER, 2))],
    )


def _count(wanted: int, events: Any) -> None:
    expect(len(events), wanted)
