"""Takes the compression off a response that came compressed although none was asked for.

What is compressed cannot be looked at, so that nothing in it could be masked.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

KNOWN = {"gzip", "x-gzip", "deflate"}
"""The codings that can be taken off."""

_PIECE = 64 * 1024
_ANY_HEADER = zlib.MAX_WBITS | 32  # gzip's or zlib's


class Inflater:
    """The body of one response, without its compression.

    Attributes:
        begun: whether anything came.
        whole: whether what came so far ends where its compression does.
    """

    def __init__(self) -> None:
        self.whole: bool = False
        self._stream = zlib.decompressobj(_ANY_HEADER)
        self.begun: bool = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What these bytes hold, in pieces whose size is bounded.

        Raises ValueError for what is not compressed so.
        """
        if data and not self.begun:
            self.begun = True
            if data[0] & 0x0F != 8 and data[0] != 0x1F:  # servers send bare deflate, too
                self._stream = zlib.decompressobj(-zlib.MAX_WBITS)
        while data:
            if self._stream.eof:  # gzip may have several parts, one behind the other
                self._stream = zlib.decompressobj(_ANY_HEADER)
            try:
                piece = self._stream.decompress(data, _PIECE)
            except zlib.error as error:
                raise ValueError(f"the response is not compressed as it says: {error}") from error
            if piece:
                yield piece
            data = self._stream.unused_data or self._stream.unconsumed_tail
        self.whole = self._stream.eof
