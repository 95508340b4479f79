"""A batch that is killed with SIGKILL, again and again: nothing is lost, and nothing runs twice.

The command line runs in a process of its own, against an emulator in this one, whose log says what
really happened. `DYNAMIQ_TEST_KILLS` is how often each batch is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dynamiq_async.batch.journal import Journal
from dynamiq_async.emulator import FOREVER, Emulator, Fault, RunContext

KILLS = int(os.environ.get("DYNAMIQ_TEST_KILLS", "12"))
INPUTS = 40 + 8 * KILLS
ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no fork, no SIGKILL")

# Forks a process that has imported everything, so that it can be killed at its very beginning and
# does not take a second to get there.
STARTER = """
import json, os, sys
import aiohttp, cyclopts, rich.console, sqlite3
import dynamiq_async.cli.program, dynamiq_async.transport.aiohttp
from dynamiq_async.__main__ import main
for line in sys.stdin:
    child = os.fork()
    if not child:
        code = 70
        try:
            code = main(json.loads(line))
        finally:
            os._exit(code)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Batch:
    """The command `batch`, to be started and killed.

    Attributes:
        folder: where its files are.
        kills: how often it was really killed.
        ended: its exit code, when there is one.
    """

    def __init__(self, folder: Path, url: str, *options: str) -> None:
        self.folder = folder
        self.journal = folder / "job.db"
        self.kills = 0
        self._url = url
        self._options = options
        inputs = folder / "inputs.jsonl"
        inputs.write_text("".join(f'{{"n": {n}}}\n' for n in range(INPUTS)))
        self._done = 0

    async def __aenter__(self) -> Batch:
        with (self.folder / "stderr").open("wb") as stderr:
            self._starter = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", STARTER),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=stderr,
                cwd=ROOT,
                env={**os.environ, "DYNAMIQ_APP_URL": self._url, "DYNAMIQ_ACCESS_KEY": "k"},
            )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._starter.stdin is not None
        self._starter.stdin.close()
        await self._starter.wait()

    async def start(self, *more: str) -> int:
        """Start it, and return the id of the process."""
        folder = self.folder
        command = ["batch", f"{folder}/inputs.jsonl", "-o", f"{folder}/out.jsonl", "--key", "n"]
        command += ["--journal", str(self.journal), "--concurrency", "8", *self._options, *more]
        assert self._starter.stdin is not None
        self._starter.stdin.write(json.dumps(command).encode() + b"\n")
        process = await self._number()
        self.ended = asyncio.create_task(self._number())
        return process

    async def kill(self, process: int) -> None:
        """Kill it, unless it has ended, and see that nothing that was done is lost."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
        self.kills += await self.ended == -signal.SIGKILL
        if self.journal.exists() and self.journal.stat().st_size:
            with Journal.read(self.journal) as reader:
                done = reader.counts()["done"]
            assert done >= self._done
            self._done = done

    async def end(self, *more: str) -> int:
        """Start it, let it run to its end and return its exit code."""
        await self.start(*more)
        return await self.ended

    async def _number(self) -> int:
        assert self._starter.stdout is not None
        async with asyncio.timeout(60):
            return int(await self._starter.stdout.readline())

    def results(self) -> dict[int, Any]:
        """The lines of the results; each input has one."""
        lines = [json.loads(line) for line in (self.folder / "out.jsonl").read_bytes().splitlines()]
        assert Counter(line["key"] for line in lines) == Counter(range(INPUTS))
        return {line["key"]: line for line in lines}

    def states(self) -> Counter[str]:
        with Journal.read(self.journal) as reader:
            entries = list(reader)
        assert Counter(entry.key for entry in entries) == Counter(map(str, range(INPUTS)))
        return Counter(entry.state for entry in entries)


async def work(input: dict[str, Any], run: RunContext) -> Any:
    await asyncio.sleep(0.001 * (input["n"] % 17))
    return {"twice": 2 * input["n"]}


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    async with Emulator(work, access_key="k", log_limit=1_000_000) as emulator:
        yield emulator


async def kill_often(batch: Batch, emulator: Emulator, seed: str) -> None:
    chance = random.Random(seed)
    for _ in range(KILLS):
        seen = emulator.requests.total
        process = await batch.start()
        if chance.random() < 0.8:  # else before it has sent anything, perhaps
            sent = asyncio.create_task(emulator.wait_for_requests(seen + 1, timeout=60))
            await asyncio.wait([sent, batch.ended], return_when=asyncio.FIRST_COMPLETED)
            sent.cancel()
        await asyncio.sleep(chance.choice((0.0, 0.005, 0.02, 0.05)) * chance.random())
        await batch.kill(process)
    assert batch.kills > min(KILLS, 12) / 2  # at the end there is nothing left to be killed in


def runs_of_each(emulator: Emulator) -> Counter[int]:
    return Counter(run.input["n"] for run in emulator.runs.values())


def executions_of_each(emulator: Emulator) -> Counter[int]:
    return Counter(execution.input["n"] for execution in emulator.executions)


@pytest.mark.parametrize("lossy", [False, True], ids=["", "answers-lost"])
async def test_runs_are_never_made_twice(tmp_path: Path, emulator: Emulator, lossy: bool) -> None:
    if lossy:
        lost = [Fault(executes=True, drop="reset"), Fault(executes=True, drop="close")]
        emulator.script(Fault(), *lost, Fault(), match="POST /v1/runs", times=None)
    async with Batch(tmp_path, emulator.url, "--mode", "run", "--settle", "0.5") as batch:
        await kill_often(batch, emulator, f"runs {lossy}")
        assert await batch.end() == 0
        assert runs_of_each(emulator) == Counter(range(INPUTS))
        assert batch.states() == {"done": INPUTS}
        for key, line in batch.results().items():
            assert line["output"] == {"twice": 2 * key}
            assert emulator.runs[line["run_id"]].input == {"n": key}


async def test_a_run_whose_answer_was_lost_is_found_after_the_kill(
    tmp_path: Path, emulator: Emulator
) -> None:
    emulator.script(Fault(executes=True, drop="reset"), match="POST /v1/runs", times=8)
    emulator.script(Fault(delay=FOREVER), match="GET /v1/runs", times=8)
    async with Batch(tmp_path, emulator.url, "--mode", "run", "--settle", "0.5") as batch:
        process = await batch.start()
        await emulator.wait_for_requests(16)
        await batch.kill(process)
        assert len(emulator.runs) == 8
        assert await batch.end() == 0
    assert batch.kills == 1
    assert runs_of_each(emulator) == Counter(range(INPUTS))


async def test_a_call_of_unknown_outcome_is_left_alone_with_skip(
    tmp_path: Path, emulator: Emulator
) -> None:
    async with Batch(tmp_path, emulator.url, "--unknown", "skip") as batch:
        await kill_often(batch, emulator, "skip")
        code = await batch.end()
        executed = executions_of_each(emulator)
        assert max(executed.values()) == 1
        states = batch.states()
        assert states["done"] + states["running"] == INPUTS
        assert 0 < states["running"] <= 8 * KILLS
        assert code == 1
        for key, line in batch.results().items():
            if "output" in line:
                assert executed[key] == 1
            else:
                assert line["error"]["type"] == "AmbiguousOutcomeError"


async def test_all_are_done_with_retry(tmp_path: Path, emulator: Emulator) -> None:
    async with Batch(tmp_path, emulator.url, "--unknown", "retry") as batch:
        await kill_often(batch, emulator, "retry")
        assert await batch.end() == 0
        assert executions_of_each(emulator).keys() == set(range(INPUTS))
        assert batch.states() == {"done": INPUTS}
        assert all("output" in line for line in batch.results().values())


async def test_what_is_unknown_stops_the_batch_unless_it_is_told_otherwise(
    tmp_path: Path, emulator: Emulator
) -> None:
    async with Batch(tmp_path, emulator.url) as batch:
        process = await batch.start()
        await emulator.wait_for_requests(1)
        await batch.kill(process)
        executed = executions_of_each(emulator)
        assert await batch.end() == 1
        assert "--unknown retry calls again" in (tmp_path / "stderr").read_text()
        assert await batch.end("--unknown", "skip") == 1
        assert max(executions_of_each(emulator).values()) == 1
        assert await batch.end("--unknown", "retry") == 0
    assert executed
    assert batch.states() == {"done": INPUTS}
