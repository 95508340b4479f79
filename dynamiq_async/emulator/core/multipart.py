"""Multipart bodies, split by position, so that large parts are not copied."""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from .body_limits import IN_MEMORY

Buffer = bytes | mmap.mmap
"""A whole body, in memory or in a temporary file."""


@dataclass(eq=False, kw_only=True)
class Part:
    """One part of a multipart body.

    `content` has at most the first MiB; `size` is the length of the whole part.
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


def split_form(body: Buffer, boundary: bytes) -> Iterator[Part]:
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
