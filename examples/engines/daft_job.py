"""A job on Daft: an async function of a row. Daft runs many of them at once."""

import json

import daft

from dynamiq_async.integrations.shard import AppShard


def run(frame: daft.DataFrame, shard: AppShard) -> daft.DataFrame:
    """A frame with the columns `id` and `question` gets a column `result`, of JSON."""

    @daft.func(max_concurrency=64)
    async def result(id: str, question: str) -> str:
        [row] = await shard.batch([{"id": id, "question": question}])
        return json.dumps(row)

    return frame.with_column("result", result(frame["id"], frame["question"]))
