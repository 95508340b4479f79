"""A part of a job, without any engine: rows in, rows out in their order, each key executed once."""

from __future__ import annotations

import asyncio
import json
import pickle
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dynamiq_async import AsyncApp, errors
from dynamiq_async.batch import job_session
from dynamiq_async.emulator import Emulator
from dynamiq_async.integrations.shard import (
    AppShard,
    Lease,
    TokenBucket,
    columns_of_rows,
    rows_of_columns,
)

KEY = "dynamiq_acc_shards"


async def doubled(input: dict[str, Any], run: Any) -> Any:
    await asyncio.sleep(0.01 * (input["n"] % 3))
    if input["n"] == 5:
        raise ValueError("five")
    return {"n": 2 * input["n"]}


@pytest.fixture
async def emulator(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Emulator]:
    async with Emulator(doubled, access_key=KEY) as emulator:
        monkeypatch.setenv("DYNAMIQ_ACCESS_KEY", KEY)
        yield emulator


def rows(count: int) -> list[dict[str, Any]]:
    return [{"id": f"r{n}", "n": n, "note": "not sent"} for n in range(count)]


async def test_rows_come_out_in_their_order(emulator: Emulator) -> None:
    async with AppShard(emulator.url, job="j", key="id", input=["n"], concurrency=8) as shard:
        found = [row async for row in shard.run(rows(20))]
    assert [row["key"] for row in found] == [f"r{n}" for n in range(20)]
    assert [row["ok"] for row in found] == [n != 5 for n in range(20)]
    assert json.loads(found[3]["output"]) == {"n": 6}
    assert found[3]["error"] is None
    assert found[5]["output"] is None
    assert "failed" in found[5]["error"]
    assert all(emulator.runs[row["run_id"]].input == {"n": n} for n, row in enumerate(found))


async def test_a_shard_that_is_run_again_executes_nothing_again(emulator: Emulator) -> None:
    """Cut off anywhere, and then replayed by somebody else, as engines do it."""
    shard = AppShard(emulator.url, job="j", key="id", input=["n"], concurrency=4)
    replayed: AppShard = pickle.loads(pickle.dumps(shard))
    async with shard, replayed:
        running = shard.run(rows(12))
        first = [await anext(running) for _ in range(4)]
        await running.aclose()
        again = await replayed.batch(rows(12))
    assert again[:4] == first
    assert [row["key"] for row in again] == [f"r{n}" for n in range(12)]
    assert emulator.execution_counts == {job_session("j", f"r{n}"): 1 for n in range(12)}


async def test_what_is_pickled_has_no_key_and_no_client(emulator: Emulator) -> None:
    async with AppShard(emulator.url, job="j", key="id", input=["n"]) as shard:
        await shard.batch(rows(1))
        data = pickle.dumps(shard)
        assert KEY.encode() not in data
        async with pickle.loads(data) as other:
            assert await other.batch(rows(1)) == await shard.batch(rows(1))


async def test_a_function_makes_the_client_and_each_loop_has_its_own(emulator: Emulator) -> None:
    made: list[AsyncApp] = []

    def client() -> AsyncApp:
        made.append(AsyncApp(emulator.url, access_key=KEY))
        return made[-1]

    shard = AppShard(client, job="j", key="id", input=["n"])
    await shard.batch(rows(2))
    await shard.batch(rows(2))
    assert len(made) == 1

    async def elsewhere() -> None:
        assert len(await shard.batch(rows(2))) == 2
        await shard.aclose()

    await asyncio.to_thread(asyncio.run, elsewhere())
    assert len(made) == 2
    await made[0].aclose()
    await shard.aclose()


async def test_frames_and_batches_of_columns_are_rows(emulator: Emulator) -> None:
    async with AppShard(emulator.url, job="j", key="id", input=["n"]) as shard:
        found = await shard.batch(pd.DataFrame(rows(3)))
    assert [row["key"] for row in found] == ["r0", "r1", "r2"]
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", None]})
    for batch in (
        frame,
        {"a": np.array([1, 2]), "b": np.array(["x", None], dtype=object)},
        {"a": [1, 2], "b": ["x", None]},
    ):
        found = rows_of_columns(batch)
        assert found == [{"a": 1, "b": "x"}, {"a": 2, "b": None}]
        assert type(found[0]["a"]) is int


def test_columns_come_out_with_texts_for_keys() -> None:
    row = {"key": 1, "ok": True, "output": "{}", "error": None, "run_id": "r"}
    assert columns_of_rows([row]) == {
        "key": ["1"],
        "ok": [True],
        "output": ["{}"],
        "error": [None],
        "run_id": ["r"],
    }


async def test_a_row_without_its_key_is_an_error_of_its_own(emulator: Emulator) -> None:
    async with AppShard(emulator.url, job="j", key="id", input=["n"]) as shard:
        good, bad = await shard.batch([*rows(1), {"n": 1}])
    assert (good["ok"], bad["ok"]) == (True, False)
    assert "no 'id' in a row" in bad["error"]


def test_an_app_is_a_name_or_a_function() -> None:
    with pytest.raises(errors.InvalidArgumentError) as caught:
        AppShard(7, job="j", key="id")  # type: ignore[arg-type]
    assert caught.value.argument == "app"


# --- a rate for all ------------------------------------------------------------------------------


def test_a_bucket_hands_out_what_the_time_is_worth_in_portions() -> None:
    bucket = TokenBucket("60/s")
    assert bucket.lease(100.0).tokens == 1
    none = bucket.lease(100.0)
    assert none.tokens == 0
    assert none.wait == pytest.approx(1 / 60)
    assert bucket.lease(100.5).tokens == 30
    assert bucket.lease(1000.0).tokens == 60  # what went unused is gone, but for a portion
    slow = TokenBucket("6/m")
    assert slow.lease(0.0).tokens == 1
    none = slow.lease(5.0)
    assert none.tokens == 0
    assert none.wait == pytest.approx(5.0)
    assert slow.lease(10.0).tokens == 1
    with pytest.raises(errors.InvalidArgumentError):
        TokenBucket("often")


async def test_shards_share_a_rate_of_inputs(emulator: Emulator) -> None:
    class Source:
        """A bucket by a clock of its own, so that the test knows what may have been begun."""

        def __init__(self) -> None:
            self.bucket = TokenBucket(20)
            self.now = 0.0
            self.leased = 0

        async def lease(self) -> Lease:
            lease = self.bucket.lease(self.now)
            self.leased += lease.tokens
            self.now += lease.wait
            return Lease(lease.tokens, 0.0)

    source = Source()
    shards = [
        AppShard(emulator.url, job=job, key="id", input=["n"], rate=source) for job in ("a", "b")
    ]
    await asyncio.gather(*(shard.batch(rows(10)) for shard in shards))
    for shard in shards:
        await shard.aclose()
    assert source.leased >= 20
    assert source.now == pytest.approx((source.leased - 1) / 20)
