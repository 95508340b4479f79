"""What the journal knows of each key, and the changes to it, a group at a time.

It belongs to the journal's thread. One group of changes is one transaction of few statements:
each statement that another thread's Python has to be waited for costs more than the rows in it.
What an attempt came to has a table of its own, because a row that grows when its attempt ends is
dearer than two that are written once.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from functools import cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID, uuid5

from msgspec import Struct

from dynamiq_async.batch.journal import _failures
from dynamiq_async.batch.journal._database import DONE, FAILED, RUNNING
from dynamiq_async.errors import DynamiqError, JournalError

if TYPE_CHECKING:
    from dynamiq_async.batch.journal._database import Opened

State = Literal["new", "retry", "done", "failed", "unknown"]


class Claim(Struct, frozen=True, kw_only=True):
    """What `Journal.begin` says of a key.

    Attributes:
        state: "new" or "retry": this attempt is to be made now. "done" or "failed": it was made,
            with this output or error. "unknown": it was begun, and nobody noted its end.
        attempt: the number of the attempt, from 1.
        run_id: of its run, as far as it was noted.
        output: the JSON of what came out.
        error: what went wrong; with "unknown", why nobody knows.
        attempts, seconds: how many requests it took, and how long.
        started_at: Unix time.
        job: the UUID of the journal.
    """

    key: str
    state: State
    attempt: int
    job: str
    run_id: str | None = None
    output: bytes | None = None
    error: DynamiqError | None = None
    attempts: int = 0
    seconds: float = 0.0
    started_at: float = 0.0

    @property
    def session_id(self) -> str:
        """A session for this attempt alone, the same whenever the journal is asked for it."""
        return session_of(self.job, self.key, self.attempt)


def session_of(job: str, key: str, attempt: int) -> str:
    """The session of an attempt: by it, a run whose answer was lost is found again."""
    return str(uuid5(UUID(job), f"{attempt}:{key}"))


class Row(Struct, gc=False):
    """An entry, as `_database` lays it out."""

    id: int
    key: str
    digest: bytes
    state: str
    attempt: int
    opening: int
    started_at: float
    run_id: str | None = None
    attempts: int | None = None
    seconds: float | None = None
    finished_at: float | None = None
    output: bytes | None = None
    error: bytes | None = None


SELECTED = ", ".join(Row.__struct_fields__).replace(
    "output, error", "CAST(output AS BLOB), CAST(error AS BLOB)"
)

_ITEM = ("id", "key", "digest", "attempt", "opening", "started_at", "run_id")
_OUTCOME = ("id", "state", "run_id", "attempts", "seconds", "finished_at", "output", "error")

_AT_ONCE = 120
"""Rows in a statement: old builds of SQLite take 999 values."""

Group = list[tuple[Callable[..., Any], tuple[Any, ...], Any]]
"""Methods of `Store`, each with its arguments, and something of the caller's."""


class Store:
    """The journal's rows.

    Args:
        opened: the database, which is the store's to close.
        retry_failed: begin what failed again.
    """

    def __init__(self, opened: Opened, *, retry_failed: bool) -> None:
        self._opened = opened
        self._connection = opened.connection
        self._job = opened.facts.job
        self._opening = opened.facts.opening
        self._retry_failed = retry_failed
        self._last_id = opened.last_id
        # In a journal that was empty, a key is new without a look, unless it is given twice.
        self._knows_all = not self._last_id
        self._open: dict[str, Row] = {}  # begun and not finished: as many as are in flight
        self._before: dict[str, Row] = {}  # of those begun again: what `withdraw` goes back to
        self._found: dict[str, Row] = {}
        # What the group changes: items begun first, items otherwise, outcomes, items withdrawn.
        self._new: list[Row] = []
        self._changed: dict[str, Row] = {}
        self._ended: dict[str, Row] = {}
        self._dropped: list[str] = []

    def close(self) -> None:
        """Close the database."""
        self._opened.close()

    def apply(self, group: Group) -> list[Any]:
        """Carry out the calls of a group and commit.

        Returns what they return, and in place of what they raise the error.
        """
        if self._knows_all:
            opened, before, last_id = dict(self._open), dict(self._before), self._last_id
            try:
                return self._carry_out(group)
            except sqlite3.IntegrityError:  # a key that is there already
                self._connection.rollback()
                self._open, self._before, self._last_id = opened, before, last_id
                self._forget_changes()
                self._knows_all = False
        begin = Store.begin
        self._look_up([arguments[0] for act, arguments, _ in group if act is begin])
        return self._carry_out(group)

    def _carry_out(self, group: Group) -> list[Any]:
        outcomes: list[Any] = []
        for act, arguments, _ in group:
            try:
                outcomes.append(act(self, *arguments))
            except JournalError as error:
                outcomes.append(error)
        self._write()
        return outcomes

    # --- what a group is made of -----------------------------------------------------------------

    def begin(self, key: str, digest: bytes) -> Claim:
        """Begin the next attempt at a key, if there is one to make."""
        row = self._open.get(key) or self._ended.get(key) or self._changed.get(key)
        row = row or self._found.get(key)
        if row is None:
            self._last_id += 1
            row = Row(self._last_id, key, digest, RUNNING, 1, self._opening, time.time())
            self._open[key] = row
            self._new.append(row)
            return Claim(key=key, state="new", attempt=1, job=self._job, started_at=row.started_at)
        if row.digest != digest:
            raise JournalError(
                f"the journal knows key {key!r} with another input; give the changed input another "
                "key, or use a new journal",
                key=key,
            )
        if row.opening == self._opening:
            raise JournalError(f"key {key!r} was given to two inputs of this batch", key=key)
        if row.state == DONE or (row.state == FAILED and not self._retry_failed):
            return self._claim(row, "done" if row.state == DONE else "failed")
        if row.state == FAILED:
            return self._start(row)
        row.opening = self._opening
        self._open[key] = row
        self._rewrite(row)
        return self._claim(row, "unknown")

    def again(self, key: str) -> Claim:
        """Begin the next attempt at a key whose attempt has an unknown outcome."""
        return self._start(self._row(key))

    def withdraw(self, key: str) -> None:
        """An attempt was begun, and nobody knows of it: go back to what was before."""
        del self._open[key]
        before = self._before.pop(key, None)
        if before is not None:
            self._rewrite(before)
        else:
            self._changed.pop(key, None)
            self._found.pop(key, None)
            self._dropped.append(key)

    def note_run(self, key: str, attempt: int, run_id: str) -> None:
        """The attempt is this run. Nothing new for one that is over."""
        row = self._open.get(key)
        if row is not None and row.attempt == attempt:
            row.run_id = run_id
            self._rewrite(row)

    def finish(
        self,
        key: str,
        attempt: int,
        state: str,
        output: bytes | None,
        error: bytes | None,
        run_id: str | None,
        attempts: int,
        seconds: float,
    ) -> None:
        """An attempt is over."""
        row = self._row(key, attempt)
        row.state, row.output, row.error = state, output, error
        row.run_id = run_id or row.run_id
        row.attempts, row.seconds, row.finished_at = attempts, seconds, time.time()
        self._ended[key] = row
        del self._open[key]
        if self._before:
            self._before.pop(key, None)

    # ---------------------------------------------------------------------------------------------

    def _row(self, key: str, attempt: int | None = None) -> Row:
        row = self._open.get(key)
        if row is None or attempt not in (None, row.attempt):
            raise JournalError(f"attempt {attempt} at key {key!r} is not under way", key=key)
        return row

    def _start(self, before: Row) -> Claim:
        """Begin the attempt after the one that `before` tells of."""
        key = before.key
        attempt = before.attempt + 1
        row = Row(before.id, key, before.digest, RUNNING, attempt, self._opening, time.time())
        self._open[key] = row
        self._rewrite(row)
        self._before[key] = before
        return self._claim(row, "retry")

    def _rewrite(self, row: Row) -> None:
        self._changed[row.key] = row
        if row.state == RUNNING:
            self._ended.pop(row.key, None)
        else:
            self._ended[row.key] = row

    def _claim(self, row: Row, state: State) -> Claim:
        return Claim(
            key=row.key,
            state=state,
            attempt=row.attempt,
            job=self._job,
            run_id=row.run_id,
            output=row.output,
            error=None if row.error is None else _failures.decode(row.error),
            attempts=row.attempts or 0,
            seconds=row.seconds or 0.0,
            started_at=row.started_at,
        )

    def _look_up(self, keys: list[str]) -> None:
        self._found = {}
        for some in _pieces(keys):
            for values in self._connection.execute(_select(len(some)), some).fetchall():
                self._found[values[1]] = Row(*values)

    def _write(self) -> None:
        changed, ended = list(self._changed.values()), list(self._ended.values())
        again = [row.id for row in changed if row.state == RUNNING and row.attempt > 1]
        statements = [
            *((_delete("item", "key", len(keys)), keys) for keys in _pieces(self._dropped)),
            *((_delete("outcome", "id", len(ids)), ids) for ids in _pieces(again)),
            *((_insert(len(rows)), _items(rows)) for rows in _pieces(self._new)),
            *((_replace_items(len(rows)), _items(rows)) for rows in _pieces(changed)),
            *((_replace_outcomes(len(rows)), _outcomes(rows)) for rows in _pieces(ended)),
        ]
        self._forget_changes()
        if len(statements) > 1:  # one alone is a transaction by itself
            statements = [("BEGIN IMMEDIATE", []), *statements, ("COMMIT", [])]
        for text, values in statements:
            self._connection.execute(text, values)

    def _forget_changes(self) -> None:
        self._new, self._changed, self._ended, self._dropped = [], {}, {}, []


# Each number of rows has a statement of its own; SQLite prepares it once, and keeps it.


@cache
def _select(count: int) -> str:
    return f"SELECT {SELECTED} FROM entry WHERE key IN ({', '.join('?' * count)})"  # noqa: S608


@cache
def _delete(table: str, column: str, count: int) -> str:
    return f"DELETE FROM {table} WHERE {column} IN ({', '.join('?' * count)})"  # noqa: S608


@cache
def _insert(count: int) -> str:
    """Into the items; with the same key, it fails."""
    return f"INSERT INTO item ({', '.join(_ITEM)}) VALUES {_rows('?, ?, ?, ?, ?, ?, ?', count)}"  # noqa: S608


@cache
def _replace_items(count: int) -> str:
    return _insert(count).replace("INSERT", "REPLACE", 1)


@cache
def _replace_outcomes(count: int) -> str:
    places = _rows("?, ?, ?, ?, ?, ?, CAST(? AS TEXT), CAST(? AS TEXT)", count)
    return f"REPLACE INTO outcome ({', '.join(_OUTCOME)}) VALUES {places}"  # noqa: S608


def _rows(places: str, count: int) -> str:
    return ", ".join([f"({places})"] * count)


def _items(rows: list[Row]) -> list[Any]:
    return [value for row in rows for value in _item_of(row)]


def _outcomes(rows: list[Row]) -> list[Any]:
    return [value for row in rows for value in _outcome_of(row)]


_item_of = attrgetter(*_ITEM)
_outcome_of = attrgetter(*_OUTCOME)


def _pieces(things: list[Any]) -> Iterator[list[Any]]:
    return (things[start : start + _AT_ONCE] for start in range(0, len(things), _AT_ONCE))
