"""Tables of results: record batches for programs, and Parquet, Arrow and CSV files.

Rows are written in groups as they come, so memory does not grow with the file.
"""

from __future__ import annotations

import io
from datetime import date, datetime, timedelta
from itertools import chain
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, Protocol, cast, get_args

from dynamiq_async._json import encode
from dynamiq_async.batch import _arrow
from dynamiq_async.batch.frames import rows_of
from dynamiq_async.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from os import PathLike

    from dynamiq_async.batch.columns import Columns

TableFormat = Literal["jsonl", "csv", "parquet", "arrow"]
"""The formats for results. Arrow is the IPC file format, which is the same as Feather."""

GROUP_ROWS = 10_000
GROUP_CHARACTERS = 32 * 1024 * 1024
"""A group of rows is written when it reaches this many rows, or this many characters of text."""

_SUFFIXES: dict[str, TableFormat] = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
    ".csv": "csv",
}


def format_of(path: str | PathLike[str], given: str | None = None) -> TableFormat:
    """The format of a file: the one given, else the one of its name's suffix, else JSON lines.

    Raises:
        InvalidArgumentError: there is no such format.
    """
    if given is None:
        return _SUFFIXES.get(PurePath(path).suffix.lower(), "jsonl")
    if given in get_args(TableFormat):
        return cast("TableFormat", given)
    raise InvalidArgumentError(
        f"format must be 'jsonl', 'csv', 'parquet' or 'arrow', not {given!r}", argument="format"
    )


def check_installed() -> None:
    """Raises:
    MissingExtraError: pyarrow is not installed.
    """
    _arrow.pyarrow()


def read_table(format: TableFormat, file: BinaryIO) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a Parquet or Arrow file, each with its number from 1. The file must be seekable,
    and the caller closes it.

    Raises:
        MissingExtraError: pyarrow is not installed.
        InvalidArgumentError: the file does not have this format, or cannot be read.
    """
    arrow = _arrow.pyarrow()
    read = _arrow.parquet_batches if format == "parquet" else _arrow.arrow_batches
    try:
        rows = chain.from_iterable(map(rows_of, read(file)))
        yield from enumerate(rows, 1)
    except (arrow.ArrowException, OSError) as error:
        raise InvalidArgumentError(
            f"this is no {format} file that can be read: {error}", argument="input"
        ) from error


class TableFile(Protocol):
    """Writes rows to a file."""

    def add(self, row: Sequence[Any]) -> None:
        """Write a row, at once or with its group."""

    def close(self) -> None:
        """Write the remaining rows and the file's end. The caller closes the file."""


def table_file(
    file: BinaryIO | io.RawIOBase, format: Literal["csv", "parquet", "arrow"], columns: Columns
) -> TableFile:
    """A writer of rows to `file`.

    Raises:
        MissingExtraError: the format needs pyarrow, which is not installed.
    """
    return CSVFile(file, columns) if format == "csv" else ArrowFile(file, format, columns)


class ArrowFile:
    """A Parquet or Arrow file."""

    def __init__(
        self,
        file: BinaryIO | io.RawIOBase,
        format: Literal["parquet", "arrow"],
        columns: Columns,
    ) -> None:
        self._schema = _arrow.schema(columns.columns)
        writer = _arrow.parquet_writer if format == "parquet" else _arrow.arrow_writer
        self._writer = writer(file, self._schema)
        self._texts = [n for n, c in enumerate(columns.columns) if c.kind in ("json", "string")]
        self._rows: list[Sequence[Any]] = []
        self._characters = 0

    def add(self, row: Sequence[Any]) -> None:
        """Add a row, and write a group when it is full."""
        self._rows.append(row)
        self._characters += sum(len(row[n] or "") for n in self._texts)
        if len(self._rows) >= GROUP_ROWS or self._characters >= GROUP_CHARACTERS:
            self._write()

    def _write(self) -> None:
        rows, self._rows, self._characters = self._rows, [], 0
        self._writer.write_batch(_arrow.record_batch(self._schema, rows))

    def close(self) -> None:
        """Write the rest, and the end of the file."""
        if self._rows:
            self._write()
        self._writer.close()


class CSVFile:
    """A CSV file with a header. Texts are written as they are, and a missing value is empty."""

    def __init__(self, file: BinaryIO | io.RawIOBase, columns: Columns) -> None:
        import csv  # here, because few batches write one, and it slows the start

        self._file = file
        self._line = io.StringIO(newline="")
        self._rows = csv.writer(self._line)
        self.add([column.name for column in columns.columns])

    def add(self, row: Sequence[Any]) -> None:
        """Write a row."""
        self._rows.writerow(map(_cell, row))
        self._file.write(self._line.getvalue().encode(errors="replace"))
        self._line.seek(0)
        self._line.truncate()

    def close(self) -> None:
        """Do nothing: every row is written already."""


def _cell(value: Any) -> Any:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, date | datetime):
        return value.isoformat()
    if isinstance(value, bool | list | bytes | timedelta):
        return encode(value, "output").decode()
    return value


class Rows:
    """Collects rows for a record batch.

    Args:
        columns: of the rows.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """

    def __init__(self, columns: Columns) -> None:
        self._schema = _arrow.schema(columns.columns)
        self._rows: list[Sequence[Any]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, row: Sequence[Any]) -> None:
        """Add a row."""
        self._rows.append(row)

    def take(self) -> Any:
        """Remove the rows so far, and return them as a `pyarrow.RecordBatch`."""
        rows, self._rows = self._rows, []
        return _arrow.record_batch(self._schema, rows)

    def table(self, batches: Sequence[Any]) -> Any:
        """A `pyarrow.Table` of these record batches."""
        return _arrow.pyarrow().Table.from_batches(batches, self._schema)
