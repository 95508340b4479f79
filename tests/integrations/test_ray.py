"""On a real Ray of this machine: a worker is killed in the middle, and each key is executed once.

It is run by .ci/engines, which installs Ray.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from dynamiq_async import errors
from dynamiq_async.batch import job_session
from dynamiq_async.emulator import Emulator
from dynamiq_async.integrations.ray import AppBatches, AppShard, shard_actor, shared_rate

REQUIRED = os.environ.get("DYNAMIQ_TEST_ENGINES") == "required"
KEY = "dynamiq_acc_ray"


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    ray = import_module("ray") if REQUIRED else pytest.importorskip("ray")
    os.environ["DYNAMIQ_ACCESS_KEY"] = KEY  # of the workers, too
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    yield ray
    ray.shutdown()
    del os.environ["DYNAMIQ_ACCESS_KEY"]


class Deadly:
    """An App that has a worker killed in the middle.

    Attributes:
        kill: called once, when some inputs were executed.
    """

    def __init__(self) -> None:
        self.kill: Any = lambda: None
        self.count = 0

    async def __call__(self, input: dict[str, Any], run: Any) -> Any:
        await asyncio.sleep(0.05)
        self.count += 1
        if self.count == 30:
            self.kill()
        return {"n": 2 * input["n"]}


@pytest.fixture
def deadly() -> Deadly:
    return Deadly()


@pytest.fixture
async def emulator(ray: Any, deadly: Deadly) -> AsyncIterator[Emulator]:
    async with Emulator(deadly, access_key=KEY, log_limit=1_000_000) as emulator:
        yield emulator


COUNT = 100
ROWS = [{"id": n, "n": n} for n in range(COUNT)]


def check(emulator: Emulator, keys: list[Any]) -> None:
    assert Counter(keys) == Counter(range(COUNT))
    live = Counter(r.session_id for r in emulator.runs.values() if r.status != "canceled")
    assert live == {job_session("ray", n): 1 for n in range(COUNT)}
    assert emulator.execution_counts == live


async def test_an_actor_that_is_killed_goes_on_where_it_was(
    ray: Any, emulator: Emulator, deadly: Deadly
) -> None:
    shard = AppShard(emulator.url, job="ray", key="id", input=["n"], concurrency=8)
    actors = [shard_actor(shard, num_cpus=0.5) for _ in range(2)]
    deadly.kill = lambda: ray.kill(actors[0], no_restart=False)
    found: list[list[Any]] = [[], []]

    async def read(place: int) -> None:
        async for row in actors[place].run.remote(ROWS[place::2]):
            found[place].append(await row)

    async with asyncio.timeout(120):
        await asyncio.gather(read(0), read(1))
    assert deadly.count >= 30
    for place in (0, 1):
        assert [row["key"] for row in found[place]] == list(range(place, COUNT, 2))
    rows = [row for part in found for row in part]
    assert all(row["ok"] for row in rows)
    check(emulator, [row["key"] for row in rows])


def command_of(pid: int) -> bytes:
    """What a process calls itself; nothing where it has just ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def parent_of(pid: int) -> int:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    return int(stat.rpartition(")")[2].split()[1])


def children() -> Iterator[int]:
    """The processes that this one has started, and theirs. Ray's own list needs its dashboard."""
    for path in Path("/proc").glob("[0-9]*"):
        pid = parent = int(path.name)
        while parent > 1 and parent != os.getpid():
            parent = parent_of(parent)
        if parent == os.getpid() != pid:
            yield pid


async def test_ray_data_executes_each_key_once_though_a_worker_dies(
    ray: Any, emulator: Emulator, deadly: Deadly
) -> None:
    data = import_module("ray.data")
    data.DataContext.get_current().enable_progress_bars = False
    shard = AppShard(emulator.url, job="ray", key="id", input=["n"], concurrency=4)

    killed: list[int] = []

    def kill() -> None:
        killed.append(next(pid for pid in children() if b"MapWorker" in command_of(pid)))
        os.kill(killed[0], 9)

    deadly.kill = lambda: asyncio.get_running_loop().run_in_executor(None, kill)

    def work() -> list[Any]:
        results = data.from_items(ROWS, override_num_blocks=4).map_batches(
            AppBatches,
            fn_constructor_args=(shard,),
            batch_size=25,
            compute=data.ActorPoolStrategy(size=1),
        )
        return list(results.take_all())

    async with asyncio.timeout(240):
        rows = await asyncio.to_thread(work)
    assert killed
    assert {tuple(row) for row in rows} == {("key", "ok", "output", "error", "run_id")}
    assert all(row["ok"] and row["error"] is None for row in rows)
    check(emulator, [int(row["key"]) for row in rows])


async def test_workers_share_one_rate(ray: Any, emulator: Emulator) -> None:
    rate = shared_rate("rate of a test", "20/s")
    shared_rate("rate of a test", "1000/s")  # the one that is there is used
    shard = AppShard(emulator.url, job="ray", key="id", input=["n"], rate=rate)
    actors = [shard_actor(shard, num_cpus=0.5) for _ in range(2)]

    async def read(place: int) -> float:
        async for row in actors[place].run.remote(ROWS[place : 20 + place : 2]):
            await row
        return time.monotonic()

    async with asyncio.timeout(120):
        # Both have to be up, or one may be through before the other begins.
        await asyncio.gather(*(actor.__ray_ready__.remote() for actor in actors))
        began = time.monotonic()
        ended = max(await asyncio.gather(read(0), read(1)))
    # 20 inputs at 20 a second; a second's worth may have been waiting.
    assert ended - began > 0.5 - 0.05


def test_without_ray_it_is_said_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr("dynamiq_async.integrations.ray.import_module", missing)
    with pytest.raises(errors.MissingExtraError, match=r"\[ray\]"):
        shard_actor(AppShard("app.example", job="j", key="id"))
    with pytest.raises(errors.InvalidArgumentError):
        shared_rate("name", "often")
