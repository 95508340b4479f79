"""A chunk of any length, cut into whole lines."""

from __future__ import annotations

Buffer = bytes | bytearray | memoryview


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
