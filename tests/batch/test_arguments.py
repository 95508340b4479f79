"""Inputs, keys, options and what results say."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import sys
import traceback
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

import anyio
import msgspec
import numpy as np
import pytest

from dynamiq_async import Adaptive, AsyncApp, errors
from dynamiq_async.batch import inputs as inputs_module
from dynamiq_async.emulator import Fault

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from .conftest import Serve


async def same(_: AsyncApp, input: Any) -> Any:
    return input


class Output(msgspec.Struct):
    n: int


class Answer(msgspec.Struct):
    output: Output


async def plain(input: dict[str, Any], run: Any) -> Any:
    return {"output": {"n": input["n"]}}


# --- inputs --------------------------------------------------------------------------------------


async def test_inputs_may_be_an_async_iterable(app: AsyncApp) -> None:
    async def inputs() -> AsyncIterator[int]:
        for n in range(50):
            await asyncio.sleep(0)
            yield n

    results = await app.batch(inputs(), call=same, concurrency=7)
    assert [r.unwrap() for r in results] == list(range(50))


async def test_one_task_reads_async_inputs_from_their_beginning_to_their_end(
    app: AsyncApp,
) -> None:
    """What belongs to a task, such as a cancel scope, may be open across their yields."""
    variable = contextvars.ContextVar("variable", default=0)
    readers = set()

    async def inputs(last: int) -> AsyncIterator[int]:
        token = variable.set(1)
        async with anyio.create_task_group(), asyncio.timeout(60):
            for n in range(last):
                await asyncio.sleep(0)
                readers.add(asyncio.current_task())
                yield n
        variable.reset(token)

    assert len(await app.batch(inputs(50), call=same, concurrency=7)) == 50
    assert len(readers) == 1
    async with app.map(inputs(10**9), call=same, concurrency=7) as results:
        await anext(results)
    assert len(readers) == 2


async def test_a_limit_of_the_inputs_own_ends_nothing_but_them(app: AsyncApp) -> None:
    async def inputs() -> AsyncIterator[int]:
        async with asyncio.timeout(0.02):
            yield 0
            yield 1
            await asyncio.get_running_loop().create_future()

    async def call(_: AsyncApp, n: int) -> int:
        await asyncio.sleep(0.05)
        return n

    seen = []
    with pytest.raises(TimeoutError):
        results = app.map(inputs(), call=call, concurrency=4)
        while True:
            seen.append((await anext(results)).unwrap())
    assert seen == [0, 1]


async def test_inputs_that_come_after_a_close_are_not_begun(app: AsyncApp) -> None:
    async def inputs() -> AsyncIterator[int]:
        yield 0
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.get_running_loop().create_future()
        yield 1

    begun = []

    async def call(_: AsyncApp, n: int) -> int:
        begun.append(n)
        return n

    async with app.map(inputs(), call=call, concurrency=2, grace=5) as results:
        await anext(results)
    assert begun == [0]


async def test_async_inputs_may_close_their_batch(app: AsyncApp) -> None:
    async def inputs() -> AsyncIterator[int]:
        yield 0
        await results.aclose()
        yield 1

    results = app.map(inputs(), call=same, concurrency=2)
    seen = []
    with pytest.raises(errors.StreamClosedError):
        while True:
            seen.append((await anext(results)).index)
    assert seen in ([0], [])


async def test_what_async_inputs_raise_when_they_are_closed_harms_nothing_else(
    app: AsyncApp, tmp_path: Path
) -> None:
    async def inputs() -> AsyncIterator[int]:
        try:
            for n in range(10**9):
                yield n
        finally:
            raise OSError("not closed")

    journal = tmp_path / "job.db"
    async with app.map(inputs(), call=same, journal=journal, concurrency=2) as results:
        await anext(results)
    with pytest.raises(OSError, match="not closed"):
        [_ async for _ in results]
    again = await app.batch(range(100), call=same, journal=journal, unknown="retry")
    assert all(r.ok for r in again)  # the journal was closed all the same


async def test_inputs_that_others_cancel_end_the_batch(app: AsyncApp) -> None:
    async def inputs() -> AsyncIterator[int]:
        yield 0
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await app.batch(inputs(), call=same)


async def test_async_inputs_closed_before_their_first_step_are_not_read(app: AsyncApp) -> None:
    read = []

    async def inputs() -> AsyncIterator[int]:
        read.append(1)
        yield 0

    for turns in range(4):
        async with app.map(inputs(), call=same):
            for _ in range(turns):
                await asyncio.sleep(0)
    assert len(read) < 4


async def test_inputs_may_be_indexed_only_and_not_know_their_length(app: AsyncApp) -> None:
    class Indexed:
        def __len__(self) -> int:
            raise TypeError("it is not known")

        def __getitem__(self, index: int) -> int:
            return [5, 6, 7][index]

    inputs: Any = Indexed()
    async with app.map(inputs, call=same) as results:
        assert results.progress.total is None
        assert sorted([r.unwrap() async for r in results]) == [5, 6, 7]


@pytest.mark.parametrize("journal", [None, "job.db"])
async def test_a_call_that_cannot_be_awaited_ends_the_batch(
    app: AsyncApp, tmp_path: Path, journal: str | None
) -> None:
    called = []

    def call(_: AsyncApp, n: int) -> Any:
        called.append(n)
        return n

    path = journal and tmp_path / journal
    with pytest.raises(errors.InvalidArgumentError, match="async def") as caught:
        await app.batch(range(100), call=call, journal=path)
    assert caught.value.argument == "call"
    assert len(called) < 100


async def test_retry_false_forbids_any_repetition(serve: Serve) -> None:
    app, emulator = await serve(plain)
    emulator.script(Fault(status=429, headers={"Retry-After": "0"}), match="POST /*", times=2)
    modes: list[Any] = ["invoke", "run"]
    for mode in modes:
        [result] = await app.batch([{"n": 1}], mode=mode, retry=False)
        assert isinstance(result.error, errors.RateLimitError)
    assert len(emulator.requests) == 2


async def test_slow_async_inputs_do_not_hold_up_a_close(app: AsyncApp) -> None:
    async def inputs() -> AsyncIterator[int]:
        yield 0
        await asyncio.get_running_loop().create_future()

    async with app.map(inputs(), call=same, concurrency=7, grace=30) as results:
        assert (await anext(results)).unwrap() == 0


@pytest.mark.parametrize("ordered", [False, True])
async def test_what_the_inputs_raise_comes_behind_what_was_under_way(
    app: AsyncApp, ordered: bool
) -> None:
    def inputs() -> Iterator[int]:
        yield from range(5)
        raise OSError("the file is gone")

    async def call(_: AsyncApp, n: int) -> int:
        await asyncio.sleep(0.01 if n == 0 else 0)
        return n

    seen = []
    with pytest.raises(OSError, match="the file is gone"):
        results = app.map(inputs(), call=call, concurrency=8, ordered=ordered)
        while True:
            seen.append((await anext(results)).index)
    assert sorted(seen) == list(range(5))


async def test_what_async_inputs_raise_too(app: AsyncApp) -> None:
    async def inputs() -> AsyncIterator[int]:
        yield 0
        raise OSError("the file is gone")

    seen = []
    with pytest.raises(OSError, match="the file is gone"):
        results = app.map(inputs(), call=same, concurrency=3)
        while True:
            seen.append((await anext(results)).index)
    assert seen == [0]


async def test_inputs_that_cannot_be_iterated_after_all_raise(app: AsyncApp) -> None:
    class Odd:
        def __iter__(self) -> Iterator[int]:
            raise OSError("not today")

    with pytest.raises(OSError, match="not today"):
        await app.batch(Odd())


async def test_an_input_that_cannot_be_sent_is_that_items_error(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "pandas", raising=False)  # by which a NaN is a missing value
    app, emulator = await serve(plain)
    results = await app.batch([{"n": 0}, {"n": object()}, "text", {"n": [float("nan")]}, {"n": 4}])
    assert [r.ok for r in results] == [True, False, False, False, True]
    assert all(isinstance(r.error, errors.InvalidArgumentError) for r in results if not r.ok)
    assert emulator.requests.total == 2


class Text(str):
    __slots__ = ()


async def nothing(app: AsyncApp, input: Any) -> None:
    return None


# --- keys ----------------------------------------------------------------------------------------


@dataclass
class Named:
    name: str


async def test_keys_are_indices_fields_or_made_by_a_function(app: AsyncApp) -> None:
    inputs = [Named("a"), Named("b")]

    async def call(_: AsyncApp, input: Named) -> None: ...

    for key, expected in (
        (None, [0, 1]),
        ("name", ["a", "b"]),
        (lambda input: input.name * 2, ["aa", "bb"]),
    ):
        results = await app.batch(inputs, call=call, key=key)
        assert [r.key for r in results] == expected


class Kind(str, Enum):  # noqa: UP042 - as most programs have them
    BIG = "big"


async def test_keys_of_other_libraries_are_what_they_are_in_json(app: AsyncApp) -> None:
    given = [np.int64(7), np.str_("a"), np.uint8(8), Kind.BIG, Text("b")]
    results = await app.batch(given, call=nothing, key=lambda key: key)
    assert [r.key for r in results] == [7, "a", 8, "big", "b"]
    assert {type(r.key) for r in results} == {int, str}
    given = [np.bool_(1), True, np.float64(1), np.float64("inf"), None, 1.5]
    results = await app.batch(given, call=nothing, key=lambda key: key)
    assert [r.key for r in results] == list(range(6))
    assert all("must be a string or an integer" in str(r.error) for r in results)


async def test_one_key_in_two_types_is_noticed(app: AsyncApp) -> None:
    results = await app.batch([7, np.int64(7)], call=nothing, key=lambda key: key)
    assert "earlier input" in str(results[1].error)


async def test_an_input_without_a_key_is_an_error_under_its_index(app: AsyncApp) -> None:
    inputs: list[Any] = [{"id": "a"}, {}, {"id": None}, {"id": True}, object()]
    results = await app.batch(inputs, call=same, key="id")
    assert [r.key for r in results] == ["a", 1, 2, 3, 4]
    assert [r.ok for r in results] == [True, False, False, False, False]
    assert all(
        isinstance(r.error, errors.InvalidArgumentError) and r.error.argument == "key"
        for r in results[1:]
    )


async def test_what_the_key_function_raises_is_that_items_error(app: AsyncApp) -> None:
    results = await app.batch([1, 0, 2], call=same, key=lambda n: 10 // n)
    assert [r.key for r in results] == [10, 1, 5]
    assert isinstance(results[1].error, ZeroDivisionError)


async def test_a_key_that_comes_twice_is_an_error_that_names_it(
    app: AsyncApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs_module, "REMEMBERED_KEYS", 3)
    keys = ["a", "b", "a", "c", "d", "a", "e", "f", "g", "a"]
    results = await app.batch(keys, call=same, key=str, concurrency=2)
    assert [r.index for r in results if not r.ok] == [2, 5]
    assert "'a' of input 2" in str(results[2].error)
    assert results[2].key == "a"


# --- what is checked before anything is sent -----------------------------------------------------


@pytest.mark.parametrize(
    ("argument", "options"),
    [
        ("inputs", {"inputs": {"n": 1}}),
        ("inputs", {"inputs": "text"}),
        ("inputs", {"inputs": 5}),
        ("key", {"key": 5}),
        ("concurrency", {"concurrency": 0}),
        ("concurrency", {"concurrency": "32"}),
        ("rate", {"rate": "often"}),
        ("mode", {"mode": "stream"}),
        ("on_error", {"on_error": "ignore"}),
        ("unknown", {"unknown": "guess"}),
        ("grace", {"grace": -1}),
        ("grace", {"grace": None}),
        ("settle", {"settle": -1}),
        ("settle", {"settle": False}),
        ("output_type", {"output_type": object()}),
        ("timeout", {"timeout": -1}),
        ("max_retries", {"max_retries": -1}),
        ("journal", {"journal": 5}),
        ("extra_headers", {"extra_headers": {"a b": "c"}}),
        ("extra_body", {"extra_body": {"a": object()}}),
        ("extra_body", {"extra_body": 5}),
        ("call", {"call": 5}),
        ("retry", {"call": same, "retry": True}),
        ("mode", {"call": same, "mode": "run"}),
        ("user_id", {"call": same, "user_id": "u"}),
        ("last_node_output", {"mode": "run", "last_node_output": True}),
        ("retry", {"mode": "run", "retry": True}),
        ("session_id", {"mode": "run", "session_id": "mine"}),
        (
            "session_id",
            {
                "mode": "run",
                "session_id": "6f9619ff-8b86-4d11-b42d-00cf4fc964ff",
                "journal": "job.db",
            },
        ),
    ],
)
def test_a_wrong_argument_is_named_before_anything_is_sent(
    argument: str, options: dict[str, Any]
) -> None:
    app = AsyncApp("http://127.0.0.1:9", access_key="k")
    given = {"inputs": [{}]} | options
    with pytest.raises(errors.InvalidArgumentError) as caught:
        app.map(**given)
    assert caught.value.argument == argument


async def test_what_is_given_reaches_the_requests(serve: Serve) -> None:
    app, emulator = await serve(plain)
    [result] = await app.batch(
        [{"n": 1}],
        output_type=Answer,
        user_id="u-1",
        session_id="s-1",
        last_node_output=True,
        error_on_node_failure=True,
        extra_body={"more": 1},
        extra_headers={"X-More": "2"},
        extra_query={"more": 3},
        include_input=False,
    )
    assert result.unwrap() == Answer(Output(1))
    assert result.input is None
    [request] = emulator.requests
    assert request.json == {
        "input": {"n": 1},
        "user_id": "u-1",
        "session_id": "s-1",
        "last_node_output": True,
        "error_on_node_failure": True,
        "more": 1,
    }
    assert request.headers["X-More"] == "2"
    assert request.query["more"] == "3"


async def test_an_output_of_another_type_is_an_error(serve: Serve) -> None:
    app, _ = await serve(plain)
    [result] = await app.batch([{"n": 1}], output_type=list[int])
    assert isinstance(result.error, errors.ResponseDecodeError)


async def test_an_answer_that_is_no_json_is_an_error(serve: Serve) -> None:
    app, emulator = await serve(plain)
    broken = Fault(body=b"{", headers={"Content-Type": "application/json"})
    emulator.script(broken)
    [result] = await app.batch([{"n": 1}])
    assert isinstance(result.error, errors.ResponseDecodeError | errors.ContentTypeError)


async def test_fan_out_calls_for_any_client(app: AsyncApp) -> None:
    from dynamiq_async.batch import fan_out

    async def call(client: AsyncApp, n: int) -> str:
        return f"{client.url} {n}"

    results = [r async for r in fan_out(app, range(3), call, ordered=True, concurrency=2)]
    assert [r.unwrap() for r in results] == [f"http://127.0.0.1:9 {n}" for n in range(3)]


# --- results and figures -------------------------------------------------------------------------


async def test_unwrapping_again_and_again_keeps_the_traceback_as_it_was(app: AsyncApp) -> None:
    async def call(_: AsyncApp, n: int) -> None:
        raise ValueError("no")

    [result] = await app.batch([1], call=call)
    lengths = []
    for _ in range(3):
        with pytest.raises(ValueError) as caught:
            result.unwrap()
        frames = traceback.extract_tb(caught.value.__traceback__)
        lengths.append(len(frames))
        assert frames[-1].name == "call"
    assert len(set(lengths)) == 1
    assert not result.ok


async def test_the_figures_tell_how_far_it_is(app: AsyncApp) -> None:
    go = asyncio.Event()

    async def call(_: AsyncApp, n: int) -> int:
        if n >= 6:
            await go.wait()
        if n % 2:
            raise errors.AmbiguousTimeoutError("lost")
        return n

    assert app.map([], call=call).progress.eta == 0.0
    results = app.map(range(10), call=call, concurrency=3)
    before = results.progress
    assert (before.total, before.started, before.rate, before.eta) == (10, 0, 0.0, None)
    async with results:
        for _ in range(6):
            await anext(results)
        await asyncio.sleep(0.01)
        during = results.progress
        assert (during.started, during.in_flight, during.limit) == (9, 3, 3)
        assert (during.done, during.failed, during.unknown) == (6, 3, 3)
        assert during.rate > 0
        assert during.eta == pytest.approx(4 / during.rate)
        go.set()
        [_ async for _ in results]
    after = results.progress
    assert (after.done, after.in_flight, after.eta) == (10, 0, 0.0)
    assert after.rate == results.progress.rate  # it stands still


async def test_the_rate_is_that_of_the_last_while(
    app: AsyncApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dynamiq_async.batch import map_handler, tally

    time = 0.0
    monkeypatch.setattr(tally, "perf_counter", lambda: time)
    monkeypatch.setattr(map_handler, "perf_counter", lambda: time)

    async def call(_: AsyncApp, n: int) -> int:
        nonlocal time
        time += 0.1 if n < 1000 else 2.0
        return n

    results = app.map(range(1040), call=call, concurrency=1)
    async for result in results:
        if result.index == 999:
            assert results.progress.rate == pytest.approx(10, rel=0.2)
    assert results.progress.rate == pytest.approx(0.5, rel=0.1)


async def test_a_wrong_length_is_put_right_at_the_end(app: AsyncApp) -> None:
    class Table:
        def __len__(self) -> int:
            return 1000

        def __iter__(self) -> Iterator[str]:
            return iter(["a", "b"])

    class Awaited(Table):
        async def __aiter__(self) -> AsyncIterator[str]:
            yield "a"
            yield "b"

    for inputs in (Table(), Awaited()):
        async with app.map(inputs, call=same) as results:
            assert results.progress.total == 1000
            [_ async for _ in results]
        assert (results.progress.total, results.progress.eta) == (2, 0.0)


async def test_a_cooldown_is_among_the_figures(app: AsyncApp) -> None:
    async with app.map(range(10), call=same, concurrency=Adaptive(start=3, max=6)) as results:
        await anext(results)
        app._api.sender.limiter.cool_down(30)
        progress = results.progress
        assert progress.throttled == 1
        assert 29 < progress.cooldown <= 30
        assert 1 <= progress.limit <= 3


async def test_a_rate_holds_for_the_whole_client(serve: Serve) -> None:
    app, emulator = await serve(plain)
    await app.batch([{"n": n} for n in range(12)], rate=100, concurrency=12)
    moments = sorted(r.received_at.timestamp() for r in emulator.requests)
    assert moments[-1] - moments[0] >= 11 / 100 - 0.06  # what a rate may make up for


async def test_a_rate_holds_over_one_batch_after_another(serve: Serve) -> None:
    app, emulator = await serve(plain)
    for n in range(5):
        await app.batch([{"n": n}], rate=20)
    moments = sorted(r.received_at.timestamp() for r in emulator.requests)
    assert moments[-1] - moments[0] >= 4 / 20 - 0.02
