"""The frames of RFC 6455, without a network."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamiq_async.transport._websocket import FrameError, FrameReader, frame, read_close
from tests.support.websocket_peers import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT
from tests.support.websocket_peers import frame as server_frame

STREAM = b"".join(
    (
        server_frame(TEXT, b"one"),
        server_frame(PING, b"?"),
        server_frame(TEXT, b"t", final=False),
        server_frame(PONG),
        server_frame(CONTINUATION, b"w", final=False),
        server_frame(CONTINUATION, b"o"),
        server_frame(BINARY, bytes(range(256))),
        server_frame(TEXT, b""),
        server_frame(TEXT, b"x" * 70_000),
        server_frame(CLOSE, b"\x03\xe8bye"),
    )
)
FRAMES = [
    (TEXT, b"one"),
    (PING, b"?"),
    (PONG, b""),
    (TEXT, b"two"),
    (BINARY, bytes(range(256))),
    (TEXT, b""),
    (TEXT, b"x" * 70_000),
    (CLOSE, b"\x03\xe8bye"),
]


def read(*pieces: bytes, limit: int = 1_000_000) -> list[tuple[int, bytes]]:
    reader = FrameReader(limit)
    found = [found for piece in pieces for found in reader.feed(piece)]
    assert not reader.pending
    return found


def test_messages_come_out_whole() -> None:
    assert read(STREAM) == FRAMES


@pytest.mark.parametrize("cut", range(400))
def test_a_cut_anywhere_makes_no_difference(cut: int) -> None:
    assert read(STREAM[:cut], STREAM[cut:]) == FRAMES


@given(st.lists(st.integers(0, len(STREAM)), max_size=20))
def test_nor_do_many_cuts(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    assert read(*(STREAM[a:b] for a, b in itertools.pairwise(edges))) == FRAMES


def test_nor_does_every_byte_by_itself() -> None:
    short = STREAM[:300]
    whole = FrameReader(100_000)
    single = FrameReader(100_000)
    expected = list(whole.feed(short))
    assert [f for byte in short for f in single.feed(bytes((byte,)))] == expected
    assert whole.pending
    assert single.pending


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
        (server_frame(TEXT, announced=1001), 1009),
        (server_frame(TEXT, announced=2**63), 1009),
        (server_frame(TEXT, b"x" * 600, final=False) + server_frame(0, b"x" * 401), 1009),
    ],
)
def test_what_violates_the_standard_is_refused(data: bytes, code: int) -> None:
    reader = FrameReader(1000)
    with pytest.raises(FrameError) as caught:
        list(reader.feed(data))
    assert caught.value.code == code


def test_what_came_before_a_violation_comes_out() -> None:
    frames = FrameReader(1000).feed(server_frame(TEXT, b"good") + b"\x00\x00")
    assert next(frames) == (TEXT, b"good")
    with pytest.raises(FrameError):
        next(frames)


def test_a_message_may_be_as_large_as_the_limit() -> None:
    message = b"x" * 1000
    assert read(server_frame(TEXT, message), limit=1000) == [(TEXT, message)]


@pytest.mark.parametrize("size", [0, 1, 3, 4, 125, 126, 65_535, 65_536])
def test_a_client_s_frame_is_masked(size: int) -> None:
    payload = bytes(i % 251 for i in range(size))
    made = frame(TEXT, payload)
    assert made[0] == 0x81
    assert made[1] & 0x80
    head = 2 if size < 126 else 4 if size < 1 << 16 else 10
    mask, masked = made[head : head + 4], made[head + 4 :]
    assert bytes(byte ^ mask[i % 4] for i, byte in enumerate(masked)) == payload
    assert frame(TEXT, b"")[2:] != frame(TEXT, b"")[2:]  # with another key each time


def test_a_close_says_why() -> None:
    assert read_close(b"") == (1005, "")
    assert read_close(b"\x03\xe8") == (1000, "")
    assert read_close(b"\x10\xe4caf\xc3\xa9\xff") == (4324, "café\N{REPLACEMENT CHARACTER}")
    with pytest.raises(FrameError):
        read_close(b"\x03")
