"""Records: a proxy in front of a real App, which passes everything on and writes it to a tape."""

from __future__ import annotations

import asyncio
import base64
import os
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, cast

import msgspec
from aiohttp import WSMsgType, web
from yarl import URL

from .masks import Mask
from .models import VERSION, Content, Ending, Exchange, Header, Piece, Response
from .responses import ResponseReader
from .server import TapeServer, request_of
from .sockets import CLOSE, FrameReader, frame, payload
from .upstream import Upstream
from .writer import HOP

if TYPE_CHECKING:
    import ssl
    from collections.abc import Collection

    from ..core.multipart import Buffer
    from ..core.request_record import RequestRecord
    from .models import End, Request
    from .writer import ResponseWriter

MAX_RECORDED = 64 * 1024 * 1024
"""Bytes of one response that are kept. What comes behind is passed on, and not on the tape."""

_CONNECT_SECONDS = 30.0
_MAX_MESSAGE = 16 * 1024 * 1024
_NOT_PASSED = {*HOP, "host", "content-length", "accept-encoding", "expect"}
_OF_HANDSHAKE = {
    "sec-websocket-key",
    "sec-websocket-extensions",
    "sec-websocket-version",
    "sec-websocket-accept",
}
_OPCODES = {
    WSMsgType.TEXT: 0x81,
    WSMsgType.BINARY: 0x82,
    WSMsgType.PING: 0x89,
    WSMsgType.PONG: 0x8A,
    WSMsgType.CLOSE: CLOSE,
}


@dataclass
class _Take:
    """One exchange while it is recorded."""

    began: float
    pieces: list[tuple[float, bytes, int | None, bool]] = field(default_factory=list)
    size: int = 0
    response: Response | None = None
    end: Ending | None = None

    def add(self, at: float, data: bytes, op: int | None = None, *, client: bool = False) -> None:
        """Keep a piece, while there is room."""
        self.size += len(data)
        if self.size <= MAX_RECORDED:
            self.pieces.append((self.since(at), data, op, client))

    def since(self, at: float) -> float:
        return round(max(at - self.began, 0.0), 6)

    def finish(self, how: End, missing: int = 0, message: str | None = None) -> None:
        """Note how it ended."""
        now = self.since(asyncio.get_running_loop().time())
        if self.size > MAX_RECORDED:
            how, message = "error", f"of {self.size} bytes the first {MAX_RECORDED} are here"
        self.end = Ending(at=now, how=how, missing=missing, message=message)


class Recorder(TapeServer):
    """Passes requests on to an App, and writes what passes to a tape.

    ```python
    async with Recorder("https://my-app.example", "tape.jsonl", mask=["email"]) as recorder:
        ...  # clients talk to recorder.url, with the App's own key
    ```

    The key of the client goes to the App and not to the tape; cookies and signatures in queries do
    not either. A response is asked for without compression, so that it can be looked at.

    Args:
        app: the URL of the App.
        to: the tape, which must not be there yet.
        mask: names of fields whose values are kept off the tape (see `Mask`).
        access_key: what clients are to send; the recorder only has it to show.
        trust: verifies the App's certificate; by default with what the system trusts.
        host, port: see `TapeServer`.
    """

    def __init__(
        self,
        app: str,
        to: str | Path,
        *,
        mask: Collection[str] = (),
        access_key: str | None = None,
        trust: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        super().__init__(host=host, port=port)
        self.app = URL(app)
        if self.app.scheme not in ("http", "https") or not self.app.raw_host:
            raise ValueError(f"{app!r} is not the URL of an App")
        self.access_key = access_key
        self.path = Path(to)
        self._names = tuple(sorted(mask))
        self._trust = trust
        self._file: TextIO | None = None
        self._count = 0

    def __str__(self) -> str:
        return f"Recording {self.app.with_user(None)} to {self.path}"

    async def start(self) -> None:
        """Begin the tape, and listen. Raises `FileExistsError` if it is there."""
        # What people said may be on it: it is for its user alone.
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._file = os.fdopen(descriptor, "w", encoding="utf-8", newline="\n")
        now = datetime.now(UTC).isoformat(timespec="seconds")
        url = str(self.app.with_user(None).with_query(None).with_fragment(None))
        self._put(Header(tape=VERSION, app=url, recorded_at=now, masked=self._names))
        try:
            await super().start()
        except BaseException:
            self._file.close()
            self.path.unlink()
            raise

    async def aclose(self) -> None:
        """Stop at once, with what is under way on the tape as far as it came."""
        await super().aclose()
        if self._file is not None:
            self._file.close()

    def _put(self, line: msgspec.Struct) -> None:
        if self._file is not None:
            self._file.write(f"{msgspec.json.encode(line).decode()}\n")
            self._file.flush()

    async def respond(
        self, request: web.BaseRequest, record: RequestRecord, body: Buffer, writer: ResponseWriter
    ) -> None:
        """Pass a request on, and its response back. The tape has a line of it, however it ends."""
        self._count += 1
        number, mask = self._count, Mask(self._names)
        asked = request_of(record, request.rel_url.raw_path_qs, body, mask)
        take = _Take(asyncio.get_running_loop().time())
        try:
            await self._pass(request, body, writer, take)
        finally:
            if take.end is None:
                take.finish("left")
            self._write(number, asked, take, mask)

    async def _pass(
        self, request: web.BaseRequest, body: Buffer, writer: ResponseWriter, take: _Take
    ) -> None:
        try:
            upstream = await Upstream.open(self.app, self._trust, _CONNECT_SECONDS)
        except OSError as error:
            take.finish("error", message=f"{type(error).__name__}: {error}")
            await writer.drop("cut")
        try:
            await upstream.send(self._head(request, len(body)))
            await upstream.send(memoryview(body))
            reader = ResponseReader(request.method)
            await self._relay(request, upstream, reader, writer, take)
        finally:
            upstream.close()

    def _head(self, request: web.BaseRequest, size: int) -> bytes:
        """The head of a request as the App gets it."""
        socket = _is_socket(request)
        lines = [
            f"{request.method} {self.app.raw_path.rstrip('/')}{request.rel_url.raw_path_qs} "
            "HTTP/1.1",
            f"Host: {self.app.host_port_subcomponent}",
            "Accept-Encoding: identity",
        ]
        left_out = _NOT_PASSED | (_OF_HANDSHAKE if socket else set())
        lines += (
            f"{name}: {value}"
            for name, value in request.headers.items()
            if name.lower() not in left_out
        )
        if socket:
            key = base64.b64encode(secrets.token_bytes(16)).decode()
            lines += ("Connection: Upgrade", "Upgrade: websocket")
            lines += ("Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}")
        else:
            lines.append("Connection: close")
            if size or request.method in ("POST", "PUT", "PATCH"):
                lines.append(f"Content-Length: {size}")
        return "\r\n".join((*lines, "", "")).encode("utf-8", "surrogateescape")

    async def _relay(
        self,
        request: web.BaseRequest,
        upstream: Upstream,
        reader: ResponseReader,
        writer: ResponseWriter,
        take: _Take,
    ) -> None:
        """Pass the response back, piece by piece as it comes."""
        while not reader.whole:
            at, data = await upstream.receive()
            if not data:
                break
            try:
                pieces = list(reader.feed(data))
            except ValueError as error:
                take.finish("error", message=str(error))
                await writer.drop("cut")
            if reader.status and take.response is None:
                take.response = _head_of(reader, take.since(at))
                if reader.framing == "socket":
                    await _relay_socket(request, upstream, writer, take, b"".join(pieces))
                    return
                writer.start(reader.status, reader.headers, reader.framing)
            for piece in pieces:
                take.add(at, piece)
                await writer.write(piece)
        whole = reader.whole or (reader.framing == "close" and upstream.failure is None)
        how: End = "whole" if whole else _how(upstream)
        take.finish(how, reader.missing)
        await writer.end(how, reader.missing)

    def _write(self, number: int, asked: Request, take: _Take, mask: Mask) -> None:
        """Put the line of an exchange on the tape."""
        response = take.response
        if response is not None:
            response.headers = mask.headers(response.headers)
        if response is not None and response.framing == "socket":
            data = [
                mask.request(data, "") if client else mask.pieces([data])[0]
                for _, data, _, client in take.pieces
            ]
        else:
            data = mask.pieces([data for _, data, _, _ in take.pieces])
        pieces = tuple(
            Piece(at=at, content=Content.of(masked), op=op, client=client)
            for masked, (at, _, op, client) in zip(data, take.pieces, strict=True)
        )
        end = cast("Ending", take.end)
        self._put(Exchange(number=number, request=asked, response=response, pieces=pieces, end=end))


async def _relay_socket(
    request: web.BaseRequest, upstream: Upstream, writer: ResponseWriter, take: _Take, first: bytes
) -> None:
    """Pass the frames of a WebSocket on, both ways, until the App ends it."""
    socket = web.WebSocketResponse(autoclose=False, autoping=False, max_msg_size=_MAX_MESSAGE)
    for name, value in cast("Response", take.response).headers:
        if name.lower() not in HOP | _OF_HANDSHAKE:
            socket.headers.add(name, value)
    await socket.prepare(request)
    writer.upgraded()
    frames, closed = FrameReader(), False
    at, data = asyncio.get_running_loop().time(), first
    sender = asyncio.create_task(_send_messages(socket, upstream, take))
    try:
        while True:
            for op, sent in frames.feed(data):
                take.add(at, sent, op)
                closed = closed or op == CLOSE
            await writer.write(data)
            at, data = await upstream.receive()
            if not data:
                break
    finally:
        sender.cancel()
        await asyncio.wait([sender])
    if frames.rest:
        take.add(at, frames.rest)
    how: End = "whole" if closed and upstream.failure is None else _how(upstream)
    take.finish(how)
    await writer.end(how)


async def _send_messages(socket: web.WebSocketResponse, upstream: Upstream, take: _Take) -> None:
    """Pass on what the client sends, until it closes or leaves."""
    while (message := await socket.receive()).type in _OPCODES:
        op, said = _OPCODES[message.type], payload(message)
        take.add(asyncio.get_running_loop().time(), said, op, client=True)
        await upstream.send(frame(op, said, masked=True))
    # A client that leaves without closing takes its handler with it.


def _head_of(reader: ResponseReader, at: float) -> Response:
    headers = tuple(reader.headers)
    return Response(at=at, status=reader.status, headers=headers, framing=reader.framing)


def _how(upstream: Upstream) -> End:
    """How a response ended that is not whole."""
    return "cut" if upstream.failure is None else "reset"


def _is_socket(request: web.BaseRequest) -> bool:
    return request.headers.get("Upgrade", "").lower() == "websocket"
