"""The inputs of `batch`: JSON lines, CSV, Parquet or Arrow, read one record at a time.

A file is checked before anything is sent. The check finds bad lines and counts the inputs. A source
that cannot be read twice (stdin, a pipe) is read as it comes, in a thread that nothing waits for.
In such a source, a bad line is a failed input.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import csv
import io
import itertools
import sys
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import msgspec

from dynamiq_async.batch.shards import Shard, part_of
from dynamiq_async.batch.tables import format_of, read_table
from dynamiq_async.cli.batch.cells import Cells
from dynamiq_async.cli.writing import named
from dynamiq_async.errors import DynamiqError, InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Format = Literal["jsonl", "csv", "parquet", "arrow"]
Key = str | int

_SHOWN_LINES = 5  # how many the message about bad lines shows
_READ_AHEAD = 256  # records read ahead from stdin
_LONGEST_FIELD = 2**31 - 1
_SHOWN_FIELDS = 20
_DELIMITERS = ",;\t|"
_NOT_UTF8 = "not UTF-8; save it as UTF-8, or convert it: iconv -f latin1 -t utf-8"

_DECODE = msgspec.json.Decoder().decode
_JSON_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class BrokenLineError(DynamiqError):
    """A record that is not an input.

    Attributes:
        line: the number of the line in which it begins.
        fields: its fields, if it lacks the field that is the key.
    """

    fields: tuple[str, ...] | None = None

    def __init__(self, message: str = "", *, line: int = 0) -> None:
        super().__init__(message)
        self.line = line


OnBroken = Callable[[Key, BrokenLineError, int], None]
Record = tuple[Key, dict[str, Any] | BrokenLineError]


class RecordReader:
    """Reads records from a file or from stdin.

    Args:
        given: a path, or `-` for stdin.
        format: None: by the file's name.
        key: the field whose value is the key of an input; None: the number of its line.
        limit: how many records to read; None: all.
        shard: which part of these to take; None: all.
        cells: how to read the cells of CSV.

    Raises:
        InvalidArgumentError: the file cannot be read.
    """

    def __init__(
        self,
        given: str,
        *,
        format: Format | None,
        key: str | None,
        limit: int | None,
        shard: Shard | None = None,
        cells: Cells | None = None,
    ) -> None:
        self.path: Path | None = None if given == "-" else Path(given)
        self.name: str = "stdin" if given == "-" else given
        self._parse = _parser(format or _format_of(self.path), cells)
        self._key = key
        self._limit = limit
        self._is_ours = None if shard is None else part_of(shard)
        if self.path is not None and self.path.is_dir():
            raise InvalidArgumentError(f"{given} is a folder", argument="input")

    @property
    def is_file(self) -> bool:
        """Whether the source can be read twice."""
        return self.path is not None and self.path.is_file()

    def records(self) -> Iterator[Record]:
        """Each record with its key. A record that is not an input is a BrokenLineError."""
        with self._open() as file:
            for line, value in itertools.islice(self._parse(file), self._limit):
                record = self._record(line, value)
                if self._is_ours is None or self._is_ours(record[0]):
                    yield record

    def check(self) -> int:
        """How many records there are, if all are inputs.

        Raises:
            InvalidArgumentError: some are not inputs. The message names the lines.
        """
        count = wrong = 0
        shown: list[str] = []
        keyed = self._key is None
        names: dict[str, None] = {}
        for _, value in self.records():
            count += 1
            if isinstance(value, BrokenLineError):
                wrong += 1
                keyed |= value.fields is None
                names |= dict.fromkeys(value.fields or ())
                if len(shown) < _SHOWN_LINES:
                    shown.append(value.message)
            else:
                keyed = True
        if wrong and not keyed:
            raise InvalidArgumentError(
                f"{self.name} has {_no_field(self._key, names)}", argument="key"
            )
        if wrong:
            more = [f"and {wrong - _SHOWN_LINES} more"] if wrong > _SHOWN_LINES else []
            raise InvalidArgumentError(
                "\n  ".join((f"{self.name} has lines that are no inputs:", *shown, *more)),
                argument="input",
            )
        return count

    @contextlib.contextmanager
    def _open(self) -> Iterator[BinaryIO]:
        if self.path is None:
            if sys.stdin is None:
                raise InvalidArgumentError("stdin is closed", argument="input")
            with named("stdin"):
                yield sys.stdin.buffer
            return
        try:
            file = self.path.open("rb")
        except OSError as error:
            raise InvalidArgumentError(
                f"{self.name} cannot be read: {error.strerror}", argument="input"
            ) from error
        with file, named(self.name):
            yield file

    def _record(self, line: int, value: Any) -> Record:
        if isinstance(value, BrokenLineError):
            return line, value
        if not isinstance(value, dict):
            return line, _broken_line(
                line, "an input has to be a JSON object, on a line of its own"
            )
        if self._key is None:
            return line, value
        if self._key not in value:
            broken = _broken_line(line, _no_field(self._key, value))
            broken.fields = tuple(value)
            return line, broken
        key = value[self._key]
        if isinstance(key, bool) or not isinstance(key, str | int):
            wrong = f"its {self._key!r} has to be a text or an integer to be its key, not {key!r}"
            return line, _broken_line(line, wrong)
        return key, value


class Inputs:
    """A reader's records as the inputs of a batch. Iterate it only once.

    Attributes:
        key: the key of the last input that was yielded.

    Args:
        on_broken: called with each record that is not an input, and with the number of inputs
            yielded before it. Such records are not yielded.
    """

    def __init__(self, reader: RecordReader, on_broken: OnBroken) -> None:
        self.key: Key = 0
        self._reader = reader
        self._on_broken = on_broken
        self._handed = 0

    def _input_of(self, record: Record) -> dict[str, Any] | None:
        self.key, value = record
        if isinstance(value, BrokenLineError):
            self._on_broken(self.key, value, self._handed)
            return None
        self._handed += 1
        return value


class FileInputs(Inputs):
    """Inputs from a file."""

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (
            value
            for record in self._reader.records()
            if (value := self._input_of(record)) is not None
        )


class CountedInputs(FileInputs):
    """Inputs from a checked file, whose number is known."""

    def __init__(self, reader: RecordReader, on_broken: OnBroken, count: int) -> None:
        super().__init__(reader, on_broken)
        self._count = count

    def __len__(self) -> int:
        return self._count


class StreamedInputs(Inputs):
    """Inputs from a source that cannot be read twice. A thread reads ahead."""

    def __init__(self, reader: RecordReader, on_broken: OnBroken) -> None:
        super().__init__(reader, on_broken)
        self._ahead: deque[Record] = deque()
        self._room = threading.Semaphore(_READ_AHEAD)
        self._news = asyncio.Event()
        self._over = False
        self._failure: Exception | None = None

    def __aiter__(self) -> StreamedInputs:
        self._loop = asyncio.get_running_loop()
        # A read of stdin cannot be interrupted, so nothing may wait for this thread's end.
        threading.Thread(target=self._read, name="stdin", daemon=True).start()
        return self

    async def __anext__(self) -> dict[str, Any]:
        while True:
            over = self._over  # read before `_ahead`, to which the thread may now add
            if self._ahead:
                self._room.release()
                value = self._input_of(self._ahead.popleft())
                if value is not None:
                    return value
            elif not over:
                self._news.clear()
                await self._news.wait()
            elif self._failure is not None:
                raise self._failure
            else:
                raise StopAsyncIteration

    def _read(self) -> None:
        try:
            for record in self._reader.records():
                self._room.acquire()
                self._ahead.append(record)
                self._loop.call_soon_threadsafe(self._news.set)
        except Exception as error:  # noqa: BLE001 - `__anext__` raises it
            self._failure = error
        self._over = True
        with contextlib.suppress(RuntimeError):  # the event loop has ended
            self._loop.call_soon_threadsafe(self._news.set)


def _format_of(path: Path | None) -> Format:
    suffix = "" if path is None else path.suffix.lower()
    return "csv" if suffix == ".tsv" else format_of(f"inputs{suffix}")


def _parser(format: Format, cells: Cells | None) -> Callable[[BinaryIO], Iterator[tuple[int, Any]]]:
    if format == "csv":
        return partial(_csv, cells=cells or Cells())
    if cells is not None:
        raise InvalidArgumentError(
            f"types and empty_null are about the cells of CSV, and these inputs are {format}",
            argument="types",
        )
    return _jsonl if format == "jsonl" else partial(read_table, format)


def _jsonl(file: BinaryIO) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(file, 1):
        text = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
        if not text.strip():
            continue
        try:
            value = _DECODE(text)
        except _JSON_ERRORS as error:
            value = _broken_line(number, f"not JSON: {error}")
        yield number, value


def _csv(file: BinaryIO, cells: Cells) -> Iterator[tuple[int, Any]]:
    csv.field_size_limit(_LONGEST_FIELD)
    text = io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="")
    try:
        first = text.readline()
        rows = csv.reader(itertools.chain([first], text), strict=True, delimiter=_delimiter(first))
        header: list[str] | None = None
        while True:
            line = rows.line_num + 1
            try:
                row = next(rows, None)
            except csv.Error as error:
                yield line, _broken_line(line, f"not CSV: {error}")
                continue
            if row is None or not first:
                return
            if header is None:
                header = _header(row)
                cells.check(header)
            elif row:
                yield line, _fields(line, header, row, cells)
    finally:
        text.detach()  # otherwise it would close the file too, and stdin is not ours to close


def _delimiter(first: str) -> str:
    """The separator of the fields: of those in use, the one that splits the line into most
    fields."""
    return max(_DELIMITERS, key=lambda each: len(next(csv.reader([first], delimiter=each), ())))


def _header(row: list[str]) -> list[str]:
    wrong = ""
    if not row:
        wrong = "this one is empty"
    elif not _is_text(row):
        wrong = f"this one is {_NOT_UTF8}"
    elif not all(row) or len(set(row)) < len(row):
        wrong = f"this one is {row!r}"
    if wrong:
        raise InvalidArgumentError(
            f"the first line of a CSV file names its fields, each once, and {wrong}",
            argument="input",
        )
    return row


def _fields(
    line: int, header: list[str], row: list[str], cells: Cells
) -> dict[str, Any] | BrokenLineError:
    if len(row) != len(header):
        fields = f"{len(row)} field{'s' * (len(row) != 1)}"
        return _broken_line(line, f"{fields}, while the header has {len(header)}")
    if not _is_text(row):
        return _broken_line(line, _NOT_UTF8)
    try:
        return cells.read(header, row)
    except ValueError as error:
        return _broken_line(line, str(error))


def _is_text(row: list[str]) -> bool:
    try:
        "".join(row).encode()
    except UnicodeEncodeError:
        return False
    return True


def _broken_line(line: int, what: str) -> BrokenLineError:
    return BrokenLineError(f"line {line}: {what}", line=line)


def _no_field(key: str | None, names: Iterable[str]) -> str:
    return f"no field {key!r}; there are {', '.join(itertools.islice(names, _SHOWN_FIELDS))}"
