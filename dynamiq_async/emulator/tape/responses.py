"""Reads an HTTP/1.1 response from bytes, however they are cut. It knows no sockets."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAX_HEAD = 256 * 1024
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})(?: |$)")
_SIZE = re.compile(rb"\s*([0-9A-Fa-f]{1,15})\s*(?:;.*)?", re.DOTALL)


class ResponseReader:
    """One response.

    Attributes:
        status: once the head has come; before, 0.
        headers: as they came.
        framing: how the body says where it ends.
        missing: how many bytes of the chunk, or of a body whose length was told, are still to come.
        whole: whether it has all come. A body that ends with its connection never says so.
    """

    def __init__(self, method: str) -> None:
        self.status = 0
        self.headers: list[tuple[str, str]] = []
        self.framing: Literal["chunked", "length", "close", "none", "socket"] = "none"
        self.missing = 0
        self.whole = False
        self._method = method
        self._buffer = b""
        self._in_chunk = False  # or right behind one
        self._at_trailers = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The pieces of the body that these bytes complete; each is of one chunk.

        Raises ValueError for what is no HTTP.
        """
        self._buffer += data
        if self.status or self._read_head():
            yield from self._chunks() if self.framing == "chunked" else self._plain()

    def _read_head(self) -> bool:
        while not self.status:
            head, end, rest = self._buffer.partition(b"\r\n\r\n")
            if len(head) > _MAX_HEAD:
                raise ValueError("the head of the response does not end")
            if not end:
                return False
            self._buffer = rest
            first, *lines = head.split(b"\r\n")
            match = _STATUS.match(first)
            if match is None:
                raise ValueError("the App does not respond with HTTP/1.1")
            status = int(match[1])
            if status >= 200 or status == 101:  # others announce the one that counts
                self.status = status
                self.headers = [_header(line) for line in lines]
                self._choose_framing()
        return True

    def _choose_framing(self) -> None:
        fields = {name.lower(): value for name, value in self.headers}
        if self.status == 101:
            self.framing = "socket"
        elif self._method == "HEAD" or self.status in (204, 304):
            self.whole = True
        elif fields.get("transfer-encoding", "").lower().endswith("chunked"):
            self.framing = "chunked"
        elif "content-length" in fields:
            self.framing = "length"
            self.missing = int(fields["content-length"])
            self.whole = not self.missing
        else:
            self.framing = "close"

    def _plain(self) -> Iterator[bytes]:
        if self.framing == "length":
            piece = self._buffer[: self.missing]
            self.missing -= len(piece)
            self.whole = not self.missing
        else:
            piece = self._buffer
        self._buffer = b""
        if piece and self.framing != "none":
            yield piece

    def _chunks(self) -> Iterator[bytes]:
        while not self.whole:
            if self.missing:
                piece, self._buffer = self._buffer[: self.missing], self._buffer[self.missing :]
                if not piece:
                    return
                self.missing -= len(piece)
                yield piece
                continue
            line, end, rest = self._buffer.partition(b"\r\n")
            if not end:
                return
            self._buffer = rest
            self._read_line(line)

    def _read_line(self, line: bytes) -> None:
        """What is between chunks: the end of one, the size of the next, trailers."""
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
    name, _, value = line.decode("latin-1").partition(":")
    return name.strip(), value.strip()
