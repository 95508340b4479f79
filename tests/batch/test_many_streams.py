"""Many streams in one iteration: every event with its key, and one result for each input."""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest

from dynamiq_async import RunEvent, StreamEvent, errors
from dynamiq_async.emulator import Fault

if TYPE_CHECKING:
    from .conftest import Serve


async def says(input: dict[str, Any], run: Any) -> Any:
    for number in range(input.get("count", 5)):
        await run.emit({"number": number, "padding": "x" * input.get("size", 0)})
    if input.get("hangs"):
        await asyncio.get_running_loop().create_future()
    return {"n": input["n"]}


@pytest.mark.parametrize(("mode", "kind"), [("stream", StreamEvent), ("run", RunEvent)])
async def test_each_stream_has_its_events_in_order_and_one_result(
    serve: Serve, mode: Any, kind: type[Any]
) -> None:
    app, _ = await serve(says)
    inputs = [{"n": n, "id": f"s{n}"} for n in range(20)]
    events = defaultdict(list)
    results = {}
    streams = app.stream_many(inputs, mode=mode, key="id", concurrency=6)
    async for item in streams:
        assert item.key == f"s{item.index}"
        if item.result is None:
            assert isinstance(item.event, kind)
            assert item.key not in results
            events[item.key].append(item.event)
        else:
            assert item.event is None
            assert item.key not in results
            results[item.key] = item.result.unwrap()
    assert list(results) != []
    assert len(results) == 20
    for n in range(20):
        output = results[f"s{n}"] if mode == "run" else results[f"s{n}"]["node-1"]["output"]
        assert output == {"n": n}
        data = [e.data for e in events[f"s{n}"]]
        numbers = [d["number"] for d in data if isinstance(d, dict) and "number" in d]
        assert numbers == list(range(5))
    assert streams.progress.done == 20


async def test_a_broken_stream_is_the_error_of_its_input(serve: Serve) -> None:
    app, emulator = await serve(says)
    emulator.script(Fault(), Fault(after_events=2, drop="reset"), Fault(status=404))
    inputs: list[Any] = [{"n": n} for n in range(4)] + ["not an input"]
    ends = [
        item.result
        async for item in app.stream_many(inputs, concurrency=1, include_input=False)
        if item.result is not None
    ]
    assert [type(r.error) for r in ends] == [
        type(None),
        errors.StreamInterruptedError,
        errors.NotFoundError,
        type(None),
        errors.InvalidArgumentError,
    ]
    assert all(r.input is None for r in ends)


async def test_a_stream_that_others_cancel_is_the_error_of_its_input(serve: Serve) -> None:
    class Cancelled:
        def model_dump(self, **_: Any) -> Any:
            raise asyncio.CancelledError

    app, _ = await serve(says)
    inputs: list[Any] = [{"n": 0}, Cancelled(), {"n": 2}]
    ends = [item.result async for item in app.stream_many(inputs) if item.result is not None]
    assert sorted(r.index for r in ends if r.ok) == [0, 2]
    assert len(ends) == 3


async def test_closing_the_client_ends_all_of_them(serve: Serve) -> None:
    app, emulator = await serve(says)
    with pytest.raises(errors.ClientClosedError):
        async for _ in app.stream_many(({"n": n} for n in itertools.count()), concurrency=3):
            await app.aclose()
    assert len(emulator.requests) < 20


async def test_without_a_final_event_there_is_no_output(serve: Serve) -> None:
    app, emulator = await serve(says)
    emulator.script(Fault(skip=[6]))
    [end] = [i.result async for i in app.stream_many([{"n": 1}]) if i.result is not None]
    assert end.ok
    assert end.unwrap() is None


async def test_a_key_that_cannot_be_made_is_that_items_error(serve: Serve) -> None:
    app, _ = await serve(says)
    items = [i async for i in app.stream_many([{"n": 1}], key="id")]
    assert len(items) == 1
    assert items[0].result is not None
    assert isinstance(items[0].result.error, errors.InvalidArgumentError)


async def test_who_does_not_read_holds_the_streams_back(serve: Serve) -> None:
    app, emulator = await serve(says, event_window=64)
    async with app.stream_many(
        [{"n": n, "count": 2_000, "size": 20_000} for n in range(3)], concurrency=3
    ) as streams:
        await anext(streams)
        sent, before = 0, -1
        while sent != before:
            await asyncio.sleep(0.05)
            sent, before = sum(r.events_sent for r in emulator.requests), sent
        assert 0 < sent < 3 * 1_500
        for _ in range(sent):
            await anext(streams)
        assert sum(r.events_sent for r in emulator.requests) > sent


async def test_closing_closes_all_of_them(serve: Serve) -> None:
    app, emulator = await serve(says)
    async with app.stream_many([{"n": n, "hangs": True} for n in range(9)], concurrency=5) as s:
        async for item in s:
            if item.index == 4:
                break
    await emulator.wait_until(lambda: all(r.finished for r in emulator.requests))
    assert app._api.sender.limiter.in_flight == 0
    with pytest.raises(errors.StreamClosedError):
        while True:
            await anext(s)


async def test_closing_frees_those_who_wait_to_be_read(serve: Serve) -> None:
    app, _ = await serve(says)
    inputs = [{"n": n, "count": 500} for n in range(9)]
    async with app.stream_many(inputs, concurrency=2, grace=0.05) as streams:
        await anext(streams)
        await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("argument", "options"),
    [
        ("mode", {"mode": "invoke"}),
        ("inputs", {"inputs": {}}),
        ("grace", {"grace": -1}),
        ("concurrency", {"concurrency": 0}),
        ("on_bad_event", {"on_bad_event": "ignore"}),
        ("max_resumes", {"mode": "run", "max_resumes": -1}),
        ("timeout", {"timeout": -1}),
    ],
)
async def test_a_wrong_argument_is_named(
    serve: Serve, argument: str, options: dict[str, Any]
) -> None:
    app, _ = await serve(says)
    with pytest.raises(errors.InvalidArgumentError) as caught:
        app.stream_many(**({"inputs": [{}]} | options))
    assert caught.value.argument == argument


async def test_an_argument_of_the_other_kind_of_stream_is_refused(serve: Serve) -> None:
    app, _ = await serve(says)
    with pytest.raises(TypeError, match="max_resumes"):
        app.stream_many([{}], max_resumes=3)
