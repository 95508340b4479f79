"""Decompression that knows whole from cut: aiohttp takes a gzip without its end for whole."""

from __future__ import annotations

import zlib
from typing import Any

ACCEPTED = "gzip, deflate"
"""What can be asked for, as `Accept-Encoding` says it."""

_PIECE = 256 * 1024  # bytes made at a time, however few they were before
_GZIP, _DEFLATE, _RAW_DEFLATE = 31, 15, -15


class Decoder:
    """Decompresses one body, as it comes.

    Args:
        encoding: `gzip` or `deflate`.

    Its methods raise `zlib.error` where the content is broken or cut.
    """

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding
        self._decompressor: Any = None  # of the member that is being read
        self.waiting = b""
        """What came and is still to be decompressed."""

    def decode(self, data: bytes) -> bytes:
        """Some of what `waiting` and `data` hold. More may be waiting then."""
        data = self.waiting + data
        if self._decompressor is None:
            if not data:
                return b""
            self._decompressor = zlib.decompressobj(self._window(data[0]))
        piece: bytes = self._decompressor.decompress(data, _PIECE)
        if self._decompressor.eof:
            # Another member may follow, or zeros that fill a block.
            self.waiting = self._decompressor.unused_data.lstrip(b"\0")
            self._decompressor = None
        else:
            self.waiting = self._decompressor.unconsumed_tail
        return piece

    def finish(self) -> None:
        """The body has ended, as HTTP has it."""
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
        zlib.error: it was not asked for.
    """
    encoding = encoding.strip().lower().removeprefix("x-")
    if encoding in ("", "identity"):
        return None
    if encoding not in ("gzip", "deflate"):
        raise zlib.error(f"the encoding {encoding[:50]} was not asked for")
    return Decoder(encoding)
