"""The core: what goes in comes out, ends as it should, and is closed on every way out."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from msgspec.structs import replace

from dynamiq_async import RunEvent, StreamEvent, Timeout, errors
from dynamiq_async.emulator import Fault, WorkflowCanceledError, WorkflowFailedError
from dynamiq_async.relay import pump, relay, resume
from dynamiq_async.sse import ServerSentEvent, SSEDecoder
from tests.support.log_records import fields
from tests.support.wire import CHUNKED, LAST_CHUNK, Peer, chunk, final, make_response, says, sse

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator

    from dynamiq_async.relay import Relay
    from tests.support.network import MakeApp, Serve

    from .conftest import Emulate


async def whole(body: Relay) -> bytes:
    async with body:
        return b"".join([piece async for piece in body])


async def shown(body: Relay) -> list[ServerSentEvent]:
    assert body.media_type == "text/event-stream"
    return SSEDecoder().feed(await whole(body))


def streams(*pieces: bytes) -> Any:
    """A handler that sends these chunks and a proper end."""

    async def handler(peer: Peer) -> None:
        await peer.send(CHUNKED, *map(chunk, pieces), LAST_CHUNK)

    return handler


async def talk(input: dict[str, Any], run: Any) -> Any:
    for word in ("one ", "two ", "three"):
        await run.text(word)
    end = input.get("end")
    if end == "failed":
        raise WorkflowFailedError("the node at 10.0.0.7 said no")
    if end == "canceled":
        raise WorkflowCanceledError
    return "done"


def never(*, say: str = "") -> Any:
    """An App that says something and never comes to an end."""

    async def app(input: dict[str, Any], run: Any) -> Any:
        if say:
            await run.text(say)
        await asyncio.get_running_loop().create_future()

    return app


# --- what comes out ---------------------------------------------------------------------------


async def test_a_root_stream_comes_out_byte_for_byte(serve: Serve, app_for: MakeApp) -> None:
    messages = [
        b'{ "data" : {"x":1.0e2} ,"new":{"field":[1, 2]},"event":"data"}',
        b'{"data":"\\ud83d","event":"d"}',  # half a surrogate pair, which msgspec refuses
        b'{"no data": true, "wf_run_id": 7}',
        b'{"data":\n {"pretty":\n  1}}',
        b'{"data": "\xff"}',
        '{"data":"\u2028 é"}'.encode(),
        msgspec.json.encode(final()),
    ]
    blocks = [b"data: " + m.replace(b"\n", b"\ndata: ") + b"\n\n" for m in messages]
    for pieces in (blocks, [b"".join(blocks)], [b"".join(blocks[:1] * 50 + blocks[-1:])]):
        wire = await serve(streams(*pieces))
        body = await whole(relay(app_for(wire).stream({})))
        assert body == b"retry: 2000\nid: -\n\n" + b"".join(pieces) + b"event: end\ndata: {}\n\n"


async def test_large_events_come_out_byte_for_byte(serve: Serve, app_for: MakeApp) -> None:
    large = b'data: {"extra": 1, "data": "' + b"x" * 300_000 + b'"}\n\n'
    wire = await serve(streams(large, large[:100_000], large[100_000:], sse(final())))
    body = await whole(relay(app_for(wire).stream({}), retry=None))
    assert body == b"id: -\n\n" + large * 2 + sse(final()) + b"event: end\ndata: {}\n\n"


async def test_a_run_comes_out_byte_for_byte_under_its_types_and_positions(
    emulate: Emulate,
) -> None:
    app, emulator = await emulate(talk)
    run = await app.runs.create({}, background=True)
    await emulator.wait_for_executions(1)
    events = await shown(relay(app.runs.follow(run.id)))
    stored = [event async for event in app.runs.events(run.id)]
    assert [event.id for event in events] == [
        *(f"{run.id}:{n}" for n in range(1, len(stored) + 1)),
        f"{run.id}:{len(stored)}:end",
    ]
    assert [event.event for event in events] == [*(event.type for event in stored), "end"]
    assert [event.json()["id"] for event in events[:-1]] == [event.id for event in stored]


async def test_unknown_fields_of_stored_and_of_lenient_events_come_out(
    serve: Serve, app_for: MakeApp
) -> None:
    """The hole before 5 is filled from the stored events; the sequence of 6 is a text."""

    def event(sequence: Any, type: str = "custom") -> dict[str, Any]:
        return {"type": type, "sequence": sequence, "data": {}, "brand_new": {"n": sequence}}

    async def handler(peer: Peer) -> None:
        if "/events" in peer.request.target:
            await peer.send(make_response({"data": [event(n) for n in range(1, 6)]}))
        else:
            blocks = sse(event(1), event(2), event(5), event("6"), event(7, "run.completed"))
            await peer.send(CHUNKED, chunk(blocks), LAST_CHUNK)

    wire = await serve(handler)
    events = await shown(relay(app_for(wire).runs.follow("r-1")))
    assert [msgspec.json.decode(e.data).get("brand_new") for e in events] == [
        *({"n": n} for n in (1, 2, 3, 4, 5, "6", 7)),
        None,
    ]


async def test_a_question_comes_out_byte_for_byte(emulate: Emulate) -> None:
    app, emulator = await emulate("approval")
    stream = app.runs.stream({}, on_question=lambda _: True)
    events = await shown(relay(stream))
    [run] = emulator.runs
    stored = [event async for event in app.runs.events(run)]
    asked = next(event for event in events if event.event == "approval_request.created")
    assert asked.json()["id"] in {event.id for event in stored}
    assert asked.json()["timestamp"]


async def test_a_stream_that_was_read_before_is_taken_up_where_it_is(
    serve: Serve, app_for: MakeApp
) -> None:
    extra = msgspec.json.encode({**says("b"), "new": 1})
    go = asyncio.Event()

    async def handler(peer: Peer) -> None:
        await peer.send(CHUNKED, chunk(sse(says("0"), says("a"))))
        await go.wait()
        await peer.send(chunk(b"data: " + extra + b"\n\n" + sse(final())), LAST_CHUNK)

    wire = await serve(handler)
    async with app_for(wire).stream({}) as stream:
        assert (await anext(stream)).text == "0"
        body = relay(stream.batches())
        go.set()
        events = await shown(body)
    assert [event.json() for event in events[:2]] == [says("a"), {**says("b"), "new": 1}]


async def test_a_run_that_was_opened_before_keeps_its_bytes_too(emulate: Emulate) -> None:
    app, _ = await emulate(talk)
    async with app.runs.stream({}) as stream:
        events = await shown(relay(stream))
    assert all(
        list(event.json()) == ["id", "type", "sequence", "timestamp", "data"]
        for event in events[:-1]
    )


async def test_broken_events_pass_if_the_stream_passes_them_on(
    serve: Serve, app_for: MakeApp
) -> None:
    wire = await serve(streams(b"data: not json\n\ndata: [DONE]\n\n", sse(final())))
    app = app_for(wire)
    events = await shown(relay(app.stream({}, on_bad_event="pass")))
    assert events[0].data == "not json"
    lines = await whole(relay(app.stream({}, on_bad_event="pass"), format="jsonl"))
    assert lines.splitlines()[0] == b'"not json"'
    events = await shown(relay(app.stream({})))
    assert [event.event for event in events] == ["error"]


async def test_map_decides_what_is_shown(emulate: Emulate) -> None:
    app, _ = await emulate(talk)

    def show(event: StreamEvent) -> Any:
        return {
            "one ": {"word": event.text},
            "two ": "line 1\r\nline 2\rline 3\n",
            "three": ServerSentEvent(event="word", data="3", id="my-3", retry=5),
        }.get(event.text)

    body = await whole(relay(app.stream({}), map=show))
    assert body == (
        b'retry: 2000\nid: -\n\ndata: {"word":"one "}\n\n'
        b"data: line 1\ndata: line 2\ndata: line 3\ndata: \n\n"
        b"id: my-3\nevent: word\nretry: 5\ndata: 3\n\n"
        b"event: end\ndata: {}\n\n"
    )


async def test_map_may_be_async_and_holds_back_nothing(emulate: Emulate) -> None:
    app, _ = await emulate(talk)
    go = asyncio.Event()

    async def show(event: StreamEvent) -> Any:
        if event.text == "two ":
            await go.wait()
        return event.text.encode() or None

    async with relay(app.stream({}), map=show) as body:
        seen = b""
        async with asyncio.timeout(5):
            while b"one" not in seen:
                seen += await anext(body)
        assert b"two" not in seen
        go.set()
        rest = b"".join([piece async for piece in body])
    assert b"data: two \n\ndata: three\n\nevent: end" in rest


async def test_map_can_be_a_filter(emulate: Emulate) -> None:
    app, _ = await emulate(talk)
    stream = app.runs.stream({})
    events = await shown(relay(stream, map=lambda event: event if event.text else None))
    assert [event.event for event in events] == ["agent.response.delta"] * 3 + ["end"]
    assert events[0].id.endswith(":2")


async def test_map_may_change_events(emulate: Emulate) -> None:
    app, _ = await emulate(talk)
    stream = app.stream({})
    *events, _ = await shown(relay(stream, map=lambda event: replace(event, entity_id="hidden")))
    assert {event.json()["entity_id"] for event in events} == {"hidden"}


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("two\nlines", b'"two\\nlines"'),
        (b'{"a":\n1}', b'{"a": 1}'),
        ([1, None], b"[1,null]"),
        ({"a": b"b"}, b'{"a":"Yg=="}'),
    ],
)
async def test_json_lines_are_lines_of_json(value: Any, line: bytes) -> None:
    body = relay(_items(value), format="jsonl")
    assert body.media_type == "application/x-ndjson"
    assert await whole(body) == line + b"\n"


async def test_json_lines_of_events_are_their_bytes(serve: Serve, app_for: MakeApp) -> None:
    wire = await serve(streams(b'data: {"data":\ndata: 1}\n\n', sse(final())))
    body = await whole(relay(app_for(wire).stream({}), format="jsonl"))
    assert body == b'{"data": 1}\n' + msgspec.json.encode(final()) + b"\n"


async def test_text_is_the_readers_text(emulate: Emulate) -> None:
    app, _ = await emulate(talk)
    for stream in (app.stream({}), app.stream({}).text(), app.runs.stream({})):
        assert await whole(relay(stream, format="text")) == b"one two three"
    upper = relay(app.stream({}), format="text", map=lambda event: event.text.upper())
    assert await whole(upper) == b"ONE TWO THREE"


async def test_text_in_events_is_the_text(emulate: Emulate) -> None:
    app, _ = await emulate(talk)
    events = await shown(relay(app.stream({}).text()))
    assert [event.data for event in events] == ["one ", "two ", "three", "{}"]


async def _items(*items: Any) -> AsyncIterator[Any]:
    for item in items:
        yield item


async def test_any_async_iterable_will_do() -> None:
    events = await shown(relay(_items("a", {"b": 1}, "", None, bytearray(b"c"))))
    assert [event.data for event in events] == ["a", '{"b":1}', "null", "c", "{}"]


async def test_events_of_runs_from_elsewhere_have_no_position() -> None:
    [event, _] = await shown(relay(_items(RunEvent(type="custom", sequence=3))))
    assert (event.event, event.id, event.json()["sequence"]) == ("custom", "-", 3)


class Bare:
    """An iterable that is not its own iterator, and has nothing else."""

    def __aiter__(self) -> AsyncIterator[str]:
        return self.Iterator()

    class Iterator:
        def __aiter__(self) -> Any:
            return self

        async def __anext__(self) -> str:
            raise StopAsyncIteration


async def test_an_iterable_without_aclose_will_do_too() -> None:
    assert [event.event for event in await shown(relay(Bare()))] == ["end"]


async def test_an_iterable_and_what_iterates_it_are_both_closed() -> None:
    closed = []

    class Job:
        async def __aiter__(self) -> AsyncIterator[str]:
            try:
                while True:
                    yield "a"
                    await asyncio.sleep(0)
            finally:
                closed.append("iterator")

        async def aclose(self) -> None:
            closed.append("job")

    async with relay(Job()) as body:
        assert b"data: a" not in await anext(body)
        assert b"data: a" in await anext(body)
    assert closed == ["iterator", "job"]


async def test_a_stream_with_two_readers_is_the_backends_mistake(emulate: Emulate) -> None:
    app, _ = await emulate(never())
    stream = app.stream({})
    async with stream, relay(stream) as body:
        await anext(body)
        second = relay(stream)
        with pytest.raises(errors.StreamError, match="another task"):
            await whole(second)


async def test_the_iterables_own_check_decides_over_its_end() -> None:
    class Checked(Bare):
        def raise_for_failure(self) -> None:
            raise errors.RunFailedError("no")

    assert [event.event for event in await shown(relay(Checked()))] == ["error"]


# --- how it ends ------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["failed", "canceled"])
async def test_a_run_that_did_not_come_through_ends_in_an_error(end: str, emulate: Emulate) -> None:
    app, _ = await emulate(talk)
    both: list[AsyncIterable[StreamEvent | RunEvent]]
    both = [app.stream({"end": end}), app.runs.stream({"end": end})]
    for stream in both:
        *_, last = await shown(relay(stream, map=lambda event: event.text or None))
        assert (last.event, last.json()["error"]["code"]) == ("error", f"run_{end}")
        assert "10.0.0.7" not in last.data
        assert last.id == "-" or last.id.endswith(":end")


async def test_a_text_that_is_not_whole_breaks_off(emulate: Emulate) -> None:
    app, _ = await emulate(talk)
    for stream in (
        app.stream({"end": "failed"}),
        app.stream({"end": "failed"}).text(),
        app.runs.stream({"end": "failed"}),
    ):
        with pytest.raises(errors.RunFailedError):
            await whole(relay(stream, format="text"))


async def test_json_lines_end_in_an_error(emulate: Emulate) -> None:
    app, _ = await emulate(talk)
    lines = (await whole(relay(app.stream({"end": "failed"}), format="jsonl"))).splitlines()
    assert msgspec.json.decode(lines[-1]) == {
        "error": {"code": "run_failed", "message": "The run failed."}
    }


async def test_a_stream_that_is_cut_ends_in_an_error(emulate: Emulate) -> None:
    app, emulator = await emulate(talk)
    emulator.script(Fault(after_events=2, drop="reset"))
    body = relay(app.stream({}))
    *_, last = await shown(body)
    assert (last.event, last.json()["error"]["code"]) == ("error", "interrupted")
    assert "127.0.0.1" not in last.data
    assert isinstance(body.error, errors.StreamInterruptedError)


async def test_an_error_of_a_run_says_where_to_go_on(emulate: Emulate) -> None:
    app, emulator = await emulate(talk)
    emulator.script(Fault(after_events=2, drop="reset"))
    run = await app.runs.create({}, background=True)
    emulator.reset()
    emulator.script(Fault(after_events=2, drop="reset"))
    *_, last = await shown(relay(app.runs.follow(run.id, resume=False)))
    where = last.json()["error"]["last_event_id"]
    assert where == f"{run.id}:2"
    rest = await shown(relay(resume(app.runs, run.id, {"Last-Event-ID": where})))
    assert rest[0].id == f"{run.id}:3"
    assert rest[-1].event == "end"


async def test_an_error_that_would_only_come_again_is_nothing_to_come_back_for(
    serve: Serve, app_for: MakeApp
) -> None:
    broken = b"event: step\nid: 2\ndata: {\n\n"
    wire = await serve(streams(sse({"type": "step", "sequence": 1, "data": {}}), broken))
    first, last = await shown(relay(app_for(wire).runs.follow("r-1", max_resumes=1)))
    assert first.id == "r-1:1"
    assert last.json()["error"].keys() == {"code", "message"}


async def test_an_error_of_map_is_told_and_raised_and_what_came_before_is_sent(
    emulate: Emulate,
) -> None:
    app, _ = await emulate(talk)
    run = await app.runs.create({}, background=True)

    def show(event: Any) -> Any:
        if event.text == "two ":
            raise KeyError("of the backend")
        return event.text or None

    body, seen = relay(app.runs.follow(run.id), map=show), b""
    async with body:
        with pytest.raises(KeyError, match="of the backend"):
            async for piece in body:
                seen += piece
    *_, word, last = SSEDecoder().feed(seen)
    assert (word.data, word.id) == ("one ", f"{run.id}:2")
    assert last.json() == {
        "error": {"code": "internal_error", "message": "Something went wrong here."}
    }
    assert last.id == word.id  # what comes behind it has not been shown


async def test_what_map_raises_is_never_a_proper_end() -> None:
    async def exhausted(_: Any) -> Any:
        return await anext(_items())

    body = relay(_items("a"), format="text", map=exhausted)
    with pytest.raises(RuntimeError, match="StopAsyncIteration"):
        await whole(body)


@pytest.mark.parametrize(
    ("format", "value"),
    [
        ("sse", ServerSentEvent(event="a\nb")),
        ("sse", ServerSentEvent(id="a\rb")),
        ("sse", ServerSentEvent(id="a\0b")),
        ("sse", object()),
        ("jsonl", ServerSentEvent()),
        ("text", {"a": 1}),
    ],
)
async def test_what_cannot_be_shown_is_the_backends_mistake(format: Any, value: Any) -> None:
    with pytest.raises(errors.InvalidArgumentError) as caught:
        await whole(relay(_items(1), format=format, map=lambda _: value))
    assert caught.value.argument == "map"


async def test_names_and_ids_from_upstream_cannot_make_lines(
    serve: Serve, app_for: MakeApp
) -> None:
    events = [
        {"type": "a\nevent: end", "sequence": 1, "data": {}},
        {"type": "run.completed", "sequence": 2, "data": {}},
    ]
    wire = await serve(streams(sse(*events)))
    found = await shown(relay(app_for(wire).runs.follow("r\n1")))
    assert [(event.event, event.id) for event in found] == [
        ("message", ""),
        ("run.completed", ""),
        ("end", ""),
    ]


async def test_what_is_cancelled_by_others_does_not_end_well(emulate: Emulate) -> None:
    app, _ = await emulate(never(say="one"))
    body = relay(app.stream({}), format="text")
    async with body:
        assert await anext(body) == b"one"
        [task] = pump._tasks
        task.cancel()
        with pytest.raises(errors.StreamClosedError):
            await anext(body)


# --- how it begins ----------------------------------------------------------------------------


async def test_an_error_before_the_first_byte_is_a_status(emulate: Emulate) -> None:
    app, emulator = await emulate()
    emulator.script(Fault(status=429, headers={"Retry-After": "61.5"}))
    async with relay(app.stream({})) as body:
        assert (body.status, body.headers["Retry-After"]) == (429, "62")
        assert body.media_type == "application/json"
        [told] = [piece async for piece in body]
    assert msgspec.json.decode(told)["error"]["code"] == "rate_limited"
    assert body.headers["Content-Length"] == str(len(told))


async def test_a_stream_that_cannot_be_closed_is_an_error_too() -> None:
    class Wrong:
        def __aiter__(self) -> Any:
            return self

        async def __anext__(self) -> Any:
            raise StopAsyncIteration

        async def aclose(self) -> None:
            raise ValueError("cannot be closed")

    body = relay(Wrong())
    with pytest.raises(ValueError, match="cannot be closed"):
        await whole(body)


async def test_a_mistake_of_the_backend_is_raised_by_opening(
    emulate: Emulate, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def wrong(*_: Any) -> None:
        raise KeyError("of the backend")

    app, _ = await emulate()
    stream = app.stream({})
    monkeypatch.setattr(stream, "open", wrong)
    body = relay(stream)
    with pytest.raises(KeyError, match="of the backend"):
        await body.open()
    await body.aclose()


async def test_heartbeats_flow_before_the_first_event(emulate: Emulate) -> None:
    app, _ = await emulate(never())
    async with relay(app.stream({}), heartbeat=0.02) as body:
        await anext(body)
        async with asyncio.timeout(5):
            assert [await anext(body) for _ in range(3)] == [b": heartbeat\n\n"] * 3


async def test_heartbeats_flow_also_before_the_upstreams_headers(
    serve: Serve, app_for: MakeApp
) -> None:
    go = asyncio.Event()

    async def handler(peer: Peer) -> None:
        await go.wait()
        await peer.send(make_response({"error": {"code": "unauthorized", "message": "key k"}}, 401))

    wire = await serve(handler)
    async with relay(app_for(wire).stream({}), heartbeat=0.02) as body:
        assert body.status == 200
        await anext(body)
        async with asyncio.timeout(5):
            assert await anext(body) == b": heartbeat\n\n"
        go.set()
        rest = b"".join([piece async for piece in body])
    assert b'"upstream_error"' in rest


async def test_there_is_no_heartbeat_while_the_browser_is_slow() -> None:
    go = asyncio.Event()

    async def source() -> AsyncIterator[str]:
        await go.wait()
        yield "one"
        await asyncio.get_running_loop().create_future()

    loop = asyncio.get_running_loop()
    async with relay(source(), heartbeat=0.03) as body:
        await anext(body)
        reading = asyncio.ensure_future(anext(body))
        await asyncio.sleep(0)  # by now it waits
        go.set()
        assert await reading == b"data: one\n\n"
        await asyncio.sleep(0.1)
        asked = loop.time()
        async with asyncio.timeout(5):
            assert await anext(body) == b": heartbeat\n\n"
        assert loop.time() - asked > 0.02


async def test_other_formats_have_no_heartbeats(emulate: Emulate) -> None:
    app, _ = await emulate(never())
    async with relay(app.stream({}), format="jsonl", heartbeat=0.01) as body:
        reading = asyncio.ensure_future(anext(body))
        await asyncio.sleep(0.05)
        assert not reading.done()
        await body.aclose()
        with pytest.raises(errors.StreamClosedError):
            await reading


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("stream", [1]),
        ("format", "xml"),
        ("map", "text"),
        ("heartbeat", 0),
        ("retry", -1),
        ("on_leave", "ignore"),
        ("on_leave", "cancel"),
    ],
)
async def test_wrong_arguments_are_named(argument: str, value: Any) -> None:
    arguments = {"stream": Bare(), argument: value}
    with pytest.raises(errors.InvalidArgumentError) as caught:
        relay(**arguments)
    assert caught.value.argument == argument


async def test_retry_may_be_at_once() -> None:
    assert (await whole(relay(Bare(), retry=0))).startswith(b"retry: 0\n")


# --- its life ---------------------------------------------------------------------------------


async def test_closing_twice_and_from_elsewhere_is_fine(emulate: Emulate) -> None:
    app, emulator = await emulate(never())
    body = relay(app.stream({}))
    await body.open()
    await anext(body)
    reading = asyncio.ensure_future(anext(body))
    await asyncio.sleep(0)
    with pytest.raises(errors.StreamError, match="another task"):
        await anext(body)
    await asyncio.gather(body.aclose(), body.aclose())
    with pytest.raises(errors.StreamClosedError):
        await reading
    with pytest.raises(errors.StreamClosedError):
        await anext(body)
    await emulator.wait_until(lambda: not emulator.open_connections)


async def test_a_relay_that_was_never_opened_sends_nothing(emulate: Emulate) -> None:
    app, emulator = await emulate()
    body = relay(app.stream({}))
    await body.aclose()
    await body.aclose()
    with pytest.raises(errors.StreamClosedError):
        await body.open()
    del body
    relay(app.runs.follow("r-1"), on_leave="cancel")
    gc.collect()
    assert not emulator.requests


async def test_without_open_all_errors_are_told_in_the_body(emulate: Emulate) -> None:
    app, emulator = await emulate()
    emulator.script(Fault(status=401))
    body = relay(app.stream({}))
    seen = b"".join([piece async for piece in body])
    assert seen.startswith(b"retry: 2000\nid: -\n\nevent: error\ndata: ")
    with pytest.raises(StopAsyncIteration):
        await anext(body)
    await body.aclose()


async def test_a_cancelled_read_closes_the_upstream(emulate: Emulate) -> None:
    app, emulator = await emulate(never())
    body = relay(app.stream({}))
    await body.open()
    await anext(body)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(body), 0.02)
    await emulator.wait_until(lambda: not emulator.open_connections, timeout=1.0)


async def test_a_cancelled_opening_closes_the_upstream(serve: Serve, app_for: MakeApp) -> None:
    wire = await serve(lambda peer: peer.gone())
    body = relay(app_for(wire).stream({}))
    opening = asyncio.ensure_future(body.open())
    await wire.asked()
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    await wire.all_closed()


async def test_a_dropped_relay_closes_the_upstream(emulate: Emulate) -> None:
    app, emulator = await emulate(never(say="one"))
    body = relay(app.stream({}))
    await anext(body)
    await anext(body)
    del body
    gc.collect()
    await emulator.wait_until(lambda: not emulator.open_connections, timeout=1.0)


async def test_a_relay_dropped_in_another_thread_closes_the_upstream(emulate: Emulate) -> None:
    app, emulator = await emulate(never(say="one"))
    bodies = [relay(app.stream({}))]
    await anext(bodies[0])
    await anext(bodies[0])
    await asyncio.to_thread(bodies.clear)
    await emulator.wait_until(lambda: not emulator.open_connections, timeout=1.0)


def test_a_relay_whose_loop_is_gone_is_dropped_quietly() -> None:
    async def start() -> Relay:
        body = relay(_items("a"))
        await anext(body)
        return body

    loop = asyncio.new_event_loop()
    body = loop.run_until_complete(start())
    loop.run_until_complete(asyncio.sleep(0.01))
    loop.close()
    del body


async def test_an_error_on_closing_is_logged_if_nobody_is_left(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def clumsy() -> AsyncIterator[str]:
        try:
            yield "a"
            await asyncio.get_running_loop().create_future()
        finally:
            raise ValueError("clumsy")

    body = relay(clumsy())
    await anext(body)
    await anext(body)
    await body.aclose()
    [record] = [record for record in caplog.records if record.name == "dynamiq_async"]
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "clumsy"
    assert set(fields(record).values()) == {None}


# --- the run of a browser that has left -------------------------------------------------------


async def start_reading(body: Relay) -> None:
    await body.open()
    seen = b""
    while b"hello" not in seen:
        seen += await anext(body)


async def test_the_run_goes_on_by_default(emulate: Emulate) -> None:
    app, emulator = await emulate(never(say="hello"))
    body = relay(app.runs.stream({}))
    await start_reading(body)
    await body.aclose()
    await emulator.wait_until(lambda: not any(r for r in emulator.requests if not r.finished))
    [run] = emulator.runs.values()
    assert run.status == "started"
    run.cancel()


@pytest.mark.parametrize("way", ["aclose", "cancelled read", "cancelled close", "dropped"])
async def test_the_run_is_cancelled_if_that_was_agreed(way: str, emulate: Emulate) -> None:
    app, emulator = await emulate(never(say="hello"))
    body = relay(app.runs.stream({}), on_leave="cancel")
    await start_reading(body)
    if way == "aclose":
        await body.aclose()
    elif way == "cancelled read":
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(body), 0.02)
    elif way == "cancelled close":
        closing = asyncio.ensure_future(body.aclose())
        await asyncio.sleep(0)
        closing.cancel()
        await asyncio.wait([closing])
    else:
        del body
        gc.collect()
    [run] = emulator.runs.values()
    await emulator.wait_until(lambda: run.status == "canceled", timeout=1.0)
    while pump._tasks:
        await asyncio.sleep(0.001)


async def test_a_run_that_has_not_told_its_id_is_waited_for(serve: Serve, app_for: MakeApp) -> None:
    go, asked = asyncio.Event(), []

    async def handler(peer: Peer) -> None:
        asked.append(f"{peer.request.method} {peer.request.target}")
        if peer.request.target.endswith("/cancel"):
            await peer.send(make_response({"message": "canceled"}))
            return
        await peer.send(CHUNKED)
        await go.wait()
        started = {"type": "run.started", "sequence": 1, "data": {"id": "r-1"}}
        await peer.send(chunk(sse(started)))
        await peer.gone()

    wire = await serve(handler)
    body = relay(app_for(wire).runs.stream({}), on_leave="cancel")
    await body.open()
    closing = asyncio.ensure_future(body.aclose())
    await asyncio.sleep(0.01)
    assert not closing.done()
    go.set()
    await closing
    assert asked == ["POST /v1/runs", "POST /v1/runs/r-1/cancel"]


@pytest.mark.parametrize("events_before", [0, 3])
async def test_it_is_waited_for_also_before_the_upstreams_headers(
    events_before: int, serve: Serve, app_for: MakeApp
) -> None:
    go, asked = asyncio.Event(), []

    async def handler(peer: Peer) -> None:
        asked.append(f"{peer.request.method} {peer.request.target}")
        if peer.request.target.endswith("/cancel"):
            await peer.send(make_response({"message": "canceled"}))
            return
        await go.wait()
        await peer.send(CHUNKED)
        for sequence in range(events_before):
            await peer.send(chunk(sse({"type": "step", "sequence": sequence + 1, "data": {}})))
            await asyncio.sleep(0.01)
        started = {"type": "run.started", "sequence": events_before + 1, "data": {"id": "r-1"}}
        await peer.send(chunk(sse(started)))
        await peer.gone()

    wire = await serve(handler)
    body = relay(app_for(wire).runs.stream({}), on_leave="cancel", heartbeat=0.01)
    await body.open()
    closing = asyncio.ensure_future(body.aclose())
    await asyncio.sleep(0.01)
    go.set()
    async with asyncio.timeout(1):
        await closing
    assert asked == ["POST /v1/runs", "POST /v1/runs/r-1/cancel"]


async def test_it_is_waited_for_also_when_the_browser_did_not_read(
    serve: Serve, app_for: MakeApp
) -> None:
    full, asked = asyncio.Event(), []

    async def handler(peer: Peer) -> None:
        asked.append(f"{peer.request.method} {peer.request.target}")
        if peer.request.target.endswith("/cancel"):
            await peer.send(make_response({"message": "canceled"}))
            return
        large = {"type": "step", "sequence": 1, "data": {"text": "a" * pump.LOOK_AHEAD}}
        await peer.send(CHUNKED, chunk(sse(large)))
        await full.wait()
        await peer.send(chunk(sse({"type": "run.started", "sequence": 2, "data": {"id": "r-1"}})))
        await peer.gone()

    wire = await serve(handler)
    body = relay(app_for(wire).runs.stream({}), on_leave="cancel")
    await body.open()
    while body._pump._room is None:
        await asyncio.sleep(0)
    full.set()
    async with asyncio.timeout(1):
        await body.aclose()
    assert asked == ["POST /v1/runs", "POST /v1/runs/r-1/cancel"]


async def test_but_not_for_ever(
    serve: Serve, app_for: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pump, "CANCEL_SECONDS", 0.05)
    wire = await serve(lambda peer: peer.gone())
    body = relay(app_for(wire).runs.stream({}), on_leave="cancel", heartbeat=0.01)
    await body.open()
    async with asyncio.timeout(1):
        await body.aclose()
    await wire.all_closed()


async def test_a_cancel_that_gets_no_answer_is_given_up(
    serve: Serve, app_for: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pump, "CANCEL_SECONDS", 0.05)

    async def handler(peer: Peer) -> None:
        if not peer.request.target.endswith("/cancel"):
            await peer.send(CHUNKED)
        await peer.gone()

    wire = await serve(handler)
    body = relay(app_for(wire).runs.follow("r-1"), on_leave="cancel")
    await body.open()
    async with asyncio.timeout(1):
        await body.aclose()
    assert [seen.method for seen in wire.requests] == ["GET", "POST"]


async def test_a_relay_left_before_its_task_ran_still_cancels(emulate: Emulate) -> None:
    app, emulator = await emulate(never())
    run = await app.runs.create({}, background=True)
    body = relay(app.runs.follow(run.id), on_leave="cancel")
    opening = asyncio.ensure_future(body.open())
    await asyncio.sleep(0)
    await body.aclose()
    await asyncio.wait([opening])
    assert emulator.runs[run.id].status == "canceled"


async def test_a_run_that_is_over_is_not_cancelled(emulate: Emulate) -> None:
    app, emulator = await emulate(talk)
    await whole(relay(app.runs.stream({}), on_leave="cancel"))
    assert not [seen for seen in emulator.requests if seen.endpoint.endswith("/cancel")]


async def test_anything_with_a_cancel_can_be_cancelled() -> None:
    class Job(Bare):
        cancelled = False

        async def cancel(self) -> None:
            self.cancelled = True

        class Iterator(Bare.Iterator):
            async def __anext__(self) -> str:
                word: asyncio.Future[str] = asyncio.get_running_loop().create_future()
                return await word

    job = Job()
    body = relay(job, on_leave="cancel")
    await body.open()
    await anext(body)
    await body.aclose()
    assert job.cancelled


async def test_a_limit_of_time_is_told_as_such(serve: Serve, app_for: MakeApp) -> None:
    wire = await serve(lambda peer: peer.gone())
    app = app_for(wire, timeout=Timeout(first_byte=0.02))
    async with relay(app.stream({})) as body:
        assert body.status == 504
