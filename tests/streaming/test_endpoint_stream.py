"""`AsyncManagement.events`: event streams of endpoints that have no method."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import pytest_asyncio

from dynamiq_async import AsyncManagement, RunEvent, Timeout, errors
from tests.support.network import KEY
from tests.support.spans import Recorded
from tests.support.wire import (
    CHUNKED,
    LAST_CHUNK,
    UNFRAMED,
    chunk,
    head,
    make_response,
    script,
    sse,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.support.network import Serve
    from tests.support.wire import Peer, Wire

PATH = ("v3", "conversations", "c-1", "messages")


def envelope(type: str, sequence: int, **data: Any) -> dict[str, Any]:
    return {"id": f"e-{sequence}", "type": type, "sequence": sequence, "data": data}


HELLO = envelope("agent.response.delta", 1, delta="hello")
DONE = envelope("run.completed", 2, id="r-1", status="completed", output={"a": 1})
BROKEN = b"data: {\n\n"


@pytest_asyncio.fixture
async def management_of() -> AsyncIterator[Callable[[Wire], AsyncManagement]]:
    made: list[AsyncManagement] = []

    def make(wire: Wire) -> AsyncManagement:
        made.append(AsyncManagement(wire.url, token=KEY))
        return made[-1]

    yield make
    for client in made:
        await client.aclose()
        assert client._api.sender.limiter.streams.in_flight == 0


async def test_events_come_as_they_are(
    serve: Serve, management_of: Callable[[Wire], AsyncManagement]
) -> None:
    body = b'event: a\nid: 7\ndata: {"n": 1}\n\n: beat\n\ndata: text\n\n'
    wire = await serve(script(CHUNKED + chunk(body) + LAST_CHUNK))
    stream = management_of(wire).events("POST", *PATH, query={"q": 1}, body={"text": "hi"})
    assert not wire.requests
    events = [event async for event in stream]
    assert [(event.event, event.id) for event in events] == [("a", "7"), ("message", "7")]
    assert (events[0].json(), events[1].data) == ({"n": 1}, "text")
    [seen] = wire.requests
    assert (seen.method, seen.target) == ("POST", "/v3/conversations/c-1/messages?q=1")
    assert seen.json() == {"text": "hi"}
    assert seen.headers["accept"].startswith("text/event-stream")
    assert seen.headers["authorization"] == f"Bearer {KEY}"
    assert stream.response is not None
    assert stream.response.status == 200


async def test_events_of_runs_have_their_views_and_end_with_the_run(
    serve: Serve, management_of: Callable[[Wire], AsyncManagement]
) -> None:
    async def handler(peer: Peer) -> None:
        await peer.send(CHUNKED, chunk(sse(HELLO)), chunk(sse(DONE, HELLO)))
        await peer.gone()

    wire = await serve(handler)
    management = management_of(wire)
    async with management.events("GET", *PATH, event_type=RunEvent) as stream:
        events = [event async for event in stream]
    assert [event.text for event in events] == ["hello", ""]
    assert events[-1].is_final
    assert stream.closed


async def test_it_is_one_call_that_is_traced(serve: Serve) -> None:
    recorded = Recorded()
    wire = await serve(script(CHUNKED + chunk(sse(HELLO)) + LAST_CHUNK))
    options: Any = {"open_telemetry": recorded.options}
    async with AsyncManagement(wire.url, token=KEY, **options) as management:
        async for _ in management.events("GET", *PATH):
            pass
    [span] = recorded.spans
    assert span.status.is_unset
    recorded.close()


async def test_each_event_has_the_type_that_was_asked_for(
    serve: Serve, management_of: Callable[[Wire], AsyncManagement]
) -> None:
    odd = b'data: {"n": "\\ud83d"}\n\n'
    wire = await serve(script(CHUNKED + chunk(sse({"n": "1"}) + odd) + LAST_CHUNK))
    stream = management_of(wire).events("GET", *PATH, event_type=dict[str, str])
    assert [event async for event in stream] == [{"n": "1"}, {"n": "\ufffd"}]


CUT = {
    "an end that HTTP does not announce": UNFRAMED + sse(HELLO),
    "the middle of an event": CHUNKED + chunk(sse(HELLO) + b"data: {") + LAST_CHUNK,
    "a connection that breaks": CHUNKED + chunk(sse(HELLO)),
}


@pytest.mark.parametrize("how", CUT)
async def test_what_is_cut_is_no_end(
    how: str, serve: Serve, management_of: Callable[[Wire], AsyncManagement]
) -> None:
    async def handler(peer: Peer) -> None:
        await peer.send(CUT[how])
        peer.close()

    stream = management_of(await serve(handler)).events("GET", *PATH)
    assert (await anext(stream)).json() == HELLO
    with pytest.raises(errors.StreamInterruptedError, match="cannot be resumed") as caught:
        await anext(stream)
    assert caught.value.status == 200


async def test_a_stream_without_an_event_is_none(
    serve: Serve, management_of: Callable[[Wire], AsyncManagement]
) -> None:
    wire = await serve(script(CHUNKED + LAST_CHUNK))
    with pytest.raises(errors.StreamInterruptedError, match="without any event"):
        await anext(management_of(wire).events("GET", *PATH))


@pytest.mark.parametrize(
    ("response", "error"),
    [
        (make_response({"data": 1}), errors.ContentTypeError),
        (make_response({"error": {"code": "unauthorized"}}, 401), errors.AuthenticationError),
        (CHUNKED + chunk(BROKEN) + LAST_CHUNK, errors.EventDecodeError),
    ],
)
async def test_errors_are_ours(
    response: bytes,
    error: type[Exception],
    serve: Serve,
    management_of: Callable[[Wire], AsyncManagement],
) -> None:
    wire = await serve(script(response))
    with pytest.raises(error):
        await anext(management_of(wire).events("POST", *PATH, event_type=RunEvent))
    assert len(wire.requests) == 1


async def test_what_was_certainly_not_taken_is_sent_again(
    serve: Serve,
    management_of: Callable[[Wire], AsyncManagement],
    no_backoff: list[float],
) -> None:
    whole = CHUNKED + chunk(sse(HELLO)) + LAST_CHUNK
    wire = await serve(script(head(429, "Content-Length: 0"), whole))
    stream = management_of(wire).events("POST", *PATH)
    assert len([event async for event in stream]) == 1
    assert stream.response is not None
    assert stream.response.attempts == 2


async def test_a_silence_and_an_event_that_is_too_large_have_their_limits(
    serve: Serve,
) -> None:
    async def handler(peer: Peer) -> None:
        size = 10 if peer.request.target.endswith("small") else 1000
        await peer.send(CHUNKED, chunk(sse({"text": "x" * size})))
        await peer.gone()

    wire = await serve(handler)
    timeout = Timeout(idle=0.05)
    async with AsyncManagement(
        wire.url, token=KEY, max_event_bytes=100, timeout=timeout
    ) as management:
        with pytest.raises(errors.EventTooLargeError):
            await anext(management.events("GET", "large"))
        stream = management.events("GET", "small")
        await anext(stream)
        with pytest.raises(errors.APITimeoutError):
            await anext(stream)


async def test_it_can_be_closed_and_so_can_its_client(
    serve: Serve, management_of: Callable[[Wire], AsyncManagement]
) -> None:
    async def handler(peer: Peer) -> None:
        await peer.send(CHUNKED, chunk(sse(HELLO)))
        await peer.gone()

    wire = await serve(handler)
    management = management_of(wire)
    stream = management.events("GET", *PATH)
    async for _ in stream:
        break
    await stream.aclose()
    with pytest.raises(errors.StreamClosedError):
        await anext(stream)
    stream = management.events("GET", *PATH)
    await anext(stream)
    reading = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    await management.aclose()
    with pytest.raises(errors.DynamiqError, match="closed"):
        await reading
    await wire.all_closed()


@pytest.mark.parametrize(
    ("arguments", "options", "name"),
    [
        (("G T", "a"), {}, "method"),
        (("GET", ""), {}, "segments"),
        (("GET", "a"), {"query": 1}, "query"),
        (("GET", "a"), {"body": object()}, "body"),
        (("GET", "a"), {"event_type": json}, "event_type"),
    ],
)
async def test_wrong_arguments_are_named(
    arguments: tuple[str, ...], options: dict[str, Any], name: str
) -> None:
    async with AsyncManagement("m.example", token=KEY) as management:
        with pytest.raises(errors.InvalidArgumentError) as caught:
            management.events(*arguments, **options)
        assert caught.value.argument == name


def test_run_events_decode_what_the_tests_send() -> None:
    assert msgspec.json.decode(json.dumps(HELLO), type=RunEvent).text == "hello"
