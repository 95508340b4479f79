"""Apps on Ray: `AppBatches` for Ray Data, `shard_actor` for Ray Core, and one rate for all workers.

Ray restarts a worker that died, and repeats its work. With the runs of a `job=`, a call that began
is not begun again, and each row comes out once.

Tested with Ray 2.60, in .ci/engines. It needs the extra `ray`.
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
    """A class for `map_batches` of Ray Data: a batch of rows in, a batch of results out.

        shard = AppShard("my-app.apps…", job="nightly-2026-11-28", key="id")
        results = dataset.map_batches(
            AppBatches,
            fn_constructor_args=(shard,),
            batch_size=200,
            compute=ray.data.ActorPoolStrategy(size=4),
        )

    The results have the columns `key` (as text), `ok`, `output` (as JSON), `error` and `run_id`.
    A batch of some hundred rows keeps its worker busy. By default, Ray Data gives each worker four
    batches at a time.

    Args:
        shard: what to do with the rows.
    """

    def __init__(self, shard: AppShard) -> None:
        self._shard = shard

    async def __call__(self, batch: Any) -> AsyncGenerator[Any, None]:
        """The results of a batch, as one batch."""
        rows = await self._shard.batch(rows_of_columns(batch))
        pyarrow = import_module("pyarrow")  # Ray Data depends on it
        text, truth = pyarrow.string(), pyarrow.bool_()
        types = [(name, truth if name == "ok" else text) for name in COLUMNS]
        yield pyarrow.table(columns_of_rows(rows), schema=pyarrow.schema(types))


class _ShardActor:
    """Runs parts of a job, one after another or several at a time."""

    def __init__(self, shard: AppShard) -> None:
        self._shard = shard

    async def run(self, rows: Any) -> AsyncGenerator[dict[str, Any], None]:
        """The rows of the results, in the order of the input rows, because Ray replays by
        position."""
        async for row in self._shard.run(rows):
            yield row


def shard_actor(shard: AppShard, **options: Any) -> Any:
    """An actor of Ray Core whose `run.remote(rows)` streams the rows of the results.

        actor = shard_actor(AppShard("my-app.apps…", job="nightly-2026-11-28", key="id"))
        async for row in actor.run.remote(rows):
            print(await row)

    Ray restarts an actor that dies, and repeats its tasks. The job makes that safe.

    Args:
        shard: what to do with the rows.
        options: options of the actor, in place of `max_restarts=-1` and `max_task_retries=-1`.

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
        self._actor = actor  # this reference keeps the actor alive

    async def lease(self) -> Lease:
        """A portion, from the actor."""
        return Lease(*await self._actor.lease.remote())


def shared_rate(name: str, rate: float | str) -> SharedRate:
    """One rate for all workers: a named actor that hands out portions of about a second each.

    Args:
        name: the actor's name. If the actor exists, it is used with its own rate. It ends with the
            program that made it.
        rate: the most inputs to begin: a number per second, or a text such as "60/m".

    Raises:
        InvalidArgumentError: the rate is not valid.
        MissingExtraError: the extra `ray` is not installed.
    """
    TokenBucket(rate)
    actor = _ray().remote(_RateActor).options(name=name, get_if_exists=True, num_cpus=0)
    return SharedRate(actor.remote(rate))
