"""Request bodies for aiohttp. Each notes when its first byte is about to be sent."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from aiohttp.payload import Payload

if TYPE_CHECKING:
    from aiohttp.abc import AbstractStreamWriter

    from dynamiq_async.transport.base import Request

PIECE = 256 * 1024
"""Bytes written at a time."""


class RequestBody(Payload):
    """The body of a request. aiohttp's own class would warn about a large body."""

    def __init__(self, request: Request) -> None:
        body = request.body
        super().__init__(body)
        self._size = len(body) if isinstance(body, bytes) else body.length  # type: ignore[union-attr]
        self._request = request

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        if not isinstance(self._value, bytes):
            raise TypeError("a file is sent, not decoded")
        return str(self._value, encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        await self.write_with_length(writer, None)

    async def write_with_length(
        self, writer: AbstractStreamWriter, content_length: int | None
    ) -> None:
        self._request.sent = True
        body = self._value
        if not isinstance(body, bytes):
            async with aclosing(aiter(body)) as pieces:
                async for piece in pieces:
                    await writer.write(piece)
        elif len(body) <= PIECE:
            await writer.write(body)
        else:
            view = memoryview(body)
            for start in range(0, len(view), PIECE):
                await writer.write(view[start : start + PIECE])
