"""A store in a file: it survives restarts, and several processes on one machine share it.

Each call opens the file, changes it in one transaction and closes it, in the store's own thread. So
a store need not be closed, and an event loop never waits for a disk. A store that was used before
a fork can be used in both processes.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dynamiq_async.errors import InvalidArgumentError
from dynamiq_async.options import check_seconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from .stores import Claim

BUSY_SECONDS = 30.0
"""How long a transaction waits for other processes, in seconds."""

# An id without an owner is done. Every id is forgotten when it expires.
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS callbacks "
    "(id TEXT PRIMARY KEY, owner TEXT, expires REAL NOT NULL) WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS callbacks_expires ON callbacks (expires)",
)
_FORGET = "DELETE FROM callbacks WHERE expires <= ?"
_CLAIM = "INSERT INTO callbacks VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
_OWNER = "SELECT owner FROM callbacks WHERE id = ?"
_COMPLETE = "INSERT OR REPLACE INTO callbacks VALUES (?, NULL, ?)"
_RELEASE = "DELETE FROM callbacks WHERE id = ? AND owner = ?"


class SQLiteStore:
    """A `CallbackStore` in an SQLite file, which is created when it is first used.

    Args:
        path: the path of the file, in a folder that exists.
        lease: seconds after which an id that is still being handled can be claimed again, so that
            a process that died does not block it for ever. Your handler must always be faster.
        max_age: seconds after which a handled id is forgotten.

    Raises:
        InvalidArgumentError: an argument cannot be used.

    Its methods raise `sqlite3.Error` if the file cannot be used.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        lease: float = 300.0,
        max_age: float = 30 * 24 * 3600.0,
    ) -> None:
        if not isinstance(path, str | os.PathLike) or os.fspath(path) in ("", ":memory:"):
            raise InvalidArgumentError("path must be a file; or use MemoryStore", argument="path")
        for value, argument in ((lease, "lease"), (max_age, "max_age")):
            if value is None:
                raise InvalidArgumentError(f"{argument} needs a limit", argument=argument)
            check_seconds(value, argument)
        self._path = Path(path).absolute()
        self._lease = lease
        self._max_age = max_age
        self._process = 0  # the process that has `_thread`: a fork does not copy threads
        self._thread: ThreadPoolExecutor

    async def claim(self, id: str, owner: str) -> Claim:
        """See `CallbackStore`."""
        now = time.time()

        def work(db: sqlite3.Connection) -> Claim:
            db.execute(_FORGET, (now,))
            db.execute(_CLAIM, (id, owner, now + self._lease))
            (holder,) = db.execute(_OWNER, (id,)).fetchone()
            if holder is None:
                return "done"
            return "claimed" if holder == owner else "busy"

        claim: Claim = await self._run(work)
        return claim

    async def complete(self, id: str) -> None:
        """See `CallbackStore`."""
        await self._run(lambda db: db.execute(_COMPLETE, (id, time.time() + self._max_age)))

    async def release(self, id: str, owner: str) -> None:
        """See `CallbackStore`."""
        await self._run(lambda db: db.execute(_RELEASE, (id, owner)))

    async def _run(self, work: Callable[[sqlite3.Connection], Any]) -> Any:
        loop = asyncio.get_running_loop()
        if self._process != os.getpid():
            self._process = os.getpid()
            # One thread, so that a cancelled call still finishes before the next one begins.
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="dynamiq-callbacks")
        # Shielded: without that, a cancellation before the thread starts would drop the work.
        return await asyncio.shield(loop.run_in_executor(self._thread, self._transaction, work))

    def _transaction(self, work: Callable[[sqlite3.Connection], Any]) -> Any:
        with closing(sqlite3.connect(self._path, timeout=BUSY_SECONDS, isolation_level=None)) as db:
            db.execute("BEGIN IMMEDIATE")
            for statement in _SCHEMA:
                db.execute(statement)
            outcome = work(db)
            db.execute("COMMIT")
        return outcome
