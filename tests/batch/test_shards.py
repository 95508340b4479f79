"""`shard=`: a stable part of the inputs by their keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from dynamiq_async import AsyncApp, errors

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .conftest import Serve


async def same(app: AsyncApp, input: Any) -> Any:
    return input


async def keys_of(app: AsyncApp, inputs: Any, shard: Any, **more: Any) -> list[Any]:
    return [r.key for r in await app.batch(inputs, call=same, shard=shard, **more)]


async def test_each_input_is_in_one_part_and_they_are_much_of_a_size(app: AsyncApp) -> None:
    parts = [await keys_of(app, range(800), f"{n}/8") for n in range(1, 9)]
    assert sorted(key for part in parts for key in part) == list(range(800))
    assert all(60 < len(part) < 140 for part in parts)
    assert parts[1] == await keys_of(app, range(800), (2, 8)) != parts[0]


async def test_the_part_depends_on_the_key_alone(app: AsyncApp) -> None:
    """So it is the same for other inputs beside it, in another order, and where keys are texts."""
    numbers = await keys_of(app, range(100), "1/3", key=lambda n: n)
    backwards = await keys_of(app, range(99, -1, -1), "1/3", key=lambda n: n)
    texts = await keys_of(app, range(100), "1/3", key=str)
    assert numbers == backwards[::-1] == list(map(int, texts))
    # What other processes and later releases compute, too.
    assert numbers[:8] == KNOWN


async def test_async_inputs_are_parted_too_and_order_is_kept(app: AsyncApp) -> None:
    async def slowly() -> AsyncIterator[int]:
        for n in range(50):
            yield n

    batch = app.map(slowly(), call=same, shard="2/4", ordered=True, concurrency=7)
    results = [(r.key, r.index, r.unwrap()) async for r in batch]
    assert [key for key, _, _ in results] == await keys_of(app, range(50), "2/4")
    assert all(key == index == output for key, index, output in results)
    assert batch.progress.total is None
    assert batch.progress.done == batch.progress.started == len(results)


async def test_a_key_that_cannot_be_made_is_one_shards_error(app: AsyncApp) -> None:
    inputs = [{"id": 1}, {}, {"id": 2}]
    results = [
        result
        for n in (1, 2, 3)
        for result in await app.batch(inputs, call=same, key="id", shard=(n, 3))
    ]
    assert sorted(r.index for r in results) == [0, 1, 2]
    [wrong] = [r for r in results if not r.ok]
    assert wrong.index == 1


async def test_shards_of_a_job_share_their_runs_with_the_whole(serve: Serve) -> None:
    served = await serve()
    inputs = [{"n": n} for n in range(20)]
    parts = [await served.app.batch(inputs, job="j", shard=(n, 2)) for n in (1, 2)]
    whole = await served.app.batch(inputs, job="j")
    assert {r.run_id for r in whole} == {r.run_id for part in parts for r in part}
    assert all(r.found for r in whole)


@pytest.mark.parametrize(
    "shard",
    ["0/8", "9/8", "2", "2/8/9", "-1/8", "a/b", "1/", (1,), (0, 1), (2, 1), (1.0, 2), (True, 2), 3],
)
async def test_a_shard_is_one_of_so_many(app: AsyncApp, shard: Any) -> None:
    with pytest.raises(errors.InvalidArgumentError) as caught:
        app.map([], call=same, shard=shard)
    assert caught.value.argument == "shard"


KNOWN = [15, 17, 21, 25, 29, 30, 35, 38]
