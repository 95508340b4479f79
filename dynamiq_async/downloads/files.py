"""The targets of downloads: memory, or a file that appears when it is complete."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from uuid import uuid4

from dynamiq_async import errors
from dynamiq_async._files import create, give_name
from dynamiq_async._tasks import in_thread
from dynamiq_async.options import check_seconds

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dynamiq_async.downloads.requests import Downloaded, Progress, Sink

C = TypeVar("C")

_WRITE_BYTES = 1024 * 1024


class Memory:
    """Content in memory."""

    def __init__(self) -> None:
        self.content: bytearray = bytearray()

    async def restart(self) -> None:
        """Discard the written bytes, because the content comes again from its start."""
        self.content.clear()

    async def write(self, piece: bytes) -> None:
        """Take the next piece."""
        self.content += piece


class PartFile:
    """A file that has no name until it is complete, or a temporary name on systems that need one.
    `publish` gives it its own name.

    If it is not published, `discard` removes it. Threads do the work on the file.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / f".{uuid4().hex}.part"
        self._buffer = bytearray()
        self._file: Any = None
        self._named = False

    async def create(self) -> None:
        """Create the file before the request, to find out whether the folder can be written to."""
        await in_thread(self._create)

    def _create(self) -> None:
        descriptor, self._named = create(self._path)
        self._file = os.fdopen(descriptor, "r+b", buffering=0)

    async def restart(self) -> None:
        """Discard the written bytes, because the content comes again from its start."""
        self._buffer.clear()
        await in_thread(self._truncate)

    def _truncate(self) -> None:
        self._file.seek(0)
        self._file.truncate()

    async def write(self, piece: bytes) -> None:
        """Take the next piece. It is buffered until there is enough to write."""
        self._buffer += piece
        if len(self._buffer) >= _WRITE_BYTES:
            await in_thread(self._flush)

    def _flush(self) -> None:
        view = memoryview(self._buffer)
        while view:
            view = view[self._file.write(view) :]
        view.release()
        self._buffer = bytearray()

    async def publish(self, path: Path) -> Path:
        """Rename it to `path`. Replace a file that exists there."""
        return await in_thread(self._publish, path)

    async def publish_beside(self, name: str) -> Path:
        """Rename it to `name`, with a number if that name exists."""
        return await in_thread(self._publish_beside, name)

    def _publish(self, path: Path) -> Path:
        self._complete()
        return self._path.replace(path)

    def _complete(self) -> None:
        self._flush()
        if not self._named:
            give_name(self._file.fileno(), self._path)
            self._named = True
        self._file.close()

    def _publish_beside(self, name: str) -> Path:
        self._complete()  # before it reserves the name, so that a full disk leaves no empty file
        path, number = self._folder / name, 1
        while True:
            try:
                path.open("xb").close()  # reserves the name
            except FileExistsError:
                number += 1
                path = (self._folder / name).with_stem(f"{Path(name).stem}-{number}")
            else:
                return self._path.replace(path)

    def discard(self) -> None:
        """Remove it, unless it was published."""
        if self._file is not None:
            self._file.close()
            if self._named:
                self._path.unlink(missing_ok=True)


class Loader(Generic[C]):
    """Saves and reads contents of one kind, such as a run's artifacts.

    A subclass defines how to load a content, and the name of its file in a folder.
    """

    def _name(self, content: C, loaded: Downloaded) -> str:
        raise NotImplementedError

    async def _load(
        self,
        content: C,
        sink: Sink,
        max_bytes: int,
        timeout: float | None,
        progress: Progress | None,
    ) -> Downloaded:
        raise NotImplementedError

    async def save(
        self,
        content: C,
        path: str | os.PathLike[str],
        *,
        max_bytes: int,
        timeout: float | None,
        progress: Progress | None,
    ) -> Path:
        """Download to a file or into a folder, and return the file's path."""
        check_seconds(timeout, "timeout")
        return await _save(
            path,
            lambda sink: self._load(content, sink, max_bytes, timeout, progress),
            partial(self._name, content),
        )

    async def read(
        self, content: C, *, max_bytes: int, timeout: float | None, progress: Progress | None
    ) -> bytes:
        """Download to memory."""
        check_seconds(timeout, "timeout")
        memory = Memory()
        await self._load(content, memory, max_bytes, timeout, progress)
        return bytes(memory.content)


async def _save(
    path: str | os.PathLike[str],
    load: Callable[[Sink], Awaitable[Downloaded]],
    name: Callable[[Downloaded], str],
) -> Path:
    """Load a content into a file, which appears when it is complete. Return its path.

    Args:
        path: the file; or a folder, in which `name` names the file, with a number if that name
            exists.

    Raises:
        InvalidArgumentError: `path` cannot be used. Nothing was loaded.
        OSError: the file cannot be written.

    And what `load` raises.
    """
    destination, is_folder = await in_thread(check_destination, path)
    part = PartFile(destination if is_folder else destination.parent)
    try:
        await part.create()
        loaded = await load(part)
        if not is_folder:
            return await part.publish(destination)
        return await part.publish_beside(name(loaded))
    finally:
        part.discard()


def check_destination(path: str | os.PathLike[str]) -> tuple[Path, bool]:
    """`path`, and whether it is a folder.

    Raises:
        InvalidArgumentError: it is neither a folder nor in a folder that exists.
    """
    try:
        place, text = Path(path), os.fspath(path)
        is_folder = place.is_dir()
        known = is_folder or (place.parent.is_dir() and not text.endswith(os.sep))
        known = known and "\0" not in text
    except (TypeError, OSError) as error:
        raise errors.InvalidArgumentError(
            f"path cannot be used: {error}", argument="path"
        ) from error
    if not known:
        raise errors.InvalidArgumentError(
            f"path {place} is in no folder that exists: make it first", argument="path"
        )
    return place, is_folder
