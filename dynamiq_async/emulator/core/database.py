"""A SQLite file for the state of a service that outlives the process, with group commits.

`put` queues a statement, and the next `flush` writes all of them together. A flush runs in the next
turn of the event loop; a service also flushes before it tells a client of anything that was put.
Flushed data survives the death of the process (`kill -9`), but not that of the machine.

Only one process can use the file at a time: it is locked from the first access until it is closed
or the process ends.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_APPLICATION = 0x64795F65  # "dy_e": tells the emulator's files from those of other programs
_FORMAT = 1
_LOCK_SECONDS = 1.0  # how long a process that is about to end may take to release the file
_SYNTAX = "PRAGMA application_id", "PRAGMA user_version", "SELECT count(*) FROM sqlite_master"


class DatabaseError(OSError):
    """The emulator's database cannot be used; the message names the file and says why."""


class Database:
    """An open database file.

    Args:
        path: the file, which is created if it is missing; its folder must exist.
        schema: the statements that create its tables.

    Raises `DatabaseError` if the file is not the emulator's, was written by a newer version, is
    open in another process, or cannot be read and written.
    """

    def __init__(self, path: Path, schema: Sequence[str]) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._pending: list[tuple[str, Sequence[Any]]] = []
        self._flushing: asyncio.Handle | None = None
        self._closed = False
        _check(path)
        with self._complaining("cannot be opened"):
            self._connection = sqlite3.connect(
                path, timeout=_LOCK_SECONDS, isolation_level=None, check_same_thread=False
            )
        try:
            with self._complaining("cannot be opened"):
                self._prepare(schema)
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self, schema: Sequence[str]) -> None:
        """Lock the file, and check that it is the emulator's, or new, before changing anything."""
        run = self._connection.execute
        run("PRAGMA locking_mode=EXCLUSIVE")
        run("BEGIN EXCLUSIVE")
        application, version, tables = (run(what).fetchone()[0] for what in _SYNTAX)
        if application != _APPLICATION and (application or version or tables):
            raise DatabaseError(f"{self.path}: is a database of another program")
        if version > _FORMAT:
            raise DatabaseError(f"{self.path}: was written by a newer version of the emulator")
        if not version:
            for statement in schema:
                run(statement)
            run(f"PRAGMA application_id={_APPLICATION}")
            run(f"PRAGMA user_version={_FORMAT}")
        run("COMMIT")
        run("PRAGMA journal_mode=WAL")
        run("PRAGMA synchronous=NORMAL")

    def put(self, statement: str, *values: Any) -> None:
        """Queue a statement for the next `flush`. After `close` this does nothing."""
        if self._closed:
            return
        self._pending.append((statement, values))
        if self._flushing is None:
            self._flushing = asyncio.get_running_loop().call_soon(self.flush)

    def flush(self) -> None:
        """Write all queued statements, in one transaction.

        Raises `DatabaseError` if they cannot be written, and keeps them for the next flush. Raises
        it after `close` too, so that no client is told of data that was not stored.
        """
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        if self._closed:
            raise DatabaseError(f"{self.path}: is closed")
        if self._pending:
            self._write(self._pending)
            self._pending.clear()

    def write(self, statement: str, *values: Any) -> None:
        """Run a statement at once. May be called in any thread."""
        self._write([(statement, values)])

    def _write(self, what: Sequence[tuple[str, Sequence[Any]]]) -> None:
        run = self._connection.execute
        with self._lock, self._complaining("cannot be written"):
            run("BEGIN IMMEDIATE")
            try:
                for statement, values in what:
                    run(statement, values)
                run("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # a full disk has ended it already
                    run("ROLLBACK")
                raise

    def rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """The selected rows. Statements that were not flushed have no effect on them yet. May be
        called in any thread."""
        with self._lock, self._complaining("cannot be read"):
            return self._connection.execute(statement, values).fetchall()

    def close(self) -> None:
        """Flush, and release the file. May be called twice."""
        if self._closed:
            return
        try:
            self.flush()
        finally:
            self._closed = True
            with self._lock:
                self._connection.close()

    @contextmanager
    def _complaining(self, what: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            said = str(error)
            if "locked" in said:
                said = "another process has it open"
            elif "not a database" in said:
                said = "it is no database"
            raise DatabaseError(f"{self.path}: {what}: {said}") from error


def _check(path: Path) -> None:
    """Raise for problems about which SQLite has no clear message."""
    if not path.parent.is_dir():
        raise DatabaseError(f"{path}: there is no folder {path.parent}")
    if path.is_dir():
        raise DatabaseError(f"{path}: is a folder")
    for needed in (path.parent, path):  # SQLite writes its log next to the file
        if needed.exists() and not os.access(needed, os.W_OK):
            raise DatabaseError(f"{path}: {needed} may only be read")
