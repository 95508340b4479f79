"""`AsyncApp.invoke`: many calls at once, by a fixed set of workers.

What counts is the client's CPU for each call; its inverse is the throughput of a client that has
one core and a service that is fast enough. The clock's own throughput is in the JSON.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks._clients import BARE_CALL, TYPED, Clients
from benchmarks._loops import Task, clients, on_each_loop
from benchmarks._measure import expect
from benchmarks._results import OURS, Goal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    from benchmarks._measure import Settings
    from benchmarks._results import Comparison

TABLES = {"invoke": "`AsyncApp.invoke`"}

CONCURRENCY = (1, 10, 100, 500)
GOAL_AT = 100
TYPED_GOAL = 1.03
BARE_GOALS = {"asyncio": 0.55, "uvloop": 0.4}
PEER_GOALS = {"httpx": 0.1, "httpx2": 0.1, "niquests": 0.2, "pyreqwest": 1.0, "ry": 1.5}

# Slow contenders get a smaller share of the calls; what counts is the cost of each.
SHARES = {"httpx": 10, "httpx2": 10, "niquests": 5}


def run(settings: Settings) -> Iterator[Comparison]:
    calls = 50 if settings.quick else 2_000
    with clients(settings) as opened:
        for concurrency in (1, 10) if settings.quick else CONCURRENCY:
            yield from on_each_loop(
                settings,
                "invoke",
                f"concurrency {concurrency}",
                {loop: _tasks(its, calls, concurrency) for loop, its in opened.items()},
                unit="µs of CPU per call",
                per_second=1e6,
                goals=_goals if concurrency == GOAL_AT else (),
                rounds=9,
                wall=True,
            )


def _tasks(its: Clients, calls: int, concurrency: int) -> Mapping[str, Task]:
    tasks = {}
    for name, call in its.calls().items():
        count = max(concurrency, calls // SHARES.get(name, 1))
        tasks[name] = Task(partial(fan_out, call, count, concurrency), count)
    return tasks


def _goals(loop: str) -> list[Goal]:
    return [
        Goal(OURS, BARE_CALL, at_most=BARE_GOALS[loop]),
        Goal(TYPED, BARE_CALL, at_most=BARE_GOALS[loop]),
        Goal(TYPED, OURS, at_most=TYPED_GOAL),
        *(Goal(OURS, peer, at_most=most) for peer, most in PEER_GOALS.items()),
    ]


async def fan_out(call: Callable[[], Awaitable[Any]], calls: int, concurrency: int) -> None:
    left = iter(range(calls))

    async def worker() -> int:
        done = 0
        for _ in left:
            expect((await call())["output"]["tickets"], 2, "as the answer")
            done += 1
        return done

    expect(sum(await asyncio.gather(*(worker() for _ in range(concurrency)))), calls, "calls")
