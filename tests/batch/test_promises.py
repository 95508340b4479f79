"""A batch loses nothing; one slow or failing item holds up nobody; a 429 slows the whole client."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from dynamiq_async import Adaptive, AsyncApp, MapResult, errors
from dynamiq_async.emulator import Fault

if TYPE_CHECKING:
    from .conftest import Serve

# Every way in which a call can fail that a client can be told apart from a slow one.
FAULTS = [
    Fault(status=400),
    Fault(status=404),
    Fault(status=429, headers={"Retry-After": "0"}),
    Fault(status=500),
    Fault(status=502),
    Fault(status=503, headers={"Retry-After": "0"}),
    Fault(status=504, executes=True),
    Fault.html_page(),
    Fault.html_page(status=200),
    Fault(body=b"{", status=200),
    Fault(drop="reset"),
    Fault(drop="close", executes=True),
    Fault(at_byte=3, drop="truncate"),
    Fault(at_byte=3, drop="reset"),
    Fault(delay=30),
    Fault(terminator="missing", framing="chunked"),
    Fault(status=307, headers={"Location": "/elsewhere"}),
]


async def counted(input: dict[str, Any], run: Any) -> Any:
    """An App that answers with its input."""
    return {"n": input["n"]}


def answer_of(result: MapResult[Any]) -> int:
    n: int = result.unwrap()["n"]
    return n


@pytest.mark.parametrize("ordered", [False, True])
async def test_each_input_has_exactly_one_result_that_carries_its_key(
    serve: Serve, ordered: bool
) -> None:
    app, emulator = await serve(counted)
    inputs = [{"n": n, "id": f"item-{n}"} for n in range(300)]
    results = [r async for r in app.map(inputs, concurrency=20, ordered=ordered, key="id")]
    assert Counter(r.key for r in results) == Counter(i["id"] for i in inputs)
    assert all(answer_of(r) == r.index and r.input == inputs[r.index] for r in results)
    assert emulator.executions.total == 300
    if ordered:
        assert [r.index for r in results] == list(range(300))


async def test_a_batch_loses_nothing_when_a_tenth_of_the_calls_fail_in_every_way(
    serve: Serve, no_backoff: None
) -> None:
    app, emulator = await serve(counted)
    chance = random.Random(5)
    faults = [chance.choice(FAULTS) if n % 10 == 0 else Fault() for n in range(len(FAULTS) * 20)]
    emulator.script(*faults, times=1)
    results = await app.batch([{"n": n} for n in range(400)], concurrency=25, timeout=1.5)
    assert [r.key for r in results] == list(range(400))
    for result in results:
        if result.ok:
            assert answer_of(result) == result.index
        else:
            assert isinstance(result.error, errors.DynamiqError)
    assert 0 < sum(not r.ok for r in results) < 40
    # What may have run was not sent again: no input was executed twice.
    ran = Counter(execution.input["n"] for execution in emulator.executions)
    assert set(ran.values()) == {1}


async def test_one_slow_item_holds_up_nobody(app: AsyncApp) -> None:
    slow = asyncio.Event()

    async def call(_: AsyncApp, n: int) -> int:
        if n == 0:
            await slow.wait()
        return n

    seen = []
    async with app.map(range(500), call=call, concurrency=3) as results:
        async for result in results:
            seen.append(result.unwrap())
            if len(seen) == 499:
                slow.set()
    assert seen[-1] == 0
    assert sorted(seen) == list(range(500))


async def test_in_order_the_others_are_only_so_far_ahead_of_a_slow_one(app: AsyncApp) -> None:
    slow, begun = asyncio.Event(), []

    async def call(_: AsyncApp, n: int) -> int:
        begun.append(n)
        if n == 0:
            await slow.wait()
        return n

    async with app.map(range(500), call=call, concurrency=3, ordered=True) as results:
        reading = asyncio.ensure_future(anext(results))
        for _ in range(50):
            await asyncio.sleep(0)
        assert len(begun) == 12
        slow.set()
        assert (await reading).index == 0
        assert [r.index async for r in results] == list(range(1, 500))


async def test_a_failing_item_is_a_value_and_holds_up_nobody(app: AsyncApp) -> None:
    async def call(_: AsyncApp, n: int) -> int:
        if n % 3 == 0:
            raise ValueError(f"no {n}")
        return n

    results = await app.batch(range(30), call=call, concurrency=4)
    assert [r.ok for r in results] == [n % 3 != 0 for n in range(30)]
    with pytest.raises(ValueError, match="no 3"):
        results[3].unwrap()


async def test_a_429_slows_the_whole_client_at_once(serve: Serve, no_backoff: None) -> None:
    app, emulator = await serve(counted)
    emulator.script(*[Fault()] * 10, Fault(status=429, headers={"Retry-After": "1"}))
    results = await app.batch([{"n": n} for n in range(40)], concurrency=4)
    assert all(r.ok for r in results)
    assert sorted(r.attempts or 0 for r in results) == [1] * 39 + [2]
    requests = list(emulator.requests)
    assert len(requests) == 41
    refused = next(r for r in requests if r.status == 429)
    later = sorted(r.received_at for r in requests if r.received_at > refused.received_at)
    # Those that were on their way when it came, and nobody else for a second.
    seconds = [(moment - refused.received_at).total_seconds() for moment in later]
    assert sum(s < 0.95 for s in seconds) <= 4


async def test_a_throttled_item_is_sent_again_for_as_long_as_it_takes(
    serve: Serve, no_backoff: None
) -> None:
    app, emulator = await serve(counted, client={"max_retries": 0})
    emulator.script(Fault(status=429, headers={"Retry-After": "0"}), times=25)
    [result] = await app.batch([{"n": 0}])
    assert answer_of(result) == 0
    assert result.attempts == 26


@pytest.mark.parametrize("concurrency", [8, Adaptive(min=2, max=8)])
async def test_inputs_without_end_are_read_lazily(
    app: AsyncApp, concurrency: int | Adaptive
) -> None:
    read = 0

    def inputs() -> Any:
        nonlocal read
        for read in range(1, 100_000_001):  # noqa: B007 - looked at below
            yield {}

    async def call(_: AsyncApp, input: Any) -> None:
        await asyncio.sleep(0)

    async with app.map(inputs(), call=call, concurrency=concurrency) as results:
        async for result in results:
            if result.index == 100:
                break
        await asyncio.sleep(0.01)
        assert read <= 100 + 8 * 8


async def test_an_unread_result_holds_the_workers_back(app: AsyncApp) -> None:
    begun = itertools.count()

    async def call(_: AsyncApp, n: int) -> int:
        return next(begun)

    async with app.map(range(10_000), call=call, concurrency=5) as results:
        await anext(results)
        await asyncio.sleep(0.02)
        assert next(begun) <= 5 * 4
        rest = [r async for r in results]
    assert len(rest) == 9_999


async def test_two_batches_share_one_client(serve: Serve) -> None:
    app, _ = await serve(counted, client={"max_connections": 2})
    inputs = [{"n": n} for n in range(100)]
    one, other = await asyncio.gather(
        app.batch(inputs, concurrency=7), app.batch(inputs, concurrency=Adaptive(max=9))
    )
    assert [answer_of(r) for r in one] == [answer_of(r) for r in other] == list(range(100))


async def test_a_batch_may_run_within_another(serve: Serve) -> None:
    app, _ = await serve(counted, client={"max_connections": 1})

    async def call(app: AsyncApp, numbers: list[int]) -> int:
        inner = await app.batch([{"n": n} for n in numbers], concurrency=2)
        return sum(answer_of(r) for r in inner)

    results = await app.batch([[n, n + 1, n + 2] for n in range(10)], call=call, concurrency=4)
    assert [r.unwrap() for r in results] == [3 * n + 3 for n in range(10)]


async def test_a_batch_of_nothing_is_empty(app: AsyncApp) -> None:
    assert await app.batch([]) == []
    assert await app.batch(iter(())) == []
    assert [r async for r in app.map((), ordered=True)] == []
