"""Writes the command line's output: to its standard streams, and to the files that `-o` names.

Before it does anything else, a command resolves the name, and refuses a target that it must not
overwrite. A separate thread writes everything in order, so the event loop never waits for a reader.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import stat
import sys
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dynamiq_async import _files
from dynamiq_async.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

if sys.platform != "win32":  # pragma: no branch - where an open file cannot be replaced anyway
    from fcntl import LOCK_EX, LOCK_NB, flock

ROOM = 256 * 1024
"""Bytes that may wait for a pipe's reader before callers that write more have to wait."""

PATIENCE = 1.0
"""A program that has to end drops the rest of its output after this many seconds without
progress."""

_COMPANIONS = ("", "-wal", "-shm", "-journal", "-lock")  # files of an SQLite database
_MOST_LINKS = 40
_REFUSED_KINDS = {
    stat.S_IFDIR: "folder",
    stat.S_IFBLK: "block device",
    stat.S_IFSOCK: "socket",
}


class Writer:
    """Writes bytes to what `open` opens, completely and in order, in a separate thread.

    Args:
        name: the target's name in errors.
        open: called in the thread. Returns a function that writes all the bytes it is given.
    """

    def __init__(self, name: str, open: Callable[[], Callable[[bytes], object]]) -> None:
        self.name = name
        self._open = open
        self._change = threading.Condition()
        self._waiting: list[bytes] = []
        self._unwritten = 0
        self._busy = True
        self._closed = False
        self._failure: Exception | None = None
        self._drains: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
        # A write to a pipe cannot be interrupted, so nothing may wait for this thread's end.
        threading.Thread(target=self._run, name=f"writer of {name}", daemon=True).start()

    @property
    def unwritten(self) -> int:
        """How many bytes are not written yet, or never will be."""
        return self._unwritten

    def put(self, data: bytes) -> None:
        """Queue bytes to write.

        Raises:
            OSError: earlier bytes could not be written.
        """
        with self._change:
            self._check()
            self._waiting.append(data)
            self._unwritten += len(data)
            self._busy = True
            self._change.notify_all()

    async def drain(self, room: int = 0) -> None:
        """Wait until the target is open, and at most `room` bytes are unwritten.

        Raises:
            OSError: some bytes could not be written.
            InvalidArgumentError: the target could not be opened.
        """
        news = asyncio.Event()
        loop = asyncio.get_running_loop()
        while True:
            with self._change:
                if not self._is_behind(room):
                    break
                self._drains.append((loop, news))
            await news.wait()
            news.clear()
        self._check()

    def flush(self, patience: float | None = None) -> None:
        """Wait until all bytes are written, or until none was written for `patience` seconds.

        Raises:
            OSError, InvalidArgumentError: as for `drain`.
        """
        with self._change:
            while self._is_behind(0):
                if not self._change.wait(patience):
                    return
            self._check()

    def close(self) -> None:
        """End the thread. Unwritten bytes are dropped."""
        with self._change:
            self._closed = True
            self._change.notify_all()

    def _is_behind(self, room: int) -> bool:
        return self._failure is None and (self._busy if room == 0 else self._unwritten > room)

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            write = self._open()
            while (data := self._next()) is not None:
                write(data)
                with self._change:
                    self._unwritten -= len(data)
        except OSError as error:
            self._failure = OSError(error.errno, error.strerror or str(error), self.name)
        except Exception as error:  # noqa: BLE001 - whoever waits is told
            self._failure = error
        with self._change:
            self._tell()

    def _next(self) -> bytes | None:
        """The next bytes to write; None at the end."""
        with self._change:
            self._busy = bool(self._waiting)
            self._tell()
            self._change.wait_for(lambda: self._waiting or self._closed)
            if self._closed:
                return None
            data, self._waiting, self._busy = b"".join(self._waiting), [], True
            return data

    def _tell(self) -> None:
        self._change.notify_all()
        drains, self._drains = self._drains, []
        for loop, news in drains:
            with contextlib.suppress(RuntimeError):  # the event loop has ended
                loop.call_soon_threadsafe(news.set)


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of `data`, even if each call writes only a part."""
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:  # another process that shares the stream has made it non-blocking
            select.select([], [descriptor], [])


class Target:
    """The target of `-o`: stdout, a file to replace, or something to write in place, such as
    a pipe.

    A file keeps its old content until the new content is complete. Until then, the new content is
    in a file with `.partial` after its name. A lock on that keeps other processes from writing it.

    Args:
        given: a path, or `-` for stdout.
        may_replace: whether to overwrite a partial file that an earlier start has left.
        apart: the command's other files, by what they are. The target must be none of them.

    Attributes:
        path: the resolved path; None for stdout.
        partial: the partial file; None if the target is written in place.

    Raises:
        InvalidArgumentError: the target cannot be written, or must not be.
    """

    def __init__(self, given: str, *, may_replace: bool = False, **apart: Path | None) -> None:
        self.given = given
        self.path: Path | None = None
        self.partial: Path | None = None
        self._may_replace = may_replace
        self._open_as = None if given == "-" else _descriptor_of(Path(given))
        self._opened: int | None = None
        others = {name: path for name, path in apart.items() if path is not None}
        if given == "-" or self._open_as == 1:
            _check_stdout(others)
            return
        self.path = Path(os.path.realpath(given) if Path(given).is_symlink() else given)
        with self._usable(given):
            kind = _kind_of(Path(given))
        if kind in _REFUSED_KINDS:
            raise _refused(f"{given} is a {_REFUSED_KINDS[kind]}")
        _check_apart(self.path, others)
        if self._open_as is None and kind in (0, stat.S_IFREG):
            self.partial = self.path.with_name(f"{self.path.name}.partial")
            _check_apart(self.partial, others)
            if not may_replace and os.path.lexists(self.partial):
                raise _refused(
                    f"{self.partial} is what an interrupted batch left; move it away, or let a "
                    "batch that can be interrupted have a --journal"
                )

    def writer(self) -> Writer:
        """A writer that opens the target and writes to it. Not for stdout."""
        return Writer(str(self.partial or self.given), self._open)

    def finish(self, *, complete: bool) -> None:
        """Move the partial file to its place if it is `complete`. Otherwise, remove it if it is
        empty.

        Raises:
            OSError: it cannot be moved. The partial file is kept.
        """
        if self._opened is None:
            return
        try:
            if self.partial is None or self.path is None:
                return
            if complete:
                with named(self.given):
                    _files.take_place(self._opened, self.partial, self.path)
            elif not os.fstat(self._opened).st_size:
                self.partial.unlink(missing_ok=True)
        finally:
            os.close(self._opened)
            self._opened = None

    def _open(self) -> Callable[[bytes], object]:
        if self.partial is not None:
            try:
                self._opened = self._open_partial(self.partial)
            except PermissionError:  # the file exists in a folder that takes no new files
                self.partial = None
        if self._opened is None:
            with self._usable(self.given):
                self._opened = self._open_in_place()
        return partial(write_all, self._opened)

    def _open_in_place(self) -> int:
        if self._open_as is not None:
            return os.dup(self._open_as)
        # For a pipe, this waits for its reader.
        return os.open(self.given, os.O_WRONLY | os.O_TRUNC | getattr(os, "O_NOCTTY", 0))

    def _open_partial(self, path: Path) -> int:
        assert self.path is not None  # noqa: S101 - it has a partial file
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        if not self._may_replace:
            flags |= os.O_EXCL
        with self._usable(path, but=PermissionError):
            descriptor = os.open(path, flags, _files.mode_of(self.path))
        try:
            with self._usable(path):
                _lock(descriptor, path)
                os.ftruncate(descriptor, 0)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    @contextlib.contextmanager
    def _usable(self, name: object, but: type[OSError] | tuple[()] = ()) -> Iterator[None]:
        """Turn an OSError of the body into an InvalidArgumentError with the file's name."""
        try:
            yield
        except OSError as error:
            if isinstance(error, but) and self.path is not None and self.path.exists():
                raise
            raise _refused(f"{name} cannot be written: {error.strerror}") from error


@contextlib.contextmanager
def named(name: str) -> Iterator[None]:
    """Make an OSError of the body say what could not be read or written."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), name) from error


def _descriptor_of(path: Path) -> int | None:
    """The number of the open descriptor that the path names, such as /dev/stdout."""
    for _ in range(_MOST_LINKS):
        if path.name.isdigit() and os.path.realpath(path.parent) in _descriptor_folders():
            return int(path.name)
        if not path.is_symlink():
            break
        path = path.parent / path.readlink()
    return None


def _descriptor_folders() -> set[str]:
    return {os.path.realpath("/proc/self/fd"), "/dev/fd"}


def _kind_of(path: Path) -> int:
    """The file's type as in `stat`; 0 if there is no file."""
    try:
        return stat.S_IFMT(path.stat().st_mode)
    except FileNotFoundError:
        return 0


def _check_stdout(others: dict[str, Path]) -> None:
    if sys.stdout is None:
        raise _refused("stdout is closed; name a file with --output")
    try:
        found = os.fstat(sys.stdout.fileno())
    except OSError:  # it is not a file of the system
        return
    for name, path in others.items():
        if stat.S_ISREG(found.st_mode) and path.exists() and os.path.samestat(found, path.stat()):
            raise _refused(f"stdout is the {name} {path}")


def _check_apart(path: Path, others: dict[str, Path]) -> None:
    for name, other in others.items():
        for companion in _COMPANIONS if name == "journal" else ("",):
            taken = Path(f"{os.path.realpath(other)}{companion}")
            if Path(os.path.realpath(path)) == taken or (
                path.exists() and taken.exists() and path.samefile(taken)
            ):
                raise _refused(f"{path} is the {name}; name another file with --output")


def _lock(descriptor: int, path: Path) -> None:
    """Keep other processes from writing the file, until it is closed.

    Raises:
        InvalidArgumentError: another process writes it, or has just moved it to its place.
    """
    try:
        flock(descriptor, LOCK_EX | LOCK_NB)
        mine = os.path.samestat(os.fstat(descriptor), path.stat())
    except (BlockingIOError, FileNotFoundError):
        mine = False
    if not mine:
        raise _refused(f"{path} is being written by another process")


def _refused(why: str) -> InvalidArgumentError:
    return InvalidArgumentError(why, argument="output")
