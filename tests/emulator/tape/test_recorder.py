"""A recorder passes on what passes, and keeps it: exact bytes of an App on bare sockets."""

from __future__ import annotations

import asyncio
import gzip
import ssl
import stat
import zlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from dynamiq_async.emulator import Emulator, Player, Recorder
from dynamiq_async.emulator.tape import server as tape_server
from dynamiq_async.emulator.tape import takes
from dynamiq_async.emulator.tape.models import read_tape
from tests.support import wire
from tests.support.websocket_peers import (
    BINARY,
    CONTINUATION,
    PING,
    TEXT,
    SocketPeer,
    frame,
    goodbye,
)
from tests.support.wire import CHUNKED, LAST_CHUNK, UNFRAMED, Peer, Wire, chunk, head

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from dynamiq_async.emulator.tape.models import Exchange
    from tests.support.raw_http import RawClients, RawResponse

SECRET = "s3cr3t-value-0123"


@pytest.fixture
def tape(tmp_path: Path) -> Path:
    return tmp_path / "tape.jsonl"


def text_of(tape: Path) -> str:
    return tape.read_text("utf-8")


@asynccontextmanager
async def recording(
    handler: Any, tape: Path, *, tls: ssl.SSLContext | None = None, **options: Any
) -> AsyncIterator[tuple[Wire, Recorder]]:
    """An App on bare sockets, and a recorder in front of it."""
    async with Wire(handler, tls=tls) as app, Recorder(app.url, tape, **options) as recorder:
        yield app, recorder
        await recorder.wait_until(lambda: all(record.finished for record in recorder.requests))


def sends(*pieces: bytes, then: str = "close") -> Callable[[Peer], Awaitable[None]]:
    """An App that responds with these bytes, each by itself, and ends the connection."""

    async def handle(peer: Peer) -> None:
        for piece in pieces:
            await peer.send(piece)
            await asyncio.sleep(0.005)
        getattr(peer, then)()

    return handle


async def both(
    handler: Any, tape: Path, connect: RawClients, **options: Any
) -> tuple[RawResponse, RawResponse, Exchange]:
    """What a client of sockets sees of one stream, live and from the tape, and the tape."""
    async with recording(handler, tape, **options) as (_, recorder):
        live = await (await connect(recorder)).stream()
    async with Player(tape) as player:
        taped = await (await connect(player)).stream()
    return live, taped, read_tape(tape)[1][0]


def same(live: RawResponse, taped: RawResponse) -> bool:
    """Whether two responses are the same to a client."""
    dates = {"date"}
    heads = [
        {name: value for name, value in found.headers.items() if name not in dates}
        for found in (live, taped)
    ]
    return (live.status, heads[0], live.chunks, live.end, live.announced) == (
        taped.status,
        heads[1],
        taped.chunks,
        taped.end,
        taped.announced,
    )


WHOLE = (CHUNKED, chunk(b"data: 1\n\n"), chunk(b"data: 2\n\n"), LAST_CHUNK)


@pytest.mark.parametrize(
    ("handler", "how"),
    [
        (sends(*WHOLE), "whole"),
        (sends(CHUNKED, chunk(b"data: 1\n\n")), "cut"),
        (sends(CHUNKED, chunk(b"data: 1\n\n"), b"9\r\ndata"), "cut"),
        (sends(CHUNKED, chunk(b"data: 1\n\n"), then="reset"), "reset"),
        (sends(wire.sized(9), b"data: ", b"1\n\n"), "whole"),
        (sends(wire.sized(9), b"data: "), "cut"),
        (sends(wire.sized(9), b"data: ", then="reset"), "reset"),
        (sends(UNFRAMED, b"data: 1\n\n"), "whole"),
        (sends(UNFRAMED, b"data: 1\n\n", then="reset"), "reset"),
        (sends(head(204)), "whole"),
        (sends(head(500, "Content-Length: 0")), "whole"),
        (sends(b"HTTP/1.1 102 Wait\r\n\r\n", *WHOLE), "whole"),
    ],
)
async def test_a_response_ends_on_the_tape_as_it_ended_live(
    handler: Any, how: str, tape: Path, connect: RawClients
) -> None:
    live, taped, exchange = await both(handler, tape, connect)
    assert same(live, taped)
    assert exchange.end.how == how
    assert live.end == {"whole": "whole", "cut": "closed", "reset": "reset"}[how]


@pytest.mark.parametrize("then", ["close", "reset"])
async def test_what_ends_before_the_head_ends_so_on_the_tape(
    then: str, tape: Path, connect: RawClients
) -> None:
    async with recording(sends(b"HTTP/1.1 200", then=then), tape) as (_, recorder):
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)) as live:
            await (await connect(recorder)).stream()
    async with Player(tape) as player:
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)) as taped:
            await (await connect(player)).stream()
    assert live.type is taped.type
    assert read_tape(tape)[1][0].response is None


# --- what the App gets ---------------------------------------------------------------------------


async def test_the_app_gets_what_the_client_sent(tape: Path, connect: RawClients) -> None:
    async with Wire(sends(*WHOLE)) as app:
        async with Recorder(f"{app.url}/base/?a=b#c", tape) as recorder:
            client = await connect(recorder)
            await client.stream("/v1/runs?x=%2F", key=SECRET, x_own="ü", accept_encoding="gzip")
        request = app.requests[0]
    assert (request.method, request.target) == ("POST", "/base/v1/runs?x=%2F")
    assert request.json() == {"input": {}, "stream": True}
    assert request.headers["authorization"] == f"Bearer {SECRET}"
    assert request.headers["host"] == f"127.0.0.1:{app.port}"
    assert request.headers["accept-encoding"] == "identity"
    assert request.headers["x-own"].encode("latin-1").decode() == "ü"
    header, [exchange] = read_tape(tape)
    assert header.app == f"{app.url}/base/"
    assert exchange.request.path == "/v1/runs?x=%2F"
    assert SECRET not in text_of(tape)


async def test_a_compressed_request_is_looked_at_and_passed_on_without(
    tape: Path, connect: RawClients
) -> None:
    async with recording(sends(*WHOLE), tape, mask=["name"]) as (app, recorder):
        body = gzip.compress(b'{"input": {"name": "Ann Smith"}}')
        await (await connect(recorder)).post("/", body, content_encoding="gzip")
        assert app.requests[0].json() == {"input": {"name": "Ann Smith"}}
        assert "content-encoding" not in app.requests[0].headers
        refused = await (await connect(recorder)).post("/", body, content_encoding="zip")
        assert (refused.status, refused.error["code"]) == (415, "unsupported_media_type")
    [exchange] = read_tape(tape)[1]
    assert exchange.request.body.text == '{"input": {"name": "***"}}'


async def test_an_app_may_respond_before_it_has_read_the_request(
    tape: Path, connect: RawClients
) -> None:
    done = asyncio.Event()

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head(413, "Content-Length: 0"))
        await done.wait()
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0, limit=1024) as server:
        port = server.sockets[0].getsockname()[1]
        async with Recorder(f"http://127.0.0.1:{port}", tape) as recorder:
            client = await connect(recorder)
            response = await asyncio.wait_for(client.post("/", b"x" * 20_000_000), 60)
            done.set()
    assert response.status == 413
    [exchange] = read_tape(tape)[1]
    assert (exchange.request.body.size, exchange.request.body.text) == (20_000_000, None)


# --- masks ---------------------------------------------------------------------------------------


async def test_what_is_named_is_masked_in_what_is_kept_and_not_in_what_passes(
    tape: Path, connect: RawClients
) -> None:
    event = b'data: {"name": "Ann Smith", "text": "Hello Ann Smith"}\n\n'
    cookie = "Set-Cookie: id=cookie-s3cr3t; Path=/"
    whole = head(200, "Content-Type: application/json", "Content-Length: 24", cookie)
    body = {"input": {"name": "Ann Smith"}}
    apps = iter([sends(CHUNKED, chunk(event[:15]), chunk(event[15:]), LAST_CHUNK)] * 2)
    handlers = [next(apps), sends(whole, b'{"name": "Ann Smith!!!"}')]

    async def handle(peer: Peer) -> None:
        await handlers.pop(0)(peer)

    async with recording(handle, tape, mask=["name"]) as (_, recorder):
        live = [await (await connect(recorder)).post("/?name=Ann", body) for _ in range(2)]
    assert live[0].body == event
    assert live[1].json == {"name": "Ann Smith!!!"}
    text = text_of(tape)
    assert "Ann" not in text
    assert "cookie-s3cr3t" not in text
    async with Player(tape) as player:
        taped = [
            await (await connect(player)).post(f"/?name={name}", {"input": {"name": name}})
            for name in ("Bob", "Carol")
        ]
        assert player.header.masked == ("name",)
        assert player.unknown == []
    assert taped[0].events == [{"name": "***", "text": "Hello ***"}]
    assert taped[1].json == {"name": "***"}
    assert taped[1].headers["content-length"] == "15"


async def test_what_one_request_had_is_masked_in_the_later_ones_too(
    tape: Path, connect: RawClients
) -> None:
    token = "callback-s3cr3t"
    told = b'{"said": "to Ann Smith", "callbacks": [{"auth": {"token": "callback-s3cr3t"}}]}'
    answer = head(200, "Content-Type: application/json", f"Content-Length: {len(told)}") + told
    body = {"input": {"name": "Ann Smith"}, "callbacks": [{"auth": {"token": token}}]}
    async with recording(sends(answer), tape, mask=["name"]) as (_, recorder):
        await (await connect(recorder)).post("/v1/runs", body)
        run = await (await connect(recorder)).get("/v1/runs/Ann%20Smith/callback-s3cr3t")
        assert run.body == told
    text = text_of(tape)
    assert token not in text
    assert "Ann Smith" not in text
    async with Player(tape) as player:
        await (await connect(player)).post("/v1/runs", body)
        run = await (await connect(player)).get("/v1/runs/Ann%20Smith/callback-s3cr3t")
        assert run.json["callbacks"] == [{"auth": {"token": "***"}}]


# --- an App that compresses although it was asked not to -----------------------------------------

EVENT = b'data: {"name": "Ann Smith"}\n\n'


def squeezed(*pieces: bytes, wbits: int) -> list[bytes]:
    squeezer = zlib.compressobj(wbits=wbits)
    found = [squeezer.compress(piece) + squeezer.flush(zlib.Z_SYNC_FLUSH) for piece in pieces]
    return [*found[:-1], found[-1] + squeezer.flush()]


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "x-gzip", "deflate"])
@pytest.mark.parametrize("framing", ["chunked", "length", "close"])
async def test_compression_is_taken_off_so_that_it_can_be_masked(
    coding: str, framing: str, tape: Path, connect: RawClients
) -> None:
    wbits = zlib.MAX_WBITS | (16 if "zip" in coding.lower() else 0)
    data = squeezed(EVENT, b"data: 2\n\n", wbits=wbits)
    lines = ["Content-Type: text/event-stream", f"Content-Encoding: {coding}"]
    if framing == "chunked":
        lines.append("Transfer-Encoding: chunked")
        data = [*map(chunk, data), LAST_CHUNK]
    elif framing == "length":
        lines.append(f"Content-Length: {sum(map(len, data))}")
    live, taped, exchange = await both(
        sends(head(200, *lines), *data), tape, connect, mask=["name"]
    )
    assert live.chunks == [EVENT, b"data: 2\n\n"]
    assert (live.end, taped.end, exchange.end.how) == ("whole", "whole", "whole")
    assert taped.chunks == [b'data: {"name": "***"}\n\n', b"data: 2\n\n"]
    assert "content-encoding" not in {**live.headers, **taped.headers}


@pytest.mark.parametrize("cut", [1, 10])
async def test_what_was_compressed_and_cut_is_not_whole(
    cut: int, tape: Path, connect: RawClients
) -> None:
    data = gzip.compress(EVENT)[:-cut]
    lines = (CHUNKED[:-2] + b"Content-Encoding: gzip\r\n\r\n", chunk(data), LAST_CHUNK)
    live, taped, exchange = await both(sends(*lines), tape, connect)
    assert same(live, taped)
    assert (live.end, exchange.end.how) == ("closed", "cut")


async def test_what_cannot_be_looked_at_is_passed_on_and_not_kept(
    tape: Path, connect: RawClients
) -> None:
    lines = (CHUNKED[:-2] + b"Content-Encoding: br\r\n\r\n", chunk(b"squeezed"), LAST_CHUNK)
    live, taped, exchange = await both(sends(*lines), tape, connect)
    assert (live.chunks, live.end) == ([b"squeezed"], "whole")
    assert exchange.pieces == ()
    assert (exchange.end.how, taped.end) == ("error", "closed")
    assert "(br) although it was asked not to" in (exchange.end.message or "")


# --- bounds, and Apps that make no sense ---------------------------------------------------------


async def test_of_a_long_response_the_beginning_is_kept(
    tape: Path, connect: RawClients, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(takes, "MAX_RECORDED", 1000)
    some = [chunk(b"data: %d\n\n" % number) for number in range(100)]
    live, taped, exchange = await both(sends(CHUNKED, *some, LAST_CHUNK), tape, connect)
    assert (len(live.chunks), live.end) == (100, "whole")
    assert [piece for piece in taped.chunks if piece] == live.chunks[: len(exchange.pieces)]
    assert 5 < len(exchange.pieces) < 10  # each costs more memory than its own bytes
    assert (exchange.end.how, taped.end) == ("error", "closed")
    assert "a tape keeps 1000 bytes" in (exchange.end.message or "")


@pytest.mark.parametrize(
    ("handler", "said"),
    [
        (sends(b"SSH-2.0-OpenSSH_9.9\r\n\r\n"), "does not respond with HTTP/1.1"),
        (sends(CHUNKED, b"zz\r\n"), "has no size"),
        (sends(b"HTTP/1.1 101 Yes\r\n\r\n"), "a protocol that was not asked for"),
        (sends(CHUNKED[:-2] + b"Content-Encoding: gzip\r\n\r\n", chunk(b"plain")), "compressed"),
    ],
)
async def test_an_app_that_makes_no_sense_is_an_error_on_the_tape(
    handler: Any, said: str, tape: Path, connect: RawClients
) -> None:
    async with recording(handler, tape) as (_, recorder):
        client = await connect(recorder)
        await client.send("GET", "/")
        while await asyncio.wait_for(client.reader.read(9999), 20):
            continue
    [exchange] = read_tape(tape)[1]
    assert exchange.end.how == "error"
    assert said in (exchange.end.message or "")


async def test_an_app_that_is_not_there_is_an_error_on_the_tape(
    tape: Path, connect: RawClients
) -> None:
    async with Wire(sends()) as gone:
        url = gone.url
    async with Recorder(url, tape) as recorder:
        client = await connect(recorder)
        await client.send("GET", "/")
        assert await client.reader.read() == b""
    [exchange] = read_tape(tape)[1]
    assert (exchange.response, exchange.end.how) == (None, "error")
    assert (exchange.end.message or "").startswith("ConnectionRefusedError: ")


async def test_a_client_that_leaves_is_on_the_tape(tape: Path, connect: RawClients) -> None:
    gone = asyncio.Event()

    async def handle(peer: Peer) -> None:
        await peer.send(CHUNKED, chunk(b"data: 1\n\n"))
        await peer.gone()
        gone.set()
        peer.close()

    async with recording(handle, tape) as (_, recorder):
        client = await connect(recorder)
        await client.send("GET", "/")
        await client.head()
        client.abort()
        await asyncio.wait_for(gone.wait(), 20)  # the App sees it, too
    [exchange] = read_tape(tape)[1]
    assert (exchange.end.how, exchange.end.message) == ("left", None)
    assert recorder.requests[0].disconnected


async def test_what_is_under_way_when_it_stops_is_on_the_tape(
    tape: Path, connect: RawClients
) -> None:
    async def handle(peer: Peer) -> None:
        await peer.send(CHUNKED, chunk(b"data: 1\n\n"))
        await peer.gone()
        peer.close()

    async with Wire(handle) as app, Recorder(app.url, tape) as recorder:
        client = await connect(recorder)
        await client.send("GET", "/")
        await client.head()
        await client.reader.readexactly(len(chunk(b"data: 1\n\n")))
    [exchange] = read_tape(tape)[1]
    assert (exchange.end.how, exchange.end.message) == ("left", "the recording was stopped")
    assert [piece.content.text for piece in exchange.pieces] == ["data: 1\n\n"]


async def test_no_more_is_read_than_the_client_takes(
    tape: Path, connect: RawClients, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(takes, "MAX_RECORDED", 1000)  # it is not about the tape
    data = bytes(range(256)) * 4096 * 40
    sent = asyncio.Event()

    async def handle(peer: Peer) -> None:
        await peer.send(wire.sized(len(data)))
        await peer.send(data)
        sent.set()
        peer.close()

    async with recording(handle, tape) as (_, recorder):
        client = await connect(recorder)
        await client.send("POST", "/")
        await client.head()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(sent.wait(), 0.2)
        assert await asyncio.wait_for(client.reader.readexactly(len(data)), 120) == data


async def test_no_more_is_sent_than_the_app_takes(tape: Path, connect: RawClients) -> None:
    read = 0

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal read
        await reader.readuntil(b"\r\n\r\n")
        while read < 20_000_000:
            read += len(await reader.readexactly(1_000_000))
            await asyncio.sleep(0)
        writer.write(head(200, "Content-Length: 0"))
        writer.close()

    async with await asyncio.start_server(slow, "127.0.0.1", 0, limit=1024) as server:
        port = server.sockets[0].getsockname()[1]
        async with Recorder(f"http://127.0.0.1:{port}", tape) as recorder:
            client = await connect(recorder)
            response = await asyncio.wait_for(client.post("/", b"x" * 20_000_000), 60)
    assert (response.status, read) == (200, 20_000_000)


@pytest.mark.parametrize("what", ["too large", "too slow"])
async def test_a_request_is_bounded_in_size_and_time(
    what: str, tape: Path, connect: RawClients, monkeypatch: pytest.MonkeyPatch
) -> None:
    if what == "too large":
        monkeypatch.setattr(tape_server, "_MAX_BODY", 1000)
    else:
        monkeypatch.setattr(tape_server, "_READ_TIMEOUT", 0.05)
    async with recording(sends(*WHOLE), tape) as (app, recorder):
        client = await connect(recorder)
        if what == "too large":
            await client.send("POST", "/", b"x" * 2000)
        else:
            client.writer.write(head(0).replace(b"HTTP/1.1 0 Whatever", b"POST / HTTP/1.1")[:-2])
            client.writer.write(b"Host: localhost\r\nContent-Length: 9\r\n\r\nslow")
        assert (await client.read()).status == (413 if what == "too large" else 408)
        assert app.requests == []


async def test_it_may_be_closed_at_any_time(tape: Path) -> None:
    recorder = Recorder("http://127.0.0.1:9", tape)
    await recorder.aclose()
    async with recorder:
        await recorder.aclose()
    await recorder.aclose()
    assert not recorder.running


# --- TLS -----------------------------------------------------------------------------------------


async def test_an_app_with_tls(tape: Path, connect: RawClients) -> None:
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(server)
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    live, taped, _ = await both(sends(*WHOLE), tape, connect, tls=server, trust=trust)
    assert same(live, taped)
    assert live.end == "whole"


async def test_a_certificate_that_nobody_vouches_for_is_an_error_on_the_tape(
    tape: Path, connect: RawClients
) -> None:
    trustme = pytest.importorskip("trustme")
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("localhost").configure_cert(server)
    async with recording(sends(*WHOLE), tape, tls=server) as (_, recorder):
        client = await connect(recorder)
        await client.send("GET", "/")
        assert await client.reader.read() == b""
    [exchange] = read_tape(tape)[1]
    assert "SSLCertVerificationError" in (exchange.end.message or "")


# --- WebSockets ----------------------------------------------------------------------------------


@asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(url, autoping=False, **options) as socket,
    ):
        yield socket


async def seen(url: str, *said: str, **options: Any) -> list[Any]:
    """What a client sees that says this, one for each message that comes, until the end."""
    found: list[Any] = []
    left = list(said)
    async with opened(url, **options) as socket:
        found.append(socket.protocol)
        while True:
            message = await socket.receive(timeout=20)
            found.append((message.type.name, message.data, message.extra))
            if message.type not in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
                return found
            if left:
                await socket.send_str(left.pop(0))


def socket_app(*frames: bytes, wait: int = 0) -> Callable[[Peer], Awaitable[None]]:
    """An App that sends these frames, waits for so many bytes of the client, and goes."""

    async def handle(peer: Peer) -> None:
        socket = SocketPeer(peer)
        await socket.accept("Sec-WebSocket-Protocol: chat", "X-Own: 1")
        for data in frames:
            await peer.send(data)
            await asyncio.sleep(0.005)
        await peer.reader.readexactly(wait)
        peer.close()

    return handle


async def both_sockets(handler: Any, tape: Path, *said: str, **options: Any) -> list[Any]:
    async with recording(handler, tape, mask=["name"]) as (_, recorder):
        live = await seen(recorder.url, *said, **options)
    async with Player(tape) as player:
        assert await seen(player.url, *said, **options) == live
        assert player.unknown == []
    return live


async def test_frames_are_passed_on_and_kept_as_they_are(tape: Path) -> None:
    frames = (
        frame(TEXT, b'{"a": 1}') + frame(BINARY, b"\xff")[:1],
        frame(BINARY, b"\xff")[1:],
        frame(TEXT, b"x" * 70_000),
        frame(TEXT, b"y" * 300, final=False),
        frame(CONTINUATION, b"z"),
        goodbye(1000, "bye"),
    )
    handler = socket_app(*frames, wait=6)
    live = await both_sockets(handler, tape, protocols=["chat"])
    assert live[0] == "chat"
    assert [kind for kind, _, _ in live[1:]] == ["TEXT", "BINARY", "TEXT", "TEXT", "CLOSE"]
    assert live[4][1] == "y" * 300 + "z"
    assert live[5][1:] == (1000, "bye")
    [exchange] = read_tape(tape)[1]
    assert exchange.end.how == "whole"
    assert exchange.response is not None
    assert ("X-Own", "1") in exchange.response.headers
    assert [piece.op for piece in exchange.pieces if not piece.client] == [
        0x81, 0x82, 0x81, 0x01, 0x80, 0x88,
    ]  # fmt: skip


async def test_a_message_is_masked_whose_frames_are_cut_within_a_field(tape: Path) -> None:
    async def handle(peer: Peer) -> None:
        await SocketPeer(peer).accept()
        await peer.send(
            frame(TEXT, b'{"name": "Ann Sm', final=False),
            frame(PING, b"Ann Smith"),
            frame(CONTINUATION, b'ith", "a": 1}'),
            frame(TEXT, b'{"b": 2, "name": "Bob', final=False),
        )
        await peer.reader.readexactly(10)
        peer.close()

    async with (
        recording(handle, tape, mask=["name"]) as (_, recorder),
        opened(recorder.url) as socket,
    ):
        await socket.send_str('{"name": "Ann Smith"}')
        assert (await socket.receive()).data == b"Ann Smith"
        assert (await socket.receive()).json() == {"name": "Ann Smith", "a": 1}
        await socket.receive()
    text = text_of(tape)
    assert not any(name in text for name in ("Ann", "ith", "Bob"))


@pytest.mark.parametrize("then", [frame(TEXT, b"abc")[:3], b""])
async def test_a_socket_that_is_cut_is_cut_on_the_tape(then: bytes, tape: Path) -> None:
    live = await both_sockets(socket_app(frame(TEXT, b"1"), then), tape)
    assert [kind for kind, _, _ in live[1:]] == ["TEXT", "CLOSED"]
    [exchange] = read_tape(tape)[1]
    assert exchange.end.how == "cut"
    assert [piece.op for piece in exchange.pieces] == ([0x81, None] if then else [0x81])


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (b"\xc1\x01a", "an extension that was not asked for"),
        (b"\x81\x7f\x7f" + bytes(7), "more than 16777216 bytes"),
    ],
)
async def test_frames_that_make_no_sense_are_an_error_on_the_tape(
    bad: bytes, said: str, tape: Path
) -> None:
    live = await both_sockets(socket_app(frame(TEXT, b"1"), bad), tape)
    assert [kind for kind, _, _ in live[1:]] == ["TEXT", "CLOSED"]
    [exchange] = read_tape(tape)[1]
    assert exchange.end.how == "error"
    assert said in (exchange.end.message or "")


async def test_a_handshake_that_makes_no_sense_is_refused(tape: Path, connect: RawClients) -> None:
    async with recording(sends(), tape) as (app, recorder):
        for headers in ({"sec_websocket_version": "13"}, {"sec_websocket_key": "a"}):
            client = await connect(recorder)
            refused = await client.get("/", upgrade="websocket", connection="Upgrade", **headers)
            assert (refused.status, refused.error["code"]) == (400, "bad_request")
        assert app.requests == []
    assert read_tape(tape)[1] == []


async def test_an_app_may_refuse_the_handshake(tape: Path) -> None:
    async with recording(sends(head(403, "Content-Length: 0")), tape) as (_, recorder):
        with pytest.raises(aiohttp.WSServerHandshakeError) as live:
            await seen(recorder.url)
    async with Player(tape) as player:
        with pytest.raises(aiohttp.WSServerHandshakeError) as taped:
            await seen(player.url)
    assert live.value.status == taped.value.status == 403


# --- the tape's file, and what it refuses --------------------------------------------------------


def mode_of(tape: Path) -> int:
    return stat.S_IMODE(tape.stat().st_mode)


async def test_a_tape_is_for_its_user_alone_and_never_written_over(tape: Path) -> None:
    async with Emulator.record("http://127.0.0.1:9", tape) as recorder:
        assert mode_of(tape) == 0o600
        assert str(recorder) == f"Recording http://127.0.0.1:9 to {tape}"
    before = text_of(tape)
    with pytest.raises(FileExistsError):
        await Recorder("http://127.0.0.1:9", tape).start()
    assert text_of(tape) == before


async def test_where_it_cannot_listen_there_is_no_tape(tape: Path) -> None:
    async with Emulator("echo") as emulator:
        with pytest.raises(OSError, match="address already in use"):
            await Recorder("http://127.0.0.1:9", tape, port=emulator.port).start()
    with pytest.raises(FileNotFoundError):
        text_of(tape)


async def test_a_folder_that_is_not_there_is_the_systems_error(tape: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await Recorder("http://127.0.0.1:9", tape / "tape.jsonl").start()


@pytest.mark.parametrize("app", ["", "my-app.example", "ftp://my-app.example", "http://"])
def test_what_is_no_url_of_an_app_is_an_error(app: str, tape: Path) -> None:
    with pytest.raises(ValueError, match="is not the URL of an App"):
        Recorder(app, tape)


async def test_a_password_in_the_url_is_not_on_the_tape(tape: Path) -> None:
    async with Recorder(f"https://user:{SECRET}@my-app.example/a?key={SECRET}", tape) as recorder:
        assert SECRET not in str(recorder)
    assert SECRET not in text_of(tape)


async def test_pages_and_names_of_others_are_refused_and_not_passed_on(
    tape: Path, connect: RawClients
) -> None:
    async with recording(sends(*WHOLE), tape) as (app, recorder):
        client = await connect(recorder)
        refused = await client.get("/", host="evil.example")
        assert refused.status == 421
        await client.send("OPTIONS", "*")
        assert (await client.read()).status == 400
        assert app.requests == []


def test_an_option_that_there_is_not_is_refused(tape: Path) -> None:
    options: Any = {"masks": ["email"]}
    with pytest.raises(TypeError, match="masks"):
        Recorder("http://localhost:1", tape, **options)
