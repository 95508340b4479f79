"""Whatever the server sends, the caller gets our value, our event or our error."""

from __future__ import annotations

import asyncio
import gzip
import random
import tracemalloc
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dynamiq_async import AsyncApp, StreamEvent, Timeout, errors
from dynamiq_async.events.app_events import BrokenEvent
from dynamiq_async.sse import SSEDecoder
from tests.support.network import KEY
from tests.support.wire import (
    CHUNKED,
    LAST_CHUNK,
    UNFRAMED,
    Peer,
    Wire,
    chunk,
    final,
    head,
    make_response,
    says,
    script,
    sized,
    sse,
)

if TYPE_CHECKING:
    from tests.support.network import MakeApp, Serve

INPUT = {"question": "?"}
EVENTS = sse(says("one"), says("two"), final())

# --- fuzz ----------------------------------------------------------------------------------------


class Fuzz:
    """One server and one client, for call after call within one loop."""

    def __init__(self) -> None:
        self.response = b""

    async def __aenter__(self) -> Fuzz:
        self._wire = await Wire(self._handle).__aenter__()
        self._app = AsyncApp(
            self._wire.url,
            access_key=KEY,
            max_retries=0,
            timeout=Timeout(total=10),
            max_response_bytes=100_000,
            max_event_bytes=50_000,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._app.aclose()
        await self._wire.__aexit__()

    async def _handle(self, peer: Peer) -> None:
        await peer.send(self.response)
        peer.close()

    async def check(self, response: bytes) -> None:
        self.response = response
        try:
            await self._app.invoke(INPUT)
        except errors.DynamiqError as error:
            check_harmless(error)
        for on_bad_event in ("raise", "pass"):
            stream = self._app.stream(INPUT, on_bad_event=on_bad_event)
            try:
                async with stream:
                    async for event in stream:
                        read_views(event)
                    await stream.output()
            except errors.DynamiqError as error:
                check_harmless(error)
        assert self._app._api.sender.limiter.in_flight == 0


def read_views(event: StreamEvent) -> None:
    """Read every view of an event that came through."""
    for name in ("reasoning", "tool_call", "usage", "question", "thought", "notice", "nodes"):
        getattr(event, name)
    assert repr(event)
    assert isinstance(event.text, str)
    assert isinstance(event.error, str | None)
    assert event.node_failures is not None


def check_harmless(error: BaseException | None) -> None:
    """Check that no cause of our error is aiohttp's, which would have the request's headers."""
    while error is not None:
        assert not type(error).__module__.startswith("aiohttp")
        error = error.__cause__ or error.__context__


GOOD = [
    make_response({"output": "x"}),
    make_response({"error": {"code": "bad_request", "message": "no", "details": {"a": "b"}}}, 400),
    CHUNKED + chunk(EVENTS) + LAST_CHUNK,
    sized(len(EVENTS)) + EVENTS,
    UNFRAMED + EVENTS,
    head(200, "Content-Type: application/json", "Content-Encoding: gzip", "Connection: close")
    + gzip.compress(b'{"a":1}'),
    head(100) + make_response({"a": 1}),
    head(200, "Content-Type: text/event-stream; charset=utf-16", "Connection: close") + EVENTS,
]
SEEDS = [
    b"\r\n",
    b"\n",
    b"\0",
    b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    b"HTTP/9.9 999 \xff\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"Content-Length: -1\r\n",
    b"Content-Length: 1\r\nContent-Length: 2\r\n",
    b"Content-Encoding: br\r\n",
    b"Content-Encoding: deflate\r\n",
    b"Set-Cookie: \xff=\x01; expires=never\r\n",
    b"Content-Type: text/\xe9vent\r\n",
    b"Location: http://[::1\r\n",
    b"Retry-After: 1e9\r\n",
    b"ffffffffffffffff\r\n",
    b"data: [\n\n",
    b"id: \0\n",
    b'"\\ud83d"',
    b"A" * 9000,
]


def mutated(rng: random.Random) -> bytes:
    response = bytearray(rng.choice(GOOD))
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(response) + 1)
        kind = rng.randrange(5)
        if kind == 0:
            del response[at : at + rng.choice([1, 2, 10, 1000])]
        elif kind == 1:
            response[at:at] = rng.choice(SEEDS)
        elif kind == 2:
            response[at : at + 1] = bytes([rng.randrange(256)])
        elif kind == 3:
            response[at:at] = response[: rng.randrange(200)]
        else:
            line = response.find(b"\r\n", at)
            response[line + 2 : line + 2] = rng.choice(SEEDS)
    return bytes(response)


async def test_mutated_responses() -> None:
    rng = random.Random(20240607)
    async with Fuzz() as fuzz:
        for _ in range(400):
            await fuzz.check(mutated(rng))


header = st.tuples(
    st.sampled_from(
        ["Content-Type", "Content-Length", "Transfer-Encoding", "Content-Encoding", "X-Request-Id"]
    )
    | st.text(max_size=5),
    st.sampled_from(["application/json", "text/event-stream", "chunked", "gzip", "0", "7"])
    | st.text(max_size=8),
)
responses = st.builds(
    lambda line, headers, body: (
        "\r\n".join([line, *(f"{n}: {v}" for n, v in headers), "", ""]).encode("utf-8", "replace")
        + body
    ),
    st.sampled_from(["HTTP/1.1 200 OK", "HTTP/1.0 200", "HTTP/1.1 500 X", "HTTP/1.1 302 X"])
    | st.text(max_size=20),
    st.lists(header, max_size=4),
    st.binary(max_size=60) | st.sampled_from([EVENTS, b'{"a":1}', chunk(EVENTS) + LAST_CHUNK]),
)


def test_made_up_responses() -> None:
    with asyncio.Runner() as runner:
        fuzz = runner.run(Fuzz().__aenter__())

        @settings(
            max_examples=120,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        )
        @given(responses | st.binary(max_size=100))
        def check(response: bytes) -> None:
            runner.run(fuzz.check(response))

        check()
        runner.run(fuzz.__aexit__())


def test_made_up_events() -> None:
    """Within a flawless response, whatever an event stream can hold."""
    value: st.SearchStrategy[Any] = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["data", "event", "source", "error", "choices", "delta", "content"])
                | st.text(max_size=3),
                inner,
                max_size=3,
            )
        ),
        max_leaves=12,
    )
    line = st.one_of(
        value.map(lambda v: b"data: " + msgspec.json.encode(v)),
        st.builds(
            lambda d, e, s: b"data: " + msgspec.json.encode({"data": d, "event": e, "source": s}),
            value,
            value,
            value,
        ),
        st.binary(max_size=20),
        st.sampled_from([b"", b"", b"", b"event: x", b"retry: 9", b": hi", b"data: [DONE]"]),
    )
    with asyncio.Runner() as runner:
        fuzz = runner.run(Fuzz().__aenter__())

        @settings(
            max_examples=120,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        )
        @given(st.lists(line, max_size=12))
        def check(lines: list[bytes]) -> None:
            body = b"\n".join(lines) + b"\n\n"
            runner.run(fuzz.check(CHUNKED + chunk(body) + LAST_CHUNK))

        check()
        runner.run(fuzz.__aexit__())


# --- bounds --------------------------------------------------------------------------------------


async def test_max_response_bytes(serve: Serve, app_for: MakeApp) -> None:
    exact = make_response("x" * 998)
    wire = await serve(script(exact, make_response("x" * 999)))
    app = app_for(wire, max_response_bytes=1000)
    assert await app.invoke(INPUT) == "x" * 998
    with pytest.raises(errors.ResponseTooLargeError) as caught:
        await app.invoke(INPUT)
    assert caught.value.status == 200
    assert "max_response_bytes" in caught.value.message
    assert not isinstance(caught.value, errors.AmbiguousOutcomeError)


async def test_an_endless_response_is_cut_off(serve: Serve, app_for: MakeApp) -> None:
    async def handler(peer: Peer) -> None:
        await peer.send(head(200, "Content-Type: application/json", "Transfer-Encoding: chunked"))
        while True:
            await peer.send(chunk(b" " * 10_000))

    wire = await serve(handler)
    with pytest.raises(errors.ResponseTooLargeError) as caught:
        await app_for(wire, max_response_bytes=200_000).invoke(INPUT)
    assert caught.value.body is not None
    assert len(caught.value.body) <= 16384
    await wire.all_closed()


async def test_a_compression_bomb_is_cut_off(serve: Serve, app_for: MakeApp) -> None:
    bomb = gzip.compress(b" " * 200_000_000, 1)
    lines = ("Content-Type: application/json", "Content-Encoding: gzip")
    wire = await serve(script(head(200, *lines, f"Content-Length: {len(bomb)}") + bomb))
    app = app_for(wire, max_response_bytes=1_000_000)
    tracemalloc.start()
    with pytest.raises(errors.ResponseTooLargeError):
        await app.invoke(INPUT)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000


async def test_a_compressed_stream_is_read_all_the_same(serve: Serve, app_for: MakeApp) -> None:
    body = gzip.compress(EVENTS)
    lines = ("Content-Type: text/event-stream", "Content-Encoding: gzip")
    wire = await serve(script(head(200, *lines, f"Content-Length: {len(body)}") + body))
    assert [event.text async for event in app_for(wire).stream(INPUT)] == ["one", "two", ""]
    assert wire.requests[0].headers["accept-encoding"] == "identity"


async def test_max_event_bytes(serve: Serve, app_for: MakeApp) -> None:
    async def handler(peer: Peer) -> None:
        await peer.send(CHUNKED, chunk(sse(says("one")) + b"data: {"))
        while True:
            await peer.send(chunk(b" " * 1000))

    wire = await serve(handler)
    seen = []
    with pytest.raises(errors.EventTooLargeError) as caught:
        async for event in app_for(wire, max_event_bytes=5000).stream(INPUT):
            seen.append(event.text)  # noqa: PERF401 - what came before the error counts
    assert seen == ["one"]
    assert caught.value.limit == 5000
    assert caught.value.run_id == "wf-1"
    await wire.all_closed()


@pytest.mark.parametrize("size", [100, 16_384, 100_000])
async def test_the_body_of_an_error_is_capped(size: int, serve: Serve, app_for: MakeApp) -> None:
    body = b"<html><title> Bad  gateway </title>" + b"x" * size
    wire = await serve(script(make_response(body, 500, kind="text/html")))
    with pytest.raises(errors.InternalServerError, match="Bad") as caught:
        await app_for(wire).invoke(INPUT)
    assert caught.value.body is not None
    assert caught.value.body == body[: 16 * 1024].decode()


async def test_a_stalled_error_body_does_not_hold_up_its_status(
    serve: Serve, app_for: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dynamiq_async._http import sender

    monkeypatch.setattr(sender, "ERROR_BODY_SECONDS", 0.05)

    async def handler(peer: Peer) -> None:
        await peer.send(head(400, "Content-Length: 99"), b'{"error":')
        await peer.gone()

    wire = await serve(handler)
    app = app_for(wire)
    with pytest.raises(errors.BadRequestError) as caught:
        await app.invoke(INPUT)
    assert caught.value.body == '{"error":'
    await wire.all_closed()


async def test_an_endless_error_body_is_cut_off(
    serve: Serve, app_for: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dynamiq_async._http import sender

    monkeypatch.setattr(sender, "ERROR_BODY_SECONDS", 60)

    async def handler(peer: Peer) -> None:
        await peer.send(head(400, "Transfer-Encoding: chunked"))
        while True:
            await peer.send(chunk(b"x" * 5000))

    wire = await serve(handler)
    async with asyncio.timeout(5):
        with pytest.raises(errors.BadRequestError):
            await app_for(wire).invoke(INPUT)
    await wire.all_closed()


async def test_the_first_byte_limit_is_over_with_the_status(
    serve: Serve, app_for: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dynamiq_async._http import sender

    monkeypatch.setattr(sender, "ERROR_BODY_SECONDS", 0.2)

    async def handler(peer: Peer) -> None:
        await peer.send(head(400, "Content-Length: 99"), b"{")
        await peer.gone()

    app = app_for(await serve(handler), timeout=Timeout(first_byte=0.1, idle=0.1))
    with pytest.raises(errors.BadRequestError):
        await app.invoke(INPUT)


async def test_an_error_body_that_is_cut_short(serve: Serve, app_for: MakeApp) -> None:
    async def handler(peer: Peer) -> None:
        await peer.send(head(404, "Content-Length: 99"), b'{"err')
        peer.close()

    with pytest.raises(errors.NotFoundError) as caught:
        await app_for(await serve(handler)).invoke(INPUT)
    assert caught.value.body == '{"err'


# --- responses of another kind --------------------------------------------------------------------

PAGE = b"<!doctype html><title>Sign in</title>"
WRONG = {
    "a page": make_response(PAGE, kind="text/html"),
    "nothing": head(204),
    "an empty body": make_response(b"", kind="application/json"),
    "no type": head(200, f"Content-Length: {len(PAGE)}") + PAGE,
    "not JSON": make_response(PAGE),
    "cut JSON": make_response(b'{"a":'),
    "another encoding": make_response('{"a":"é"}'.encode("utf-16")),
    "nested too deeply": make_response(b"[" * 100_000 + b"]" * 100_000),
    "half-nested": make_response(b"[" * 100_000),
    "a huge number": make_response(b"1" * 10_000),
}


@pytest.mark.parametrize("response", WRONG.values(), ids=WRONG)
async def test_a_2xx_that_cannot_be_used(response: bytes, serve: Serve, app_for: MakeApp) -> None:
    wire = await serve(script(response))
    app = app_for(wire)
    with pytest.raises(errors.APIResponseError) as caught:
        await app.invoke(INPUT)
    assert caught.value.status in (200, 204)
    assert caught.value.attempts in (None, 1)
    check_harmless(caught.value)
    with pytest.raises(errors.ContentTypeError) as caught_type:
        async with app.stream(INPUT):
            pass
    assert "text/event-stream" in caught_type.value.message
    assert caught_type.value.body is not None
    assert len(wire.requests) == 2


@pytest.mark.parametrize(
    "kind", ["text/event-stream", "Text/Event-Stream;charset=UTF-8", "text/event-stream ; x=y"]
)
async def test_content_types_that_will_do(kind: str, serve: Serve, app_for: MakeApp) -> None:
    wire = await serve(script(make_response(EVENTS, kind=kind)))
    async with app_for(wire).stream(INPUT) as stream:
        assert await stream.output("agent-1") == {"content": "hi"}


async def test_json_under_another_name(serve: Serve, app_for: MakeApp) -> None:
    for kind in ("text/plain", "application/problem+json", "x/y"):
        wire = await serve(script(make_response({"a": 1}, kind=kind)))
        assert await app_for(wire).invoke(INPUT) == {"a": 1}


async def test_any_json_value(serve: Serve, app_for: MakeApp) -> None:
    values: list[Any] = [None, False, 0, 1.5, "text", [], {}, [{"a": [None]}]]
    for value in values:
        wire = await serve(script(make_response(msgspec.json.encode(value))))
        assert await app_for(wire).invoke(INPUT) == value


async def test_lone_surrogates_and_broken_utf8_come_through(serve: Serve, app_for: MakeApp) -> None:
    for raw in (b'"a\\ud83db"', b'"a\xffb"', b'"a\\uDE00b"'):
        wire = await serve(script(make_response(raw)))
        assert await app_for(wire).invoke(INPUT) == "a\ufffdb"
        event = sse(says("MARK")).replace(b"MARK", raw[1:-1])
        wire = await serve(script(CHUNKED + chunk(event + sse(final())) + LAST_CHUNK))
        texts = [text async for text in app_for(wire).stream(INPUT).text()]
        assert texts == ["a\ufffdb"]


# --- bad events ----------------------------------------------------------------------------------

BAD_EVENTS = [
    b"{",
    b"nonsense",
    b'{"data": {"a": tru}}',
    b'{"data": ' + b"[" * 5000 + b"}",
    b"\xff\xfe",
]


@pytest.mark.parametrize("bad", BAD_EVENTS)
async def test_a_bad_event_raises_behind_the_good_ones(
    bad: bytes, serve: Serve, app_for: MakeApp
) -> None:
    body = sse(says("one")) + b"data: " + bad + b"\n\n" + sse(says("two"), final())
    wire = await serve(script(CHUNKED + chunk(body) + LAST_CHUNK))
    stream = app_for(wire).stream(INPUT)
    assert (await anext(stream)).text == "one"
    for _ in range(2):
        with pytest.raises(errors.EventDecodeError) as caught:
            await anext(stream)
        assert caught.value.data == bad
        assert caught.value.run_id == "wf-1"
    assert stream.closed


@pytest.mark.parametrize("bad", BAD_EVENTS)
async def test_a_bad_event_is_passed_on_if_asked_for(
    bad: bytes, serve: Serve, app_for: MakeApp
) -> None:
    body = sse(says("one")) + b"data: " + bad + b"\n\n" + sse(says("two"), final())
    wire = await serve(script(CHUNKED + chunk(body) + LAST_CHUNK))
    events = [event async for event in app_for(wire).stream(INPUT, on_bad_event="pass")]
    assert [event.text for event in events] == ["one", "", "two", ""]
    broken = events[1]
    assert isinstance(broken, BrokenEvent)
    assert bytes(broken.raw_data) == bad
    assert broken.data == bad.decode("utf-8", "replace")


async def test_a_misspelt_choice_is_refused(app_for: MakeApp) -> None:
    with pytest.raises(errors.InvalidArgumentError) as caught:
        app_for("http://127.0.0.1").stream(INPUT, on_bad_event="ignore")  # type: ignore[call-overload]
    assert caught.value.argument == "on_bad_event"


async def test_each_byte_of_a_large_event_is_read_once(
    serve: Serve, app_for: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That the decoder takes linear time for what it is fed is tests/sse's."""
    fed = 0
    feed = SSEDecoder.feed

    def count(decoder: SSEDecoder[Any], chunk: Any) -> list[Any]:
        nonlocal fed
        fed += len(chunk)
        return feed(decoder, chunk)

    monkeypatch.setattr(SSEDecoder, "feed", count)
    event, end = sse(says("x" * 4_000_000)), sse(final())

    async def handler(peer: Peer) -> None:
        await peer.send(CHUNKED)
        for start in range(0, len(event), 8192):
            await peer.send(chunk(event[start : start + 8192]))
        await peer.send(chunk(end), LAST_CHUNK)

    events = [event async for event in app_for(await serve(handler)).stream(INPUT)]
    assert len(events[0].text) == 4_000_000
    assert fed == len(event) + len(end)
