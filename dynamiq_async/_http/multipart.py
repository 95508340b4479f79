"""`multipart/form-data` (RFC 7578) as a stream of bytes: text fields, then files.

Any transport can send it. No file is held in memory: each is read piece by piece in a thread, and
from its start on every attempt.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from dynamiq_async._http.uploads import Upload, check_sendable
from dynamiq_async._words import counted
from dynamiq_async.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dynamiq_async._http.uploads import Progress

PIECE = 256 * 1024
"""Bytes read from a file at a time."""


class Multipart:
    """A form. It can be sent any number of times, unless it has a file that cannot be rewound.

    Args:
        fields: names and texts.
        files: names and files.
        max_file_bytes: the largest size of each file.
        progress: called with how much of a file was sent.

    Attributes:
        content_type: its media type, with the boundary between its parts.
        length: its length in bytes; None if the length of a file is not known.
        failure: the error that its content raised when it was last read.

    Raises:
        InvalidArgumentError: a field's name cannot be sent.
    """

    __slots__ = ("_boundary", "failure", "fields", "files", "max_file_bytes", "progress")

    def __init__(
        self,
        fields: Sequence[tuple[str, str]],
        files: Sequence[tuple[str, Upload]],
        *,
        max_file_bytes: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        for name, _ in fields:
            check_sendable(name, "a field's name", "extra_body")
        self._boundary = os.urandom(16).hex()
        self.fields: Sequence[tuple[str, str]] = fields
        self.files: Sequence[tuple[str, Upload]] = files
        self.max_file_bytes: int | None = max_file_bytes
        self.progress: Progress | None = progress
        self.failure: Exception | None = None

    @property
    def content_type(self) -> str:
        return f"multipart/form-data; boundary={self._boundary}"

    @property
    def length(self) -> int | None:
        total = 0
        for part in self._parts():
            size = part.size if isinstance(part, Upload) else len(part)
            if size is None:
                return None
            total += size
        return total

    @property
    def replayable(self) -> bool:
        """Whether it can be sent a second time."""
        return all(upload.replayable for _, upload in self.files)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Reserve the open files for this request while they are sent.

        Raises:
            InvalidArgumentError: another call is sending one of them, or it was closed.
        """
        try:
            for _, upload in self.files:
                upload.borrow(self)
            yield
        finally:
            for _, upload in self.files:
                upload.give_back(self)

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        """The body, in pieces that are not empty."""
        self.failure = None
        try:
            for part in self._parts():
                if isinstance(part, Upload):
                    async with aclosing(self._content(part)) as content:
                        async for piece in content:
                            yield piece
                elif part:
                    yield part
        except Exception as error:
            # A transport may report it as a failure of the connection.
            self.failure = error
            raise

    def _parts(self) -> Iterator[bytes | Upload]:
        contents: list[tuple[str, str | Upload]] = [*self.fields, *self.files]
        for name, value in contents:
            kind, called = "text/plain; charset=utf-8", ""
            if isinstance(value, Upload):
                kind, called = value.mime_type, f"; filename={_quoted(value.name)}"
            yield (
                f"--{self._boundary}\r\n"
                f"Content-Type: {kind}\r\n"
                f"Content-Disposition: form-data; name={_quoted(name)}{called}\r\n\r\n"
            ).encode()
            yield value if isinstance(value, Upload) else value.encode()
            yield b"\r\n"
        yield f"--{self._boundary}--\r\n".encode()

    async def _content(self, upload: Upload) -> AsyncGenerator[bytes, None]:
        """The content of one file, checked against its size and the limit, with its progress."""
        sent = 0
        async with aclosing(_pieces(upload)) as pieces:
            async for piece in pieces:
                sent += len(piece)
                if self.max_file_bytes is not None and sent > self.max_file_bytes:
                    raise InvalidArgumentError(
                        f"{upload.name} is larger than {counted(self.max_file_bytes, 'byte')}, "
                        "the most that is taken",
                        argument="content",
                    )
                if upload.size is not None and sent > upload.size:
                    # The server would take the bytes beyond the length for the next request.
                    raise _changed(upload, "more")
                yield piece
                if self.progress is not None:
                    self.progress(sent, upload.size)
        if upload.size is not None and sent < upload.size:
            # Ending here would send a file cut short.
            raise _changed(upload, f"only {sent}")


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _changed(upload: Upload, found: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"{upload.name} changed while it was sent: {found} instead of "
        f"{counted(upload.size or 0, 'byte')}",
        argument="files",
    )


async def _pieces(upload: Upload) -> AsyncGenerator[bytes, None]:
    import anyio

    content = upload.content
    if isinstance(content, bytes | bytearray | memoryview):
        view = memoryview(content).cast("B")
        for start in range(0, len(view), PIECE):
            yield bytes(view[start : start + PIECE])
    elif isinstance(content, AsyncIterable):
        async for piece in content:
            if piece:  # an empty chunk would end a chunked body
                yield piece if isinstance(piece, bytes) else bytes(memoryview(piece))
    elif isinstance(content, Path):
        # Opened here: a thread that is abandoned while it opens a file would leave it open.
        async with anyio.wrap_file(_opened(content)) as opened:
            while piece := await opened.read(PIECE):
                yield piece
    else:
        if getattr(content, "closed", False) is True:  # since the attempt before
            raise upload.closed_error()
        await anyio.to_thread.run_sync(upload.rewind)
        borrowed: anyio.AsyncFile[bytes] = anyio.wrap_file(content)
        while piece := await borrowed.read(PIECE):
            yield piece


def _opened(path: Path) -> IO[bytes]:
    return path.open("rb")
