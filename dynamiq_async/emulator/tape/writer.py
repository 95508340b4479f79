"""Writes a response to the client, as it came from the App or is on a tape."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from ..core.wire import PHRASES, DroppedError, reset, transport_of, written

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable

    from aiohttp import web

    from ..core.request_record import RequestRecord
    from .models import End

HOP = {
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}
"""Headers that belong to one connection, and are not passed on."""


class ResponseWriter:
    """Writes one response: `start`, `write`, `end`."""

    def __init__(self, request: web.BaseRequest, record: RequestRecord) -> None:
        self._request = request
        self._record = record
        self._framing = "length"
        self._keep_alive = request.keep_alive and request.content.is_eof()

    @property
    def response(self) -> web.StreamResponse:
        """The object that aiohttp gets once the response is written."""
        return written(keep_alive=self._keep_alive)

    def start(self, status: int, headers: Iterable[tuple[str, str]], framing: str) -> None:
        """Send the head."""
        self._record.status = status
        self._framing = framing
        kept = [(name, value) for name, value in headers if name.lower() not in HOP]
        named = {name.lower() for name, _ in kept}
        if (framing == "chunked" and self._request.version < (1, 1)) or (
            framing == "length" and "content-length" not in named
        ):
            self._framing = "close"
        if self._framing == "chunked":
            kept.append(("Transfer-Encoding", "chunked"))
        elif self._framing == "close":
            self._keep_alive = False
        if not self._keep_alive:
            kept.append(("Connection", "close"))
        lines = [f"HTTP/1.1 {status} {PHRASES.get(status, '')}"]
        lines += (f"{name}: {value}" for name, value in kept)
        self._transport.write("\r\n".join((*lines, "", "")).encode("latin-1", "replace"))

    def upgraded(self) -> None:
        """Note that a 101 was sent. From now on bytes are sent unchanged."""
        self._record.status = 101
        self._framing = "socket"
        self._keep_alive = False

    async def write(self, data: bytes) -> None:
        """Send a piece of the body."""
        if not data:  # an empty chunk would end the body
            return
        self._record.count(data)
        self._record.events_sent += data.count(b"\n\n") if self._framing == "chunked" else 0
        if self._framing == "chunked":
            data = b"%x\r\n%b\r\n" % (len(data), data)
        self._transport.write(data)
        await self._request.writer.drain()

    async def end(self, how: End, missing: int = 0) -> None:
        """End as the response ended. If it is incomplete, or ends with its connection, close the
        connection and raise `DroppedError`."""
        if how != "whole" or self._framing == "close":
            await self.drop(how, missing)
        if self._framing == "chunked":
            self._transport.write(b"0\r\n\r\n")
        await self._request.writer.drain()

    async def drop(self, how: End, missing: int = 0) -> NoReturn:
        """Close the connection after the bytes written so far, and raise `DroppedError`."""
        self._keep_alive = False
        if missing and self._framing == "chunked":
            self._transport.write(b"%x\r\n" % missing)
        if how == "reset":
            await reset(self._transport)
        self._transport.close()
        raise DroppedError

    @property
    def _transport(self) -> asyncio.Transport:
        return transport_of(self._request)
