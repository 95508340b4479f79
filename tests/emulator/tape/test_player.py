"""A player responds as its tape says, at its times, and to nothing else."""

from __future__ import annotations

import asyncio
import json
import math
import random
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from dynamiq_async import AsyncApp, errors
from dynamiq_async.emulator import Emulator, Player, RunContext
from dynamiq_async.emulator.tape import TAPE_KEY
from dynamiq_async.emulator.tape import player as player_module
from tests.support.network import FakeClock
from tests.support.wire import CHUNKED, LAST_CHUNK, Peer, Wire, chunk

from .test_models import FIRST, RESPONSE, write

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.raw_http import RawClients

HELLO = {"input": {"question": "hi"}}


def taped(
    path: Path, *exchanges: dict[str, Any], masked: tuple[str, ...] = (), tape: str = "a.jsonl"
) -> Path:
    """A tape with these exchanges, whose responses have `text` in pieces at times `at`."""
    lines = []
    for number, given in enumerate(exchanges, 1):
        body, texts = given.get("body"), given.get("pieces", {0.0: "ok"})
        request = {"method": given.get("method", "POST"), "path": given.get("path", "/")}
        if body is not None:
            request["body"] = {"text": json.dumps(body)}
        framing = given.get("framing", "chunked")
        lines.append(
            {
                "number": number,
                "request": {**request, "headers": given.get("headers", [])},
                "response": {**RESPONSE, "at": min(texts, default=0), "framing": framing},
                "pieces": [
                    {"at": at, "content": {"text": text}, **given.get("piece", {})}
                    for at, text in texts.items()
                ],
                "end": {"at": max(texts, default=0), "how": "whole", **given.get("end", {})},
            }
        )
    return write(path / tape, {**FIRST, "masked": masked}, *lines)


# --- which exchange a request gets ---------------------------------------------------------------


async def test_the_same_request_again_gets_the_next_exchange(
    tmp_path: Path, connect: RawClients
) -> None:
    path = taped(
        tmp_path,
        {"body": HELLO, "pieces": {0.0: "one"}},
        {"body": HELLO, "pieces": {0.0: "two"}},
        {"method": "GET", "path": "/v1/runs/r", "pieces": {0.0: "once"}},
        {"method": "GET", "path": "/v1/runs/r", "pieces": {0.0: "twice"}},
    )
    async with Player(path) as player:
        client = await connect(player)
        assert [(await client.post("/", HELLO)).body for _ in range(2)] == [b"one", b"two"]
        looks = [(await client.get("/v1/runs/r")).body for _ in range(3)]
        assert looks == [b"once", b"twice", b"twice"]
        assert player.unknown == []
        refused = await client.post("/", HELLO)
        assert (refused.status, refused.error["code"]) == (404, "not_on_tape")
        said = "the tape has POST / as it was asked for 2 times, and all of it was played"
        assert player.unknown == [refused.error["message"]] == [said]
        player.rewind()
        assert (await client.post("/", HELLO)).body == b"one"


async def test_headers_may_be_others_and_no_key_is_asked_for(
    tmp_path: Path, connect: RawClients
) -> None:
    path = taped(tmp_path, {"body": HELLO, "headers": [["X-Own", "1"], ["Authorization", "***"]]})
    async with Player(path) as player:
        assert (await (await connect(player)).post("/", HELLO, key=None)).body == b"ok"
        assert (player.access_key, str(player)) == (TAPE_KEY, f"Replaying {path}")
        assert player.requests[0].json == HELLO


async def test_a_request_that_the_tape_does_not_know_is_told_the_nearest(
    tmp_path: Path, connect: RawClients
) -> None:
    path = taped(tmp_path, {"body": HELLO}, {"method": "GET", "path": "/v1/runs"})
    async with (
        Player(path) as player,
        AsyncApp(player.url, access_key=player.access_key) as app,
    ):
        with pytest.raises(errors.NotFoundError) as caught:
            await app.invoke({"question": "bye"})
        assert str(caught.value.code) == "not_on_tape"
        [said] = player.unknown
        assert said in str(caught.value)
        assert said.startswith("the tape does not know POST /; the nearest is request 1, POST /: ")
        client = await connect(player)
        await client.send("HEAD", "/v1/runs?limit=5")
        response = await client.head()
        assert response.status == 404
        # Nothing stands before the next response, as a body would.
        assert (await client.get("/v1/runs")).status == 200


async def test_what_is_noted_is_bounded(
    tmp_path: Path, connect: RawClients, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(player_module, "_MOST_NOTES", 2)
    async with Player(taped(tmp_path)) as player:
        client = await connect(player)
        assert [(await client.get("/v1/runs")).status for _ in range(3)] == [404] * 3
        assert len(player.unknown) == 2


async def test_fields_that_are_masked_or_ignored_may_be_others(
    tmp_path: Path, connect: RawClients
) -> None:
    body = {"input": {"name": "***"}, "session_id": "session-1"}
    path = taped(
        tmp_path,
        {"body": body, "path": "/?session_id=session-1"},
        {"method": "GET", "path": "/v1/sessions/session-1", "body": {"session_id": "session-1"}},
        masked=("name",),
    )
    async with Player(path, ignore=["Session_ID"]) as player:
        client = await connect(player)
        there = {"input": {"name": "Ann Smith"}, "session_id": "session-2"}
        assert (await client.post("/?session_id=session-2", there)).body == b"ok"
        session = await client.call("GET", "/v1/sessions/session-3", {"session_id": "session-3"})
        assert session.body == b"ok"
        assert player.unknown == []
    async with Player(path) as player:
        assert (await (await connect(player)).post("/?session_id=session-2", there)).status == 404


async def test_a_websocket_is_no_get(tmp_path: Path, connect: RawClients) -> None:
    path = taped(tmp_path, {"method": "GET", "framing": "chunked"})
    async with Player(path) as player, aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError, match="404"):
            await session.ws_connect(player.url)
        assert player.unknown == [
            "the tape does not know WEBSOCKET /; the nearest is request 1, GET /: the method is "
            "'WEBSOCKET', on the tape 'GET'"
        ]
        assert (await (await connect(player)).get("/")).body == b"ok"


@pytest.mark.parametrize("speed", [0, -1, math.nan])
def test_a_speed_is_above_0(speed: float, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="speed is a number above 0"):
        Player(taped(tmp_path), speed=speed)


# --- responses -----------------------------------------------------------------------------------


async def test_a_tape_may_be_edited(tmp_path: Path, connect: RawClients) -> None:
    """The length of a body is that of its pieces, whatever the header says."""
    path = taped(tmp_path, {"framing": "length", "pieces": {0.0: "ok", 0.1: "", 0.2: "!"}})
    edited = write(path, *path.read_text().replace('"A", "b"', '"Content-Length", "9"').split("\n"))
    async with Player(edited) as player:
        response = await (await connect(player)).call("POST", "/")
        assert (response.body, response.headers["content-length"]) == (b"ok!", "3")


async def test_a_response_without_the_length_it_should_have_ends_with_the_connection(
    tmp_path: Path, connect: RawClients
) -> None:
    path = taped(tmp_path, {"framing": "length", "end": {"how": "error"}}, {"framing": "chunked"})
    async with Player(path) as player:
        response = await (await connect(player)).call("POST", "/")
        assert (response.body, response.end) == (b"ok", "whole")
        old = await (await connect(player)).call("POST", "/", version="1.0")
        assert (old.body, "transfer-encoding" in old.headers) == (b"ok", False)


async def test_an_error_is_a_cut(tmp_path: Path, connect: RawClients) -> None:
    path = taped(tmp_path, {"end": {"how": "error", "message": "?"}})
    async with Player(path) as player:
        response = await (await connect(player)).call("POST", "/")
        assert (response.body, response.end) == (b"ok", "closed")


async def test_what_its_reader_left_stays_open(tmp_path: Path, connect: RawClients) -> None:
    path = taped(tmp_path, {"end": {"how": "left"}, "pieces": {0.0: "one", 0.1: "two"}})
    async with Player(path) as player:
        client = await connect(player)
        await client.send("POST", "/")
        await client.head()
        assert await client.reader.readexactly(16) == chunk(b"one") + chunk(b"two")
        client.abort()
        await player.wait_until(lambda: player.requests[0].finished)
        assert player.requests[0].disconnected


# --- times ---------------------------------------------------------------------------------------


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    fake, loop = FakeClock(), asyncio.get_running_loop()
    loop_time = loop.time
    monkeypatch.setattr(loop, "time", lambda: loop_time() + fake.ahead)
    return fake


async def test_the_tape_has_the_time_at_which_each_piece_came(
    tmp_path: Path, connect: RawClients, clock: FakeClock
) -> None:
    steps = [asyncio.Event() for _ in range(3)]

    async def handle(peer: Peer) -> None:
        for step, data in zip(steps, (CHUNKED, chunk(b"1"), chunk(b"2")), strict=True):
            await step.wait()
            await peer.send(data)
        await asyncio.sleep(0)
        await peer.send(LAST_CHUNK)
        peer.close()

    path = tmp_path / "a.jsonl"
    async with Wire(handle) as app, Emulator.record(app.url, path) as recorder:
        client = await connect(recorder)
        await client.send("POST", "/")
        await app.asked()
        for step, seen in zip(steps, (b"\r\n\r\n", chunk(b"1"), chunk(b"2")), strict=True):
            await clock.pass_by(1000)
            step.set()
            await client.reader.readuntil(seen)
        await client.reader.readuntil(LAST_CHUNK)
    async with Player(path) as player:
        [exchange] = player.exchanges
    assert exchange.response is not None
    times = [exchange.response.at, *(piece.at for piece in exchange.pieces), exchange.end.at]
    assert [round(at, -3) for at in times] == [1000, 2000, 3000, 3000]


@pytest.mark.parametrize("speed", [1, 10, 0.5])
async def test_a_piece_comes_at_its_time(
    speed: float, tmp_path: Path, connect: RawClients, clock: FakeClock
) -> None:
    path = taped(tmp_path, {"pieces": {4e5: "one", 8e5: "two"}, "end": {"at": 12e5}})
    async with Player(path, speed=speed) as player:
        client = await connect(player)
        await client.send("POST", "/")
        await player.wait_until(lambda: player.requests)
        for expected in (CHUNKED[:9], chunk(b"two"), LAST_CHUNK):
            reading = asyncio.create_task(client.reader.readuntil(expected))
            await clock.pass_by(3e5 / speed)
            assert not reading.done()
            await clock.pass_by(1e5 / speed)
            await asyncio.wait_for(reading, 20)


async def test_a_recording_of_a_replay_has_the_times_of_the_tape(
    tmp_path: Path, connect: RawClients, clock: FakeClock
) -> None:
    """Recorded at speed 10, a tape is ten times shorter, and else the same."""
    path = taped(tmp_path, {"pieces": {4e5: "one", 8e5: "two"}, "end": {"at": 12e5}})
    again = tmp_path / "again.jsonl"
    async with Player(path, speed=10) as player, Emulator.record(player.url, again) as recorder:
        client = await connect(recorder)
        await client.send("POST", "/")
        await player.wait_until(lambda: player.requests)
        for expected in (chunk(b"one"), chunk(b"two"), LAST_CHUNK):
            reading = asyncio.create_task(client.reader.readuntil(expected))
            await clock.pass_by(4e4)
            await asyncio.wait_for(reading, 20)
        await recorder.wait_until(lambda: recorder.requests[0].finished)
    live, shorter = Player(path).exchanges[0], Player(again).exchanges[0]
    assert shorter.response is not None
    assert [piece.content for piece in shorter.pieces] == [piece.content for piece in live.pieces]
    times = [shorter.response.at, *(piece.at for piece in shorter.pieces), shorter.end.at]
    assert [round(at, -4) for at in times] == [4e4, 4e4, 8e4, 12e4]


# --- WebSockets ----------------------------------------------------------------------------------


async def asking(input: dict[str, Any], run: RunContext) -> Any:
    await run.text("One moment.", entity_id="llm-1")
    return {"answered": await run.ask("Which?", entity_id="hf-1", event="hf")}


async def converse(url: str, key: str | None, answer: str) -> list[bytes]:
    found = []
    async with AsyncApp(url, access_key=key) as app, app.connect() as socket:
        for question in ("first", "second"):
            run = socket.run({"question": question})
            async for event in run:
                found.append(event.raw)
                if event.question is not None:
                    await socket.answer(event, answer)
            found.append(json.dumps(await run.output(node="node-1")).encode())
    return found


async def test_a_question_is_answered_on_the_socket_of_a_tape(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    async with Emulator(asking) as emulator, Emulator.record(emulator.url, path) as recorder:
        live = await converse(recorder.url, emulator.access_key, "the blue one")
        await recorder.wait_until(lambda: recorder.requests[0].finished)
    assert b'{"answered": "the blue one"}' in live
    async with Emulator.replay(path) as player:
        assert await converse(player.url, player.access_key, "the blue one") == live
        assert player.unknown == []
        player.rewind()
        with pytest.raises(errors.DynamiqError):
            await converse(player.url, player.access_key, "the red one")
        assert player.unknown == [
            "the tape does not know this message of a WebSocket: the body at data.content is "
            "'the red one', on the tape 'the blue one'"
        ]


def socket_tape(tmp_path: Path, *frames: tuple[int, bool, str], how: str = "whole") -> Path:
    path = taped(
        tmp_path,
        {
            "method": "GET",
            "headers": [["Upgrade", "websocket"]],
            "framing": "socket",
            "pieces": {},
            "end": {"how": how},
        },
    )
    first, line = path.read_text().splitlines()
    exchange = json.loads(line)
    exchange["pieces"] = [
        {"at": 0, "op": op, "client": client, "content": {"text": text}}
        for op, client, text in frames
    ]
    return write(path, first, exchange)


async def test_pings_are_each_connections_own(tmp_path: Path) -> None:
    frames = ((0x89, True, "?"), (0x8A, False, "?"), (0x8A, True, ""), (0x81, True, "hi"))
    path = socket_tape(tmp_path, *frames, (0x89, False, "!"), (0x81, False, "ho"))
    async with (
        Player(path) as player,
        aiohttp.ClientSession() as session,
        session.ws_connect(player.url, autoping=False) as socket,
    ):
        await socket.ping(b"here")
        pong = await socket.receive(timeout=20)
        assert (pong.type, pong.data) == (aiohttp.WSMsgType.PONG, b"here")
        await socket.send_str("hi")
        assert (await socket.receive(timeout=20)).type is aiohttp.WSMsgType.PING
        assert (await socket.receive_str(timeout=20)) == "ho"
        assert player.unknown == []


@pytest.mark.parametrize("said", ["a message", "nothing"])
async def test_a_client_that_closes_earlier_than_it_did_then_is_let_go(
    said: str, tmp_path: Path
) -> None:
    frames = [(0x81, True, "hi"), (0x81, False, "ho")] if said == "a message" else []
    path = socket_tape(tmp_path, *frames, how="left")
    async with Player(path) as player, aiohttp.ClientSession() as session:
        socket = await session.ws_connect(player.url)
        if said == "nothing":
            await socket.send_str("nobody waits for it")
        assert await socket.close()
        assert socket.close_code == 1000
        await player.wait_until(lambda: player.requests[0].finished)
        assert player.unknown == []


async def test_a_client_closes_where_it_did_then(tmp_path: Path) -> None:
    path = socket_tape(tmp_path, (0x88, True, ""), (0x88, False, ""))
    async with Player(path) as player, aiohttp.ClientSession() as session:
        socket = await session.ws_connect(player.url)
        assert await socket.close()
        assert player.unknown == []


# --- whatever is asked ---------------------------------------------------------------------------

TARGETS = (
    "/", "/v1/runs", "/v1/runs?a=%FF&a", "//", "/%00", "/\xff", "/a b", "*", "", "a:1",
    "/" + "a" * 3000, "http://evil.example/x", "/?" + "a=b&" * 500, "/..%2F..", "/%zz",
)  # fmt: skip
METHODS = ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "CONNECT", "BREW", "G\xffT")
LINES = (
    "Content-Type: multipart/form-data; boundary=x", "Content-Type: application/json",
    "Content-Type: multipart/form-data; boundary=\xff", "Content-Type: \xff",
    "Content-Type: application/x-www-form-urlencoded", "Content-Encoding: gzip",
    "Content-Encoding: br", "Upgrade: websocket", "Connection: Upgrade", "Cookie: \xff=;;=",
    "Expect: 100-continue", "Authorization: \xff", "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "X: " + "a" * 100, "Host: evil.example",
    "Origin: https://evil.example", "Range: bytes=0-1",
)  # fmt: skip
BODIES = (
    b"", b"{", b'{"input": {"question": "hi"}}', b"[" * 9000, b"\xff\xfe", b'"\\ud800"', b"--x\r\n",
    b'--x\r\nContent-Disposition: form-data; name="name"\r\n\r\nAnn\r\n--x--', b"a=b&name=%FF",
    b'{"name": "' + b"\\" * 5000, b"0" * 5000, b"1e999", b"NaN",
)  # fmt: skip
DOCUMENTED = {
    400: {"bad_request"}, 403: {"forbidden"}, 404: {"not_on_tape"}, 415: {"unsupported_media_type"},
    421: {"misdirected_request"},
}  # fmt: skip


@pytest.mark.parametrize("seed", range(8))
async def test_whatever_is_asked_gets_a_documented_error(
    seed: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rng = random.Random(seed)
    path = taped(tmp_path, {"body": HELLO}, {"path": "/v1/runs", "body": {"name": "***"}})
    statuses = set()
    async with Player(path, ignore=["name"]) as player:
        for _ in range(40):
            statuses.add(await ask_anything(player, rng))
    assert 404 in statuses
    # What the server's own reader of HTTP refuses it logs as it pleases.
    assert [record for record in caplog.records if record.message == "Unhandled exception"] == []


async def ask_anything(player: Player, rng: random.Random) -> int:
    pick: Callable[..., Any] = rng.choice
    body = pick(BODIES)
    lines = [f"{pick(METHODS)} {pick(TARGETS)} HTTP/1.{pick((1, 1, 1, 0))}", "Connection: close"]
    lines += rng.sample(LINES, rng.randint(0, 4))
    if not any(line.startswith("Host") for line in lines):
        lines.append("Host: localhost")
    lines.append(f"Content-Length: {len(body)}")
    reader, writer = await asyncio.open_connection(player.host, player.port)
    writer.write("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
    try:
        whole = await asyncio.wait_for(reader.read(), 20)
    finally:
        writer.close()
    head, _, rest = whole.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n").partition(b"\r\n\r\n")
    status = int(head.split()[1])
    if b"application/json" in head and rest:
        assert json.loads(rest)["error"]["code"] in DOCUMENTED[status], head
    else:  # the server's own reader of HTTP, or a request that is on the tape
        assert status in (200, 400, *DOCUMENTED), head
    return status
