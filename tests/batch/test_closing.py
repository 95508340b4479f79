"""However a batch is left, nothing new starts, nothing runs on, and nothing warns."""

from __future__ import annotations

import asyncio
import gc
import itertools
import random
import sys
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from dynamiq_async import AsyncApp, errors

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .conftest import Serve


class Calls:
    """Calls that last until they are let go, and what became of them."""

    def __init__(self) -> None:
        self.begun: list[Any] = []
        self.ended: list[Any] = []
        self.cancelled: list[Any] = []
        self.go = asyncio.Event()

    async def __call__(self, _: AsyncApp, input: Any) -> Any:
        self.begun.append(input)
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled.append(input)
            raise
        self.ended.append(input)
        return input


@pytest.fixture
def calls() -> Calls:
    return Calls()


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_leaving_cancels_what_is_under_way(app: AsyncApp, calls: Calls) -> None:
    async with app.map(range(100), call=calls, concurrency=5) as results:
        await turns()
        assert len(calls.begun) == 5
    assert calls.cancelled == calls.begun == [0, 1, 2, 3, 4]
    with pytest.raises(errors.StreamClosedError):
        await anext(results)


async def test_closing_twice_and_from_other_tasks_is_fine(app: AsyncApp, calls: Calls) -> None:
    results = app.map(range(100), call=calls, concurrency=5)
    reading = asyncio.ensure_future(anext(results))
    await turns()
    await asyncio.gather(results.aclose(), results.aclose())
    await results.aclose()
    with pytest.raises(errors.StreamClosedError):
        await reading
    assert len(calls.cancelled) == 5


async def test_closing_what_never_began_is_fine(app: AsyncApp, calls: Calls) -> None:
    results = app.map(range(100), call=calls)
    await results.aclose()
    with pytest.raises(errors.StreamClosedError):
        await anext(results)
    assert calls.begun == []
    app.map(range(100), call=calls)  # dropped


async def test_closing_at_once_begins_nothing(app: AsyncApp, calls: Calls) -> None:
    async with app.map(range(100), call=calls):
        pass
    assert calls.begun == []


async def test_after_the_end_closing_changes_nothing(app: AsyncApp, calls: Calls) -> None:
    calls.go.set()
    async with app.map(range(3), call=calls) as results:
        assert len([r async for r in results]) == 3
    with pytest.raises(StopAsyncIteration):
        await anext(results)


async def test_a_dropped_batch_is_cancelled(app: AsyncApp, calls: Calls) -> None:
    calls.go.set()
    async for _ in app.map(range(100), call=calls, concurrency=5):
        calls.go.clear()
        break
    begun = len(calls.begun)
    await turns()
    assert len(calls.begun) == begun
    assert len(calls.begun) == len(calls.ended) + len(calls.cancelled)


async def test_a_cancelled_reader_ends_the_batch(app: AsyncApp, calls: Calls) -> None:
    results = app.map(range(100), call=calls, concurrency=5)
    reading = asyncio.ensure_future(anext(results))
    await turns()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert len(calls.cancelled) == 5
    with pytest.raises(errors.StreamClosedError):
        await anext(results)


async def test_with_grace_what_is_under_way_is_finished(app: AsyncApp, calls: Calls) -> None:
    async with app.map(range(100), call=calls, concurrency=5, grace=30) as results:
        await turns()
        asyncio.get_running_loop().call_later(0.01, calls.go.set)
    assert calls.ended == [0, 1, 2, 3, 4]
    assert calls.cancelled == []
    # What was finished can still be read, and that it is not all is said.
    assert [(await anext(results)).index for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(errors.StreamClosedError):
        await anext(results)


async def test_the_grace_has_an_end(app: AsyncApp, calls: Calls) -> None:
    async with app.map(range(100), call=calls, concurrency=5, grace=0.01):
        await turns()
    assert len(calls.cancelled) == 5


async def test_who_is_cancelled_still_grants_the_grace(app: AsyncApp, calls: Calls) -> None:
    async def read() -> None:
        async with app.map(range(100), call=calls, concurrency=5, grace=30) as results:
            async for _ in results:
                pass

    reading = asyncio.ensure_future(read())
    await turns()
    reading.cancel()
    await turns()
    assert calls.cancelled == []
    calls.go.set()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert len(calls.ended) == 5


async def test_who_is_cancelled_again_does_not(app: AsyncApp, calls: Calls) -> None:
    async def read() -> None:
        async with app.map(range(100), call=calls, concurrency=5, grace=30) as results:
            async for _ in results:
                pass

    reading = asyncio.ensure_future(read())
    await turns()
    reading.cancel()
    await turns()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert len(calls.cancelled) == 5


async def test_a_scope_of_anyio_grants_the_grace_too(app: AsyncApp, calls: Calls) -> None:
    with anyio.move_on_after(0.02) as scope:
        async with app.map(range(100), call=calls, concurrency=5, grace=30) as results:
            asyncio.get_running_loop().call_later(0.05, calls.go.set)
            async for _ in results:
                pass
    assert scope.cancelled_caught
    assert len(calls.ended) == 5


async def test_without_anyio_nothing_has_to_be_shielded(
    app: AsyncApp, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "anyio")
    async with app.map(range(100), call=calls, concurrency=5):
        await turns()
    assert len(calls.cancelled) == 5


async def test_a_call_may_close_its_own_batch(app: AsyncApp) -> None:
    async def call(_: AsyncApp, n: int) -> int:
        await results.aclose()
        return n

    results = app.map(range(100), call=call, concurrency=5, grace=1)
    seen = []
    with pytest.raises(errors.StreamClosedError):
        while True:
            seen.append((await anext(results)).index)
    assert len(seen) <= 5


async def test_on_error_raise_ends_everything_and_names_the_key(app: AsyncApp) -> None:
    calls = Calls()

    async def call(app: AsyncApp, n: int) -> int:
        if n == 3:
            raise ValueError("no")
        made: int = await calls(app, n)
        return made

    results = app.map(range(100), call=call, key=lambda n: f"k{n}", on_error="raise", concurrency=5)
    with pytest.raises(ValueError, match="no") as caught:
        await anext(results)
    assert "k3" in caught.value.__notes__[0]
    assert calls.cancelled == calls.begun == [0, 1, 2]
    with pytest.raises(ValueError, match="no"):  # for good
        await anext(results)
    assert results.progress.failed == 1


async def test_the_first_of_several_errors_counts(app: AsyncApp) -> None:
    async def call(app: AsyncApp, n: int) -> int:
        await asyncio.sleep(0)
        raise ValueError(f"no {n}")

    with pytest.raises(ValueError, match="no 0"):
        await app.batch(range(5), call=call, on_error="raise", grace=1)


async def test_on_error_raise_hands_out_what_came_before(app: AsyncApp) -> None:
    async def call(app: AsyncApp, n: int) -> int:
        if n == 3:
            raise ValueError("no")
        return n

    seen = []
    results = app.map(range(100), call=call, on_error="raise", concurrency=1)
    with pytest.raises(ValueError, match="no"):
        while True:
            seen.append((await anext(results)).index)
    assert seen == [0, 1, 2]


@pytest.mark.parametrize("ordered", [False, True])
async def test_a_call_that_others_cancel_is_that_items_error(app: AsyncApp, ordered: bool) -> None:
    async def call(app: AsyncApp, n: int) -> int:
        if n == 3:
            work = asyncio.ensure_future(asyncio.sleep(60))
            asyncio.get_running_loop().call_soon(work.cancel)
            await work
        return n

    async with app.map(range(50), call=call, ordered=ordered, concurrency=5) as results:
        seen = {r.key: r async for r in results}
        assert results.progress.unknown == 1
    assert [key for key, r in seen.items() if not r.ok] == [3]
    assert len(seen) == 50
    assert isinstance(seen[3].error, errors.AmbiguousOutcomeError)
    assert isinstance(seen[3].error.__cause__, asyncio.CancelledError)


async def test_closing_the_client_ends_its_batches(serve: Serve) -> None:
    app, emulator = await serve("echo")
    seen = []
    with pytest.raises(errors.ClientClosedError):
        async for result in app.map(({"n": n} for n in itertools.count()), concurrency=4):
            seen.append(result)
            if len(seen) == 8:
                await app.aclose()
    assert all(r.ok for r in seen)
    assert len(emulator.requests) < 8 + 5 * 4


async def test_another_clients_end_is_the_error_of_the_call(app: AsyncApp) -> None:
    async def call(_: AsyncApp, n: int) -> int:
        if n == 1:
            raise errors.ClientClosedError("another one")
        return n

    assert [r.ok for r in await app.batch(range(3), call=call)] == [True, False, True]


async def test_only_one_task_may_wait_for_results(app: AsyncApp, calls: Calls) -> None:
    async with app.map(range(100), call=calls, concurrency=5) as results:
        reading = asyncio.ensure_future(anext(results))
        await turns()
        with pytest.raises(errors.StreamError, match="another task"):
            await anext(results)
        calls.go.set()
        assert (await reading).index == 0


async def test_a_batch_survives_being_left_at_any_moment(serve: Serve) -> None:
    """Cancelled after a random number of the loop's turns, over real connections."""
    app, emulator = await serve("echo")
    chance = random.Random(7)

    async def read(ordered: bool) -> None:
        inputs = ({"n": n} for n in range(10_000))
        async with app.map(inputs, ordered=ordered, concurrency=4) as results:
            async for _ in results:
                pass

    for round in range(30):
        reading = asyncio.ensure_future(read(bool(round % 2)))
        await turns(chance.randrange(100))
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert app._api.sender.limiter.in_flight == 0
    seen = await app.batch([{"n": 1}])
    assert seen[0].ok
    assert emulator.requests.total > 100


async def test_a_dropped_reader_with_async_inputs_leaves_nothing(app: AsyncApp) -> None:
    closed = asyncio.Event()

    async def inputs() -> AsyncIterator[int]:
        try:
            for n in range(1_000):
                await asyncio.sleep(0)
                yield n
            await asyncio.get_running_loop().create_future()
        finally:
            closed.set()

    async def call(_: AsyncApp, n: int) -> int:
        return n

    async for _ in app.map(inputs(), call=call, concurrency=5):
        break
    gc.collect()
    async with asyncio.timeout(5):
        await closed.wait()
        await turns()


def test_the_end_of_the_loop_ends_a_batch_that_nobody_closed() -> None:
    ended = []

    async def call(_: AsyncApp, n: int) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(n)

    kept = []

    async def main() -> None:
        async with AsyncApp("http://127.0.0.1:9", access_key="k") as app:
            kept.append(await app.map(range(10), call=call, concurrency=3).__aenter__())
            await turns()

    asyncio.run(main())
    assert sorted(ended) == [0, 1, 2]
    kept.clear()  # on a loop that is closed


def test_ctrl_c_ends_a_batch() -> None:
    ended = []

    async def call(_: AsyncApp, n: int) -> None:
        try:
            if n == 2:
                raise KeyboardInterrupt
            await asyncio.sleep(60)
        finally:
            ended.append(n)

    async def main() -> None:
        async with AsyncApp("http://127.0.0.1:9", access_key="k") as app:
            await app.batch(range(10), call=call, concurrency=3)

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    assert sorted(ended) == [0, 1, 2]
