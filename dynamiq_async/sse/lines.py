"""A chunk of any length, cut into whole lines; and how lines look and how large they may be."""

from __future__ import annotations

from dynamiq_async.errors import InvalidArgumentError

Buffer = bytes | bytearray | memoryview

BOM = b"\xef\xbb\xbf"

# From this size on a payload is decoded where it lies. Below it, copying it into a `bytes` of its
# own is cheaper than what a memoryview costs.
LARGE = 64 * 1024

# Up to this size of a chunk the decoder's `_take_one` pays, from this many lines `_read_columns`.
SMALL = 8 * 1024
SEVERAL = 32

# The lines that name an event `error`.
ERROR_LINE = b"\nevent: error\n"
ERROR_LINES = (ERROR_LINE[1:], b"event:error\n")

# How `_read_columns` knows the lines beside `data: `, by their first byte.
COLUMN_NAMES = {b"e"[0]: b"\nevent: ", b"i"[0]: b"\nid: "}


def pieces(chunk: bytes, size: int) -> list[Buffer]:
    """Cut a chunk into whole lines, as far as there are: pieces of at most `size` bytes, or of
    one line, or of a part of one."""
    view = memoryview(chunk)
    found: list[Buffer] = []
    start = 0
    while len(chunk) - start > size:
        end = start + size
        stop = chunk.rfind(b"\n", start, end) + 1 or chunk.find(b"\n", end) + 1
        if not stop:
            # It goes on in the next chunk: keep it alone alive, not the chunk around it.
            found.append(bytearray(view[start:]))
            return found
        found.append(view[start:stop])
        start = stop
    if start < len(chunk):
        found.append(view[start:])
    return found


def in_lf(chunk: bytes, *, swallow: bool) -> bytes:
    """A chunk with LF for CR and CRLF; with `swallow`, without the LF that it begins with."""
    lines = chunk.splitlines()  # of bytes: splits at LF, CR and CRLF and at nothing else
    if chunk[-1] in b"\r\n":
        lines.append(b"")
    return b"\n".join(lines[1:] if swallow else lines)


def check_limit(max_event_bytes: int) -> None:
    """Raise InvalidArgumentError unless it is at least 1."""
    if max_event_bytes < 1:
        raise InvalidArgumentError(
            f"max_event_bytes is {max_event_bytes}; it has to be at least 1",
            argument="max_event_bytes",
        )
