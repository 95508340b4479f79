"""A job whose workers are killed at random moments and run beside zombies: one run counts.

Each worker is a process of its own and takes the whole job up, as an engine would have it that
retries what it thinks is dead. The emulator in this process lags its lists and counts executions.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dynamiq_async import AsyncApp
from dynamiq_async.batch import job_session
from dynamiq_async.emulator import Emulator, RunContext

if TYPE_CHECKING:
    from dynamiq_async.emulator import Run

KILLS = int(os.environ.get("DYNAMIQ_TEST_KILLS", "12"))
INPUTS = 40
LAG = 0.15
ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no fork, no SIGKILL")

# Forks workers from a process that has imported everything, so that they get to work at once. Each
# prints its results as lines of JSON to a file of its own.
STARTER = f"""
import asyncio, json, os, sys
import dynamiq_async.transport.aiohttp
from dynamiq_async import AsyncApp

async def work(url, path):
    async with AsyncApp(url, access_key="k") as app:
        inputs = [{{"n": n}} for n in range({INPUTS})]
        results = app.map(inputs, job="killed", concurrency=len(inputs), settle=1.0)
        with open(path, "w") as file:
            async with results:
                async for r in results:
                    line = [r.key, r.run_id, r.found, r.unwrap()["twice"]]
                    print(json.dumps(line), file=file, flush=True)

for line in sys.stdin:
    url, path = json.loads(line)
    child = os.fork()
    if not child:
        code = 70
        try:
            asyncio.run(work(url, path))
            code = 0
        finally:
            os._exit(code)
    print(child, flush=True)
"""


class Slowly:
    """The App: the runs of even keys last until `over` is set, the others not long."""

    def __init__(self) -> None:
        self.over = asyncio.Event()

    async def __call__(self, input: dict[str, Any], run: RunContext) -> Any:
        if input["n"] % 2:
            await asyncio.sleep(0.1 + 0.01 * (input["n"] % 7))
        else:
            await self.over.wait()
        return {"twice": 2 * input["n"]}


class Workers:
    """Processes that work on the same job.

    Attributes:
        results: of each worker so far, by the file that it writes.
    """

    def __init__(self, folder: Path, url: str) -> None:
        self._folder = folder
        self._url = url
        self._count = 0

    async def __aenter__(self) -> Workers:
        self._starter = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", STARTER),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._starter.stdin is not None
        self._starter.stdin.close()
        await self._starter.wait()

    async def start(self) -> int:
        """Start a worker; return the id of its process."""
        assert self._starter.stdin is not None
        assert self._starter.stdout is not None
        path = self._folder / f"{self._count}.jsonl"
        self._count += 1
        self._starter.stdin.write(json.dumps([self._url, str(path)]).encode() + b"\n")
        async with asyncio.timeout(60):
            return int(await self._starter.stdout.readline())

    def results(self) -> list[list[Any]]:
        """What all of them printed. A line that a kill cut off is none."""
        lines = []
        for path in self._folder.glob("*.jsonl"):
            lines += [
                json.loads(line)
                for line in path.read_text().splitlines(keepends=True)
                if line.endswith("\n")
            ]
        return lines


def kill(process: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


async def test_one_run_counts_for_every_key_and_any_second_is_canceled(tmp_path: Path) -> None:
    chance = random.Random("zombies")
    slowly = Slowly()
    async with Emulator(slowly, access_key="k", log_limit=1_000_000, list_lag=LAG) as emulator:
        async with Workers(tmp_path, emulator.url) as workers:
            alive: list[int] = []
            try:
                for _ in range(KILLS):
                    seen = emulator.requests.total
                    alive.append(await workers.start())
                    with contextlib.suppress(TimeoutError):  # near the end there is nothing to send
                        await emulator.wait_for_requests(seen + 1, timeout=5)
                    await asyncio.sleep(chance.random() * 0.2)
                    if len(alive) > 1:  # the oldest: until here, it ran beside its successor
                        kill(alive.pop(0))
            finally:
                for process in alive:
                    kill(process)
        async with AsyncApp(emulator.url, access_key="k") as app:
            inputs = [{"n": n} for n in range(INPUTS)]
            await asyncio.sleep(LAG)  # then what the last one made is listed
            ending = asyncio.create_task(
                app.batch(inputs, job="killed", settle=1.0, concurrency=INPUTS)
            )
            await emulator.wait_until(lambda: no_second(emulator), timeout=60)
            slowly.over.set()
            final = await ending
        check(emulator, final, workers.results())


def no_second(emulator: Emulator) -> bool:
    """Whether each even key has one run, and no other that is not canceled."""
    live = Counter(r.input["n"] for r in emulator.runs.values() if r.status != "canceled")
    return all(live[n] == 1 for n in range(0, INPUTS, 2))


def check(emulator: Emulator, final: list[Any], printed: list[list[Any]]) -> None:
    runs: defaultdict[str | None, list[Run]] = defaultdict(list)
    for run in emulator.runs.values():
        runs[run.session_id].append(run)
    assert set(runs) == {job_session("killed", n) for n in range(INPUTS)}
    counting = {}
    for result in final:
        assert result.unwrap() == {"twice": 2 * result.key}
        counting[result.key] = result.run_id
        live = [r for r in runs[job_session("killed", result.key)] if r.status != "canceled"]
        first = min(live, key=lambda run: (run.started_at, run.id))
        assert (first.id, first.status) == (result.run_id, "completed")
        if result.key % 2 == 0:  # those were there to be canceled until somebody saw them
            assert len(live) == 1
    for key, run_id, _, twice in printed:
        assert (run_id, twice) == (counting[key], 2 * key)
    assert sum(emulator.execution_counts.values()) == len(emulator.runs)
    assert any(result.found for result in final)
