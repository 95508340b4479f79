"""`SQLiteJournal`: a journal in a file.

The database is used in a thread of its own. The calls of one turn of the event loop are one
transaction of few statements, because a statement often waits for another thread's Python code, and
that costs more than its rows. The outcome of an attempt has a table of its own, because a row that
grows when its attempt ends costs more than two rows that are written once.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache
from operator import attrgetter
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

from dynamiq_async._telemetry import extra
from dynamiq_async.batch.journal import sqlite_file
from dynamiq_async.batch.journal.sqlite_file import SELECTED
from dynamiq_async.batch.journal.store import RUNNING, Record

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping, Sequence

    from dynamiq_async.batch.journal.store import Header

S = TypeVar("S")
_Act = Callable[["_Tables", Any], Any]
_Call = tuple[_Act, Any, asyncio.Future[Any]]

log: logging.Logger = logging.getLogger("dynamiq_async")

HELD_PATIENCE = 600.0
"""Seconds that another program, such as one that makes a copy, may lock the database."""

_AT_ONCE = 120
"""The most rows in a statement: old builds of SQLite take at most 999 values."""


class SQLiteJournal:
    """A store in an SQLite database, which survives the death of its process.

    A lock on the file, whatever name is used for it, keeps a second process from writing. The lock
    ends with the process. Until the journal is closed, the file beside it with the suffix `-wal`
    belongs to it. A file whose `-wal` is missing, that is damaged or that is not a journal is
    refused and never changed. `Journal.read` reads such a journal.

    Args:
        path: of the file, which is created if it does not exist.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path: Path = Path(path)
        self._calls: list[_Call] = []

    def __str__(self) -> str:
        return str(self.path)

    async def load(self, header: Header) -> Header:
        """See `JournalStore`."""
        thread = _Thread(self.path)
        thread.start()
        # Whatever happens to this object, the thread ends, and with it the lock.
        end = weakref.finalize(self, thread.work.put, None)
        answer: asyncio.Future[Header] = asyncio.get_running_loop().create_future()
        thread.work.put((_Tables.load, header, [answer]))
        try:
            header = await answer
        except BaseException:
            end()
            raise
        self._thread, self._end, self._calls = thread, end, []
        return header

    async def begin(self, records: Sequence[Record]) -> Sequence[Record]:
        """See `JournalStore`."""
        held: list[Record] = await self._ask(_Tables.begin, records)
        return held

    async def end(self, records: Sequence[Record]) -> None:
        """See `JournalStore`."""
        await self._ask(_Tables.end, records)

    async def withdraw(self, before: Mapping[str, Record | None]) -> None:
        """See `JournalStore`."""
        await self._ask(_Tables.withdraw, before)

    async def close(self) -> None:
        """See `JournalStore`."""
        self._end()
        await self._thread.ended.wait()

    def _ask(self, act: _Act, what: object) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        if not self._calls:
            loop.call_soon(self._hand_over)
        self._calls.append((act, what, answer))
        return answer

    def _hand_over(self) -> None:
        calls, self._calls = self._calls, []
        answers = [answer for _, _, answer in calls]
        self._thread.work.put((_Tables.carry_out, calls, answers))


class _Thread(threading.Thread):
    """The thread that uses the database.

    Attributes:
        work: a function, its argument and the futures of its callers; None closes the journal.
        ended: set when the thread has ended.
    """

    def __init__(self, path: Path) -> None:
        # A daemon, because nothing committed is lost if the interpreter exits without it.
        super().__init__(name=f"journal {path.name}", daemon=True)
        self._path = path
        self._loop = asyncio.get_running_loop()
        self.work: SimpleQueue[tuple[_Act, Any, list[asyncio.Future[Any]]] | None] = SimpleQueue()
        self.ended = asyncio.Event()

    def run(self) -> None:
        with ExitStack() as opened:
            opened.callback(self._tell, self.ended.set)
            tables = _Tables(self._path, opened)
            while (work := self.work.get()) is not None:
                act, what, answers = work
                outcome: list[Any] | Exception
                try:
                    outcome = act(tables, what)
                except Exception as error:  # noqa: BLE001 - raised in the callers
                    outcome = sqlite_file.complaint(self._path, error)
                if not self._tell(_settle, answers, outcome):
                    break
                del work, what, answers, outcome  # so that outputs are freed while this waits

    def _tell(self, function: Callable[..., Any], *arguments: Any) -> bool:
        """Make the event loop call the function; returns False if the loop is closed."""
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            return False
        return True


def _settle(answers: list[asyncio.Future[Any]], outcome: list[Any] | Exception) -> None:
    for place, answer in enumerate(answers):
        if answer.done():
            continue  # its caller was cancelled
        if isinstance(outcome, list):
            answer.set_result(outcome[place])
        else:
            answer.set_exception(outcome)


class _Tables:
    """The rows of the journal, in its thread.

    Args:
        opened: the stack that closes the journal.
    """

    def __init__(self, path: Path, opened: ExitStack) -> None:
        self._path = path
        self._opened = opened
        self._ids: dict[str, int] = {}  # of the items begun by this process, until they end

    def load(self, header: Header) -> list[Header]:
        opening = sqlite_file.writing(self._path, header)
        self._writing = self._opened.enter_context(opening)
        self._connection, header, _ = self._writing
        last = self._connection.execute("SELECT coalesce(max(id), 0) FROM item")
        ((self._last_id,),) = last
        self._held_some = self._last_id > 0
        return [header]

    def carry_out(self, calls: list[_Call]) -> list[Any]:
        """The return values of the calls, once all of them are committed."""
        self._writing.check_places()
        with self._connection:
            self._begin_transaction()
            return [act(self, what) for act, what, _ in calls]

    def _begin_transaction(self) -> None:
        """Begin a transaction. While another program locks the database, wait and log that."""
        until = time.monotonic() + HELD_PATIENCE
        while True:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if not sqlite_file.is_busy(error) or time.monotonic() >= until:
                    raise
                log.warning(
                    "another program holds the journal %s; waiting for it",
                    self._path,
                    extra=extra(error),
                )
            else:
                return

    def begin(self, records: Sequence[Record]) -> list[Record]:
        held: list[Record] = []
        for some in _pieces(records):
            begun = {record.key: record for record in some}
            if self._held_some:  # in a journal that was empty, most keys are new: no look-up
                held += self._look_up(begun)
            if begun and not self._insert(list(begun.values())):
                held += self._look_up(begun)
        return held

    def _look_up(self, begun: dict[str, Record]) -> list[Record]:
        """Remove from `begun` the records that an existing record blocks; return the existing
        ones."""
        held = []
        for id, *values in self._connection.execute(_select(len(begun)), list(begun)):
            record = Record(*values)
            if record == begun[record.key]:
                self._ids[record.key] = id
            elif record.attempt >= begun[record.key].attempt:
                held.append(record)
                del begun[record.key]
        return held

    def _insert(self, records: list[Record]) -> bool:
        """Insert the records; returns whether all keys were new."""
        rows = list(enumerate(records, self._last_id + 1))
        self._last_id += len(rows)
        values = [value for id, record in rows for value in (id, *_item_of(record))]
        again = [(record.key, record.attempt) for record in records if record.attempt > 1]
        self._connection.executemany(_FORGET_EARLIER, again)
        written = self._connection.execute(_begin(len(rows)), values).rowcount
        if again or written < len(rows):
            return False
        self._ids.update((record.key, id) for id, record in rows)
        return True

    def end(self, records: Sequence[Record]) -> None:
        ended = []
        for record in records:
            if record.state == RUNNING or record.key not in self._ids:
                self._replace(record)
            else:
                ended.append((self._ids.pop(record.key), record))
        for some in _pieces(ended):
            self._write_outcomes(some)

    def withdraw(self, before: Mapping[str, Record | None]) -> None:
        for key, record in before.items():
            self._ids.pop(key, None)
            if record is not None:
                self._replace(record)
            else:
                self._connection.execute(_FORGET, [key])
                self._connection.execute("DELETE FROM item WHERE key = ?", [key])

    def _replace(self, record: Record) -> None:
        key, *values = _item_of(record)
        self._connection.execute(_FORGET, [key])
        self._connection.execute(_REPLACE, [*values, key])
        if record.state != RUNNING:
            found = self._connection.execute("SELECT id FROM item WHERE key = ?", [key])
            self._write_outcomes([(id, record) for (id,) in found])

    def _write_outcomes(self, rows: Sequence[tuple[int, Record]]) -> None:
        values = [value for id, record in rows for value in (id, *_outcome_of(record))]
        self._connection.execute(_end(len(rows)), values)


_ITEM = ("key", "digest", "attempt", "opening", "started_at", "run_id")
_OUTCOME = ("state", "run_id", "attempts", "seconds", "finished_at", "output", "error")

_item_of = attrgetter(*_ITEM)
_outcome_of = attrgetter(*_OUTCOME)

_REPLACE = f"UPDATE item SET {', '.join(f'{name} = ?' for name in _ITEM[1:])} WHERE key = ?"  # noqa: S608
_FORGET = "DELETE FROM outcome WHERE id = (SELECT id FROM item WHERE key = ?)"
_FORGET_EARLIER = _FORGET.replace("key = ?", "key = ? AND attempt < ?")

# Each number of rows has a statement of its own; SQLite prepares it once, and keeps it.


@cache
def _select(count: int) -> str:
    places = ", ".join("?" * count)
    return f"SELECT id, {SELECTED} FROM entry WHERE key IN ({places})"  # noqa: S608


@cache
def _begin(count: int) -> str:
    changes = ", ".join(f"{name} = excluded.{name}" for name in _ITEM[1:])
    places = ", ".join(["(?, ?, ?, ?, ?, ?, ?)"] * count)
    return (
        f"INSERT INTO item (id, {', '.join(_ITEM)}) VALUES {places} "  # noqa: S608
        f"ON CONFLICT (key) DO UPDATE SET {changes} WHERE attempt < excluded.attempt"
    )


@cache
def _end(count: int) -> str:
    places = ", ".join(["(?, ?, ?, ?, ?, ?, CAST(? AS TEXT), CAST(? AS TEXT))"] * count)
    return f"REPLACE INTO outcome (id, {', '.join(_OUTCOME)}) VALUES {places}"  # noqa: S608


def _pieces(things: Sequence[S]) -> Iterator[Sequence[S]]:
    return (things[start : start + _AT_ONCE] for start in range(0, len(things), _AT_ONCE))
