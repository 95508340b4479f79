"""The journal as an SQLite database: its layout, how it is opened, and when it is refused.

Nothing here changes a file before it is known to be one of our journals, or to be empty.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from msgspec import convert
from msgspec.structs import asdict

from dynamiq_async.batch.journal.store import RUNNING, Header, Record
from dynamiq_async.errors import JournalError

if sys.platform == "win32":  # pragma: no cover
    import msvcrt
else:
    import fcntl

if TYPE_CHECKING:
    from collections.abc import Iterator

APPLICATION_ID = 0x44594A4C  # "DYJL"
FORMAT = 2

_CHECKED_BYTES = 64 * 1024 * 1024
"""Up to this size, a whole journal is checked before it is used (a tenth of a second)."""

_KEPT_STATEMENTS = 256

_LOCK_PATIENCE = 0.5
"""Seconds to wait for a writer that is about to end."""

_PATIENCE = 5.0
"""Seconds to wait for another program that locks the database, before that is logged."""

_LOCKED_BYTE = 0x40000000 + 1024
"""A byte of the page that SQLite keeps free for locks, after the bytes that SQLite locks itself."""

_MARK = """
BEGIN IMMEDIATE;
REPLACE INTO meta VALUES ('open', '');
COMMIT;
PRAGMA wal_checkpoint;
"""
"""While this mark is in the file itself, the latest records may be in its `-wal` alone."""

_UNMARK = "DELETE FROM meta WHERE name = 'open'"

_SCHEMA = f"""
PRAGMA journal_mode = WAL;
BEGIN IMMEDIATE;
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {FORMAT};
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE item (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    digest BLOB NOT NULL,       -- of the input
    attempt INTEGER NOT NULL,   -- how often it was begun
    opening INTEGER NOT NULL,   -- the number of the opening that wrote it last
    started_at REAL NOT NULL,   -- Unix time
    run_id TEXT                 -- as far as it was noted before the end
);
CREATE TABLE outcome (          -- of an item's last attempt, once it is over
    id INTEGER PRIMARY KEY,     -- the item's
    state TEXT NOT NULL,        -- done, failed, unknown
    run_id TEXT,
    attempts INTEGER,           -- requests
    seconds REAL,
    finished_at REAL,
    output TEXT,                -- JSON
    error TEXT                  -- JSON
);
CREATE VIEW entry AS
    SELECT item.id, key, digest, coalesce(state, '{RUNNING}') AS state, attempt, opening,
        started_at, coalesce(outcome.run_id, item.run_id) AS run_id, attempts, seconds,
        finished_at, output, error
    FROM item LEFT JOIN outcome USING (id);
"""  # noqa: S608

_TRIAL = "BEGIN IMMEDIATE; UPDATE meta SET value = value; ROLLBACK;"
"""Fails where nothing can be written, and changes nothing."""

SELECTED = ", ".join(Record.__struct_fields__).replace(
    "output, error", "CAST(output AS BLOB), CAST(error AS BLOB)"
)
"""The columns of `entry` that make a record. JSON is read as bytes, as it may not be UTF-8."""

_COMPLAINTS = {
    "SQLITE_NOTADB": "is not a journal, nor any other SQLite database; it is left as it is",
    "SQLITE_CORRUPT": "is damaged; keep it for what can be saved, and begin a new one",
    "SQLITE_FULL": "cannot be written: the disk is full. Start again when there is room",
    "SQLITE_READONLY": "cannot be written: the file or its folder is read-only",
    "SQLITE_CANTOPEN": "cannot be opened, or nothing can be written in its folder",
    "SQLITE_BUSY": "is held by another program that has it open",
}


@contextmanager
def writing(path: Path, header: Header) -> Iterator[Writing]:
    """The journal at `path` and its header; if there is none, a new one with `header`. Others
    cannot write to it meanwhile.

    Raises:
        JournalError: the file is not a journal, or another process writes to it.
    """
    if path.exists():
        with closing(open_quietly(path)) as connection:
            if not _is_empty(path, connection):
                _check_complete(path, connection)
                _check_whole(path, connection)
    with _locked(path) as file, closing(_connect(path, "rwc")) as connection:
        if _is_empty(path, connection):
            _create(connection, header)
        # Records have to survive the death of this process, but not a power failure.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.executescript(_TRIAL)
        header = read_header(path, connection)
        connection.executescript(_MARK)
        places = {place: _identity(place.stat()) for place in (path, _wal(path))}
        places[path] = _identity(os.fstat(file))
        try:
            yield Writing(connection, header, places)
        finally:
            with suppress(sqlite3.Error):  # on an error the mark stays, and the file is not whole
                connection.execute(_UNMARK)


class Writing(NamedTuple):
    """A journal that is open for writing.

    Attributes:
        places: its files, and their identities when it was opened.
    """

    connection: sqlite3.Connection
    header: Header
    places: dict[Path, tuple[int, int]]

    def check_places(self) -> None:
        """Raise JournalError if a file was removed or replaced: new records would be lost."""
        for place, identity in self.places.items():
            try:
                there = _identity(place.stat())
            except FileNotFoundError:
                there = None
            if there != identity:
                raise JournalError(
                    f"{place} was removed or replaced while the journal was written; what is noted "
                    "from now on would be lost"
                )


def open_for_reading(path: Path) -> sqlite3.Connection:
    """The journal at `path`.

    Raises:
        JournalError: there is none, or a part of it is missing.
    """
    if not path.exists():
        raise JournalError(f"there is no journal {path}")
    with ExitStack() as opened:
        connection = opened.enter_context(closing(open_quietly(path)))
        if _is_empty(path, connection):
            raise JournalError(f"{path} is empty: there is no journal in it")
        _check_complete(path, connection)
        opened.pop_all()
    return connection


def open_quietly(path: Path) -> sqlite3.Connection:
    """A connection that changes nothing, and leaves no new file behind."""
    can_write = os.access(path, os.W_OK) and os.access(path.resolve().parent, os.W_OK)
    if _has_wal(path):
        connection = _connect(path, "ro")
        return connection if can_write else _readable(path, connection)
    if not can_write:
        return _connect(path, "ro&immutable=1")  # SQLite cannot make its files in this folder
    # SQLite makes files for reading, and removes them on closing only if it could write.
    connection = _connect(path, "rw")
    connection.execute("PRAGMA query_only = ON")
    return connection


def _readable(path: Path, connection: sqlite3.Connection) -> sqlite3.Connection:
    """`connection`, or one to a copy, because SQLite may need to write a file to read a `-wal`."""
    try:
        connection.execute("SELECT count(*) FROM sqlite_master")
    except sqlite3.OperationalError:
        connection.close()
        return _Copy(path)
    return connection


class _Copy(sqlite3.Connection):
    """A connection to a copy of a journal and its `-wal`, which is removed when it is closed."""

    def __init__(self, path: Path) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="dynamiq-async-")
        copy = Path(self._folder.name, path.name)
        shutil.copyfile(path, copy)
        shutil.copyfile(_wal(path), _wal(copy))
        super().__init__(copy, isolation_level=None, check_same_thread=False)

    def close(self) -> None:
        super().close()
        self._folder.cleanup()


def _wal(path: Path) -> Path:
    place = path.resolve()
    return place.with_name(f"{place.name}-wal")


def _has_wal(path: Path) -> bool:
    wal = _wal(path)
    return wal.exists() and wal.stat().st_size > 0


def _check_complete(path: Path, connection: sqlite3.Connection) -> None:
    """Refuse a file whose mark says that its latest records are in a `-wal` that is missing."""
    marked = connection.execute("SELECT count(*) FROM meta WHERE name = 'open'").fetchone()[0]
    if marked and not _has_wal(path):
        raise JournalError(
            f"the journal {path} is not whole: the file beside it with -wal behind its name is "
            "missing. A journal in use, or of a batch that was killed, is copied, renamed and "
            "linked with both"
        )


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


_held: set[tuple[int, int]] = set()
_holding = threading.Lock()


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    """Keep others from writing to the journal, until the body is left or the process ends.

    The lock is on the database's own file, whatever name is used for it. It differs from SQLite's
    own locks, so readers are not delayed.

    Raises:
        JournalError: another process has the lock.
    """
    _check_place(path)
    until = time.monotonic() + _LOCK_PATIENCE
    while (file := _try_lock(path)) is None:
        if time.monotonic() > until:
            raise JournalError(
                f"{path} is being written by another process; wait for its end, or use another "
                "journal"
            )
        time.sleep(_LOCK_PATIENCE / 10)
    identity = _identity(os.fstat(file))
    try:
        yield file
    finally:
        with _holding:
            os.close(file)
            _held.discard(identity)


def _try_lock(path: Path) -> int | None:
    with _holding:
        # Closing a file that SQLite has open in this process would end SQLite's own locks on it.
        if path.exists() and _identity(path.stat()) in _held:
            return None
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            kind = "SQLITE_READONLY" if path.exists() else "SQLITE_CANTOPEN"
            raise JournalError(
                f"the journal {path} {_COMPLAINTS[kind]} ({error.strerror})"
            ) from error
        try:
            _lock(file)
        except BlockingIOError:
            os.close(file)
            return None
        except BaseException:
            os.close(file)
            raise
        _held.add(_identity(os.fstat(file)))
        return file


if sys.platform == "win32":  # pragma: no cover

    def _lock(file: int) -> None:
        os.lseek(file, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            raise BlockingIOError from error

elif sys.platform == "linux":

    def _lock(file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

else:  # pragma: no cover

    def _lock(file: int) -> None:  # `flock` would conflict with SQLite's locks here
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _LOCKED_BYTE)
        except PermissionError as error:
            raise BlockingIOError from error


def complaint(path: Path, error: Exception) -> JournalError:
    """An error of the database, as a JournalError."""
    if isinstance(error, JournalError):
        return error
    said = _COMPLAINTS.get(_code(error), "cannot be used")
    wrong = JournalError(f"the journal {path} {said} ({error})")
    wrong.__cause__ = error
    return wrong


def read_header(path: Path, connection: sqlite3.Connection) -> Header:
    """The header of the journal."""
    try:
        return convert(
            dict(connection.execute("SELECT name, value FROM meta")), Header, strict=False
        )
    except ValueError as error:
        raise JournalError(f"the journal {path} is damaged: {error}") from error


def _check_place(path: Path) -> None:
    if path.is_dir():
        raise JournalError(f"the journal {path} is a folder; name a file")
    if not path.parent.is_dir():
        raise JournalError(f"the journal's folder {path.parent} does not exist")


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    _check_place(path)
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    return sqlite3.connect(
        uri,
        uri=True,
        isolation_level=None,
        timeout=_PATIENCE,
        check_same_thread=False,
        cached_statements=_KEPT_STATEMENTS,
    )


def _is_empty(path: Path, connection: sqlite3.Connection) -> bool:
    """Whether the database is empty.

    Raises:
        JournalError: it is not empty, and not a journal that this version knows.
    """
    ((application,),) = connection.execute("PRAGMA application_id")
    ((version,),) = connection.execute("PRAGMA user_version")
    ((tables,),) = connection.execute("SELECT count(*) FROM sqlite_master")
    if not application and not tables:
        return True
    if application != APPLICATION_ID:
        raise JournalError(f"{path} is the database of another program; it is left as it is")
    if version != FORMAT:
        raise JournalError(
            f"the journal {path} has format {version}, and this version of dynamiq-async knows "
            f"{FORMAT}; go on with the version that wrote it"
        )
    return False


def _check_whole(path: Path, connection: sqlite3.Connection) -> None:
    if path.stat().st_size <= _CHECKED_BYTES:
        ((verdict,),) = connection.execute("PRAGMA quick_check(1)")
        if verdict != "ok":
            raise JournalError(f"the journal {path} {_COMPLAINTS['SQLITE_CORRUPT']} ({verdict})")


def _create(connection: sqlite3.Connection, header: Header) -> None:
    connection.executescript(_SCHEMA)
    connection.executemany("INSERT INTO meta VALUES (?, ?)", asdict(header).items())
    connection.execute("COMMIT")


def is_busy(error: Exception) -> bool:
    """Whether another program locks the database."""
    return _code(error) == "SQLITE_BUSY"


def _code(error: Exception) -> str:
    """The name of the primary code: the names of extended codes have a third part."""
    return "_".join(getattr(error, "sqlite_errorname", "").split("_")[:2])
