"""What servers and proxies do on the wire beside the rules, seen through the public API."""

from __future__ import annotations

import asyncio
import gzip
import os
import zlib
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import pytest_asyncio

from dynamiq_async import Timeout, errors
from dynamiq_async.transport import Request
from dynamiq_async.transport._aiohttp_expect import Continue
from tests.support.network import turns
from tests.support.wire import (
    CHUNKED,
    LAST_CHUNK,
    Peer,
    Wire,
    chunk,
    final,
    head,
    make_response,
    says,
    script,
    sse,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.network import FakeClock, MakeApp, Serve

INPUT = {"question": "?"}
OK = make_response({"a": 1})
TWO = make_response({"b": 2})
STRAY = make_response({"stray": True}, 408)
JSON = "Content-Type: application/json"
ONE = sse(says("one"))


# --- bodies that are cut -------------------------------------------------------------------------


@pytest.mark.parametrize("body", [chunk(b'{"a"'), b"ff\r\n{"])
async def test_a_body_that_is_cut_is_told_without_a_status_that_nobody_sent(
    body: bytes, serve: Serve, app_for: MakeApp
) -> None:
    async def handler(peer: Peer) -> None:
        await peer.send(head(200, JSON, "Transfer-Encoding: chunked") + body)
        peer.close()

    wire = await serve(handler)
    with pytest.raises(errors.AmbiguousOutcomeError) as caught:
        await app_for(wire).invoke(INPUT)
    assert "Not enough data" in str(caught.value)
    assert "400" not in str(caught.value)
    assert "<" not in str(caught.value)


# --- heads ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lines",
    [
        [f"Set-Cookie: a={'x' * 12_000}"],
        [f"Content-Security-Policy: {'y' * 60_000}"],
        [f"X-{number}: {number}" for number in range(480)],
    ],
    ids=["cookie", "policy", "many"],
)
@pytest.mark.parametrize("given", [False, True])
async def test_large_heads_are_read(
    lines: list[str], given: bool, serve: Serve, app_for: MakeApp
) -> None:
    if len(lines) > 400 and not aiohttp.__version__.startswith("3.14"):
        pytest.skip("aiohttp limits their number from 3.14 on")  # pragma: no cover
    wire = await serve(script(make_response({"a": 1}, 200, *lines)))
    if not given:
        assert await app_for(wire).invoke(INPUT) == {"a": 1}
        return
    async with aiohttp.ClientSession() as session:
        assert await app_for(wire, session=session).invoke(INPUT) == {"a": 1}


async def test_of_a_repeated_header_all_values_show(serve: Serve, app_for: MakeApp) -> None:
    lines = ("Content-Type: text/event-stream", "Via: a", "via: b", "Content-Type: text/plain")
    body = sse(final())
    wire = await serve(script(head(200, *lines, f"Content-Length: {len(body)}") + body))
    async with app_for(wire).stream(INPUT) as stream:
        await stream.output()
        assert stream.response is not None
        assert stream.response.headers["via"] == "a, b"
        assert stream.response.headers["content-type"] == "text/event-stream"


@pytest.mark.parametrize("name", ["X-Request-Id", "Location", "Content-Type"])
async def test_a_header_that_is_not_utf_8_can_be_shown(
    name: str, serve: Serve, app_for: MakeApp
) -> None:
    body = b"{}"
    lines = f"{name}: caf\xe9", f"Content-Length: {len(body)}"
    wire = await serve(script(head(307, *lines) + body))
    with pytest.raises(errors.RedirectError) as caught:
        await app_for(wire).invoke(INPUT)
    assert f"{caught.value}{vars(caught.value)}".encode()
    if name == "Location":
        assert "caf%E9" in caught.value.message
    if name == "X-Request-Id":
        assert caught.value.request_id == "caf\ufffd"


@pytest.mark.parametrize(
    "lengths",
    [["Content-Length: 7", "content-length:7"], ["Content-Length: 7, 7"], ["Content-Length:  7 "]],
)
@pytest.mark.parametrize("size", [1, 10_000])
async def test_the_same_length_twice_is_read(
    lengths: list[str], size: int, serve: Serve, app_for: MakeApp
) -> None:
    async def handler(peer: Peer) -> None:
        await peer.send_slowly(head(100) + head(200, JSON, *lengths) + b'{"a":1}', size)

    wire = await serve(handler)
    app = app_for(wire)
    for _ in range(2):
        assert await app.invoke(INPUT) == {"a": 1}
    assert wire.connections == 1


@pytest.mark.parametrize(
    "lines", [["Content-Length: 7", "Content-Length: 8"], ["Content-Length: 7, 8"]]
)
async def test_two_lengths_are_an_error(lines: list[str], serve: Serve, app_for: MakeApp) -> None:
    wire = await serve(script(head(200, JSON, *lines) + b'{"a":1}'))
    with pytest.raises(errors.AmbiguousConnectionError):
        await app_for(wire).invoke(INPUT)


@pytest.mark.parametrize("said", [b"HELO\n", b"SSH-2.0-x", b"HTTP/1.1 200 " + b"x" * 70_000])
async def test_what_is_not_http_is_told_at_once(
    said: bytes, serve: Serve, app_for: MakeApp
) -> None:
    wire = await serve(script(said))
    with pytest.raises(errors.AmbiguousConnectionError, match="not HTTP"):
        await asyncio.wait_for(app_for(wire).invoke(INPUT), 5)


# --- more than was asked for ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "extra", [STRAY, make_response({"stray": 2}), b"x", CHUNKED + chunk(ONE) + LAST_CHUNK]
)
@pytest.mark.parametrize("when", ["with", "behind", "later", "unread", "in two"])
async def test_an_answer_that_nobody_asked_for_is_dropped(
    extra: bytes, when: str, serve: Serve, app_for: MakeApp
) -> None:
    more = asyncio.Event()

    async def handler(peer: Peer) -> None:
        if len(wire.requests) > 1:
            await peer.send(TWO)
        elif when == "with":
            await peer.send(OK + extra)
        elif when == "in two":
            await peer.send(OK[:-3])
            await asyncio.sleep(0.01)
            await peer.send(OK[-3:] + extra)
        elif when == "behind":
            await peer.send(OK)
            await peer.send(extra)
        else:
            await peer.send(OK)
            if when == "later":
                await more.wait()
            await peer.send(extra)

    wire = await serve(handler)
    app = app_for(wire)
    assert await app.invoke(INPUT) == {"a": 1}
    if when == "later":
        more.set()
        await turns()
    assert await app.invoke(INPUT) == {"b": 2}
    assert wire.connections == 2


@pytest.mark.parametrize("status", [204, 205])
@pytest.mark.parametrize("lines", [(), ("Content-Length: 7",)])
async def test_no_content_with_a_body_is_empty(
    status: int, lines: tuple[str, ...], serve: Serve, app_for: MakeApp
) -> None:
    lines = lines or (("Content-Length: 0",) if status == 205 else ())
    wire = await serve(script(head(status, *lines) + b'{"a":1}', OK))
    app = app_for(wire)
    if status == 205 and lines == ("Content-Length: 7",):
        assert await app.invoke(INPUT) == {"a": 1}
        return
    with pytest.raises(errors.APIResponseError) as caught:
        await app.invoke(INPUT)
    assert caught.value.body == ""
    assert await app.invoke(INPUT) == {"a": 1}
    assert wire.connections == 2


# --- compressed ----------------------------------------------------------------------------------


def encoded(kind: str, data: bytes) -> bytes:
    if kind == "raw deflate":
        packer = zlib.compressobj(wbits=-15)
        return packer.compress(data) + packer.flush()
    if kind == "deflate":
        return zlib.compress(data)
    if kind == "members":
        return gzip.compress(data[:5]) + gzip.compress(data[5:]) + b"\0" * 20
    return gzip.compress(data)


KINDS = ["gzip", "x-gzip", "members", "deflate", "raw deflate", "identity"]


def announced(kind: str, body: bytes, *, framing: str) -> bytes:
    name = {"members": "gzip", "raw deflate": "deflate"}.get(kind, kind)
    lines = (JSON, f"Content-Encoding: {name}")
    if framing == "length":
        return head(200, *lines, f"Content-Length: {len(body)}") + body
    return head(200, *lines, "Transfer-Encoding: chunked") + chunk(body) + LAST_CHUNK


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_compressed_and_whole(
    kind: str, framing: str, serve: Serve, app_for: MakeApp
) -> None:
    data = b'{"text": "%b"}' % (b"ab" * 400_000)
    body = data if kind == "identity" else encoded(kind, data)
    wire = await serve(script(announced(kind, body, framing=framing)))
    assert await app_for(wire).invoke(INPUT) == {"text": "ab" * 400_000}
    assert wire.requests[0].headers["accept-encoding"] == "gzip, deflate"


@pytest.mark.parametrize("kind", ["gzip", "deflate", "raw deflate"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("given", [False, True])
async def test_compressed_and_cut_is_not_whole(
    kind: str, framing: str, given: bool, serve: Serve, app_for: MakeApp
) -> None:
    whole = encoded(kind, b'{"a": 1}')
    for body in (whole[:-1], whole[:-8] if kind == "gzip" else whole[:-2], whole[:5]):
        wire = await serve(script(announced(kind, body, framing=framing)))
        async with aiohttp.ClientSession() as session:
            app = app_for(wire, session=session if given else None)
            with pytest.raises(errors.AmbiguousConnectionError):
                await app.invoke(INPUT)


async def test_a_compressed_stream_that_is_cut_raises(serve: Serve, app_for: MakeApp) -> None:
    body = gzip.compress(ONE * 3)[:-8]
    lines = ("Content-Type: text/event-stream", "Content-Encoding: gzip")
    wire = await serve(script(head(200, *lines, f"Content-Length: {len(body)}") + body))
    texts = []
    with pytest.raises(errors.DynamiqError, match="before its end"):
        async for event in app_for(wire).stream(INPUT):
            texts.append(event.text)  # noqa: PERF401 - what came before the error counts
    assert texts == ["one"] * 3


async def test_an_encoding_that_was_not_asked_for(serve: Serve, app_for: MakeApp) -> None:
    wire = await serve(script(announced("br", b"x", framing="length")))
    with pytest.raises(errors.AmbiguousConnectionError, match="br was not asked for"):
        await app_for(wire).invoke(INPUT)


async def test_what_was_compressed_and_broke_off_is_handed_out_before_the_error(
    serve: Serve, app_for: MakeApp
) -> None:
    packer = zlib.compressobj(wbits=31)
    part = packer.compress(ONE) + packer.flush(zlib.Z_SYNC_FLUSH)
    lines = ("Content-Type: text/event-stream", "Content-Encoding: gzip", "Content-Length: 9999")

    async def handler(peer: Peer) -> None:
        await peer.send(head(200, *lines) + part)
        peer.close()

    wire = await serve(handler)
    texts = []
    with pytest.raises(errors.DynamiqError):
        async for event in app_for(wire).stream(INPUT):
            texts.append(event.text)  # noqa: PERF401 - what came before the error counts
    assert texts == ["one"]


async def test_it_is_so_however_late_it_is_read(serve: Serve, app_for: MakeApp) -> None:
    packer = zlib.compressobj(wbits=31)
    part = packer.compress(ONE) + packer.flush(zlib.Z_SYNC_FLUSH)
    lines = ("Content-Type: text/event-stream", "Content-Encoding: gzip", "Content-Length: 9999")
    opened = asyncio.Event()

    async def handler(peer: Peer) -> None:
        await peer.send(head(200, *lines))
        await opened.wait()
        await peer.send(part)
        peer.close()

    wire = await serve(handler)
    texts = []
    async with app_for(wire).stream(INPUT) as stream:
        opened.set()
        await wire.all_closed()
        await turns(20)
        with pytest.raises(errors.DynamiqError):
            async for event in stream:
                texts.append(event.text)  # noqa: PERF401 - what came before the error counts
    assert texts == ["one"]


async def test_what_was_compressed_and_breaks_off_later_is_an_error(
    serve: Serve, app_for: MakeApp
) -> None:
    packer = zlib.compressobj(wbits=31)
    part = packer.compress(ONE) + packer.flush(zlib.Z_SYNC_FLUSH)
    lines = ("Content-Type: text/event-stream", "Content-Encoding: gzip", "Content-Length: 9999")
    read = asyncio.Event()

    async def handler(peer: Peer) -> None:
        await peer.send(head(200, *lines) + part)
        await read.wait()
        peer.close()

    stream = app_for(await serve(handler)).stream(INPUT)
    assert (await anext(stream)).text == "one"
    read.set()
    with pytest.raises(errors.StreamInterruptedError):
        await anext(stream)


# --- proxies -------------------------------------------------------------------------------------


async def closing(peer: Peer) -> None:
    peer.close()


async def resetting(peer: Peer) -> None:
    peer.reset()


async def garbage(peer: Peer) -> None:
    await peer.send(b"\x16\x03nonsense\r\n\r\n")
    peer.close()


async def half(peer: Peer) -> None:
    await peer.send(b"HTTP/1.1 200 Conn")
    peer.close()


@pytest.mark.parametrize("behaviour", [closing, resetting, garbage, half])
async def test_a_proxy_that_fails_before_the_tunnel_stands_is_tried_again(
    behaviour: Any, serve: Serve, app_for: MakeApp, no_backoff: list[float]
) -> None:
    proxy = await serve(behaviour)
    app = app_for("https://app.example", proxy=proxy.url, max_retries=2)
    for call in (app.invoke(INPUT), app.runs.get("run-1")):
        with pytest.raises(errors.ConnectError) as caught:
            await call
        assert caught.value.attempts == 3
    assert len(proxy.requests) == 6


# --- Expect: 100-continue ------------------------------------------------------------------------

EXPECT: Any = {"extra_headers": {"expect": "100-Continue"}}


class Expecting(Peer):
    """The server's end of a connection, which reads the head of a request and not its body."""

    @classmethod
    def of(cls, peer: Peer) -> Expecting:
        return cls(peer.reader, peer.writer)

    async def read_body(self, headers: dict[str, str]) -> bytes:
        return b""


@pytest_asyncio.fixture
async def expecting() -> AsyncIterator[Any]:
    """Starts a server whose handler is called with the head of a request."""
    async with AsyncExitStack() as stack:

        async def start(handler: Any) -> Wire:
            class Waiting(Wire):
                async def _serve(self, peer: Peer) -> None:
                    await super()._serve(Expecting.of(peer))

            return await stack.enter_async_context(Waiting(handler))

        yield start


async def body_of(peer: Peer) -> bytes:
    return await peer.reader.readexactly(int(peer.request.headers["content-length"]))


@pytest.mark.parametrize("given", [False, True])
async def test_the_body_goes_out_when_it_is_asked_for(
    given: bool, expecting: Any, app_for: MakeApp, clock: FakeClock
) -> None:
    async def handler(peer: Peer) -> None:
        assert peer.request.headers["expect"] == "100-Continue"
        await peer.send(head(100))
        bodies.append(await body_of(peer))
        await peer.send(OK)

    bodies: list[bytes] = []
    wire = await expecting(handler)
    async with aiohttp.ClientSession() as session:
        app = app_for(wire, session=session if given else None)
        for _ in range(2):
            assert await asyncio.wait_for(app.invoke(INPUT, **EXPECT), 5) == {"a": 1}
        await clock.pass_by(10)
    assert bodies == [b'{"input":{"question":"?"}}'] * 2
    assert wire.connections == 1


@pytest.mark.parametrize("given", [False, True])
async def test_the_body_goes_out_after_a_second_without_being_asked_for(
    given: bool, expecting: Any, app_for: MakeApp, clock: FakeClock
) -> None:
    async def handler(peer: Peer) -> None:
        bodies.append(await body_of(peer))
        await peer.send(OK)

    seen: list[str] = []

    async def middleware(request: Any, send: Any) -> Any:
        seen.append(request.method)
        return await send(request)

    bodies: list[bytes] = []
    wire = await expecting(handler)
    async with aiohttp.ClientSession(middlewares=[middleware]) as session:
        app = app_for(wire, session=session if given else None)
        call = asyncio.ensure_future(app.invoke(INPUT, **EXPECT))
        await wire.asked()
        await clock.pass_by(0.8)
        assert not bodies
        await clock.pass_by(0.3)
        assert await asyncio.wait_for(call, 5) == {"a": 1}
    assert len(bodies) == 1
    assert seen == ["POST"] * given


async def test_a_final_status_is_taken_without_the_body(
    expecting: Any, app_for: MakeApp, clock: FakeClock
) -> None:
    more = asyncio.Event()

    async def handler(peer: Peer) -> None:
        if len(wire.requests) > 1:
            await peer.send(head(100))
            await body_of(peer)
            await peer.send(OK)
            return
        refusal = make_response({"error": {"code": "no", "message": "too large"}}, 413)
        await peer.send(refusal[:-5])
        await more.wait()
        await peer.send(refusal[-5:])
        sent.append(await peer.reader.read())

    sent: list[bytes] = []
    wire = await expecting(handler)
    app = app_for(wire)
    call = asyncio.ensure_future(app.invoke(INPUT, **EXPECT))
    await wire.asked()
    await turns()
    await clock.pass_by(3)
    more.set()
    with pytest.raises(errors.PayloadTooLargeError, match="too large"):
        await asyncio.wait_for(call, 5)
    assert await app.invoke(INPUT, **EXPECT) == {"a": 1}
    assert sent == [b""]
    assert wire.connections == 2


async def test_a_limit_that_passes_before_the_body_goes_out_leaves_the_outcome_open(
    expecting: Any, app_for: MakeApp, clock: FakeClock
) -> None:
    async def handler(peer: Peer) -> None:
        await peer.gone()

    wire = await expecting(handler)
    app = app_for(wire, timeout=Timeout(first_byte=0.5))
    call = asyncio.ensure_future(app.invoke(INPUT, **EXPECT))
    await wire.asked()
    await turns()
    await clock.pass_by(0.9)
    with pytest.raises(errors.AmbiguousTimeoutError):
        await asyncio.wait_for(call, 5)


async def test_a_100_in_the_turn_in_which_the_wait_is_over(app_for: MakeApp) -> None:
    waiter = Continue(Request("POST", "http://app.example", {}, b"{}"))
    waiter.set_result(True)
    waiter._go_on()
    assert await waiter


async def test_a_request_without_a_body_waits_for_nothing(serve: Serve, app_for: MakeApp) -> None:
    wire = await serve(script(make_response([])))
    app = app_for(wire, headers={"Expect": "100-continue"})
    with pytest.raises(errors.ResponseDecodeError):
        await asyncio.wait_for(app.runs.get("run-1"), 5)


async def test_another_expectation_is_not_waited_for(serve: Serve, app_for: MakeApp) -> None:
    wire = await serve(script(OK))
    assert await app_for(wire).invoke(INPUT, extra_headers={"Expect": "else"}) == {"a": 1}
    assert wire.requests[0].headers["expect"] == "else"


# --- the limit for connecting --------------------------------------------------------------------


@pytest.mark.parametrize("proxied", [False, True])
async def test_a_connection_made_while_the_process_stood_still_is_no_timeout(
    proxied: bool, serve: Serve, app_for: MakeApp, clock: FakeClock, monkeypatch: Any
) -> None:
    """The limit is due in the turn in which the connection is there."""
    loop = asyncio.get_running_loop()
    connect = loop.sock_connect

    async def late(*arguments: Any) -> None:
        clock.ahead += 20
        stood.set()
        await connect(*arguments)

    stood = asyncio.Event()
    monkeypatch.setattr(loop, "sock_connect", late)
    wire = await serve(script(OK))
    options: dict[str, Any] = {"timeout": Timeout(connect=10), "max_retries": 0}
    if proxied:
        app = app_for("http://app.example", allow_http=True, proxy=wire.url, **options)
    else:
        app = app_for(wire, **options)
    call = asyncio.ensure_future(app.invoke(INPUT))
    await stood.wait()
    assert await asyncio.wait_for(call, 5) == {"a": 1}


async def test_a_connection_that_does_not_come_is_a_timeout(
    serve: Serve, app_for: MakeApp, clock: FakeClock, monkeypatch: Any
) -> None:
    loop = asyncio.get_running_loop()
    never = loop.create_future()
    started = asyncio.Event()

    async def connect(*_: Any) -> None:
        started.set()
        await never

    monkeypatch.setattr(loop, "sock_connect", connect)
    app = app_for("http://127.0.0.1:9", timeout=Timeout(connect=10), max_retries=0)
    call = asyncio.ensure_future(app.invoke(INPUT))
    await started.wait()
    await clock.pass_by(9)
    assert not call.done()
    await clock.pass_by(2)
    with pytest.raises(errors.ConnectTimeoutError, match="connect limit"):
        await asyncio.wait_for(call, 5)


async def test_an_errors_body_that_came_while_the_process_stood_still_is_read(
    serve: Serve, app_for: MakeApp, clock: FakeClock
) -> None:
    peers: list[Peer] = []
    refusal = make_response({"error": {"code": "bad_request", "message": "what was wrong"}}, 400)

    async def handler(peer: Peer) -> None:
        await peer.send(refusal[:-10])
        peers.append(peer)
        await peer.gone()

    wire = await serve(handler)
    call = asyncio.ensure_future(app_for(wire).invoke(INPUT))
    await wire.asked()
    await turns()
    descriptor = peers[0].writer.get_extra_info("socket").fileno()
    asyncio.get_running_loop().call_later(3, os.write, descriptor, refusal[-10:])
    clock.ahead += 20
    with pytest.raises(errors.BadRequestError, match="what was wrong"):
        await asyncio.wait_for(call, 5)
