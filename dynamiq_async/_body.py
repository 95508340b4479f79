"""Request bodies as aiohttp writes them: each says when it starts out, and none is held whole
that need not be."""

from __future__ import annotations

from collections.abc import AsyncIterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp.payload import Payload

from dynamiq_async._request import JSON_TYPE, Multipart

if TYPE_CHECKING:
    import anyio
    from aiohttp.abc import AbstractStreamWriter

    from dynamiq_async.transport import Attempt
    from dynamiq_async.uploads import Upload

PIECE = 256 * 1024
"""Bytes read from a file, or written, at a time."""


def encode_body(body: bytes | Multipart | None, attempt: Attempt) -> Payload | None:
    if body is None:
        return None
    if isinstance(body, Multipart):
        return _form(body, attempt)
    return _Bytes(body, attempt)


class _Bytes(Payload):
    """A JSON body. aiohttp's own would warn about a large one."""

    def __init__(self, value: bytes, attempt: Attempt) -> None:
        super().__init__(value, content_type=JSON_TYPE)
        self._size = len(value)
        self._attempt = attempt

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return str(self._value, encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        await self.write_with_length(writer, None)

    async def write_with_length(
        self, writer: AbstractStreamWriter, content_length: int | None
    ) -> None:
        self._attempt.sent = True
        if len(self._value) <= PIECE:
            await writer.write(self._value)
        else:
            await _write_pieces(writer, self._value)


class _File(Payload):
    """One file of a form, read piece by piece in a thread, from its start on every attempt."""

    def __init__(self, upload: Upload) -> None:
        super().__init__(upload, content_type=upload.mime_type)
        self._size = upload.size

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        raise TypeError("a file is sent, not decoded")

    async def write(self, writer: AbstractStreamWriter) -> None:
        written = await _copy(self._value, writer)
        if self._size is not None and written != self._size:
            # The announced length no longer fits; ending here would send a file cut short.
            raise OSError(
                f"{self._value.name} changed while it was sent: {written} bytes instead of "
                f"{self._size}"
            )


class _Form(aiohttp.MultipartWriter):
    def __init__(self, attempt: Attempt) -> None:
        super().__init__("form-data")
        self._attempt = attempt

    async def write(self, writer: AbstractStreamWriter, close_boundary: bool = True) -> None:
        self._attempt.sent = True
        await super().write(writer, close_boundary)


def _form(body: Multipart, attempt: Attempt) -> Payload:
    form = _Form(attempt)
    for name, text in body.fields:
        field = aiohttp.StringPayload(text, content_type="text/plain; charset=utf-8")
        field.set_content_disposition("form-data", quote_fields=False, name=name)
        form.append_payload(field)
    for name, upload in body.files:
        part = _File(upload)
        part.set_content_disposition(
            "form-data", quote_fields=False, name=name, filename=upload.name
        )
        form.append_payload(part)
    return form


async def _copy(upload: Upload, writer: AbstractStreamWriter) -> int:
    """Write the whole content; how many bytes it had."""
    import anyio

    content = upload.content
    if isinstance(content, bytes | bytearray | memoryview):
        return await _write_pieces(writer, content)
    if isinstance(content, AsyncIterable):
        written = 0
        async for piece in content:
            written += len(piece)
            await writer.write(piece)
        return written
    if isinstance(content, Path):
        async with await anyio.open_file(content, "rb") as file:
            return await _write_file(writer, file)
    await anyio.to_thread.run_sync(upload.rewind)
    return await _write_file(writer, anyio.wrap_file(content))


async def _write_pieces(writer: AbstractStreamWriter, value: Any) -> int:
    view = memoryview(value).cast("B")
    for start in range(0, len(view), PIECE):
        await writer.write(view[start : start + PIECE])
    return len(view)


async def _write_file(writer: AbstractStreamWriter, file: anyio.AsyncFile[bytes]) -> int:
    written = 0
    while piece := await file.read(PIECE):
        written += len(piece)
        await writer.write(piece)
    return written
