"""Decompresses a response that is compressed although the request did not ask for that.

Nothing in a compressed body could be masked.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

KNOWN = {"gzip", "x-gzip", "deflate"}
"""The codings that can be decompressed."""

_PIECE = 64 * 1024
_ANY_HEADER = zlib.MAX_WBITS | 32  # gzip's or zlib's


class Inflater:
    """Decompresses the body of one response.

    Attributes:
        begun: whether any data came.
        whole: whether the data so far ends at the end of a compressed stream.
    """

    def __init__(self) -> None:
        self.whole: bool = False
        self._stream = zlib.decompressobj(_ANY_HEADER)
        self.begun: bool = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The decompressed bytes, in pieces of bounded size.

        Raises ValueError for data that is not compressed like this.
        """
        if data and not self.begun:
            self.begun = True
            if data[0] & 0x0F != 8 and data[0] != 0x1F:  # some servers send raw deflate
                self._stream = zlib.decompressobj(-zlib.MAX_WBITS)
        while data:
            if self._stream.eof:  # gzip may have several members in sequence
                self._stream = zlib.decompressobj(_ANY_HEADER)
            try:
                piece = self._stream.decompress(data, _PIECE)
            except zlib.error as error:
                raise ValueError(f"the response is not compressed as it says: {error}") from error
            if piece:
                yield piece
            data = self._stream.unused_data or self._stream.unconsumed_tail
        self.whole = self._stream.eof
