"""Memory: the peak of one large event, what a stream holds, and what a long stream leaves behind.

The first is what Python allocates; the others are the process's resident memory, each measured in
a process of its own that does nothing else.
"""

from __future__ import annotations

import asyncio
import resource
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks._clients import BYTES, HTTPX_SSE, Clients
from benchmarks._measure import complaint, peak_memory
from benchmarks._results import OURS, Comparison, Goal
from benchmarks._server import body_size
from benchmarks.decoder import decode_all
from benchmarks.payloads import large_event
from benchmarks.peers import peers
from benchmarks.slow import Tally, contenders

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from benchmarks._measure import Settings

TABLES = {
    "memory: one event": "The most memory held for one event in chunks of 1 KB",
    "memory: growth": "Growth over 1,000,000 events of one stream, after the first 100,000",
    "memory: streams": "Memory of each open stream, of 1,000",
}

MB = 1_000_000
PEAK_GOAL = 2.2
GROWTH_GOAL = 1.0  # MB
WARM_UP, EVENTS = 100_000, 1_000_000
STREAMS = 1_000


def run(settings: Settings) -> Iterator[Comparison]:
    quick = settings.quick
    yield _peak(128 * 1024, "128 KB", with_peers=True)
    yield _peak(8 * MB, "8 MB", with_peers=False)
    warm_up, events = (1_000, 2_000) if quick else (WARM_UP, EVENTS)
    for area, name in (("root", "`AsyncApp.stream`"), ("run", "`runs.follow`")):
        yield _in_processes(
            settings,
            "memory: growth",
            name,
            partial(growth, warm_up=warm_up, events=events, run=area == "run"),
            unit="MB",
            divisor=MB,
            goals=[Goal(OURS, at_most=GROWTH_GOAL)],
        )
    yield _in_processes(
        settings,
        "memory: streams",
        "slow streams",
        partial(per_stream, streams=20 if quick else STREAMS),
        unit="KB",
        divisor=1_000,
    )


def _peak(size: int, name: str, *, with_peers: bool) -> Comparison:
    chunks = large_event(size)
    found, missing = peers() if with_peers else ({}, {})
    works: dict[str, Callable[[], object]] = {OURS: partial(decode_all, Any, chunks)}
    works |= {peer: partial(found[peer].own_json, chunks) for peer in found}
    samples: dict[str, list[float]] = {}
    notes = dict(missing)
    for contender, work in works.items():
        try:
            work()
            samples[contender] = [peak_memory(work) / size]
        except Exception as error:  # noqa: BLE001 - shown in the table
            notes[contender] = complaint(error)
    return Comparison(
        "memory: one event",
        name,
        unit="times its size",
        columns=[*works, *missing],
        base=OURS,
        samples=samples,
        goals=[Goal(OURS, at_most=PEAK_GOAL)],
        notes=notes,
    )


def _in_processes(
    settings: Settings,
    area: str,
    name: str,
    measured: Callable[[str, str], float],
    *,
    unit: str,
    divisor: float,
    goals: list[Goal] | None = None,
) -> Comparison:
    names = [OURS, BYTES] if settings.quick else [OURS, BYTES, HTTPX_SSE]
    samples: dict[str, list[float]] = {contender: [] for contender in names}
    notes = {}
    for _ in range(1 if settings.quick else 3):
        for contender in names:
            # A process for each, so that nothing before it has left free memory behind.
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
                try:
                    used = fresh.submit(measured, settings.url, contender).result()
                    samples[contender].append(used / divisor)
                except Exception as error:  # noqa: BLE001 - shown in the table
                    notes[contender] = complaint(error)
    return Comparison(
        area,
        name,
        unit=unit,
        columns=names,
        base=OURS,
        samples={k: v for k, v in samples.items() if k not in notes},
        goals=goals or [],
        notes=notes,
    )


# --- in the fresh process ----------------------------------------------------------------------


def growth(url: str, contender: str, *, warm_up: int, events: int, run: bool) -> float:
    """How much the memory grows from a stream to one that is longer, in bytes."""

    async def main() -> float:
        its = Clients(url)
        streams: Mapping[str, Any] = its.run_streams() if run else its.root_streams()

        async def read(count: int) -> None:
            expected = body_size(count, run=run) if contender == BYTES else count
            await streams[contender](f"/pieces/{count}", expected)

        await read(warm_up)
        before = rss()
        await read(events)
        after = rss()
        await its.aclose()
        return after - before

    return asyncio.run(main())


def per_stream(url: str, contender: str, *, streams: int) -> float:
    """The memory of each of many open streams, in bytes."""

    async def main() -> float:
        its = Clients(url)
        hold = contenders(its)[contender]
        await _opened(its, hold, 1)  # imports, and what is made once
        before = rss()
        used = await _opened(its, hold, streams) - before
        await its.aclose()
        return used / streams

    return asyncio.run(main())


async def _opened(its: Clients, hold: Any, streams: int) -> float:
    """The memory while so many streams are open."""
    tally = Tally(streams)
    tasks = [asyncio.ensure_future(hold(its, tally)) for _ in range(streams)]
    await asyncio.wait([tally.all_open, *tasks], return_when=asyncio.FIRST_COMPLETED)
    await asyncio.sleep(0.5)
    used = rss()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return used


def rss() -> float:
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return float(pages * resource.getpagesize())
    return peak_rss()


def peak_rss() -> float:
    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
