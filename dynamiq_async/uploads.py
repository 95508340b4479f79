"""Files to send: from a path, bytes, a file object or an async iterator, without holding them.

An `Upload` says what it can promise: its size, if that can be known, and whether its content can
be sent a second time. A request with a part that cannot be rewound is never repeated.
"""

from __future__ import annotations

import mimetypes
import os
from collections.abc import AsyncIterable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Union

from dynamiq_async.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterable

Content = Union[
    str, "os.PathLike[str]", bytes, bytearray, memoryview, IO[bytes], AsyncIterable[bytes]
]
"""What can be uploaded; a `str` is a path."""

_DEFAULT_TYPE = "application/octet-stream"


class Upload:
    """One file of a multipart request.

    Args:
        content: a path (`str` or `Path`), bytes, a binary file object (read from where it stands,
            and left open), or an async iterable of bytes.
        name: the file's name on the wire; by default the path's or file object's own.
        mime_type: by default guessed from the name.
        size: in bytes, for an async iterable whose length you know.

    Raises:
        InvalidArgumentError: the content is of no such kind, the file cannot be read, or the name
            holds control characters.
    """

    __slots__ = ("_start", "content", "mime_type", "name", "size")

    def __init__(
        self,
        content: Content,
        *,
        name: str | None = None,
        mime_type: str | None = None,
        size: int | None = None,
    ) -> None:
        self._start = 0
        self.content = Path(content) if isinstance(content, str | os.PathLike) else content
        self.size = self._measure() if size is None else size
        self.name = name or self._own_name()
        if not self.name.isprintable():
            raise InvalidArgumentError(
                f"a file's name may not hold control characters: {self.name!r}", argument="name"
            )
        self.mime_type = mime_type or mimetypes.guess_type(self.name)[0] or _DEFAULT_TYPE

    def __repr__(self) -> str:
        return f"Upload(name={self.name!r}, mime_type={self.mime_type!r}, size={self.size})"

    @property
    def replayable(self) -> bool:
        """Whether the content can be sent a second time."""
        if isinstance(self.content, bytes | bytearray | memoryview | Path):
            return True
        return not isinstance(self.content, AsyncIterable) and self.content.seekable()

    def rewind(self) -> None:
        """Take a file object back to where it stood."""
        if self._is_file():
            self.content.seek(self._start)  # type: ignore[union-attr]

    def _is_file(self) -> bool:
        return hasattr(self.content, "read") and not isinstance(self.content, AsyncIterable)

    def _own_name(self) -> str:
        if isinstance(self.content, Path):
            return self.content.name
        name = getattr(self.content, "name", None)
        return Path(name).name if isinstance(name, str) and name else "file"

    def _measure(self) -> int | None:
        content = self.content
        if isinstance(content, bytes | bytearray):
            return len(content)
        if isinstance(content, memoryview):
            return content.nbytes
        if isinstance(content, Path):
            return _file_size(content)
        if isinstance(content, AsyncIterable):
            return None
        if not hasattr(content, "read"):
            raise InvalidArgumentError(
                "a file must be a path, bytes, a binary file object or an async iterable of bytes, "
                f"not {type(content).__name__}",
                argument="files",
            )
        return self._measure_file(content)

    def _measure_file(self, file: IO[bytes]) -> int | None:
        if isinstance(file.read(0), str):
            raise InvalidArgumentError(
                "the file object was opened as text; open it in binary mode", argument="files"
            )
        if not file.seekable():
            return None
        self._start = file.tell()
        end = file.seek(0, os.SEEK_END)
        file.seek(self._start)
        return end - self._start


def _file_size(path: Path) -> int:
    try:
        if not path.is_file():
            raise InvalidArgumentError(f"{path} is not a file", argument="files")
        return path.stat().st_size
    except OSError as error:
        raise InvalidArgumentError(f"{path} cannot be read: {error}", argument="files") from error


def as_uploads(files: Iterable[Any] | Any | None) -> list[Upload]:
    """`files` as uploads: one or several of `Upload`, what `Upload` takes, or `(name, content)`
    and `(name, content, mime_type)` tuples."""
    if files is None:
        return []
    if isinstance(files, list | tuple) and not _is_named(files):
        return [_as_upload(file) for file in files]
    return [_as_upload(files)]


def _is_named(value: list[Any] | tuple[Any, ...]) -> bool:
    return (
        isinstance(value, tuple)
        and len(value) in (2, 3)
        and isinstance(value[0], str)
        and not isinstance(value[1], str | Upload | os.PathLike)
    )


def _as_upload(file: Any) -> Upload:
    if isinstance(file, Upload):
        return file
    if isinstance(file, tuple):
        if len(file) not in (2, 3) or not isinstance(file[0], str):
            raise InvalidArgumentError(
                "a file given as a tuple is (name, content) or (name, content, mime_type)",
                argument="files",
            )
        return Upload(file[1], name=file[0], mime_type=file[2] if len(file) == 3 else None)
    return Upload(file)
