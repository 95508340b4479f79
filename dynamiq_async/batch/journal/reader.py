"""`JournalReader`: reads a journal in a file, even while a batch writes it."""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import contextmanager
from itertools import chain
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Self
from uuid import UUID, uuid5

import msgspec
from msgspec import Struct

from dynamiq_async import _json
from dynamiq_async._files import replacing
from dynamiq_async.batch.columns import Columns
from dynamiq_async.batch.journal import sqlite_file
from dynamiq_async.batch.journal.entry import Entry
from dynamiq_async.batch.journal.sqlite_file import SELECTED
from dynamiq_async.batch.journal.state import session_of
from dynamiq_async.batch.journal.store import Record
from dynamiq_async.batch.tables import TableFormat, format_of, table_file
from dynamiq_async.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


_AT_ONCE = 500


class Entries:
    """The entries of one journal or several.

    Use it as `with Journal.read(...) as journal:`, or call `close` when done. Iterate it for its
    entries.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Entry]:
        return self.entries()

    def close(self) -> None:
        """Close the file. May be called twice."""
        raise NotImplementedError

    def counts(self) -> dict[str, int]:
        """How many keys are in each state: "done", "failed", "running" and "unknown"."""
        raise NotImplementedError

    def entries(self, state: str | None = None) -> Iterator[Entry]:
        """The entries that are in this state; None: all of them."""
        raise NotImplementedError

    def export(
        self,
        target: str | PathLike[str] | BinaryIO,
        *,
        state: str | None = None,
        format: TableFormat | None = None,
        output_type: Any = Any,
    ) -> int:
        """Write the entries, or those in one state; return how many there were.

        Args:
            target: a binary file, or a path. The file at the path (a symbolic link is followed) is
                left untouched until the new one is complete; then it is replaced and keeps its
                mode. A device or a pipe is written to directly.
            format: "parquet", "arrow" (with the extra `arrow`), "csv" or "jsonl"; by default the
                format of the path's suffix, else "jsonl". Parquet is written in groups of rows, so
                memory stays flat.
            output_type: the type of the outputs. A table has the columns of `Map`, with one for
                each field of this type.

        Raises:
            JournalError: the journal is damaged.
            InvalidArgumentError: the file cannot be written, or there is no such format.
            MissingExtraError: the format needs the extra `arrow`.
        """
        if not isinstance(target, str | PathLike):
            return self._write(target, state, format_of("", format), output_type)
        chosen = format_of(target, format)
        try:
            with replacing(target) as file:
                return self._write(file, state, chosen, output_type)
        except OSError as error:
            raise InvalidArgumentError(
                f"{target} cannot be written: {error.strerror}", argument="target"
            ) from error

    def _write(
        self, file: BinaryIO, state: str | None, format: TableFormat, output_type: Any
    ) -> int:
        count = 0
        if format == "jsonl":
            for entry in self.entries(state):
                file.write(json_line(entry))
                count += 1
            return count
        columns = Columns(output_type)
        table = table_file(file, format, columns)
        for entry in self.entries(state):
            table.add(columns.of_entry(entry))
            count += 1
        table.close()
        return count


class JournalReaders(Entries):
    """Several journals, such as those of a job's shards, one after the other.

    Attributes:
        journals: each of them.
    """

    def __init__(self, paths: Iterable[str | PathLike[str]]) -> None:
        self.journals: list[JournalReader] = []
        try:
            for path in paths:
                self.journals.append(JournalReader(path))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the files. May be called twice."""
        for journal in self.journals:
            journal.close()

    def counts(self) -> dict[str, int]:
        """The sums of all journals."""
        sums: Counter[str] = Counter()
        for journal in self.journals:
            sums.update(journal.counts())
        return dict(sums)

    def entries(self, state: str | None = None) -> Iterator[Entry]:
        """The entries in this state, or all, of one journal after the other."""
        return chain.from_iterable(journal.entries(state) for journal in self.journals)


class JournalReader(Entries):
    """Reads a journal in a file. It never changes the file, and does not delay its writer.

    Reads are short and block; use a thread where that matters. Iterate it for its entries, in the
    order in which they were first begun. An entry that changes meanwhile is returned as it is when
    its turn comes. Use it as `with Journal.read(...) as journal:`, or call `close` when done.

    Attributes:
        path: of the journal.
        job: its UUID; `mode` and `app_url`: what it is for; `created_at`: Unix time.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path: Path = Path(path)
        with self._reading():
            self._connection = sqlite_file.open_for_reading(self.path)
            try:
                header = sqlite_file.read_header(self.path, self._connection)
            except BaseException:
                self._connection.close()
                raise
        self.job: str = header.job
        self.mode: str = header.mode
        self.app_url: str = header.app_url
        self.created_at: float = header.created_at

    def close(self) -> None:
        """Close the file. May be called twice."""
        self._connection.close()

    def counts(self) -> dict[str, int]:
        """How many keys are in each state: "done", "failed", "running" and "unknown"."""
        found = self._rows("SELECT state, count(*) FROM entry GROUP BY state")
        return dict.fromkeys(("done", "failed", "running", "unknown"), 0) | dict(found)

    def entries(self, state: str | None = None) -> Iterator[Entry]:
        """The entries that are in this state; None: all of them."""
        last = 0
        while rows := self._rows(
            f"SELECT id, {SELECTED} FROM entry WHERE id > ? AND coalesce(state = ?, true) "  # noqa: S608
            f"ORDER BY id LIMIT {_AT_ONCE}",
            last,
            state,
        ):
            last = rows[-1][0]
            for _, *values in rows:
                yield self._entry(Record(*values))

    def _entry(self, record: Record) -> Entry:
        session = None
        if self.mode == "job":
            session = str(uuid5(UUID(self.job), record.key))
        elif self.mode == "run":
            session = session_of(self.job, record.key, record.attempt)
        return Entry(
            key=record.key,
            state=record.state,
            attempt=record.attempt,
            session_id=session,
            run_id=record.run_id,
            output=_raw(record.output),
            error=_raw(record.error),
            attempts=record.attempts,
            seconds=record.seconds,
            started_at=record.started_at,
            finished_at=record.finished_at,
        )

    def _rows(self, query: str, *values: Any) -> list[Any]:
        with self._reading():
            return self._connection.execute(query, values).fetchall()

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise sqlite_file.complaint(self.path, error) from error


def _raw(data: bytes | None) -> msgspec.Raw | None:
    """JSON from a server, repaired so that every JSON reader accepts it."""
    if data is None:
        return None
    try:
        msgspec.json.decode(data)
    except _json.DECODE_ERRORS:
        data = _json.repair(data)
    return msgspec.Raw(data)


def json_line(value: Struct) -> bytes:
    """`value` as JSON on a line of its own."""
    line = msgspec.json.encode(value)
    if b"\n" in line or b"\r" in line:  # between tokens: within strings they are escaped
        line = msgspec.json.format(line, indent=-1)
    return line + b"\n"
