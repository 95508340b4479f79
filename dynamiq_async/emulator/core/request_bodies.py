"""Request bodies: read to the end, and parsed by their content type.

Memory stays bounded: a body of more than `IN_MEMORY` bytes lives in a temporary file.
"""

from __future__ import annotations

import mmap
import tempfile
from email.message import Message
from functools import lru_cache
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from anyio.to_thread import run_sync

from ... import _json
from .body_limits import IN_MEMORY
from .multipart import split_form
from .refusals import RefusalError

if TYPE_CHECKING:
    from pathlib import Path

    from aiohttp import web

    from .multipart import Buffer
    from .request_record import RequestRecord


def body_that_came(request: web.BaseRequest, limit: int) -> Buffer | None:
    """The body, if all of it came with the head; None if it must be read."""
    content = request.content
    if content.is_eof() and content.total_bytes < min(IN_MEMORY, limit):
        return content.read_nowait()
    return None


async def read_body(
    request: web.BaseRequest, folder: Path, limit: int, *, keep: bool = True
) -> Buffer:
    """The whole body, in memory or as a map of a temporary file in `folder`.

    Without `keep` the body is read, so that the connection can be reused, and discarded.

    Raises `RefusalError` (413) when it is longer than `limit` bytes.
    """
    if request.headers.get("Expect", "").lower() == "100-continue" and request.transport:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    body = bytearray()
    file: BinaryIO | None = None
    size = 0
    try:
        async for chunk in request.content.iter_any():
            size += len(chunk)
            if size > limit:
                message = f"the body is larger than {limit} bytes"
                raise RefusalError(413, "payload_too_large", message)
            if keep:
                body += chunk
            if len(body) >= IN_MEMORY:
                if file is None:
                    file = await run_sync(_temporary_file, folder)
                await run_sync(file.write, body)
                body = bytearray()
        if file is None:
            return bytes(body)
        file.write(body)
        file.flush()
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    finally:
        if file is not None:
            file.close()


def _temporary_file(folder: Path) -> BinaryIO:
    return tempfile.TemporaryFile(dir=folder)


def parse_into(record: RequestRecord, body: Buffer) -> None:
    """Parse the body by its content type. `Fields.of` refuses a body that cannot be parsed."""
    record.body = body[:IN_MEMORY]
    record.size = len(body)
    content_type = content_type_of(record)
    kind = content_type.kind
    if kind == "application/json":
        try:
            record.json = _json.decode(memoryview(body))
        except _json.DECODE_ERRORS as error:
            record.json_error = str(error)
    elif kind == "multipart/form-data" and content_type.boundary is not None:
        record.form = list(split_form(body, content_type.boundary))


class ContentType(NamedTuple):
    """The kind of content, as `application/json`, and the boundary between its parts."""

    kind: str
    boundary: bytes | None


def content_type_of(record: RequestRecord) -> ContentType:
    """The content type of a request."""
    return _parse(record.headers.get("Content-Type") or "unknown/unknown")


@lru_cache(maxsize=64)
def _parse(header: str) -> ContentType:
    message = Message()
    message["Content-Type"] = header
    boundary = message.get_param("boundary")
    known = boundary.encode("utf-8", "replace") if isinstance(boundary, str) else None
    return ContentType(message.get_content_type(), known)
