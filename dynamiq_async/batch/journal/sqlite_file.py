"""The journal as an SQLite database: how it is laid out, opened, and refused.

Nothing here changes a file before it is known to be a journal of ours, or to hold nothing at all.
"""

from __future__ import annotations

import sqlite3
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING

from msgspec import convert
from msgspec.structs import asdict

from dynamiq_async.batch.journal.store import RUNNING, Header, Record
from dynamiq_async.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

APPLICATION_ID = 0x44594A4C  # "DYJL"
FORMAT = 2

_CHECKED_BYTES = 64 * 1024 * 1024
"""Up to this size, a journal is looked through whole before it is used (a tenth of a second)."""

_KEPT_STATEMENTS = 256

_LOCK_PATIENCE = 0.5
"""Seconds for a writer that is about to end."""

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
"""What makes a record of a row of `entry`. What is JSON was not always UTF-8."""

_COMPLAINTS = {
    "SQLITE_NOTADB": "is not a journal, nor any other SQLite database; it is left as it is",
    "SQLITE_CORRUPT": "is damaged; keep it for what can be saved, and begin a new one",
    "SQLITE_FULL": "cannot be written: the disk is full. Start again when there is room",
    "SQLITE_READONLY": "cannot be written: the file or its folder is read-only",
    "SQLITE_CANTOPEN": "cannot be opened, or nothing can be written in its folder",
    "SQLITE_BUSY": "is held by another program that has it open",
}


@contextmanager
def writing(path: Path, header: Header) -> Iterator[tuple[sqlite3.Connection, Header]]:
    """The journal at `path` and its header; where there is none, a new one with `header`. Others
    cannot write it meanwhile.

    Raises:
        JournalError: there is something else, or another process writes it.
    """
    if path.exists():
        with closing(_connect(path, "ro")) as connection:
            if not _is_empty(path, connection):
                _check_whole(path, connection)
    with closing(_lock(path)), closing(_connect(path, "rwc")) as connection:
        if _is_empty(path, connection):
            _create(connection, header)
        # What it is told has to outlast this process, not the machine's power.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.executescript(_TRIAL)
        yield connection, read_header(path, connection)


def open_for_reading(path: Path) -> sqlite3.Connection:
    """The journal at `path`.

    Raises:
        JournalError: there is none.
    """
    if not path.exists():
        raise JournalError(f"there is no journal {path}")
    with ExitStack() as opened:
        connection = opened.enter_context(closing(_connect(path, "ro")))
        if _is_empty(path, connection):
            raise JournalError(f"{path} is empty: there is no journal in it")
        opened.pop_all()
    return connection


def _lock(path: Path) -> sqlite3.Connection:
    """Keep others from writing the journal, until the connection is closed or the process ends.

    A database of its own, with nothing in it: SQLite knows how to lock a file on each system, and
    readers of the journal are not held up.

    Raises:
        JournalError: another process has the lock.
    """
    connection = _connect(path.with_name(f"{path.name}-lock"), "rwc", patience=_LOCK_PATIENCE)
    try:
        connection.execute("BEGIN EXCLUSIVE")
    except sqlite3.Error as error:
        connection.close()
        if _code(error) == "SQLITE_BUSY":
            raise JournalError(
                f"{path} is being written by another process; wait for its end, or use another "
                "journal"
            ) from None
        raise
    return connection


def complaint(path: Path, error: Exception) -> JournalError:
    """What went wrong with the journal, in our words."""
    if isinstance(error, JournalError):
        return error
    said = _COMPLAINTS.get(_code(error), "cannot be used")
    wrong = JournalError(f"the journal {path} {said} ({error})")
    wrong.__cause__ = error
    return wrong


def read_header(path: Path, connection: sqlite3.Connection) -> Header:
    """What the journal is for."""
    try:
        return convert(
            dict(connection.execute("SELECT name, value FROM meta")), Header, strict=False
        )
    except ValueError as error:
        raise JournalError(f"the journal {path} is damaged: {error}") from error


def _connect(path: Path, mode: str, *, patience: float = 5) -> sqlite3.Connection:
    if path.is_dir():
        raise JournalError(f"the journal {path} is a folder; name a file")
    if not path.parent.is_dir():
        raise JournalError(f"the journal's folder {path.parent} does not exist")
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    return sqlite3.connect(
        uri,
        uri=True,
        isolation_level=None,
        timeout=patience,
        check_same_thread=False,
        cached_statements=_KEPT_STATEMENTS,
    )


def _is_empty(path: Path, connection: sqlite3.Connection) -> bool:
    """Whether nothing at all is in the database.

    Raises:
        JournalError: something is, and it is not a journal that this version knows.
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


def _code(error: Exception) -> str:
    """The primary code's name: extended ones have a third part."""
    return "_".join(getattr(error, "sqlite_errorname", "").split("_")[:2])
