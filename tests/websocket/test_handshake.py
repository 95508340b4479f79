"""The handshake is a request like any other: refusals, limits, retries, keys."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import trustme

from dynamiq_async import Timeout, errors
from tests.support.network import KEY, in_flight, turns
from tests.support.websocket_peers import (
    END,
    INPUT,
    ONE,
    SocketPeer,
    accept_of,
    saying,
    talking,
    text,
)
from tests.support.wire import Peer, head, make_response, script, server_context

if TYPE_CHECKING:
    import trustme

    from tests.support.network import FakeClock, MakeApp, Serve


async def test_it_asks_as_the_standard_says_and_carries_the_key(
    serve: Serve, app_for: MakeApp
) -> None:
    wire = await serve(saying(END))
    async with app_for(wire, headers={"X-Mine": "1"}).connect() as socket:
        await socket.run(INPUT).output()
    (seen,) = wire.requests
    assert (seen.method, seen.target) == ("GET", "/")
    assert seen.headers["authorization"] == f"Bearer {KEY}"
    assert seen.headers["upgrade"] == "websocket"
    assert seen.headers["connection"] == "Upgrade"
    assert seen.headers["sec-websocket-version"] == "13"
    assert seen.headers["x-mine"] == "1"
    assert "sec-websocket-extensions" not in seen.headers


async def test_a_plain_install_says_what_it_lacks(
    app_for: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "websockets.client", None)
    with pytest.raises(errors.MissingExtraError, match=r"pip install 'dynamiq-async\[websocket\]'"):
        app_for("http://127.0.0.1:9").connect()


async def test_it_goes_to_the_app_s_path(serve: Serve, app_for: MakeApp) -> None:
    wire = await serve(saying(END))
    async with app_for(wire.url + "/bot").connect(extra_query={"a": "b"}) as socket:
        await socket.run(INPUT).output()
    assert wire.requests[0].target == "/bot/?a=b"


ERROR = {"error": {"code": "unauthorized", "message": f"{KEY} is not known"}}


@pytest.mark.parametrize(
    ("response", "kind", "said"),
    [
        (make_response(ERROR, 401), errors.AuthenticationError, "unauthorized"),
        (make_response(ERROR, 403), errors.PermissionDeniedError, "unauthorized"),
        (make_response(ERROR, 404), errors.NotFoundError, "unauthorized"),
        (
            make_response(b"<title>Upgrade</title>", 426, kind="text/html"),
            errors.APIStatusError,
            "426",
        ),
        (
            head(302, "Location: http://evil.example/", "Content-Length: 0"),
            errors.RedirectError,
            "302",
        ),
        (
            make_response(b"<title>Log in</title>", kind="text/html"),
            errors.ContentTypeError,
            "Log in",
        ),
        (make_response({}), errors.ContentTypeError, "instead of a WebSocket"),
        (head(101, "Upgrade: h2c", "Connection: Upgrade"), errors.APIResponseError, "handshake"),
        (head(101, "Upgrade: websocket"), errors.APIResponseError, "handshake"),
        (
            head(
                101,
                "Upgrade: websocket",
                "Connection: Upgrade",
                f"Sec-WebSocket-Accept: {accept_of('another key')}",
            ),
            errors.APIResponseError,
            "handshake",
        ),
    ],
)
async def test_a_refusal_is_the_error_it_is_over_http(
    serve: Serve, app_for: MakeApp, response: bytes, kind: type[Exception], said: str
) -> None:
    wire = await serve(script(response))
    app = app_for(wire)
    with pytest.raises(kind, match=said) as caught:
        await app.connect().open()
    assert KEY not in str(caught.value)
    assert in_flight(app) == 0
    with pytest.raises(kind):
        await app.connect().run(INPUT).output()
    assert [seen.headers["authorization"] for seen in wire.requests] == [f"Bearer {KEY}"] * 2


async def test_compression_that_was_not_offered_is_refused_before_a_run_is_sent(
    serve: Serve, app_for: MakeApp
) -> None:
    async def handler(peer: Peer) -> None:
        await SocketPeer(peer).accept("Sec-WebSocket-Extensions: permessage-deflate")
        await peer.gone()

    with pytest.raises(errors.APIResponseError, match="handshake"):
        await app_for(await serve(handler)).connect().run(INPUT).output()


async def test_a_handshake_may_be_passed_on(serve: Serve, app_for: MakeApp) -> None:
    """The headers of a browser's, say: what belongs to its own connection stays out."""
    theirs = {
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "sec-websocket-version": "8",
        "Sec-WebSocket-Extensions": "permessage-deflate",
        "Sec-WebSocket-Protocol": "dynamiq",
        "connection": "keep-alive, Upgrade",
        "X-User": "ann",
    }
    wire = await serve(saying(END))
    async with app_for(wire).connect(extra_headers=theirs) as socket:
        await socket.run(INPUT).output()
    (seen,) = wire.requests
    assert seen.headers["sec-websocket-key"] != theirs["Sec-WebSocket-Key"]
    assert seen.headers["sec-websocket-version"] == "13"
    assert seen.headers["sec-websocket-protocol"] == "dynamiq"
    assert seen.headers["connection"] == "Upgrade"
    assert seen.headers["x-user"] == "ann"
    assert "sec-websocket-extensions" not in seen.headers


async def test_an_upgrade_nobody_asked_for_is_no_answer(serve: Serve, app_for: MakeApp) -> None:
    wire = await serve(script(head(101, "Upgrade: websocket", "Connection: Upgrade")))
    with pytest.raises(errors.APIStatusError, match="101"):
        await app_for(wire).invoke(INPUT)


async def test_what_was_refused_for_now_is_tried_again(
    serve: Serve, app_for: MakeApp, no_backoff: list[float]
) -> None:
    """Also where its outcome is unknown: a handshake runs nothing."""
    responses = [
        make_response(ERROR, 503, "Retry-After: 0"),
        make_response(ERROR, 502),
        make_response(ERROR, 429, "Retry-After: 0"),
    ]

    async def handler(peer: Peer) -> None:
        if responses:
            await peer.send(responses.pop(0))
        else:
            await saying(END)(peer)

    wire = await serve(handler)
    async with app_for(wire, max_retries=3).connect() as socket:
        assert socket.response is not None
        assert socket.response.attempts == 4
        assert await socket.run(INPUT).output()
    assert len({seen.headers["sec-websocket-key"] for seen in wire.requests}) == 4


async def test_a_cooldown_holds_it_back(serve: Serve, app_for: MakeApp, clock: FakeClock) -> None:
    wire = await serve(saying(END))
    app = app_for(wire)
    app._api.sender.limiter.cool_down(5)
    opening = asyncio.ensure_future(app.connect(timeout=1).open())
    with pytest.raises(errors.RateLimitError):
        await opening
    assert not wire.requests


async def test_a_socket_takes_one_of_the_streams(serve: Serve, app_for: MakeApp) -> None:
    wire = await serve(talking(lambda socket: socket.gone()))
    app = app_for(wire, max_streams=1)
    async with app.connect():
        with pytest.raises(errors.PoolTimeoutError):
            await app.connect(timeout=Timeout(pool=0.01)).open()
    async with app.connect(timeout=Timeout(pool=1)):
        assert in_flight(app) == 1


async def test_no_answer_is_a_first_byte_timeout(
    serve: Serve, app_for: MakeApp, clock: FakeClock
) -> None:
    async def silent(peer: Peer) -> None:
        await peer.gone()

    wire = await serve(silent)
    app = app_for(wire, timeout=Timeout(first_byte=30), max_retries=0)
    opening = asyncio.ensure_future(app.connect().open())
    await wire.asked()
    await clock.pass_by(31)
    with pytest.raises(errors.APITimeoutError) as caught:
        await opening
    assert caught.value.limit == "first_byte"
    assert in_flight(app) == 0


async def test_nobody_there_is_a_connect_error(app_for: MakeApp) -> None:
    with pytest.raises(errors.ConnectError):
        await app_for("http://127.0.0.1:9", max_retries=0).connect().open()


async def test_it_goes_through_a_proxy(serve: Serve, app_for: MakeApp) -> None:
    proxy = await serve(saying(ONE, END))
    app = app_for("http://app.example", allow_http=True, proxy=proxy.url)
    async with app.connect() as socket:
        assert await socket.run(INPUT).output()
    assert proxy.requests[0].target == "http://app.example/"


async def test_it_can_be_tried_again(serve: Serve, app_for: MakeApp) -> None:
    responses = [make_response(ERROR, 401)]

    async def handler(peer: Peer) -> None:
        if responses:
            await peer.send(responses.pop())
        else:
            await saying(END)(peer)

    socket = app_for(await serve(handler)).connect()
    with pytest.raises(errors.AuthenticationError):
        await socket.open()
    async with socket:
        assert await socket.run(INPUT).output()


@pytest.mark.parametrize("size", [1, 7])
async def test_what_comes_with_the_answer_is_not_lost(
    serve: Serve, app_for: MakeApp, size: int
) -> None:
    async def handler(peer: Peer) -> None:
        socket = SocketPeer(peer)
        await socket.accept(rest=text({"hello": 1}) * size)
        await socket.message()
        await peer.send_slowly(ONE + END, size)
        await socket.gone()

    async with app_for(await serve(handler)).connect() as socket:
        events = [event async for event in socket.run(INPUT)]
    assert [event.data for event in events[:size]] == [{"hello": 1}] * size
    assert [event.text for event in events[size:]] == ["one", ""]


@pytest.mark.parametrize("rest", [b"", b"\x89\x01?", text({"hello": 1}), b"\x00"])
async def test_a_connection_lost_right_behind_the_answer_is_noticed(
    serve: Serve, app_for: MakeApp, rest: bytes
) -> None:
    async def handler(peer: Peer) -> None:
        await SocketPeer(peer).accept(rest=rest)
        peer.close()

    app = app_for(await serve(handler))
    for _ in range(20):
        socket = app.connect()
        with pytest.raises(errors.APIConnectionError):
            await socket.run(INPUT).output()
        await socket.aclose()


@pytest.mark.parametrize("rest", [b"", b"\x89\x01?", text({"hello": 1}), b"\x00"])
async def test_also_where_a_session_takes_its_time(
    serve: Serve, app_for: MakeApp, rest: bytes
) -> None:
    async def handler(peer: Peer) -> None:
        await SocketPeer(peer).accept(rest=rest)
        peer.close()

    async def dawdle(*_: Any) -> None:
        await wire.all_closed()
        await turns()

    wire = await serve(handler)
    traces = aiohttp.TraceConfig()
    traces.on_request_end.append(dawdle)
    async with aiohttp.ClientSession(trace_configs=[traces]) as session:
        app = app_for(wire, session=session)
        async with app.connect() as socket:
            assert socket.closed
            with pytest.raises(errors.ConnectError, match="not sent"):
                await socket.run(INPUT).output()


async def test_it_works_over_tls_with_a_ca_of_one_s_own(
    serve: Serve, app_for: MakeApp, tmp_path: Any
) -> None:
    ca = trustme.CA()
    path = tmp_path / "ca.pem"
    ca.cert_pem.write_to_path(str(path))
    wire = await serve(saying(ONE, END), tls=server_context(ca))
    async with app_for(wire, verify=path).connect() as socket:
        assert await socket.run(INPUT).output()
    with pytest.raises(errors.ConnectError, match="TLS"):
        await app_for(wire, max_retries=0).connect().open()
    await turns()
