"""Frames of a WebSocket (RFC 6455): those of an App taken apart, and those that are sent made."""

from __future__ import annotations

import secrets
from typing import NamedTuple

from aiohttp import WSMessage, WSMsgType

CLOSE = 0x88
"""The first byte of a frame that closes."""


class Frame(NamedTuple):
    """A frame. `op` is its first byte; None: bytes that are no whole frame."""

    op: int | None
    payload: bytes


class FrameReader:
    """Takes the frames of an App apart, which are not masked, however they are cut."""

    def __init__(self) -> None:
        self.rest = b""

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that these bytes complete; `rest` is what is left of them."""
        self.rest += data
        frames = []
        while (frame := self._take()) is not None:
            frames.append(frame)
        return frames

    def _take(self) -> Frame | None:
        data = self.rest
        if len(data) < 2:
            return None
        length, start = data[1] & 0x7F, 2
        if length > 125:
            start = 4 if length == 126 else 10
            if len(data) < start:
                return None
            length = int.from_bytes(data[2:start])
        if len(data) < start + length:
            return None
        self.rest = data[start + length :]
        return Frame(data[0], data[start : start + length])


def frame(op: int, payload: bytes, *, masked: bool = False) -> bytes:
    """A frame. A client's is masked."""
    length, bit = len(payload), 0x80 if masked else 0
    if length < 126:
        head = bytes((op, bit | length))
    elif length < 1 << 16:
        head = bytes((op, bit | 126)) + length.to_bytes(2)
    else:
        head = bytes((op, bit | 127)) + length.to_bytes(8)
    if not masked:
        return head + payload
    key = secrets.token_bytes(4)
    pad = (key * (length // 4 + 1))[:length]
    return head + key + (int.from_bytes(payload) ^ int.from_bytes(pad)).to_bytes(length)


def payload(message: WSMessage) -> bytes:
    """What the frame of a message has in it."""
    if message.type is WSMsgType.CLOSE:
        code = int(message.data or 0)
        return code.to_bytes(2) + (message.extra or "").encode() if code else b""
    data = message.data
    return data.encode("utf-8", "surrogatepass") if isinstance(data, str) else bytes(data)
