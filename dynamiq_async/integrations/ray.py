"""Apps on Ray: `AppBatches` for Ray Data, `shard_actor` for Ray Core, and one rate for all workers.

Ray starts a worker again that died, and then runs again what the worker had. With the runs of
a `job=`, nothing that began is begun twice, and each row comes out once.

Tested with Ray 2.60, in .ci/engines. It comes with the extra `ray`.
"""

from __future__ import annotations

import time
from importlib import import_module
from typing import TYPE_CHECKING, Any

from dynamiq_async.errors import MissingExtraError
from dynamiq_async.integrations.shard import (
    COLUMNS,
    AppShard,
    Lease,
    TokenBucket,
    columns_of_rows,
    rows_of_columns,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

__all__ = ["AppBatches", "AppShard", "SharedRate", "shard_actor", "shared_rate"]


def _ray() -> Any:
    try:
        return import_module("ray")
    except ImportError as error:
        raise MissingExtraError(
            "this needs the package ray: pip install 'dynamiq-async[ray]'"
        ) from error


class AppBatches:
    """What `map_batches` of Ray Data calls: a batch of rows in, one of results out.

        shard = AppShard("my-app.apps…", job="nightly-2026-11-28", key="id")
        results = dataset.map_batches(
            AppBatches,
            fn_constructor_args=(shard,),
            batch_size=200,
            compute=ray.data.ActorPoolStrategy(size=4),
        )

    The results have the columns `key` (as text), `ok`, `output` (as JSON), `error` and `run_id`.
    A batch of some hundred rows keeps its worker busy; by default Ray Data hands out four at
    a time to each.

    Args:
        shard: what to do with the rows.
    """

    def __init__(self, shard: AppShard) -> None:
        self._shard = shard

    async def __call__(self, batch: Any) -> AsyncGenerator[Any, None]:
        """The results of a batch, as one batch."""
        rows = await self._shard.batch(rows_of_columns(batch))
        pyarrow = import_module("pyarrow")  # which Ray Data brings
        text, truth = pyarrow.string(), pyarrow.bool_()
        types = [(name, truth if name == "ok" else text) for name in COLUMNS]
        yield pyarrow.table(columns_of_rows(rows), schema=pyarrow.schema(types))


class _ShardActor:
    """Runs parts of a job, one after the other or several at a time."""

    def __init__(self, shard: AppShard) -> None:
        self._shard = shard

    async def run(self, rows: Any) -> AsyncGenerator[dict[str, Any], None]:
        """The rows of the results, in the order of the rows: what Ray replays by position."""
        async for row in self._shard.run(rows):
            yield row


def shard_actor(shard: AppShard, **options: Any) -> Any:
    """An actor of Ray Core whose `run.remote(rows)` streams the rows of the results.

        actor = shard_actor(AppShard("my-app.apps…", job="nightly-2026-11-28", key="id"))
        async for row in actor.run.remote(rows):
            print(await row)

    One that dies is started again, and what it was doing with it: that is safe by the job.

    Args:
        shard: what to do with the rows.
        options: of the actor, in place of `max_restarts=-1` and `max_task_retries=-1`.

    Raises:
        MissingExtraError: the extra `ray` is not installed.
    """
    options = {"max_restarts": -1, "max_task_retries": -1, **options}
    return _ray().remote(_ShardActor).options(**options).remote(shard)


class _RateActor:
    """Hands out portions of one rate."""

    def __init__(self, rate: float | str) -> None:
        self._bucket = TokenBucket(rate)

    def lease(self) -> tuple[int, float]:
        return self._bucket.lease(time.monotonic())


class SharedRate:
    """One rate for all workers of a cluster, from `shared_rate`: the `rate=` of an `AppShard`."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor  # who holds it keeps it alive

    async def lease(self) -> Lease:
        """A portion, from the actor."""
        return Lease(*await self._actor.lease.remote())


def shared_rate(name: str, rate: float | str) -> SharedRate:
    """One rate for all workers: a named actor that hands out portions of about a second each.

    Args:
        name: of the actor. One that is there already is used, with the rate that it has. It ends
            with the program that made it.
        rate: how many inputs are begun, at most: a number a second, or such as "60/m".

    Raises:
        InvalidArgumentError: the rate is none.
        MissingExtraError: the extra `ray` is not installed.
    """
    TokenBucket(rate)
    actor = _ray().remote(_RateActor).options(name=name, get_if_exists=True, num_cpus=0)
    return SharedRate(actor.remote(rate))
