"""Request bodies: read, taken apart, and checked field by field.

A body of any size is read with flat memory: from a MiB on it lives in a temporary file. What is
wrong with a request is said the way the service says it: a `RefusalError`, which becomes the error
envelope.
"""

from __future__ import annotations

import mmap
import re
import tempfile
from dataclasses import dataclass, field
from email.message import Message
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from anyio.to_thread import run_sync

from ... import _json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from aiohttp import web

    from .log import RequestRecord

T = TypeVar("T")
Buffer = bytes | mmap.mmap

IN_MEMORY = 1024 * 1024


class RefusalError(Exception):
    """A request that is answered with an error envelope."""

    def __init__(
        self, status: int, code: str, message: str, details: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.details = details

    def envelope(self) -> dict[str, Any]:
        """The body of the answer."""
        error: dict[str, Any] = {"code": self.code, "message": str(self)}
        if self.details:
            error["details"] = dict(self.details)
        return {"error": error}


@dataclass(eq=False, kw_only=True)
class Part:
    """One part of a multipart body.

    `content` is at most its first MiB, `size` its whole length.
    """

    name: str
    filename: str | None
    content_type: str
    headers: dict[str, str]
    size: int
    content: bytes = field(repr=False)
    _buffer: Buffer = field(repr=False)
    _start: int = field(repr=False)

    def pieces(self) -> Iterator[bytes]:
        """The whole content, a MiB at a time."""
        end = self._start + self.size
        for start in range(self._start, end, IN_MEMORY):
            yield self._buffer[start : min(start + IN_MEMORY, end)]


# --- reading -----------------------------------------------------------------------------------


async def read_body(request: web.BaseRequest, folder: Path, limit: int) -> Buffer:
    """The whole body. Raises `RefusalError` (413) when it is longer than `limit` bytes."""
    if request.headers.get("Expect", "").lower() == "100-continue" and request.transport:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    body = bytearray()
    file: BinaryIO | None = None
    size = 0
    async for chunk in request.content.iter_any():
        size += len(chunk)
        if size > limit:
            raise RefusalError(413, "payload_too_large", f"the body is larger than {limit} bytes")
        body += chunk
        if len(body) >= IN_MEMORY:
            if file is None:
                file = await run_sync(_temporary_file, folder)
            await run_sync(file.write, body)
            body = bytearray()
    if file is None:
        return bytes(body)
    with file:
        file.write(body)
        file.flush()
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _temporary_file(folder: Path) -> BinaryIO:
    return tempfile.TemporaryFile(dir=folder)


def parse_into(record: RequestRecord, body: Buffer) -> None:
    """Take the body apart by its content type. What cannot be is left to `fields`."""
    record.body = body[:IN_MEMORY]
    record.size = len(body)
    content_type = _parse_header(record.headers.get("Content-Type", ""))
    kind = content_type.get_content_type()
    if kind == "application/json":
        try:
            record.json = _json.decode(memoryview(body))
        except _json.DECODE_ERRORS as error:
            record.json_error = str(error)
    elif kind == "multipart/form-data":
        boundary = content_type.get_param("boundary")
        if isinstance(boundary, str):
            record.form = list(_parts(body, boundary.encode()))


def _parse_header(value: str) -> Message:
    message = Message()
    message["Content-Type"] = value or "unknown/unknown"
    return message


def _parts(body: Buffer, boundary: bytes) -> Iterator[Part]:
    """The parts of a multipart body (RFC 2046), by position: nothing large is copied."""
    delimiter = b"\r\n--" + boundary
    at = 0 if body[: len(delimiter) - 2] == delimiter[2:] else body.find(delimiter) + 2
    start = body.find(b"\r\n", at) + 2
    while (end := body.find(delimiter, start - 2)) >= 0:
        blank = body.find(b"\r\n\r\n", start - 2, end)
        if blank >= 0:
            yield _part(body, start, blank, end)
        after = end + len(delimiter)
        if body[after : after + 2] == b"--":
            return
        start = body.find(b"\r\n", after) + 2


def _part(body: Buffer, start: int, blank: int, end: int) -> Part:
    lines = body[start : max(blank, start)].decode("utf-8", "replace").split("\r\n")
    headers = {
        name.strip().lower(): value.strip()
        for name, _, value in (line.partition(":") for line in lines if line)
    }
    disposition = headers.get("content-disposition", "")
    return Part(
        name=_parameter(disposition, "name") or "",
        filename=_parameter(disposition, "filename"),
        content_type=headers.get("content-type", "text/plain"),
        headers=headers,
        size=end - blank - 4,
        content=body[blank + 4 : min(end, blank + 4 + IN_MEMORY)],
        _buffer=body,
        _start=blank + 4,
    )


def _parameter(disposition: str, name: str) -> str | None:
    """A quoted or bare parameter; browsers escape the quote as `%22` (WHATWG), others as `\\"`."""
    match = re.search(rf';\s*{name}=(?:"((?:[^"\\]|\\.)*)"|([^;\s]*))', disposition)
    if match is None:
        return None
    quoted, bare = match.groups()
    if quoted is None:
        return str(bare)
    return re.sub(r"\\(.)", r"\1", quoted).replace("%22", '"')


# --- checking ----------------------------------------------------------------------------------


class Fields:
    """The fields of a request, JSON or multipart alike, and what is wrong with them.

    The getters note complaints; `check` raises all of them at once.
    """

    def __init__(self, values: Mapping[str, Any], parts: list[Part], *, multipart: bool) -> None:
        self.values = values
        self.files = [part for part in parts if part.filename is not None]
        self.complaints: dict[str, str] = {}
        self._multipart = multipart

    @classmethod
    def of(cls, record: RequestRecord) -> Fields:
        """Raises `RefusalError`: 415 for another content type, 400 for what cannot be read."""
        kind = _parse_header(record.headers.get("Content-Type", "")).get_content_type()
        if kind == "multipart/form-data":
            values = {part.name: part.content for part in record.form if part.filename is None}
            return cls(values, record.form, multipart=True)
        if kind != "application/json":
            raise RefusalError(
                415,
                "unsupported_media_type",
                "the content type must be application/json or multipart/form-data",
            )
        if isinstance(record.json, dict):
            return cls(record.json, [], multipart=False)
        if record.json_error is not None:
            raise RefusalError(400, "bad_request", f"malformed JSON: {record.json_error}")
        raise RefusalError(400, "bad_request", "the body must be a JSON object")

    def get(self, name: str, kind: type[T]) -> T | None:
        """The field as a `str`, `bool`, `dict` or `list`; None without it. Notes a complaint."""
        value = self.values.get(name)
        if self._multipart and value is not None:
            value = self._from_text(name, value.decode("utf-8", "replace"), kind)
        if value is None or isinstance(value, kind):
            return value
        self.complaints.setdefault(name, f"must be {_CALLED[kind]}")
        return None

    def require(self, name: str, kind: type[T]) -> T | None:
        """The same, for a field that must be there."""
        value = self.get(name, kind)
        if value is None:
            self.complaints.setdefault(name, "cannot be blank")
        return value

    def json(self, name: str) -> Any:
        """The field as any JSON value. Notes a complaint."""
        return self.get(name, object)

    def check(self) -> None:
        """Raise `RefusalError` (400) if there were complaints."""
        if self.complaints:
            raise bad_fields(self.complaints)

    def _from_text(self, name: str, text: str, kind: type[Any]) -> Any:
        if kind is str:
            return text
        try:
            return _json.decode(text.encode())
        except _json.DECODE_ERRORS:
            complaint = "must be true or false" if kind is bool else "must be valid JSON"
            self.complaints.setdefault(name, complaint)
            return None


_CALLED = {str: "a string", bool: "a boolean", dict: "an object", list: "an array"}


def bad_fields(details: Mapping[str, str]) -> RefusalError:
    """400 with a complaint for each field."""
    listed = "; ".join(f"{name}: {complaint}" for name, complaint in details.items())
    return RefusalError(400, "bad_request", listed, details)
