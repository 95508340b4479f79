"""Files that replace an older file once they are complete, and leave it untouched until then."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator

_NEW = 0o666  # less the process's umask
_DESCRIPTORS = Path("/proc/self/fd")


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A file to write, which replaces the one at `path` when the body ends without an error.

    A symbolic link is followed, and the replaced file's mode is kept. A device or a pipe is written
    to directly. Until it is complete, the new file has no name where the system allows that (Linux,
    on most file systems), so that a killed process leaves nothing behind. Elsewhere it has
    an unpredictable name.

    Raises:
        OSError: the file cannot be written.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        with open(path, "wb") as file:  # noqa: PTH123 - a link below /proc leads to no path
            yield file
        return
    beside = target.with_name(f".{target.name[:200]}.{secrets.token_hex(8)}.part")
    descriptor, named = create(beside, mode_of(target))
    try:
        with os.fdopen(descriptor, "w+b") as file:
            yield file
            file.flush()
            if not named:
                give_name(descriptor, beside)
                named = True
            take_place(descriptor, beside, target)
    finally:
        if named:
            beside.unlink(missing_ok=True)


def mode_of(target: Path) -> int:
    """The mode for the file that will replace `target`."""
    return stat.S_IMODE(target.stat().st_mode) if target.exists() else _NEW


def take_place(descriptor: int, beside: Path, target: Path) -> None:
    """Replace `target` by the open file `beside`, which gets the mode of `target`.

    A target that has several names, another owner, or a mount of its own cannot be replaced: the
    content is copied into it.

    Raises:
        OSError: it cannot be done; `beside` is kept.
    """
    os.fsync(descriptor)
    if not target.exists():
        beside.replace(target)
        return
    if _fits(descriptor, target):
        try:
            beside.replace(target)
        except OSError:  # such as a file that is mounted there by itself
            _copy(descriptor, beside, target)
    else:
        _copy(descriptor, beside, target)


def _fits(descriptor: int, target: Path) -> bool:
    """Whether the open file can replace `target`. It gets the owner and mode of `target`."""
    there, ours = target.stat(), os.fstat(descriptor)
    if there.st_nlink > 1:
        return False
    try:
        if (there.st_uid, there.st_gid) != (ours.st_uid, ours.st_gid):
            os.fchown(descriptor, there.st_uid, there.st_gid)
        os.fchmod(descriptor, stat.S_IMODE(there.st_mode))
    except OSError:
        return False
    return True


def _copy(descriptor: int, beside: Path, target: Path) -> None:
    os.lseek(descriptor, 0, os.SEEK_SET)
    with open(descriptor, "rb", closefd=False) as source, target.open("r+b") as file:
        shutil.copyfileobj(source, file)
        file.truncate()
        file.flush()
        os.fsync(file.fileno())
    beside.unlink()


def create(beside: Path, mode: int = _NEW) -> tuple[int, bool]:
    """A new open file in the folder of `beside`, and whether it has that name already. While it has
    no name, a killed process leaves nothing behind.

    Raises:
        OSError: the file cannot be made.
    """
    if (unnamed := getattr(os, "O_TMPFILE", 0)) and _DESCRIPTORS.exists():
        with suppress(OSError):  # not on this file system
            return os.open(beside.parent, unnamed | os.O_RDWR, mode), False
    binary = getattr(os, "O_BINARY", 0)  # on Windows
    return os.open(beside, os.O_RDWR | os.O_CREAT | os.O_EXCL | binary, mode), True


def give_name(descriptor: int, beside: Path) -> None:
    """Give the name `beside` to an open file that has none.

    Raises:
        OSError: it cannot be done.
    """
    folder = os.open(beside.parent, os.O_RDONLY)
    try:
        # Given a folder, Python follows the link that stands for the file.
        os.link(_DESCRIPTORS / str(descriptor), beside, src_dir_fd=folder, follow_symlinks=True)
    finally:
        os.close(folder)
