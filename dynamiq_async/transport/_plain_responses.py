"""A fast path for plain responses, which arrive in one piece and need no parser.

Nearly every response arrives in one piece: a head of ordinary lines, one length, and a body of as
many bytes. Reading it here takes a third of the time of aiohttp's parser and reader. Any other
response is not plain, and is left to the parser.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from multidict import CIMultiDict

if TYPE_CHECKING:
    from collections.abc import Iterator

# By the letter of RFC 9112: no bare line ends, no folded lines, no space before a colon.
_HEAD = re.compile(
    rb"HTTP/1\.1 (20[0-3])(?: [^\r\n\0]*)?\r\n"
    rb"((?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[^\r\n\0]*\r\n)+)\r\n"
)
_MAX_HEAD = 8 * 1024

# Each of these, even within a value, may mean something that this module does not handle.
_NOT_PLAIN = (b"transfer-encoding", b"content-encoding", b"upgrade", b"trailer")
_KEPT = re.compile(rb"(?s)(?!.*connection.*connection)(?:.*\n)?connection:[ \t]*keep-alive[ \t]*\r")
_LENGTH = b"content-length:"
_MAX_DIGITS = 9
_LF = b"\n"[0]


class PlainHeaders:
    """The headers of a plain response, parsed when one is first looked up."""

    __slots__ = ("_lines", "_made")

    def __init__(self, lines: bytes) -> None:
        self._lines = lines
        self._made: CIMultiDict[str] | None = None

    def _headers(self) -> CIMultiDict[str]:
        if self._made is None:
            text = self._lines.decode("utf-8", "surrogateescape")
            pairs = (line.partition(":") for line in text.split("\r\n")[:-1])
            self._made = CIMultiDict((name, value.strip(" \t")) for name, _, value in pairs)
        return self._made

    def getall(self, name: str) -> list[str]:
        return self._headers().getall(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._headers())


def plain_response(data: bytes) -> tuple[int, PlainHeaders, bytes] | None:
    """Status, headers and body, if `data` is exactly one plain response, else None."""
    head = _HEAD.match(data)
    if head is None:
        return None
    status, lines = head.groups()
    end = head.end()
    lower = lines.lower()
    if end > _MAX_HEAD or not 0 < _length(lower) == len(data) - end:
        return None
    for word in _NOT_PLAIN:
        if word in lower:
            return None
    if b"connection" in lower and _KEPT.match(lower) is None:
        return None
    return int(status), PlainHeaders(lines), data[end:]


def _length(lower: bytes) -> int:
    """The single `Content-Length` in the lines of a head; -1 if there is none or it is unusual."""
    name = lower.find(_LENGTH)
    if name < 0 or (name and lower[name - 1] != _LF) or lower.count(_LENGTH[:-1]) > 1:
        return -1
    start = name + len(_LENGTH)
    told = lower[start : lower.find(b"\r", start)].strip(b" \t")
    return int(told) if told.isdigit() and len(told) <= _MAX_DIGITS else -1
