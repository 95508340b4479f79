"""`event.raw`: the JSON that an event arrived as, byte for byte, whichever way it came."""

from __future__ import annotations

import copy
import pickle
import sys
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamiq_async import QuestionEvent, RunEvent, StreamEvent, errors
from dynamiq_async.events.app_events import BrokenEvent, error_event, stream_event
from dynamiq_async.events.run_events import run_event
from dynamiq_async.sse import KeepsRaw, SSEDecoder
from tests.support.network import app_for, serve
from tests.support.websocket_peers import BINARY, END, frame, saying, text
from tests.support.wire import CHUNKED, LAST_CHUNK, Peer, chunk, final, make_response, sse

if TYPE_CHECKING:
    from tests.support.network import MakeApp, Serve

__all__ = ["app_for", "serve"]

ROOT_MESSAGES = [
    b'{"data":1,"event":"data"}',
    b'{ "data" : {"x":1.0e2} ,"new":{"field":[1, 2]},"event":"data"}',
    b'{"data":"\\ud83d","event":"d"}',  # half a surrogate pair, which msgspec refuses
    b'{"no data": true, "wf_run_id": 7}',
    b'{"data":\n {"pretty":\n  1}}',
    b'{"data": 1}\n',
    b'{"data": 1}\n\n',
    b'{"data": "\xff"}',
    b'[1, 2]',
    b' {"data": 1 } ',
    b'{"extra": 1, "data": "' + b"x" * 200_000 + b'"}',
]  # fmt: skip
RUN_EVENTS = [
    b'{"type":"custom","sequence":1,"data":{},"brand_new":{"n":1}}',
    b'{ "sequence": "6", "type": "custom", "brand_new": 1.0e2 }',
    b'{"type":"custom",\n"sequence":7}\n',
]


def blocks(messages: list[bytes], fields: bytes = b"") -> bytes:
    """The messages as server-sent events."""
    return b"".join(
        fields + b"data: " + message.replace(b"\n", b"\ndata: ") + b"\n\n" for message in messages
    )


def read(chunks: list[bytes], type: Any, recover: Any) -> list[bytes]:
    decoder = SSEDecoder(type, recover=lambda data, _: recover(data))
    return [event.raw for chunk in chunks for event in decoder.feed(chunk)]


@pytest.mark.parametrize("fields", [b"", b"event: a\nid: 1\n"])
@pytest.mark.parametrize("size", [None, 1, 1000, 100_000])
@pytest.mark.parametrize(
    ("messages", "type", "recover"),
    [
        (ROOT_MESSAGES, StreamEvent, stream_event),
        (ROOT_MESSAGES[:1] * 100 + ROOT_MESSAGES[1:] * 2, StreamEvent, stream_event),
        (RUN_EVENTS, RunEvent, run_event),
        (RUN_EVENTS[:1] * 100 + RUN_EVENTS, RunEvent, run_event),
    ],
)
def test_is_what_a_stream_brought(
    messages: list[bytes], type: Any, recover: Any, size: int | None, fields: bytes
) -> None:
    if size is None:
        chunks = [blocks([message], fields) for message in messages]
    else:
        stream = blocks(messages, fields)
        chunks = [stream[start : start + size] for start in range(0, len(stream), size)]
    assert read(chunks, type, recover) == messages


@given(
    st.lists(st.sampled_from(ROOT_MESSAGES[:-1]), max_size=60),
    st.lists(st.integers(0, 5000), max_size=4),
)
def test_is_the_same_wherever_the_stream_is_cut(messages: list[bytes], places: list[int]) -> None:
    stream = blocks(messages)
    ends = sorted({place % (len(stream) + 1) for place in places} | {len(stream)})
    chunks = [stream[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    assert read(chunks, StreamEvent, stream_event) == messages


def test_of_what_is_no_json_is_what_arrived() -> None:
    broken = [b"<html>\xff", b"not json\n"]
    decoder = SSEDecoder(
        StreamEvent, recover=lambda data, _: BrokenEvent(raw_data=msgspec.Raw(data))
    )
    events = decoder.feed(blocks(broken))
    assert [event.raw for event in events] == broken
    assert [pickle.loads(pickle.dumps(event)).raw for event in events] == broken


def test_of_an_event_made_by_hand_is_the_json_of_its_fields() -> None:
    root = StreamEvent(raw_data=msgspec.Raw(b"[1]"), event="data")
    assert msgspec.json.decode(root.raw) == {
        "run_id": None,
        "wf_run_id": None,
        "entity_id": None,
        "data": [1],
        "event": "data",
        "source": None,
    }
    run = RunEvent(type="custom", sequence=3)
    assert msgspec.json.decode(run.raw, type=RunEvent) == run


@pytest.mark.parametrize(
    ("data", "type", "changes"),
    [
        (b'{"data": 1, "new": 2}', StreamEvent, {"event": "other"}),
        (b'{"type": "a", "sequence": 1, "new": 2}', RunEvent, {"sequence": 2}),
    ],
)
def test_a_changed_event_does_not_say_what_it_was(
    data: bytes, type: Any, changes: dict[str, Any]
) -> None:
    [event] = SSEDecoder[Any](type).feed(blocks([data]))
    assert event.raw == data
    changed = msgspec.structs.replace(event, **changes)
    for other in (changed, copy.copy(event), pickle.loads(pickle.dumps(event))):
        assert b"new" not in other.raw
    assert changes.items() <= msgspec.json.decode(changed.raw).items()


@pytest.mark.parametrize(
    ("type", "data"),
    [(StreamEvent, b'{"data": 1}'), (RunEvent, b'{"type": "a", "sequence": 1}')],
)
def test_is_no_field(type: Any, data: bytes) -> None:
    [kept] = SSEDecoder[Any](type).feed(blocks([data]))
    fresh = msgspec.json.decode(data, type=type)
    assert kept == fresh
    assert repr(kept) == repr(fresh)
    assert msgspec.json.encode(kept) == msgspec.json.encode(fresh)
    with pytest.raises(AttributeError):
        kept._line = b""


@pytest.mark.parametrize("type", [StreamEvent, RunEvent])
def test_goes_with_its_event(type: Any) -> None:
    data = b'{"type": "a", "sequence": 1, "data": %d}' % 10**50
    chunk = b"data: " + data + b"\n\n"
    [event] = SSEDecoder[Any](type).feed(chunk)
    kept = event.raw
    assert kept is event.raw
    held = sys.getrefcount(kept)
    del event
    assert sys.getrefcount(kept) == held - 2  # its own, and that of its `raw_data`


def test_a_struct_of_yours_can_have_it() -> None:
    class Mine(KeepsRaw, msgspec.Struct):
        x: int = 0

    class Plain(msgspec.Struct):
        x: int

    chunk = b'data: {"x": 1, "y": 2}\n\n'
    assert [event.raw for event in SSEDecoder(Mine).feed(chunk * 40)] == [b'{"x": 1, "y": 2}'] * 40
    assert SSEDecoder(Plain).feed(chunk) == [Plain(1)]
    [nothing] = SSEDecoder(Mine, recover=lambda *_: Mine()).feed(b"data:\n\n")
    assert nothing.raw == b""


async def test_of_a_stored_event_is_its_part_of_the_page(serve: Serve, app_for: MakeApp) -> None:
    stored = [b'{ "type":"custom", "sequence":1, "brand_new":[ ] }', RUN_EVENTS[1]]
    page = b'{"data": [' + b" ,\n".join(stored) + b"]}"
    wire = await serve(lambda peer: peer.send(make_response(page)))
    events = [event async for event in app_for(wire).runs.events("r-1")]
    assert [event.raw for event in events] == stored


async def test_of_a_run_is_the_same_from_its_stream_and_out_of_a_hole(
    serve: Serve, app_for: MakeApp
) -> None:
    def event(sequence: Any, type: str = "custom") -> dict[str, Any]:
        return {"type": type, "sequence": sequence, "data": {}, "brand_new": {"n": sequence}}

    async def handler(peer: Peer) -> None:
        if "/events" in peer.request.target:
            await peer.send(make_response({"data": [event(n) for n in range(1, 6)]}))
        else:
            sent = sse(event(1), event(2), event(5), event("6"), event(7, "run.completed"))
            await peer.send(CHUNKED, chunk(sent), LAST_CHUNK)

    wire = await serve(handler)
    events = [event async for event in app_for(wire).runs.follow("r-1")]
    assert [msgspec.json.decode(event.raw)["brand_new"]["n"] for event in events] == [
        *(1, 2, 3, 4, 5, "6", 7)
    ]


async def test_of_a_question_is_what_arrived(serve: Serve, app_for: MakeApp) -> None:
    asked = b'{"type":"approval_request.created","sequence":1,\n"data":{"id":"a"},"new": 1}\n'
    done = b'{"type":"run.completed","sequence":2}'
    wire = await serve(lambda peer: peer.send(CHUNKED, chunk(blocks([asked, done])), LAST_CHUNK))
    first, _ = [event async for event in app_for(wire).runs.follow("r-1")]
    assert isinstance(first, QuestionEvent)
    assert first.raw == asked


async def test_of_a_websocket_is_the_message(serve: Serve, app_for: MakeApp) -> None:
    messages = [*ROOT_MESSAGES[:-1], b'{"data":\r1}\r\n', b"not json\n"]
    wire = await serve(saying(*(frame(BINARY, message) for message in messages), END))
    async with app_for(wire).connect() as socket:
        events = [event async for event in socket.run({}, on_bad_event="pass")]
    assert [event.raw for event in events] == [*messages, msgspec.json.encode(final())]


async def test_of_a_message_that_is_none_there_is_nothing(serve: Serve, app_for: MakeApp) -> None:
    wire = await serve(saying(text(b"[DONE]"), END))
    async with app_for(wire).connect() as socket:
        [event] = [event async for event in socket.run({})]
    assert event.is_final


async def test_an_error_in_an_events_place_is_still_one(serve: Serve, app_for: MakeApp) -> None:
    refused = b'{"error": {"code": "unauthorized", "message": "no"}, "status": 401}'
    wire = await serve(lambda peer: peer.send(CHUNKED, chunk(blocks([refused])), LAST_CHUNK))
    async with app_for(wire).stream({}) as stream:
        events = [event async for event in stream]
        assert [event.raw for event in events] == [refused]
        with pytest.raises(errors.DynamiqError):
            stream.raise_for_failure()


@pytest.mark.parametrize("name", [b"event: error\n", b"event:error\n"])
@pytest.mark.parametrize("count", [1, 40])
@pytest.mark.parametrize("data", [b'{"data": "boom"}', b'{"data": {"message": "boom"}}'])
def test_an_event_named_error_is_one_also_where_it_has_data(
    name: bytes, count: int, data: bytes
) -> None:
    decoder = SSEDecoder(StreamEvent, read_error=error_event)
    events = decoder.feed((name + b"data: " + data + b"\n\n") * count)
    assert [event.error for event in events] == ["boom"] * count
    assert events[0].raw == data
    named = decoder.feed(b'event: error\ndata: {"source": {"id": "n"}, "data": "boom"}\n\n')
    assert [event.error for event in named] == [None]
