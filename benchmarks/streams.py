"""`AsyncApp.stream` and `runs.follow` from request to last event, over loopback.

The server runs in a second process and writes in three ways. Every contender reads every event,
and checks their number and the last one. "aiohttp's bytes" reads the body and nothing else; its
neighbour feeds it to the decoder, which is the least that a client on aiohttp can do.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks._clients import BARE, BYTES, HTTPX_SSE, Clients
from benchmarks._loops import Task, clients, on_each_loop
from benchmarks._results import OURS, Goal
from benchmarks._server import PATTERNS, body_size

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from benchmarks._measure import Settings
    from benchmarks._results import Comparison

TABLES = {
    "stream": "`AsyncApp.stream` over loopback",
    "follow": "`runs.follow` over loopback",
}

HTTPX_GOALS = {"each": 5.0, "coalesced": 5.0, "pieces": 3.5}
BARE_GOAL = 1.25
# Rust reads large writes at once; pyreqwest's bytes go through our decoder.
PEER_GOALS = {"ry": 1.0, "pyreqwest": 1.25, "httpx2": 0.5, "niquests": 0.5}
LARGE_WRITES = "pieces"


def run(settings: Settings) -> Iterator[Comparison]:
    events = 200 if settings.quick else 5_000
    with clients(settings) as opened:
        for area, is_run in (("stream", False), ("follow", True)):
            for pattern in PATTERNS:
                tasks = {
                    loop: _tasks(its, f"/{pattern}/{events}", events, is_run=is_run)
                    for loop, its in opened.items()
                }
                yield from on_each_loop(
                    settings,
                    area,
                    PATTERNS[pattern],
                    tasks,
                    unit="µs of CPU per event",
                    per_second=1e6,
                    goals=_goals(pattern, is_run=is_run),
                )


def _tasks(its: Clients, path: str, events: int, *, is_run: bool) -> Mapping[str, Task]:
    streams: dict[str, Any] = its.run_streams() if is_run else its.root_streams()
    size = body_size(events, run=is_run)
    return {
        name: Task(partial(read, path, size if name == BYTES else events), events)
        for name, read in streams.items()
    }


def _goals(pattern: str, *, is_run: bool) -> list[Goal]:
    goals = [Goal(HTTPX_SSE, OURS, at_least=HTTPX_GOALS[pattern])]
    if not is_run:  # whose events are put in order, too
        goals.append(Goal(OURS, BARE, at_most=BARE_GOAL))
        if pattern != LARGE_WRITES:
            goals += [Goal(OURS, peer, at_most=most) for peer, most in PEER_GOALS.items()]
    return goals
