"""A job as a task of Airflow, Prefect or Dagster: decorate `answer` as theirs.

The name of the job is that of the day, not of the attempt: a retry finds what was begun.
"""

import asyncio
from pathlib import Path

import pyarrow.parquet as pq

from dynamiq_async import AsyncApp


def answer(app: str, day: str, shard: str, inputs: Path, outputs: Path) -> None:
    """Answer a part of the questions of a day, such as "2/8"."""
    asyncio.run(_answer(app, f"answers-{day}", shard, inputs, outputs))


async def _answer(name: str, job: str, shard: str, inputs: Path, outputs: Path) -> None:
    async with AsyncApp(name) as app:
        table = await app.map(pq.read_table(inputs), key="id", job=job, shard=shard).to_arrow()
    pq.write_table(table, outputs)
