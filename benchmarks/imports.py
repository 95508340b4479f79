"""What a program's start costs: importing, in fresh interpreters without site packages' hooks."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from itertools import islice
from typing import TYPE_CHECKING

from benchmarks._measure import Sample, take_turns
from benchmarks._results import OURS, Comparison, Goal, compared

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks._measure import Sampler, Settings

TABLES = {"import": "Import, beyond the interpreter's own start"}

MODULES = {
    OURS: "dynamiq_async",
    "aiohttp": "aiohttp",
    "httpx": "httpx",
    "niquests": "niquests",
    "openai": "openai",
    "anthropic": "anthropic",
    "langgraph-sdk": "langgraph_sdk",
}
NOTHING = "nothing"
GOAL = round(80 / 150, 2)


def run(settings: Settings) -> Iterator[Comparison]:
    turns: dict[str, Sampler] = {NOTHING: _importing("sys")}
    notes = {}
    modules = dict(islice(MODULES.items(), 2)) if settings.quick else MODULES
    for name, module in modules.items():
        turns[name] = _importing(module)
        try:
            turns[name]()  # also compiles
        except subprocess.CalledProcessError:
            del turns[name]
            notes[name] = "not installed"
    samples, failed = take_turns(turns, settings.rounds(9))
    starts = samples.pop(NOTHING)
    beyond = {
        name: [
            Sample(taken.cpu - start.cpu, taken.wall - start.wall)
            for taken, start in zip(of_module, starts, strict=True)
        ]
        for name, of_module in samples.items()
    }
    yield compared(
        "import",
        "a fresh interpreter",
        (beyond, failed),
        unit="ms of CPU",
        per_second=1e3,
        columns=modules,
        goals=[Goal(OURS, "aiohttp", at_most=GOAL)],
        notes=notes,
    )


def _importing(module: str) -> Sampler:
    code = f"import sys; sys.path[:] = {sys.path!r}; import {module}"

    def sample() -> Sample:
        cpu, wall = _cpu_of_children(), time.perf_counter()
        subprocess.run(
            [sys.executable, "-I", "-S", "-c", code], check=True, stderr=subprocess.DEVNULL
        )
        return Sample(_cpu_of_children() - cpu, time.perf_counter() - wall)

    return sample


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
