"""Frames are the same however they are cut."""

from __future__ import annotations

import pytest

from dynamiq_async.emulator.tape.sockets import BINARY, CLOSE, TEXT, Frame, FrameReader, frame

FRAMES = [
    Frame(TEXT, b""),
    Frame(0x01, b"a" * 125),
    Frame(0x80, b"b" * 126),
    Frame(BINARY, b"c" * 65_536),
    Frame(CLOSE, b"\x03\xe8bye"),
]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 127, 200_000])
def test_frames_are_the_same_however_they_are_cut(size: int) -> None:
    data = b"".join(frame(op, payload) for op, payload in FRAMES)
    reader, found = FrameReader(100_000), list[Frame]()
    for start in range(0, len(data), size):
        found += reader.feed(data[start : start + size])
    assert found == FRAMES
    assert reader.rest == b""
    assert reader.feed(data[:-1]) == FRAMES[:-1]
    assert len(reader.rest) == len(frame(*FRAMES[-1])) - 1


@pytest.mark.parametrize("length", [0, 125, 126, 65_535, 65_536])
def test_a_clients_frame_is_masked(length: int) -> None:
    payload = bytes(range(256)) * (length // 256) + bytes(length % 256)
    made = frame(TEXT, payload, masked=True)
    key, covered = made[len(made) - length - 4 : len(made) - length], made[len(made) - length :]
    assert bytes(byte ^ key[i % 4] for i, byte in enumerate(covered)) == payload
    assert made[1] & 0x80
    # But for the key and what it covers, it is the server's.
    plain = frame(TEXT, payload)
    assert (made[0], made[1] & 0x7F, made[2:-length - 4 or None]) == (
        plain[0], plain[1], plain[2 : len(plain) - length],
    )  # fmt: skip
