"""Responses that are here whole, and so plain that no parser is needed to tell.

Nearly every answer to a call comes in one piece: a head of ordinary lines, one length, and as many
bytes behind it. Reading that takes a third of what aiohttp's parser and its reader take. Whatever
differs in anything is not plain, and left to the parser.
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

# Each would mean something that is not looked at here, also within a value.
_NOT_PLAIN = re.compile(rb"transfer-encoding|content-encoding|upgrade|trailer")
_KEPT = re.compile(rb"(?s)(?!.*connection.*connection)(?:.*\n)?connection:[ \t]*keep-alive[ \t]*\r")
_LENGTH = re.compile(rb"(?:^|\n)content-length:[ \t]*([0-9]{1,9})[ \t]*\r")


class PlainHeaders:
    """The headers of a plain response, taken apart when one is looked at."""

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
    """Status, headers and body of a response that is all of `data` and plain, else None."""
    head = _HEAD.match(data)
    if head is None or head.end() > _MAX_HEAD or head[1] == b"204":
        return None
    lines = head[2]
    lower = lines.lower()
    length = _LENGTH.search(lower)
    if length is None or lower.count(b"content-length") > 1 or _NOT_PLAIN.search(lower):
        return None
    if b"connection" in lower and _KEPT.match(lower) is None:
        return None
    end = head.end()
    if not 0 < int(length[1]) == len(data) - end:
        return None
    return int(head[1]), PlainHeaders(lines), data[end:]
