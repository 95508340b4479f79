"""Passes a response of the App on to the client, piece by piece as it comes, and records it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import WSMsgType

from .codings import KNOWN, Inflater
from .responses import ResponseReader
from .server import is_socket
from .sockets import (
    BINARY,
    CLOSE,
    MAX_MESSAGE,
    PING,
    PONG,
    TEXT,
    FrameReader,
    accept,
    frame,
    payload,
)
from .upstream import beside

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiohttp import web

    from .models import End
    from .takes import Take
    from .upstream import Upstream
    from .writer import ResponseWriter

_OPCODES = {
    WSMsgType.TEXT: TEXT,
    WSMsgType.BINARY: BINARY,
    WSMsgType.PING: PING,
    WSMsgType.PONG: PONG,
    WSMsgType.CLOSE: CLOSE,
}


async def relay(
    request: web.BaseRequest, upstream: Upstream, writer: ResponseWriter, take: Take
) -> None:
    """Pass the response on. `take` notes how it ended, unless the client leaves before.

    Raises `DroppedError` if the client's connection is closed or reset, as the App's was.
    """
    reader = ResponseReader(request.method)
    body = _Body(reader, writer, take)
    try:
        while not reader.whole:
            at, data = await upstream.receive()
            if not data:
                break
            pieces = reader.feed(data)
            if reader.framing == "socket":
                if not is_socket(request):
                    raise ValueError("the App switches to a protocol that was not asked for")
                take.responded(at, reader.status, tuple(reader.headers), "socket")
                await _relay_socket(request, reader, upstream, writer, take, b"".join(pieces))
                return
            await body.put(at, pieces)
    except ValueError as error:
        take.finish("error", message=str(error))
        await writer.drop("cut")
    whole = reader.whole or (reader.framing == "close" and upstream.failure is None)
    how: End = "whole" if whole and body.whole else _how(upstream)
    missing = body.missing
    take.finish(how, missing)
    await writer.end(how, missing)


class _Body:
    """The body of a response on its way to the client, decompressed if possible."""

    def __init__(self, reader: ResponseReader, writer: ResponseWriter, take: Take) -> None:
        self._reader = reader
        self._writer = writer
        self._take = take
        self._inflater: Inflater | None = None

    @property
    def whole(self) -> bool:
        """Whether no compressed data is missing. An empty body misses none."""
        inflater = self._inflater
        return inflater is None or inflater.whole or not inflater.begun

    @property
    def missing(self) -> int:
        """How many announced bytes did not come."""
        return self._reader.missing if self._inflater is None else 0

    async def put(self, at: float, pieces: Iterable[bytes]) -> None:
        """Pass on the pieces that came at this time."""
        if self._reader.status and self._take.response is None:
            self._begin(at)
        for piece in pieces:
            for data in (piece,) if self._inflater is None else self._inflater.feed(piece):
                self._take.add(at, data)
                await self._writer.write(data)

    def _begin(self, at: float) -> None:
        reader = self._reader
        headers, framing = tuple(reader.headers), reader.framing
        coding = reader.header("content-encoding")
        if framing != "none" and coding in KNOWN:
            self._inflater = Inflater()
            framing = "chunked" if framing == "length" else framing
            gone = ("content-encoding", "content-length")
            headers = tuple(pair for pair in headers if pair[0].lower() not in gone)
        elif framing != "none" and coding not in ("", "identity"):
            self._take.leave_out(
                f"the App compressed its response ({coding}) although it was asked not to; what "
                "cannot be looked at is not kept"
            )
        self._take.responded(at, reader.status, headers, framing)
        self._writer.start(reader.status, headers, framing)


async def _relay_socket(
    request: web.BaseRequest,
    reader: ResponseReader,
    upstream: Upstream,
    writer: ResponseWriter,
    take: Take,
    data: bytes,
) -> None:
    """Pass the frames of a WebSocket on, in both directions, until the App ends it.

    Raises ValueError for invalid frames.
    """
    socket = await accept(request, reader.headers, autoping=False)
    writer.upgraded()
    frames, closed = FrameReader(MAX_MESSAGE), False
    at = asyncio.get_running_loop().time()
    async with beside(_send_messages(socket, upstream, take)):
        while True:
            for op, sent in frames.feed(data):
                take.add(at, sent, op)
                if op == CLOSE and not closed:
                    closed = True
                    take.finish("whole")  # whatever the client does from now on
            await writer.write(data)
            at, data = await upstream.receive()
            if not data:
                break
    if frames.rest:
        take.add(at, bytes(frames.rest))
    how: End = "whole" if closed and upstream.failure is None else _how(upstream)
    take.finish(how)
    await writer.end(how)


async def _send_messages(socket: web.WebSocketResponse, upstream: Upstream, take: Take) -> None:
    """Pass on what the client sends, until it closes or leaves."""
    while (message := await socket.receive()).type in _OPCODES:
        op, said = _OPCODES[message.type], payload(message)
        take.add(asyncio.get_running_loop().time(), said, op, client=True)
        await upstream.send(frame(op, said, masked=True))
    # If a client leaves without closing, aiohttp cancels its handler.


def _how(upstream: Upstream) -> End:
    """How an incomplete response ended."""
    return "cut" if upstream.failure is None else "reset"
