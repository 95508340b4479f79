"""The server's end of a WebSocket on bare sockets: exact frames at exact moments."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Any

import msgspec

from tests.support.wire import Peer, final, head, says

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.support.wire import Handler

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA


def accept_of(key: str) -> str:
    digest = hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
    return base64.b64encode(digest).decode()


def frame(
    opcode: int, payload: bytes = b"", *, final: bool = True, announced: int | None = None
) -> bytes:
    """A server's frame; `announced` is a length that it does not have."""
    length = len(payload) if announced is None else announced
    first = (0x80 if final else 0) | opcode
    if length < 126:
        return bytes((first, length)) + payload
    if length < 1 << 16:
        return bytes((first, 126)) + length.to_bytes(2) + payload
    return bytes((first, 127)) + length.to_bytes(8) + payload


def text(value: Any) -> bytes:
    return frame(TEXT, value if isinstance(value, bytes) else msgspec.json.encode(value))


INPUT = {"question": "?"}
ONE, TWO, END = text(says("one")), text(says("two")), text(final())
QUESTION = text({**says(""), "data": {"prompt": "?", "action": "ask"}})


def goodbye(code: int | None = 1000, reason: str = "") -> bytes:
    return frame(CLOSE, b"" if code is None else code.to_bytes(2) + reason.encode())


class SocketPeer:
    """A connection that was upgraded."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.reader = peer.reader

    async def accept(self, *lines: str, rest: bytes = b"") -> None:
        key = self.peer.request.headers["sec-websocket-key"]
        lines = (
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Accept: {accept_of(key)}",
            *lines,
        )
        await self.peer.send(head(101, *lines) + rest)

    async def frame(self) -> tuple[int, bytes]:
        """The client's next frame, which has to be whole and masked."""
        first, second = await self.reader.readexactly(2)
        assert first & 0xF0 == 0x80
        assert second & 0x80
        length = second & 0x7F
        if length >= 126:
            length = int.from_bytes(await self.reader.readexactly(2 if length == 126 else 8))
        mask = await self.reader.readexactly(4)
        payload = await self.reader.readexactly(length)
        return first & 0x0F, bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))

    async def message(self) -> Any:
        """The client's next JSON message, pings answered before; who leaves instead is gone."""
        opcode, payload = await self.frame()
        while opcode == PING:
            await self.send(frame(PONG, payload))
            opcode, payload = await self.frame()
        if opcode == CLOSE:
            raise ConnectionError
        assert opcode == TEXT, (opcode, payload)
        return msgspec.json.decode(payload)

    async def say(self, *values: Any) -> None:
        await self.peer.send(*map(text, values))

    async def send(self, *pieces: bytes) -> None:
        await self.peer.send(*pieces)

    async def gone(self) -> None:
        await self.peer.gone()


def talking(conversation: Callable[[SocketPeer], Awaitable[None]]) -> Handler:
    """A handler that accepts the WebSocket and then does what it is told."""

    async def handler(peer: Peer) -> None:
        socket = SocketPeer(peer)
        await socket.accept()
        await conversation(socket)
        peer.close()

    return handler


def saying(*pieces: bytes, stay: bool = True) -> Handler:
    """A handler that takes the first message, sends these bytes, and stays or goes."""

    async def conversation(socket: SocketPeer) -> None:
        await socket.message()
        await socket.send(*pieces)
        if stay:
            await socket.gone()

    return talking(conversation)
