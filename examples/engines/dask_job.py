"""A job on Dask: each part of the rows is a task, which may be retried."""

from dask.distributed import Client

from dynamiq_async.integrations.shard import AppShard


def run(client: Client, shard: AppShard, rows: list[dict], parts: int = 8) -> list[dict]:
    shards = [rows[part::parts] for part in range(parts)]
    futures = client.map(shard.work, shards, retries=3, pure=False)
    return [row for found in client.gather(futures) for row in found]
