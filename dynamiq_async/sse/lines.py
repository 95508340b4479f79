"""Cuts chunks of any length into whole lines. Also constants for the form and size of lines."""

from __future__ import annotations

from dynamiq_async.errors import InvalidArgumentError

Buffer = bytes | bytearray | memoryview

BOM = b"\xef\xbb\xbf"

# From this size on a payload is decoded in place. Below it, copying it into a `bytes` of its own is
# cheaper than a memoryview.
LARGE = 64 * 1024

# The decoder's `_take_one` pays off for chunks up to the first size, `_read_columns` from the
# second number of lines on.
SMALL = 8 * 1024
SEVERAL = 32

# The lines that name an event `error`.
ERROR_LINE = b"\nevent: error\n"
ERROR_LINES = (ERROR_LINE[1:], b"event:error\n")

# The beginnings of lines other than `data: ` that `_read_columns` knows, by their first byte.
COLUMN_NAMES = {b"e"[0]: b"\nevent: ", b"i"[0]: b"\nid: "}


def pieces(chunk: bytes, size: int) -> list[Buffer]:
    """Cut a chunk at the ends of lines into pieces of at most `size` bytes. A longer line, or
    a part of one, is one piece."""
    view = memoryview(chunk)
    found: list[Buffer] = []
    start = 0
    while len(chunk) - start > size:
        end = start + size
        stop = chunk.rfind(b"\n", start, end) + 1 or chunk.find(b"\n", end) + 1
        if not stop:
            # It continues in the next chunk: copy it, so that this chunk is not kept alive.
            found.append(bytearray(view[start:]))
            return found
        found.append(view[start:stop])
        start = stop
    if start < len(chunk):
        found.append(view[start:])
    return found


def in_lf(chunk: bytes, *, swallow: bool) -> bytes:
    """A chunk with LF for CR and CRLF; with `swallow`, without its leading LF."""
    lines = chunk.splitlines()  # of bytes: splits at LF, CR and CRLF and at nothing else
    if chunk[-1] in b"\r\n":
        lines.append(b"")
    return b"\n".join(lines[1:] if swallow else lines)


def check_limit(max_event_bytes: int) -> None:
    """Raise InvalidArgumentError unless `max_event_bytes` is at least 1."""
    if max_event_bytes < 1:
        raise InvalidArgumentError(
            f"max_event_bytes is {max_event_bytes}; it has to be at least 1",
            argument="max_event_bytes",
        )
