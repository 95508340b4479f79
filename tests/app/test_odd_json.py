"""JSON that Python writes and msgspec refuses is read wherever a service may send it."""

from __future__ import annotations

import json
import math
import threading
from decimal import Decimal
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from msgspec import Raw, Struct

from dynamiq_async import errors
from dynamiq_async.callbacks import CallbackVerifier
from tests.support import wire
from tests.support.websocket_peers import TEXT, SocketPeer, frame
from tests.support.wire import script

if TYPE_CHECKING:
    from tests.support.network import MakeApp, Serve
    from tests.support.wire import Peer

ODD = b'{"a": NaN, "b": [1e400, -Infinity], "c": "\\ud83d", "d": 7}'


def is_odd(value: Any) -> bool:
    return (
        value.keys() == {"a", "b", "c", "d"}
        and math.isnan(value["a"])
        and value["b"] == [math.inf, -math.inf]
        and value["c"] == "\ufffd"
        and value["d"] == 7
    )


def a_json(body: bytes) -> bytes:
    return wire.make_response(body)


def a_stream(*events: bytes) -> bytes:
    blocks = b"".join(b"data: " + event + b"\n\n" for event in events)
    return wire.head(200, "Content-Type: text/event-stream", *_length(blocks)) + blocks


def _length(body: bytes) -> list[str]:
    return [f"Content-Length: {len(body)}"]


class Odd(Struct):
    a: float
    b: list[float]
    c: str
    d: Raw


async def test_invoke_returns_numbers_as_json_reads_them(serve: Serve, app_for: MakeApp) -> None:
    app = app_for(await serve(script(*[a_json(ODD)] * 3)))
    assert is_odd(await app.invoke({}))
    typed = await app.invoke({}, output_type=Odd)
    assert math.isnan(typed.a)
    assert (typed.b, typed.c, bytes(typed.d)) == ([math.inf, -math.inf], "\ufffd", b"7")
    raw = await app.invoke({}, output_type=dict[str, Raw])
    assert bytes(raw["b"]) == b"[Infinity,-Infinity]"


async def test_a_stream_reads_them_in_events_and_in_its_output(
    serve: Serve, app_for: MakeApp
) -> None:
    said = b'{"data": {"content": %b}, "source": {"type": "ConnectionNode"}}' % ODD
    end = b'{"run_id": "r", "wf_run_id": "w", "entity_id": "e", "event": "e", "data": '
    end += b'{"n": {"status": "success", "output": %b}}, "source": {"type": "WorkflowX", ' % ODD
    end += b'"group": "workflows", "name": "W"}}'
    app = app_for(await serve(script(a_stream(said, end))))
    async with app.stream({}) as stream:
        events = [event async for event in stream]
    assert is_odd(events[0].data["content"])
    assert is_odd(events[1].data["n"]["output"])


RUN = b'{"id": "r", "status": "completed", "output": %b}'
FINAL = b'{"type": "run.completed", "sequence": 2, "data": {"status": "completed", "output": %b}}'


async def test_runs_their_lists_and_their_events_read_them(serve: Serve, app_for: MakeApp) -> None:
    a_run, an_event = RUN % ODD, FINAL % ODD
    app = app_for(
        await serve(
            script(
                a_json(b'{"data": %b}' % a_run),
                a_json(b'{"data": [%b, {"id": "s"}]}' % a_run),
                a_stream(b'{"type": "x", "sequence": 1, "data": NaN}', an_event),
                a_stream(an_event),
                a_json(b'{"data": [%b]}' % an_event),
            )
        )
    )
    run = await app.runs.get("r")
    assert is_odd(run.output)
    assert is_odd(run.unwrap())
    assert (await app.runs.list()).data[1].id == "s"
    async with app.runs.follow("r") as events:
        first, last = [event async for event in events]
    assert math.isnan(first.data)
    assert is_odd(last.data.output)
    async with app.runs.follow("r") as events:
        assert is_odd(await events.output())
    [event] = (await app.runs.events("r")).data
    assert is_odd(event.data.output)


def test_a_callback_reads_them() -> None:
    body = b'{"id": "r", "status": "succeeded", "output": %b}' % ODD
    result = CallbackVerifier(tokens=False).verify({}, body)
    assert is_odd(result.unwrap())


async def test_a_websocket_reads_them(serve: Serve, app_for: MakeApp) -> None:
    async def handler(peer: Peer) -> None:
        socket = SocketPeer(peer)
        await socket.accept()
        await socket.message()
        await peer.send(frame(TEXT, b'{"data": %b}' % ODD))
        await peer.gone()

    async with app_for(await serve(handler)).connect() as socket, socket.run({}) as run:
        event = await anext(run)
    assert is_odd(event.data)


# --- a second look costs no more than it may -------------------------------------------------


@pytest.mark.parametrize("size", [100_000, 1_000_000])
async def test_a_second_look_at_much_is_taken_in_a_thread(
    size: int, serve: Serve, app_for: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []
    loads = json.loads

    def noted(text: str) -> Any:
        threads.append(threading.get_ident())
        return loads(text)

    monkeypatch.setattr("dynamiq_async._json.json.loads", noted)
    app = app_for(await serve(script(a_json(b'[NaN, "%b"]' % (b"x" * size)))))
    [number, _] = await app.invoke({})
    assert math.isnan(number)
    assert threads
    assert threading.get_ident() not in threads


@pytest.mark.parametrize("body", [b'["%b", NaN]', b'["%b", 1', b'["%b\xff"]'])
async def test_more_than_a_mebibyte_is_not_looked_at_again(
    body: bytes, serve: Serve, app_for: MakeApp
) -> None:
    app = app_for(await serve(script(a_json(body % (b"\\n" * 1_000_000)))))
    with pytest.raises(errors.ResponseDecodeError):
        await app.invoke({})


async def test_json_of_another_type_is_not_looked_at_again(
    serve: Serve, app_for: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dynamiq_async._json.repair", None)  # whoever calls it fails
    app = app_for(await serve(script(*[a_json(b'[{"a": 1}]')] * 2)))
    for output_type in (list[int], list[str]):
        with pytest.raises(errors.ResponseDecodeError, match="does not fit"):
            await app.invoke({}, output_type=output_type)


# --- types to decode to ----------------------------------------------------------------------


class Level(IntEnum):
    HIGH = 1


TYPES = [
    (dict[int, str], b'{"1": "x"}', {1: "x"}),
    (dict[float, str], b'{"1.5": "x"}', {1.5: "x"}),
    (dict[Level, str], b'{"1": "x"}', {Level.HIGH: "x"}),
    (Decimal, b"0.12345678901234567890123", Decimal("0.12345678901234567890123")),
]


@pytest.mark.parametrize(("kind", "output", "value"), TYPES)
async def test_a_run_is_decoded_to_what_a_call_is(
    kind: Any, output: bytes, value: Any, serve: Serve, app_for: MakeApp
) -> None:
    app = app_for(
        await serve(
            script(
                a_json(output),
                a_json(b'{"data": %b}' % (RUN % output)),
                a_json(b'{"data": %b}' % (RUN % output)),
                a_stream((FINAL % output).replace(b"2", b"1", 1)),
            )
        )
    )
    assert await app.invoke({}, output_type=kind) == value
    assert await app.runs.create({}, output_type=kind) == value
    run = await app.runs.get("r")
    assert run.unwrap(kind) == value
    assert bytes(run.unwrap(Raw)) == output
    async with app.runs.follow("r", output_type=kind) as events:
        assert await events.output() == value


def test_a_run_that_was_changed_is_decoded_from_its_value() -> None:
    from dynamiq_async import Run

    run = Run(id="r", status="completed", output={"1": [{"n": 1.5}, None]})
    assert run.unwrap(dict[int, Any]) == {1: [{"n": 1.5}, None]}
    assert bytes(run.unwrap(Raw)) == b'{"1":[{"n":1.5},null]}'
    assert bytes(run.unwrap(dict[str, list[Raw]])["1"][0]) == b'{"n":1.5}'
    with pytest.raises(errors.ResponseDecodeError, match="does not fit int"):
        run.unwrap(int)
    assert msgspec.json.decode(run.raw)["id"] == "r"
