"""Decompression that detects a truncated body: aiohttp accepts a gzip without its end."""

from __future__ import annotations

import zlib
from typing import Any

ACCEPTED = "gzip, deflate"
"""The value of `Accept-Encoding`."""

_PIECE = 256 * 1024  # the most decompressed bytes at a time, however small the compressed data
_GZIP, _DEFLATE, _RAW_DEFLATE = 31, 15, -15


class Decoder:
    """Decompresses one body as it arrives.

    Args:
        encoding: `gzip` or `deflate`.

    Its methods raise `zlib.error` if the content is broken or truncated.
    """

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding
        self._decompressor: Any = None  # of the member that is being read
        self.waiting = b""
        """The bytes that arrived and are not decompressed yet."""

    def decode(self, data: bytes) -> bytes:
        """Decompress some of `waiting` and `data`. More may be waiting afterwards."""
        data = self.waiting + data
        if self._decompressor is None:
            if not data:
                return b""
            self._decompressor = zlib.decompressobj(self._window(data[0]))
        piece: bytes = self._decompressor.decompress(data, _PIECE)
        if self._decompressor.eof:
            # Another member may follow, or padding zeros.
            self.waiting = self._decompressor.unused_data.lstrip(b"\0")
            self._decompressor = None
        else:
            self.waiting = self._decompressor.unconsumed_tail
        return piece

    def finish(self) -> None:
        """Check the content at the body's end by HTTP's framing."""
        if self._decompressor is not None:
            raise zlib.error(f"the {self._encoding} content ends before its end")

    def _window(self, first: int) -> int:
        if self._encoding == "gzip":
            return _GZIP
        # Some send `deflate` without the header that RFC 1950 gives it.
        return _DEFLATE if first & 0xF == 8 else _RAW_DEFLATE


def decoder_for(encoding: str) -> Decoder | None:
    """The decoder of a `Content-Encoding`; None where there is nothing to decompress.

    Raises:
        zlib.error: the encoding was not asked for.
    """
    encoding = encoding.strip().lower().removeprefix("x-")
    if encoding in ("", "identity"):
        return None
    if encoding not in ("gzip", "deflate"):
        raise zlib.error(f"the encoding {encoding[:50]} was not asked for")
    return Decoder(encoding)
