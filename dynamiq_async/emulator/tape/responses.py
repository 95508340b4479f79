"""Reads an HTTP/1.1 response from bytes, however they are split. It does not use sockets."""

from __future__ import annotations

import re
from typing import Literal

_MAX_HEAD = 64 * 1024
_MAX_LINE = 4096  # between chunks
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})(?: .*)?", re.DOTALL)
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*:[ \t]*([^\r\n\0]*?)[ \t]*")
_SIZE = re.compile(rb"\s*([0-9A-Fa-f]{1,15})\s*(?:;.*)?", re.DOTALL)
_LENGTH = re.compile(r"\d{1,18}", re.ASCII)

Framing = Literal["chunked", "length", "close", "none", "socket"]
"""How the end of a body is marked: by its last chunk, by its length, by the end of the connection.
"none": there is no body. "socket": a WebSocket follows."""


class ResponseReader:
    """One response.

    Attributes:
        status: the status, once the head has come; 0 before.
        headers: the headers, as they came.
        framing: how the end of the body is marked.
        missing: how many bytes of the chunk, or of a body with a length, are still to come.
        whole: whether the response is complete. It stays false for a body that ends with its
            connection.
    """

    def __init__(self, method: str) -> None:
        self.status: int = 0
        self.headers: list[tuple[str, str]] = []
        self.framing: Framing = "none"
        self.missing: int = 0
        self.whole: bool = False
        self._method = method
        self._buffer = bytearray()
        self._in_chunk = False  # or right behind one
        self._at_trailers = False

    def header(self, name: str) -> str:
        """The last value of a header, in lower case; "" without it."""
        found = [value for given, value in self.headers if given.lower() == name]
        return found[-1].strip().lower() if found else ""

    def feed(self, data: bytes) -> list[bytes]:
        """The pieces of the body in these bytes; each is from one chunk.

        Raises ValueError for bytes that are not HTTP.
        """
        looked_at = max(len(self._buffer) - 3, 0)
        self._buffer += data
        if not (self.status or self._read_head(looked_at)):
            return []
        return self._chunks() if self.framing == "chunked" else self._plain()

    def _read_head(self, start: int) -> bool:
        while not self.status:
            end = self._buffer.find(b"\r\n\r\n", start)
            if max(end, 0 if end >= 0 else len(self._buffer)) > _MAX_HEAD:
                raise ValueError("the head of the response does not end")
            if end < 0:
                return False
            first, *lines = bytes(self._buffer[:end]).split(b"\r\n")
            del self._buffer[: end + 4]
            start = 0
            match = _STATUS.fullmatch(first)
            if match is None:
                raise ValueError("the App does not respond with HTTP/1.1")
            status = int(match[1])
            if status >= 200 or status == 101:  # other 1xx responses precede the final one
                self.status = status
                self.headers = [_header(line) for line in lines]
                self._choose_framing()
        return True

    def _choose_framing(self) -> None:
        coding, length = self.header("transfer-encoding"), self.header("content-length")
        if self.status == 101:
            self.framing = "socket"
        elif self._method == "HEAD" or self.status in (204, 304):
            self.whole = True
        elif coding:
            if coding != "chunked":
                raise ValueError(f"the response has a transfer coding that is not known: {coding}")
            self.framing = "chunked"
        elif length:
            if not _LENGTH.fullmatch(length):
                raise ValueError(f"the response has a length that is no number: {length}")
            self.framing = "length"
            self.missing = int(length)
            self.whole = not self.missing
        else:
            self.framing = "close"

    def _plain(self) -> list[bytes]:
        piece = bytes(self._buffer)
        self._buffer.clear()
        if self.framing == "length":
            piece = piece[: self.missing]
            self.missing -= len(piece)
            self.whole = not self.missing
        return [piece] if piece and self.framing != "none" else []

    def _chunks(self) -> list[bytes]:
        pieces, start, buffer = [], 0, bytes(self._buffer)
        while start < len(buffer) and not self.whole:
            if self.missing:
                piece = buffer[start : start + self.missing]
                start += len(piece)
                self.missing -= len(piece)
                pieces.append(piece)
                continue
            end = buffer.find(b"\r\n", start)
            if (end if end >= 0 else len(buffer)) - start > _MAX_LINE:
                raise ValueError("a line between the chunks of the response does not end")
            if end < 0:
                break
            self._read_line(buffer[start:end])
            start = end + 2
        del self._buffer[:start]
        return pieces

    def _read_line(self, line: bytes) -> None:
        """Read a line between chunks: the end of one, the size of the next, or a trailer."""
        if self._at_trailers:
            self.whole = not line
        elif self._in_chunk:
            if line:
                raise ValueError("a chunk of the response is longer than it announced")
            self._in_chunk = False
        else:
            match = _SIZE.fullmatch(line)
            if match is None:
                raise ValueError("a chunk of the response has no size")
            self.missing = int(match[1], 16)
            self._in_chunk = bool(self.missing)
            self._at_trailers = not self.missing


def _header(line: bytes) -> tuple[str, str]:
    match = _HEADER.fullmatch(line)
    if match is None:
        raise ValueError("a header of the response makes no sense")
    return match[1].decode(), match[2].decode("latin-1")
