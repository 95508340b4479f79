"""Files to send, from a path, bytes, a file object or an async iterator. They are not read whole.

An `Upload` knows its size, if that can be found out, and whether its content can be sent a second
time. A request with a part that cannot be rewound is never repeated.

An open file has one position, so it is sent by one call at a time. Paths and bytes may be shared.
"""

from __future__ import annotations

import inspect
import os
import re
import stat
from collections.abc import AsyncIterable, AsyncIterator, Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Union

from dynamiq_async.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterable

Content = Union[
    str, "os.PathLike[str]", bytes, bytearray, memoryview, IO[bytes], AsyncIterable[bytes]
]
"""What can be uploaded; a `str` is a path."""

Progress = Callable[[int, int | None], object]
"""Called with the bytes sent so far and the size, which is None where it is not known."""

_DEFAULT_TYPE = "application/octet-stream"
# A header cannot hold control characters, nor surrogates, which stand for the undecodable bytes of
# a file's name.
_UNSENDABLE = r"[\x00-\x1f\x7f\ud800-\udfff]"


class Upload:
    """One file of a multipart request.

    Args:
        content: a path (`str` or `Path`), bytes, a binary file object (read from where it stands,
            and left open), or an async iterable of bytes.
        name: the file's name on the wire; by default the path's or file object's own.
        mime_type: by default guessed from the name.
        size: in bytes, for content whose length you know but that cannot be measured.

    Raises:
        InvalidArgumentError: the content has another type, the file cannot be read, or the name or
            type holds control characters.
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
        self._start: int | None = None
        self.content: Path | bytes | bytearray | memoryview | IO[bytes] | AsyncIterable[bytes] = (
            Path(content) if isinstance(content, str | os.PathLike) else content
        )
        measured = self._measure()
        self.size: int | None = size if measured is None else measured
        self.name: str = check_sendable(name or self._own_name(), "a file's name", "name")

        import mimetypes  # here, because it takes 3 ms of a start

        guessed = mimetypes.guess_type(self.name)[0] or _DEFAULT_TYPE
        self.mime_type: str = check_sendable(
            mime_type or guessed, "a file's mime_type", "mime_type"
        )

    def __repr__(self) -> str:
        told = {n: getattr(self, n, None) for n in ("name", "mime_type", "size")}  # may be unset
        return f"Upload({', '.join(f'{name}={value!r}' for name, value in told.items())})"

    @property
    def replayable(self) -> bool:
        """Whether the content can be sent a second time."""
        known = isinstance(self.content, bytes | bytearray | memoryview | Path)
        return known or self._start is not None

    def rewind(self) -> None:
        """Seek a file object back to where it stood when the upload was made."""
        if self._start is not None:
            self.content.seek(self._start)  # type: ignore[union-attr]

    def borrow(self, borrower: object) -> None:
        """Reserve an open object until `give_back`: two readers would each get a part of it.

        Raises:
            InvalidArgumentError: another call has reserved it, or it was closed.
        """
        content = self.content
        if isinstance(content, Path | bytes | bytearray | memoryview) or (
            isinstance(content, AsyncIterable) and not isinstance(content, AsyncIterator)
        ):
            return
        if getattr(content, "closed", False) is True:
            raise self.closed_error()
        if _borrowed.setdefault(id(content), borrower) is not borrower:
            raise _shared(self.name)

    def give_back(self, borrower: object) -> None:
        """End the reservation by `borrow`, if `borrower` has it."""
        if _borrowed.get(id(self.content)) is borrower:
            del _borrowed[id(self.content)]

    def closed_error(self) -> InvalidArgumentError:
        """The error for a file that was closed before it was read."""
        return InvalidArgumentError(
            f"{self.name} was closed before it was sent; keep a file open until its call is over",
            argument="files",
        )

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
            if not content.c_contiguous:
                raise InvalidArgumentError("a memoryview must be contiguous", argument="files")
            return content.nbytes
        if isinstance(content, Path):
            return _file_size(content)
        if isinstance(content, AsyncIterable):
            return None
        if not hasattr(content, "read") or inspect.iscoroutinefunction(content.read):
            hint = "; pass its `.file`" if hasattr(content, "file") else ""
            raise InvalidArgumentError(
                "a file must be a path, bytes, a binary file object or an async iterable of bytes, "
                f"not {type(content).__name__}{hint}",
                argument="files",
            )
        if id(content) in _borrowed:
            raise _shared(self._own_name())
        return self._measure_file(content)

    def _measure_file(self, file: IO[bytes]) -> int | None:
        size: int | None = None
        try:
            nothing: object = file.read(0)
            if file.seekable():
                self._start = file.tell()
                size = file.seek(0, os.SEEK_END) - self._start
                file.seek(self._start)
        except (AttributeError, OSError, ValueError) as error:
            raise InvalidArgumentError(
                f"the file object cannot be read: {error}", argument="files"
            ) from error
        if isinstance(nothing, str):
            raise InvalidArgumentError(
                "the file object was opened as text; open it in binary mode", argument="files"
            )
        return size


# The borrower of each open object, by the object's id. The object is alive meanwhile.
_borrowed: dict[int, object] = {}


def _shared(name: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"{name} is being sent by another call, and an open file has one position: open it once "
        "for each call, or pass its path or bytes",
        argument="files",
    )


def check_sendable(text: str, what: str, argument: str) -> str:
    """`text`, checked for use in a header of a part.

    Raises:
        InvalidArgumentError: it cannot be used; the error names `argument`.
    """
    if re.search(_UNSENDABLE, text):
        raise InvalidArgumentError(
            f"{what} may not hold control characters or undecodable bytes: {text!r}",
            argument=argument,
        )
    return text


def _file_size(path: Path) -> int:
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        raise InvalidArgumentError(f"{path} cannot be read: {error}", argument="files") from error
    if not stat.S_ISREG(status.st_mode):
        raise InvalidArgumentError(f"{path} is not a file", argument="files")
    return status.st_size


def as_uploads(files: Iterable[Any] | Any | None) -> list[Upload]:
    """`files` as uploads. It is one or several of: an `Upload`, content that `Upload` accepts, or
    a `(name, content)` or `(name, content, mime_type)` tuple."""
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
