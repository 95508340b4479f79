"""Frames of a WebSocket (RFC 6455): parses the frames of an App, and builds frames to send."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, NamedTuple

from aiohttp import WSMessage, WSMsgType, web

from .writer import HOP

if TYPE_CHECKING:
    from collections.abc import Iterable

TEXT, BINARY, CLOSE, PING, PONG = 0x81, 0x82, 0x88, 0x89, 0x8A
"""The first bytes of frames that are whole messages."""

_PROTOCOL = "sec-websocket-protocol"
MAX_MESSAGE = 16 * 1024 * 1024
"""Bytes of the largest message."""

OF_HANDSHAKE = {
    "sec-websocket-key",
    "sec-websocket-extensions",
    "sec-websocket-version",
    "sec-websocket-accept",
}
"""Headers that differ between the two connections, to the client and to the App."""

_FINAL, _RESERVED, _CONTROL = 0x80, 0x70, 0x08


class Frame(NamedTuple):
    """A frame. `op` is its first byte."""

    op: int
    payload: bytes


class FrameReader:
    """Parses the unmasked frames of an App, however they are split.

    Args:
        limit: how many bytes a frame may have.

    Attributes:
        rest: the bytes of the next frame that have come so far.
    """

    def __init__(self, limit: int) -> None:
        self.rest: bytearray = bytearray()
        self._limit = limit

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that these bytes complete.

        Raises ValueError for a frame that is too long, and for a frame that uses an extension: the
        recorder asks for none, and does not know how to read it.
        """
        self.rest += data
        frames = []
        while (frame := self._take()) is not None:
            frames.append(frame)
        return frames

    def _take(self) -> Frame | None:
        data = self.rest
        if len(data) < 2:
            return None
        if data[0] & _RESERVED:
            raise ValueError("a frame of the App has an extension that was not asked for")
        length, start = data[1], 2
        if length > 125:
            start = 4 if length == 126 else 10
            if len(data) < start:
                return None
            length = int.from_bytes(data[2:start])
        limit = self._limit
        if length > limit:
            raise ValueError(f"a frame of the App has more than {limit} bytes")
        if len(data) < start + length:
            return None
        frame = Frame(data[0], bytes(data[start : start + length]))
        del data[: start + length]
        return frame


async def accept(
    request: web.BaseRequest, headers: Iterable[tuple[str, str]], *, autoping: bool
) -> web.WebSocketResponse:
    """Accept the client's WebSocket with these headers of the App's 101."""
    headers = list(headers)
    chosen = [value for name, value in headers if name.lower() == _PROTOCOL]
    socket = web.WebSocketResponse(
        autoclose=False, autoping=autoping, protocols=chosen, max_msg_size=MAX_MESSAGE
    )
    for name, value in headers:
        if name.lower() not in {*HOP, *OF_HANDSHAKE, _PROTOCOL}:
            socket.headers.add(name, value)
    await socket.prepare(request)
    return socket


def can_accept(request: web.BaseRequest) -> bool:
    """Whether the handshake of a client is valid."""
    offered = [name.strip() for name in request.headers.get(_PROTOCOL, "").split(",")]
    return web.WebSocketResponse(protocols=offered).can_prepare(request).ok


def is_control(op: int) -> bool:
    """Whether a frame is a control frame, which is not part of a message."""
    return bool(op & _CONTROL)


def is_final(op: int) -> bool:
    """Whether a frame is the last of its message."""
    return bool(op & _FINAL)


def frame(op: int, payload: bytes, *, masked: bool = False) -> bytes:
    """Build a frame. Frames of a client must be `masked`."""
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
    """The payload of a message's frame."""
    if message.type is WSMsgType.CLOSE:
        code = int(message.data or 0)
        return code.to_bytes(2) + (message.extra or "").encode() if code else b""
    return message.data.encode() if isinstance(message.data, str) else bytes(message.data)
