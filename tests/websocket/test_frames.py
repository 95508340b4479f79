"""The frames of RFC 6455, on a connection without a network."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamiq_async import errors
from dynamiq_async._http.limiter import Limiter
from dynamiq_async._http.sender import OpenResponse
from dynamiq_async.websocket.connection import WebSocket
from tests.support.network import turns
from tests.support.websocket_peers import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT
from tests.support.websocket_peers import frame as server_frame

STREAM = b"".join(
    (
        server_frame(TEXT, b"one"),
        server_frame(PING, b"?"),
        server_frame(TEXT, b"t", final=False),
        server_frame(PONG),
        server_frame(PING, b"!"),
        server_frame(CONTINUATION, b"w", final=False),
        server_frame(CONTINUATION, b"o"),
        server_frame(TEXT, b"", final=False),
        server_frame(CONTINUATION, b"three"),
        server_frame(BINARY, bytes(range(256))),
        server_frame(TEXT, b""),
        server_frame(TEXT, b"x" * 70_000),
        server_frame(CLOSE, b"\x03\xe8bye"),
    )
)
MESSAGES = [b"one", b"two", b"three", bytes(range(256)), b"", b"x" * 70_000]
WRITTEN = [(PONG, b"?"), (PONG, b"!"), (CLOSE, b"\x03\xe8")]


class Line(OpenResponse):
    """An upgraded connection: what comes on it is known, and what goes is noted."""

    status, framed, unsent = 101, True, 0

    def __init__(self, *pieces: bytes) -> None:
        super().__init__(self, Limiter(1))
        self.pieces = [piece for piece in pieces if piece]
        self.written = b""
        self.headers: dict[str, str] = {}

    async def read(self) -> bytes:
        return self.pieces.pop(0) if self.pieces else b""

    def arrived(self) -> None:
        raise NotImplementedError

    def fail(self, error: Exception) -> None:
        raise NotImplementedError

    def write(self, data: bytes) -> None:
        self.written += data

    async def drain(self) -> None:
        pass

    def close(self) -> None:
        pass

    def frames(self) -> list[tuple[int, bytes]]:
        """What was written: whole frames, each masked."""
        found, data = [], self.written
        while data:
            assert data[0] & 0xF0 == 0x80
            assert data[1] & 0x80
            size, start = data[1] & 0x7F, 2
            if size > 125:
                start = 4 if size == 126 else 10
                size = int.from_bytes(data[2:start])
            mask, payload = data[start : start + 4], data[start + 4 : start + 4 + size]
            plain = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
            found.append((data[0] & 0x0F, plain))
            data = data[start + 4 + size :]
        return found


class Heard:
    """All that came on a connection, to its end."""

    def __init__(self, line: Line, limit: int) -> None:
        self.line = line
        self.messages: list[bytes | None] = []
        self.error: Exception | None = None
        self.socket = WebSocket(line, "GET /", max_message_bytes=limit, heartbeat=None)

    async def to_the_end(self) -> Heard:
        try:
            while (messages := await self.socket.receive()) is not None:
                self.messages += messages
        except errors.DynamiqError as error:
            self.error = error
        self.socket.close()
        return self


async def hear(*pieces: bytes, limit: int = 1_000_000) -> Heard:
    return await Heard(Line(*pieces), limit).to_the_end()


def check(heard: Heard) -> None:
    assert heard.messages == MESSAGES
    assert heard.socket.closing == (1000, "bye")
    assert heard.line.frames() == WRITTEN


async def test_messages_come_out_whole() -> None:
    check(await hear(STREAM))


@pytest.mark.parametrize("cut", range(400))
async def test_a_cut_anywhere_makes_no_difference(cut: int) -> None:
    check(await hear(STREAM[:cut], STREAM[cut:]))


@given(st.lists(st.integers(0, len(STREAM)), max_size=20))
def test_nor_do_many_cuts(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    check(asyncio.run(hear(*(STREAM[a:b] for a, b in itertools.pairwise(edges)))))


async def test_nor_does_every_byte_by_itself() -> None:
    short = STREAM[:330]
    whole, single = await hear(short), await hear(*(bytes((byte,)) for byte in short))
    assert whole.messages == single.messages == MESSAGES[:5]
    assert str(whole.error) == str(single.error)
    assert "in the middle of a message" in str(whole.error)


async def test_where_a_frame_ends_is_no_middle() -> None:
    for size in (0, 125, 126, 65_535, 65_536):
        assert "in the middle" not in str((await hear(server_frame(TEXT, b"x" * size))).error)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (bytes((0xC1, 0)), 1002),  # a reserved bit: compression nobody agreed on
        (bytes((0x81, 0x80)), 1002),  # masked, which only clients do
        (bytes((0x83, 0)), 1002),  # an opcode that does not exist
        (bytes((0x8B, 0)), 1002),
        (server_frame(PING, final=False), 1002),
        (server_frame(PING, b"x" * 126), 1002),
        (server_frame(CONTINUATION, b"x"), 1002),
        (server_frame(TEXT, b"x", final=False) + server_frame(TEXT, b"x"), 1002),
        (server_frame(CLOSE, b"\x03"), 1002),
        (server_frame(TEXT, announced=1001), 1009),
        (server_frame(TEXT, announced=2**63), 1009),
        (server_frame(TEXT, b"x" * 600, final=False) + server_frame(0, b"x" * 401), 1009),
    ],
)
async def test_what_violates_the_standard_is_refused(data: bytes, code: int) -> None:
    heard = await hear(server_frame(TEXT, b"good") + data + server_frame(TEXT, b"bad"), limit=1000)
    assert heard.messages == [b"good"]
    assert heard.line.frames() == [(CLOSE, code.to_bytes(2))]
    kind: Any = errors.EventTooLargeError if code == 1009 else errors.APIConnectionError
    assert type(heard.error) is kind


async def test_a_message_may_be_as_large_as_the_limit() -> None:
    message = b"x" * 1000
    assert (await hear(server_frame(TEXT, message), limit=1000)).messages == [message]


@pytest.mark.parametrize("size", [0, 1, 3, 4, 125, 126, 65_535, 65_536])
async def test_a_client_s_frame_is_masked(size: int) -> None:
    payload = bytes(i % 251 for i in range(size))
    line = Line()
    socket = WebSocket(line, "GET /", max_message_bytes=1, heartbeat=None)
    await socket.send(payload)
    await socket.send(payload)
    assert line.frames() == [(TEXT, payload)] * 2
    half = len(line.written) // 2
    assert line.written[:half] != line.written[half:]  # with another key each time
    socket.close()


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        (b"", (1005, "")),
        (b"\x03\xe8", (1000, "")),
        (b"\x10\xe4caf\xc3\xa9\xff", (4324, "café\N{REPLACEMENT CHARACTER}")),
    ],
)
async def test_a_close_says_why(payload: bytes, said: tuple[int, str]) -> None:
    heard = await hear(server_frame(CLOSE, payload))
    assert heard.socket.closing == said
    assert heard.line.frames() == [(CLOSE, payload[:2])]


async def test_a_close_amid_a_message_is_one() -> None:
    """The standard allows control frames between fragments; `websockets` does not allow this."""
    heard = await hear(server_frame(TEXT, b"x", final=False) + server_frame(CLOSE, b"\x03\xe8"))
    assert heard.messages == []
    assert heard.socket.closing == (1000, "")
    assert heard.error is None


async def test_empty_messages_count_towards_what_may_wait() -> None:
    """A server that sends nothing but empty messages fills the network, and not our memory."""
    pieces = [server_frame(TEXT) * 1000] * 40
    heard = Heard(Line(*pieces), 1_000_000)
    await turns(100)
    assert 30 < len(heard.line.pieces) < 40  # nobody took what had come, so no more was read
    await heard.to_the_end()
    assert heard.messages == [b""] * 40_000
