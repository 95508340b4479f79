"""The transport below aiohttp's session: what it takes on, what it leaves to the session, and what
it leaves behind."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import trustme
import uvloop
from aioresponses import aioresponses

from dynamiq_async import AsyncApp, Timeout, Upload, errors
from dynamiq_async.transport import Request, _aiohttp_private, choice
from dynamiq_async.transport._direct_connections import DirectConnector, DirectHandler
from dynamiq_async.transport._direct_heads import MAX_HEADS, Heads
from dynamiq_async.transport.aiohttp import AiohttpTransport
from dynamiq_async.transport.direct import DirectResponse, DirectTransport
from tests.app.test_single_calls import Response
from tests.support.network import KEY, in_flight, turns
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
    server_context,
    sse,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.support.network import MakeApp, Serve

INPUT = {"question": "?"}
OK = make_response({"a": 1})
TWO = make_response({"b": 2})
ONE = sse(says("one"))
END = sse(final())


@pytest.fixture
def through_session(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The requests that went through the session."""
    went: list[str] = []
    send = AiohttpTransport.send

    async def noted(self: Any, request: Request, **options: Any) -> Any:
        went.append(request.url)
        return await send(self, request, **options)

    monkeypatch.setattr(AiohttpTransport, "send", noted)
    return went


@pytest.fixture(autouse=True)
def only_direct(transport_kind: str) -> None:
    if transport_kind != "direct":
        pytest.skip("of the direct transport")


# --- which transport --------------------------------------------------------------------------


async def test_calls_and_streams_go_below_the_session(
    serve: Serve, app_for: MakeApp, through_session: list[str]
) -> None:
    wire = await serve(script(OK, CHUNKED + chunk(END) + LAST_CHUNK, TWO))
    app = app_for(wire)
    assert await app.invoke(INPUT) == {"a": 1}
    async with app.stream(INPUT) as stream:
        await stream.output()
    assert await app.invoke(INPUT) == {"b": 2}
    assert wire.connections == 1
    assert through_session == []


async def test_the_session_can_be_chosen(
    serve: Serve, app_for: MakeApp, through_session: list[str]
) -> None:
    wire = await serve(script(OK))
    assert await app_for(wire, transport="session").invoke(INPUT) == {"a": 1}
    assert len(through_session) == 1


@pytest.mark.parametrize("options", [{"proxy": "http://127.0.0.1:9"}, {"session": "given"}])
async def test_what_needs_the_session_cannot_be_direct(options: dict[str, Any]) -> None:
    async with aiohttp.ClientSession() as session:
        if "session" in options:
            options = {"session": session}
        with pytest.raises(errors.InvalidArgumentError) as caught:
            AsyncApp("https://app.example", access_key=KEY, transport="direct", **options)
    assert caught.value.argument == "transport"


async def test_a_proxy_of_the_environment_is_used(
    serve: Serve, app_for: MakeApp, monkeypatch: pytest.MonkeyPatch, through_session: list[str]
) -> None:
    proxy, wire = await serve(script(OK)), await serve(script(TWO))
    for name in ("http_proxy", "no_proxy", "all_proxy", "ALL_PROXY", "REQUEST_METHOD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for url, answer in (("http://app.example", {"a": 1}), (wire.url, {"b": 2})):
        app = app_for(url, allow_http=True, trust_env=True, transport="direct")
        assert await app.invoke(INPUT) == answer
    assert through_session == ["http://app.example/"]


@pytest.mark.parametrize("first", ["mocked", "real"])
async def test_mocks_of_aiohttp_are_met_by_a_default_client(
    first: str, serve: Serve, app_for: MakeApp
) -> None:
    wire = await serve(script(OK))
    app = app_for(wire)
    if first == "real":
        assert await app.invoke(INPUT) == {"a": 1}
    with aioresponses() as mocked:
        mocked.post(f"{wire.url}/", payload={"mocked": True}, response_class=Response)
        assert await app.invoke(INPUT) == {"mocked": True}
    assert await app.invoke(INPUT) == {"a": 1}
    assert wire.connections == 1


@pytest.mark.parametrize("name", ["_request", "__init__"])
@pytest.mark.parametrize("kind", ["function", "wrapper"])
async def test_what_traces_aiohttp_is_met(
    name: str,
    kind: str,
    serve: Serve,
    app_for: MakeApp,
    monkeypatch: pytest.MonkeyPatch,
    through_session: list[str],
) -> None:
    original = getattr(aiohttp.ClientSession, name)

    class Wrapper:
        """As wrapt's, which look like what they wrap."""

        __code__ = original.__code__
        __wrapped__ = original

        def __get__(self, instance: Any, owner: Any) -> Any:
            return self if instance is None else original.__get__(instance, owner)

        def __call__(self, *given: Any, **options: Any) -> Any:
            raise NotImplementedError

    def function(*given: Any, **options: Any) -> Any:
        return original(*given, **options)

    monkeypatch.setattr(aiohttp.ClientSession, name, function if kind == "function" else Wrapper())
    wire = await serve(script(OK))
    assert await app_for(wire).invoke(INPUT) == {"a": 1}
    assert len(through_session) == 1


def test_an_aiohttp_that_was_not_looked_at_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert _aiohttp_private.DIFFERENCE == ""
    assert "4.0.1" in _aiohttp_private.difference("4.0.1")
    assert "compiled" in _aiohttp_private.difference(parser=int)
    monkeypatch.setitem(_aiohttp_private.BELOW, "StreamReader.gone", "a test")
    assert _aiohttp_private.difference().endswith("has no StreamReader.gone")
    monkeypatch.setattr(_aiohttp_private, "DIFFERENCE", "it differs")
    caplog.set_level(logging.DEBUG, "dynamiq_async")
    for kind in (None, "direct"):
        made = choice.Network(transport=kind).open(None)
        assert type(made) is AiohttpTransport
    assert caplog.text.count("calls go through aiohttp's session: it differs") == 2


@pytest.mark.parametrize(
    "request_",
    [
        Request("GET", "http://u:p@h/x", {}),
        Request("GET", "http://h/ä", {}),
        Request("GET", "http://h/x#y", {}),
        Request("GET", "http://h", {}),
        Request("GET", "ftp://h/", {}),
        Request("POST", "http://h/", {"Transfer-Encoding": "chunked"}),
        Request("POST", "http://h/", {"expect": "100-continue"}),
        Request("GET", "http://h/", {"Connection": "Upgrade", "Upgrade": "websocket"}),
    ],
    ids=str,
)
def test_what_is_left_to_the_session(request_: Request) -> None:
    assert Heads().of(request_) is None


def test_heads_are_made_once_and_bounded() -> None:
    heads, headers = Heads(), {"Authorization": f"Bearer {KEY}", "Host": "other"}
    made = heads.of(Request("POST", "http://[::1]:80/x?y", headers, b"z"))
    assert made is not None
    assert made is heads.of(Request("POST", "http://[::1]:80/x?y", headers, b"other"))
    assert made is not heads.of(Request("POST", "http://[::1]:80/x?y", dict(headers), b"other"))
    assert made.data.startswith(b"POST /x?y HTTP/1.1\r\nHost: other\r\n")
    assert made.data.endswith(b"\r\nContent-Length: ")
    assert KEY not in f"{made!r}{made}{heads!r}"
    for number in range(3 * MAX_HEADS):
        assert heads.of(Request("GET", f"http://h{number}/", headers)) is not None
    assert len(heads._heads) <= MAX_HEADS
    assert len(heads._targets) <= MAX_HEADS
    bare = heads.of(Request("PUT", "http://h/", {}))
    assert bare is not None
    assert bare.data == (
        b"PUT / HTTP/1.1\r\nHost: h\r\nAccept-Encoding: gzip, deflate\r\nContent-Length: 0\r\n\r\n"
    )


# --- requests ---------------------------------------------------------------------------------


async def test_a_large_body_is_sent_in_pieces_and_the_connection_kept(
    serve: Serve, app_for: MakeApp
) -> None:
    wire = await serve(script(OK))
    app = app_for(wire)
    big = {"text": "x" * 3_000_000}
    for _ in range(2):
        assert await app.invoke(big) == {"a": 1}
    assert [len(seen.body) for seen in wire.requests] == [3_000_021] * 2
    assert wire.connections == 1


async def endless() -> AsyncIterator[bytes]:
    while True:
        yield b"x" * 100_000


@pytest.mark.parametrize("then", ["stay", "close", "reset"])
@pytest.mark.parametrize("status", [200, 413])
async def test_an_answer_before_the_body_was_sent(
    then: str, status: int, serve: Serve, app_for: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def early(self: Peer, headers: dict[str, str]) -> bytes:
        await self.reader.read(1000)
        return b""

    async def handler(peer: Peer) -> None:
        await peer.send(make_response({"a": 1}, status))
        if then == "close":
            peer.close()
        elif then == "reset":
            await turns()
            peer.reset()
        else:
            await peer.gone()

    monkeypatch.setattr(Peer, "read_body", early)
    wire = await serve(handler)
    app = app_for(wire)
    call = app.invoke(INPUT, files=Upload(endless(), name="x"))
    if status == 200:
        assert await call == {"a": 1}
    else:
        with pytest.raises(errors.PayloadTooLargeError):
            await call
    await wire.all_closed()


async def test_a_stream_that_begins_before_the_body_was_sent(
    serve: Serve, app_for: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def early(self: Peer, headers: dict[str, str]) -> bytes:
        return b""

    async def handler(peer: Peer) -> None:
        await peer.send(CHUNKED, chunk(ONE))
        await peer.gone()

    async def breaking() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.wait_for(begun.wait(), 5)
        raise LookupError("no more")

    begun = asyncio.Event()
    monkeypatch.setattr(Peer, "read_body", early)
    wire = await serve(handler)
    stream = app_for(wire).stream(INPUT, files=Upload(breaking(), name="x"))
    assert (await anext(stream)).text == "one"
    begun.set()
    with pytest.raises(errors.DynamiqError, match="no more"):
        await anext(stream)
    await wire.all_closed()


async def test_a_body_that_breaks_after_the_answer_changes_nothing(
    serve: Serve, app_for: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its source raises instead of ending when it is cancelled."""

    async def early(self: Peer, headers: dict[str, str]) -> bytes:
        return b""

    async def stubborn() -> AsyncIterator[bytes]:
        yield b"x"
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise LookupError("instead") from None

    async def handler(peer: Peer) -> None:
        await peer.send(OK)
        await peer.gone()

    monkeypatch.setattr(Peer, "read_body", early)
    wire = await serve(handler)
    assert await app_for(wire).invoke(INPUT, files=Upload(stubborn(), name="x")) == {"a": 1}
    await wire.all_closed()


async def test_a_connection_that_is_closed_at_once_was_sent_nothing(
    serve: Serve, app_for: MakeApp, monkeypatch: pytest.MonkeyPatch, no_backoff: list[float]
) -> None:
    opened = DirectConnector.open
    left = 1

    async def lost(self: Any, *given: Any) -> Any:
        nonlocal left
        connection: Any = await opened(self, *given)
        if left:
            left -= 1
            connection.transport.abort()
            await turns()
        return connection

    monkeypatch.setattr(DirectConnector, "open", lost)
    wire = await serve(script(OK))
    assert await app_for(wire).invoke(INPUT) == {"a": 1}
    assert len(wire.requests) == 1


@pytest.mark.parametrize("answer", [OK, CHUNKED + chunk(ONE)])
async def test_a_response_that_comes_with_the_cancellation_is_nobody_s(
    answer: bytes, serve: Serve, app_for: MakeApp
) -> None:
    async def handler(peer: Peer) -> None:
        await peer.gone()

    wire = await serve(handler)
    app = app_for(wire)
    call = asyncio.ensure_future(app.invoke(INPUT))
    while not wire.requests:
        await asyncio.sleep(0)
    connector: Any = next(iter(app._api.sender._transport._sessions.values())).client.connector  # type: ignore[union-attr]
    (connection,) = connector._acquired
    call.cancel()
    connection.data_received(answer)  # in the same turn of the loop
    with pytest.raises(asyncio.CancelledError):
        await call
    assert not connector._acquired


# --- responses --------------------------------------------------------------------------------

JSON = "Content-Type: application/json"
LENGTH = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 7\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        (LENGTH + b'{"a":1}', True),
        (LENGTH.replace(b"\r\n", b"\n") + b'{"a":1}', False),
        (LENGTH + b'{"a":1}HTTP/1.1 ', False),
        (LENGTH + b'{"a":1}\r\n', False),
        (head(100) + head(102) + head(103, "Link: <x>") + LENGTH + b'{"a":1}', True),
        (CHUNKED + b'7;ext="a;b"\r\n{"a":1}\r\n0\r\nTrailer: x\r\n\r\n', True),
        (CHUNKED + b'7\r\n{"a":1}\r\n0\r\n\r\nHTTP/1.', False),
        (CHUNKED + b'3\r\n{"a\r\n4\r\n":1}\r\n0\r\n\r\n', True),
        (head(200, JSON, "Connection: close", "Content-Length: 7") + b'{"a":1}', False),
        (LENGTH.replace(b"1.1", b"1.0") + b'{"a":1}', False),
        (head(200, JSON, "Connection: keep-alive", "Content-Length: 7") + b'{"a":1}', True),
    ],
)
@pytest.mark.parametrize("size", [1, 7, 10_000])
async def test_framings_and_whether_the_connection_is_kept(
    answer: bytes, kept: bool, size: int, serve: Serve, app_for: MakeApp
) -> None:
    if not kept and size < 100 and b"HTTP" in answer[10:]:
        pytest.skip("part of it would come behind the next request")

    async def handler(peer: Peer) -> None:
        for start in range(0, len(answer), size):
            await peer.send(answer[start : start + size])
            await turns(3)

    wire = await serve(handler)
    app = app_for(wire)
    for _ in range(2):
        assert await app.invoke(INPUT) == {"a": 1}
    await turns()
    assert await app.invoke(INPUT) == {"a": 1}
    assert (wire.connections == 1) is kept or (not kept and size == 1)


async def test_a_large_answer_keeps_its_connection(serve: Serve, app_for: MakeApp) -> None:
    """More than is read ahead, so that reading pauses in the middle of what came."""
    text = "x" * 2_000_000
    body = b'{"text":"%b"}' % text.encode()
    chunked = CHUNKED.replace(b"text/event-stream", b"application/json")
    wire = await serve(
        script(make_response({"text": text}), chunked + chunk(body) + LAST_CHUNK, OK)
    )
    app = app_for(wire)
    for _ in range(2):
        assert await app.invoke(INPUT) == {"text": text}
    assert await app.invoke(INPUT) == {"a": 1}
    assert wire.connections == 1


async def test_an_answer_that_is_too_large_at_once(serve: Serve, app_for: MakeApp) -> None:
    wire = await serve(script(make_response({"text": "x" * 100})))
    with pytest.raises(errors.ResponseTooLargeError) as caught:
        await app_for(wire, max_response_bytes=50).invoke(INPUT)
    assert "xxx" in (caught.value.body or "")


@pytest.mark.parametrize("answer", [head(101), head(101, "Upgrade: x", "Connection: upgrade")])
async def test_a_switch_of_protocols_that_nobody_asked_for(
    answer: bytes, serve: Serve, app_for: MakeApp
) -> None:
    wire = await serve(script(answer, OK))
    app = app_for(wire)
    with pytest.raises(errors.DynamiqError):
        await app.invoke(INPUT)
    assert await app.invoke(INPUT) == {"a": 1}
    assert wire.connections == 2


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (CHUNKED + chunk(ONE) + b"zz\r\n", "broke"),
        (CHUNKED + chunk(ONE), "not complete|broke"),
        (head(200, "Content-Type: text/event-stream", "Content-Length: 999") + ONE, "broke"),
    ],
)
async def test_what_came_ahead_of_a_break_is_handed_out(
    said: bytes, reason: str, serve: Serve, app_for: MakeApp
) -> None:
    async def handler(peer: Peer) -> None:
        await peer.send(said)
        peer.close()

    wire = await serve(handler)
    stream = app_for(wire).stream(INPUT)
    assert (await anext(stream)).text == "one"
    with pytest.raises(errors.StreamInterruptedError, match=reason):
        await anext(stream)


async def test_a_response_without_a_body_can_be_asked_anything() -> None:
    connection: Any = None
    response = DirectResponse(connection, (204, {}, None), Request("GET", "http://h/", {}), None)
    assert await response.read() == b""
    assert response.arrived() == b""
    response.fail(errors.APIConnectionError("x"))
    response.fail(errors.APIConnectionError("y"))
    with pytest.raises(errors.APIConnectionError, match="x"):
        await response.read()
    assert response.arrived() is None
    response.close()


async def test_garbage_behind_the_last_piece_ends_the_connection_only(
    serve: Serve, app_for: MakeApp
) -> None:
    async def handler(peer: Peer) -> None:
        await peer.send(CHUNKED, chunk(ONE))
        await turns()
        await peer.send(chunk(END), LAST_CHUNK, b"\0garbage")

    wire = await serve(handler)
    app = app_for(wire)
    for _ in range(2):
        async with app.stream(INPUT) as stream:
            await stream.output()
    assert wire.connections == 2


# --- cancelling, closing, and what is left ----------------------------------------------------


async def test_cancelled_at_every_await(serve: Serve, app_for: MakeApp) -> None:
    wire = await serve(script(OK))
    app = app_for(wire)
    for wait in range(60):
        call = asyncio.ensure_future(app.invoke(INPUT))
        for _ in range(wait % 20):
            await asyncio.sleep(0)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        assert in_flight(app) == 0
    assert await app.invoke(INPUT) == {"a": 1}
    connector: Any = next(iter(app._api.sender._transport._sessions.values())).client.connector  # type: ignore[union-attr]
    assert not connector._acquired


async def test_closing_the_client_ends_what_waits(serve: Serve, app_for: MakeApp) -> None:
    async def silent(peer: Peer) -> None:
        await peer.gone()

    async def begun(peer: Peer) -> None:
        await peer.send(CHUNKED, chunk(ONE))
        await peer.gone()

    for handler in (silent, begun):
        wire = await serve(handler)
        app = app_for(wire)
        reading = asyncio.ensure_future(app.stream(INPUT).output())
        while not wire.requests:
            await asyncio.sleep(0)
        await turns()
        await app.aclose()
        with pytest.raises(errors.ClientClosedError):
            await reading
        await wire.all_closed()


async def test_an_aborted_connection_ends_what_waits(serve: Serve, app_for: MakeApp) -> None:
    """As the connector does with TLS."""

    async def silent(peer: Peer) -> None:
        await peer.gone()

    wire = await serve(silent)
    app = app_for(wire, max_retries=0)
    call = asyncio.ensure_future(app.invoke(INPUT))
    while not wire.requests:
        await asyncio.sleep(0)
    connector: Any = next(iter(app._api.sender._transport._sessions.values())).client.connector  # type: ignore[union-attr]
    for connection in list(connector._acquired):
        connection.abort()
        connection.abort()
    with pytest.raises(errors.AmbiguousConnectionError):
        await call


async def test_connections_that_are_kept_too_long_are_not_used(
    serve: Serve, app_for: MakeApp
) -> None:
    wire = await serve(script(OK))
    app = app_for(wire)
    await app.invoke(INPUT)
    connector: Any = next(iter(app._api.sender._transport._sessions.values())).client.connector  # type: ignore[union-attr]
    connector._keepalive_timeout = -1.0
    await app.invoke(INPUT)
    assert wire.connections == 2


async def test_where_the_system_has_no_poll(
    serve: Serve, app_for: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    import select

    monkeypatch.delattr(select, "poll")
    wire = await serve(script(OK))
    app = app_for(wire)
    for _ in range(2):
        assert await app.invoke(INPUT) == {"a": 1}
    assert wire.connections == 1


FILES = Path("/proc/self/fd")


def open_files() -> int:
    return len(list(FILES.iterdir()))


@pytest.mark.skipif(not FILES.is_dir(), reason="counts descriptors in /proc")
@pytest.mark.parametrize("loop", ["asyncio", "debug", "uvloop"])
def test_many_calls_leave_nothing(loop: str) -> None:
    """No task, handle or socket; `benchmarks` make more calls."""
    calls, at_once = (400, 10) if loop == "debug" else (3000, 50)

    async def main() -> None:
        async with Wire(script(OK)) as wire:
            await turns()
            before = open_files(), len(asyncio.all_tasks())
            app = AsyncApp(wire.url, access_key=KEY, timeout=Timeout(total=60))
            async with app:
                left = iter(range(calls))

                async def worker() -> None:
                    for number in left:
                        assert await app.invoke(INPUT) == {"a": 1}
                        if number % 100 == 0:
                            call = asyncio.ensure_future(app.invoke(INPUT))
                            await asyncio.sleep(0)
                            call.cancel()
                            await asyncio.gather(call, return_exceptions=True)

                await asyncio.gather(*(worker() for _ in range(at_once)))
                assert in_flight(app) == 0
            await wire.all_closed()
            await turns()
            gc.collect()
            assert (open_files(), len(asyncio.all_tasks())) == before
            if loop != "uvloop":
                inner: Any = asyncio.get_running_loop()
                assert len([h for h in inner._scheduled if not h.cancelled()]) <= 3

    factory = uvloop.new_event_loop if loop == "uvloop" else None
    with asyncio.Runner(loop_factory=factory, debug=loop == "debug") as runner:
        runner.run(main())


# --- TLS and addresses --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


def with_loop(kind: str) -> Any:
    return uvloop.new_event_loop if kind == "uvloop" else None


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_tls_on_each_loop(loop: str, ca: trustme.CA, tmp_path: Any) -> None:
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")

    async def main() -> None:
        async with (
            Wire(script(OK, CHUNKED + chunk(END) + LAST_CHUNK, OK), tls=server_context(ca)) as wire,
            AsyncApp(wire.url, access_key=KEY, verify=tmp_path / "ca.pem") as app,
        ):
            assert await app.invoke(INPUT) == {"a": 1}
            async with app.stream(INPUT) as stream:
                await stream.output()
            assert await app.invoke({"text": "x" * 1_000_000}) == {"a": 1}
            assert wire.connections == 1
            wrong = AsyncApp(
                wire.url.replace("localhost", "127.0.0.1"),
                access_key=KEY,
                verify=tmp_path / "ca.pem",
                max_retries=0,
            )
            with pytest.raises(errors.ConnectError, match="TLS failed"):
                await wrong.invoke(INPUT)
            await wrong.aclose()

    with asyncio.Runner(loop_factory=with_loop(loop)) as runner:
        runner.run(main())


async def test_ipv6(app_for: MakeApp) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(OK)
        writer.close()

    seen: list[bytes] = []
    if not socket.has_ipv6:
        pytest.skip("the system has no IPv6")
    server = await asyncio.start_server(answer, "::1", 0)
    port = server.sockets[0].getsockname()[1]
    assert await app_for(f"http://[::1]:{port}").invoke(INPUT) == {"a": 1}
    assert b"\r\nHost: [::1]:%d\r\n" % port in seen[0]
    server.close()
    await server.wait_closed()


def test_the_direct_transport_is_the_default() -> None:
    made = choice.Network().open(None)
    assert type(made) is DirectTransport


@pytest.fixture(scope="module", autouse=True)
def _quiet() -> Iterator[None]:
    yield
    gc.collect()


async def test_what_cannot_be_written_is_an_error_of_the_connection() -> None:
    handler = DirectHandler(asyncio.get_running_loop())
    with pytest.raises(aiohttp.ClientConnectionResetError, match="closing transport"):
        handler._put(b"x")
