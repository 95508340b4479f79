"""Event loops of several kinds, side by side in one process, and what runs on them in turns."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks._clients import Clients
from benchmarks._measure import Settings, Work, measure
from benchmarks._results import OURS, Comparison, Goal, compared
from benchmarks.peers import optional

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    Async = Callable[[], Any]


class Task(NamedTuple):
    """A contender's work on an event loop: a function that gives a coroutine, which does so many
    units of work."""

    run: Async
    units: int


@contextlib.contextmanager
def runners(*, only_uvloop: bool) -> Iterator[dict[str, asyncio.Runner]]:
    """A runner of each kind of event loop there is, by its name."""
    uvloop = optional("uvloop")
    if only_uvloop and uvloop is None:
        raise SystemExit("uvloop is not installed")
    with contextlib.ExitStack() as stack:
        found = {}
        if not only_uvloop:
            found["asyncio"] = stack.enter_context(asyncio.Runner())
        if uvloop is not None:
            found["uvloop"] = stack.enter_context(
                asyncio.Runner(loop_factory=uvloop.new_event_loop)
            )
        yield found


@contextlib.contextmanager
def clients(settings: Settings) -> Iterator[dict[str, Clients]]:
    """Open clients on each loop."""
    opened: dict[str, Clients] = {}
    try:
        for loop, runner in settings.runners.items():
            opened[loop] = runner.run(_open(settings.url))
        yield opened
    finally:
        for loop, its in opened.items():
            settings.runners[loop].run(its.aclose())


async def _open(url: str) -> Clients:
    return Clients(url)


def on_each_loop(
    settings: Settings,
    area: str,
    name: str,
    tasks: Mapping[str, Mapping[str, Task]],
    *,
    unit: str,
    per_second: float,
    goals: Iterable[Goal] | Callable[[str], Iterable[Goal]] = (),
    rounds: int = 11,
    seconds: float = 0.05,
    wall: bool = False,
    base: str = OURS,
) -> Iterator[Comparison]:
    """Measure tasks, given by loop and contender, all in the same rounds; a comparison a loop.

    Args:
        goals: of each loop, or what tells those of a loop.
    """
    samples, failed = measure(
        {
            f"{loop} {contender}": Work(_blocking(settings.runners[loop], task), task.units)
            for loop, its in tasks.items()
            for contender, task in its.items()
        },
        rounds=settings.rounds(rounds),
        seconds=settings.seconds(seconds),
    )
    for loop, its in tasks.items():
        start = f"{loop} "
        yield compared(
            area,
            name if loop == "asyncio" else f"{name}, on {loop}",
            (
                {k.removeprefix(start): v for k, v in samples.items() if k.startswith(start)},
                {k.removeprefix(start): v for k, v in failed.items() if k.startswith(start)},
            ),
            unit=unit,
            per_second=per_second,
            columns=its,
            base=base,
            goals=goals(loop) if callable(goals) else goals,
            wall=wall,
        )


def _blocking(runner: asyncio.Runner, task: Task) -> Callable[[], object]:
    return lambda: runner.run(task.run())
