"""Request bodies as aiohttp writes them: each says when it starts out, and none is held whole
that need not be."""

from __future__ import annotations

from collections.abc import AsyncIterable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import aiohttp
from aiohttp.payload import Payload

from dynamiq_async._http.headers import JSON_TYPE
from dynamiq_async._http.request import Multipart
from dynamiq_async.errors import InvalidArgumentError

if TYPE_CHECKING:
    from aiohttp.abc import AbstractStreamWriter

    from dynamiq_async._http.uploads import Upload
    from dynamiq_async.transport.base import Attempt

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

    def __init__(self, upload: Upload, form: Multipart) -> None:
        super().__init__(upload, content_type=upload.mime_type)
        self._size = upload.size
        self._form = form

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        raise TypeError("a file is sent, not decoded")

    async def write(self, writer: AbstractStreamWriter) -> None:
        meter = _Meter(writer, self._value, self._form)
        await _copy(self._value, meter)
        if self._size is not None and meter.written < self._size:
            # Ending here would send a file cut short.
            raise _changed(self._value, f"only {meter.written}")


class _Meter:
    """Counts what is written of a file, tells how far it is, and stops what grows too large."""

    def __init__(self, writer: AbstractStreamWriter, upload: Upload, form: Multipart) -> None:
        self._writer = writer
        self._upload = upload
        self._form = form
        self.written = 0

    async def write(self, piece: Any) -> None:
        self.written += len(piece)
        limit = self._form.max_file_bytes
        if limit is not None and self.written > limit:
            raise InvalidArgumentError(
                f"{self._upload.name} is larger than {limit} bytes, the most that is taken",
                argument="files",
            )
        size = self._upload.size
        if size is not None and self.written > size:
            # The server would take what is beyond the announced length for the next request.
            raise _changed(self._upload, "more")
        await self._writer.write(piece)
        if self._form.progress is not None:
            self._form.progress(self.written, self._upload.size)


def _changed(upload: Upload, found: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"{upload.name} changed while it was sent: {found} instead of {upload.size} bytes",
        argument="files",
    )


class _Form(aiohttp.MultipartWriter):
    def __init__(self, attempt: Attempt) -> None:
        super().__init__("form-data")
        self._attempt = attempt

    async def write(self, writer: AbstractStreamWriter, close_boundary: bool = True) -> None:
        self._attempt.sent = True
        try:
            await super().write(writer, close_boundary)
        except (aiohttp.ClientError, ConnectionError):
            raise
        except Exception as error:
            # aiohttp will say that the connection failed; it was the body.
            self._attempt.failure = error
            raise


def _form(body: Multipart, attempt: Attempt) -> Payload:
    form = _Form(attempt)
    for name, text in body.fields:
        field = aiohttp.StringPayload(text, content_type="text/plain; charset=utf-8")
        field.set_content_disposition("form-data", quote_fields=False, name=name)
        form.append_payload(field)
    for name, upload in body.files:
        part = _File(upload, body)
        part.set_content_disposition(
            "form-data", quote_fields=False, name=name, filename=upload.name
        )
        form.append_payload(part)
    return form


async def _copy(upload: Upload, out: _Meter) -> None:
    content = upload.content
    if isinstance(content, bytes | bytearray | memoryview):
        await _write_pieces(out, content)
    elif isinstance(content, AsyncIterable):
        async for piece in content:
            await out.write(piece)
    else:
        await _copy_file(upload, content, out)


async def _copy_file(upload: Upload, content: Path | IO[bytes], out: _Meter) -> None:
    import anyio

    if isinstance(content, Path):
        # Opened here: a thread that is abandoned while it opens a file would leave it open.
        async with anyio.wrap_file(_opened(content)) as opened:
            while piece := await opened.read(PIECE):
                await out.write(piece)
        return
    await anyio.to_thread.run_sync(upload.rewind)
    borrowed = anyio.wrap_file(content)
    while piece := await borrowed.read(PIECE):
        await out.write(piece)


def _opened(path: Path) -> IO[bytes]:
    return path.open("rb")


async def _write_pieces(out: AbstractStreamWriter | _Meter, value: Any) -> None:
    view = memoryview(value).cast("B")
    for start in range(0, len(view), PIECE):
        await out.write(view[start : start + PIECE])
