"""The recipes for engines: each runs where its engine is installed."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import shutil
import sys
from collections.abc import AsyncIterator
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from dynamiq_async.batch import job_session
from dynamiq_async.emulator import Emulator
from dynamiq_async.integrations.shard import AppShard

ROOT = Path(__file__).parents[2]
REQUIRED = os.environ.get("DYNAMIQ_TEST_ENGINES") == "required"
COUNT = 12


def recipe(name: str) -> Any:
    spec = spec_from_file_location(name, ROOT / f"examples/engines/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def engine(name: str) -> Any:
    return import_module(name) if REQUIRED else pytest.importorskip(name)


@pytest.fixture
async def emulator(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Emulator]:
    async with Emulator("echo", access_key="k") as emulator:
        monkeypatch.setenv("DYNAMIQ_ACCESS_KEY", "k")
        monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
        yield emulator


def rows() -> list[dict[str, Any]]:
    return [{"id": f"r{n}", "question": f"q{n}"} for n in range(COUNT)]


def check(emulator: Emulator, job: str) -> None:
    assert emulator.execution_counts == {job_session(job, f"r{n}"): 1 for n in range(COUNT)}


async def test_spark_maps_frames_of_pandas(emulator: Emulator) -> None:
    """The recipe alone: Spark hands the frames over."""
    shard = pickle.loads(pickle.dumps(AppShard(emulator.url, job="spark", key="id")))
    spark, frame = recipe("spark_job"), pd.DataFrame(rows())

    def stage() -> list[pd.DataFrame]:
        return list(spark.in_pandas(shard)(iter([frame[:5], frame[5:]])))

    for _ in range(2):  # it is retried
        found = await asyncio.to_thread(stage)
        assert [key for part in found for key in part["key"]] == list(frame["id"])
        for part in found:
            assert part["ok"].all()
            assert list(part.columns) == [c.split()[0] for c in spark.SCHEMA.split(", ")]
    check(emulator, "spark")


async def test_spark_retries_a_task_in_workers_of_its_own(emulator: Emulator) -> None:
    sql = engine("pyspark.sql")
    if shutil.which("java") is None:
        pytest.skip("Spark needs Java, and there is none here")
    shard = AppShard(emulator.url, job="spark", key="id")
    recipe_of = recipe("spark_job")
    answer = recipe_of.in_pandas(shard)

    def losing_the_first_attempt(frames: Any) -> Any:
        yield from answer(frames)
        if import_module("pyspark").TaskContext.get().attemptNumber() == 0:
            raise RuntimeError("the worker is lost")

    def work() -> list[dict[str, Any]]:
        options = {"spark.ui.enabled": "false", "spark.driver.bindAddress": "127.0.0.1"}
        builder = sql.SparkSession.builder.master("local[2, 2]").config(map=options)
        session = builder.getOrCreate()
        try:
            frame = session.createDataFrame([sql.Row(**row) for row in rows()]).repartition(2)
            found = frame.mapInPandas(losing_the_first_attempt, recipe_of.SCHEMA).collect()
            return [row.asDict() for row in found]
        finally:
            session.stop()

    async with asyncio.timeout(300):
        found = await asyncio.to_thread(work)
    assert sorted(row["key"] for row in found) == sorted(row["id"] for row in rows())
    assert all(row["ok"] for row in found)
    check(emulator, "spark")


async def test_a_task_that_is_retried_finds_what_was_begun(
    emulator: Emulator, tmp_path: Path
) -> None:
    pd.DataFrame(rows()).to_parquet(tmp_path / "in.parquet")
    answer = recipe("task_job").answer
    for _ in range(2):
        for n in (1, 2):
            paths = tmp_path / "in.parquet", tmp_path / f"out-{n}.parquet"
            await asyncio.to_thread(answer, emulator.url, "2026-11-28", f"{n}/2", *paths)
    found = pd.concat([pd.read_parquet(tmp_path / f"out-{n}.parquet") for n in (1, 2)])
    assert sorted(found["key"]) == sorted(row["id"] for row in rows())
    assert set(found["state"]) == {"done"}
    check(emulator, "answers-2026-11-28")


async def test_dask_spreads_parts_over_its_workers(emulator: Emulator) -> None:
    distributed = engine("dask.distributed")
    shard = AppShard(emulator.url, job="dask", key="id")

    def work() -> list[Any]:
        with (
            distributed.LocalCluster(
                n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None
            ) as cluster,
            distributed.Client(cluster) as client,
        ):
            found: list[Any] = recipe("dask_job").run(client, shard, rows(), parts=3)
            return found

    async with asyncio.timeout(120):
        found = await asyncio.to_thread(work)
    assert sorted(row["key"] for row in found) == sorted(row["id"] for row in rows())
    assert all(row["ok"] for row in found)
    check(emulator, "dask")


async def test_daft_runs_a_function_of_a_row(emulator: Emulator) -> None:
    daft = engine("daft")
    shard = AppShard(emulator.url, job="daft", key="id", input=["question"])
    frame = daft.from_pylist(rows())

    def work() -> Any:
        return recipe("daft_job").run(frame, shard).to_pydict()["result"]

    async with asyncio.timeout(120):
        found = [json.loads(row) for row in await asyncio.to_thread(work)]
    assert [row["key"] for row in found] == [row["id"] for row in rows()]
    assert all(row["ok"] for row in found)
    check(emulator, "daft")
