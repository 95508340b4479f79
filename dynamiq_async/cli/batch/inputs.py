"""The inputs of `batch`: JSON lines or CSV, from a file or stdin, read one record at a time.

A file is checked before anything is sent, which finds its bad lines and counts its inputs. What
cannot be read twice (stdin, a pipe) is read as it comes, in a thread that nobody waits for. A bad
line is then a failed input.
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
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import msgspec

from dynamiq_async.errors import DynamiqError, InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

Format = Literal["jsonl", "csv"]
Key = str | int

_SHOWN_LINES = 5  # in the message that a file has bad lines
_READ_AHEAD = 256  # records from stdin
_LONGEST_FIELD = 2**31 - 1

_DECODE = msgspec.json.Decoder().decode
_JSON_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class BrokenLineError(DynamiqError):
    """A record that is no input. `line` is the number of the line in which it begins."""

    def __init__(self, message: str = "", *, line: int = 0) -> None:
        super().__init__(message)
        self.line = line


OnBroken = Callable[[Key, BrokenLineError], None]
Record = tuple[Key, dict[str, Any] | BrokenLineError]


class RecordReader:
    """Reads records from a file or from stdin.

    Args:
        given: a path, or `-` for stdin.
        format: None: by the file's name.
        key: the field whose value is the key of an input; None: the number of its line.
        limit: how many to read; None: all.

    Raises:
        InvalidArgumentError: the file cannot be read.
    """

    def __init__(
        self, given: str, *, format: Format | None, key: str | None, limit: int | None
    ) -> None:
        self._path = None if given == "-" else Path(given)
        self.name = "stdin" if given == "-" else given
        csv_name = self._path is not None and self._path.suffix.lower() == ".csv"
        self._parse = _csv if (format or ("csv" if csv_name else "jsonl")) == "csv" else _jsonl
        self._key = key
        self._limit = limit
        if self._path is not None and self._path.is_dir():
            raise InvalidArgumentError(f"{given} is a folder", argument="input")

    @property
    def is_file(self) -> bool:
        """Whether it can be read twice."""
        return self._path is not None and self._path.is_file()

    def records(self) -> Iterator[Record]:
        """Each record with its key. One that is no input is a BrokenLineError."""
        with self._open() as file:
            for line, value in itertools.islice(self._parse(file), self._limit):
                yield self._record(line, value)

    def check(self) -> int:
        """How many records there are, if all of them are inputs.

        Raises:
            InvalidArgumentError: some are not; the message names the lines.
        """
        count = wrong = 0
        shown: list[str] = []
        for _, value in self.records():
            count += 1
            if isinstance(value, BrokenLineError):
                wrong += 1
                if len(shown) < _SHOWN_LINES:
                    shown.append(value.message)
        if wrong:
            more = [f"and {wrong - _SHOWN_LINES} more"] if wrong > _SHOWN_LINES else []
            raise InvalidArgumentError(
                "\n  ".join((f"{self.name} has lines that are no inputs:", *shown, *more)),
                argument="input",
            )
        return count

    def _open(self) -> AbstractContextManager[BinaryIO]:
        if self._path is None:
            return contextlib.nullcontext(sys.stdin.buffer)
        try:
            return self._path.open("rb")
        except OSError as error:
            raise InvalidArgumentError(
                f"{self.name} cannot be read: {error.strerror}", argument="input"
            ) from error

    def _record(self, line: int, value: Any) -> Record:
        if isinstance(value, BrokenLineError):
            return line, value
        if not isinstance(value, dict):
            return line, _broken_line(
                line, "an input has to be a JSON object, on a line of its own"
            )
        if self._key is None:
            return line, value
        key = value.get(self._key)
        if isinstance(key, bool) or not isinstance(key, str | int):
            wrong = f"its {self._key!r} has to be a text or an integer to be its key, not {key!r}"
            return line, _broken_line(line, wrong)
        return key, value


class Inputs:
    """A reader's records as the inputs of a batch. Iterated once.

    Attributes:
        key: the key of the input that was handed out last.

    Args:
        on_broken: called with records that are no inputs, which are left out.
    """

    def __init__(self, reader: RecordReader, on_broken: OnBroken) -> None:
        self.key: Key = 0
        self._reader = reader
        self._on_broken = on_broken

    def _input_of(self, record: Record) -> dict[str, Any] | None:
        self.key, value = record
        if isinstance(value, BrokenLineError):
            self._on_broken(self.key, value)
            return None
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
    """Inputs from a file that was checked, so that their number is known."""

    def __init__(self, reader: RecordReader, on_broken: OnBroken, count: int) -> None:
        super().__init__(reader, on_broken)
        self._count = count

    def __len__(self) -> int:
        return self._count


class StreamedInputs(Inputs):
    """Inputs from what cannot be read twice, read ahead in a thread."""

    def __init__(self, reader: RecordReader, on_broken: OnBroken) -> None:
        super().__init__(reader, on_broken)
        self._ahead: deque[Record] = deque()
        self._room = threading.Semaphore(_READ_AHEAD)
        self._news = asyncio.Event()
        self._over = False
        self._failure: Exception | None = None

    def __aiter__(self) -> StreamedInputs:
        self._loop = asyncio.get_running_loop()
        # A read of stdin cannot be broken off, so nothing may wait for this thread's end.
        threading.Thread(target=self._read, name="stdin", daemon=True).start()
        return self

    async def __anext__(self) -> dict[str, Any]:
        while True:
            over = self._over  # read before `_ahead`, to which the thread may add the last one now
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


def _csv(file: BinaryIO) -> Iterator[tuple[int, Any]]:
    csv.field_size_limit(_LONGEST_FIELD)
    text = io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="")
    try:
        rows = csv.reader(text, strict=True)
        header: list[str] | None = None
        while True:
            line = rows.line_num + 1
            try:
                row = next(rows, None)
            except csv.Error as error:
                yield line, _broken_line(line, f"not CSV: {error}")
                continue
            if row is None:
                return
            if header is None:
                header = _header(row)
            elif row:
                yield line, _fields(line, header, row)
    finally:
        text.detach()  # else the file would be closed with it, and stdin is not ours to close


def _header(row: list[str]) -> list[str]:
    if not all(row) or len(set(row)) < len(row) or not _is_text(row):
        raise InvalidArgumentError(
            f"the first line of a CSV file names its fields, each once, and this one is {row!r}",
            argument="input",
        )
    return row


def _fields(line: int, header: list[str], row: list[str]) -> dict[str, str] | BrokenLineError:
    if len(row) != len(header):
        return _broken_line(line, f"{len(row)} fields, while the header has {len(header)}")
    if not _is_text(row):
        return _broken_line(line, "not UTF-8")
    return dict(zip(header, row, strict=True))


def _is_text(row: list[str]) -> bool:
    try:
        "".join(row).encode()
    except UnicodeEncodeError:
        return False
    return True


def _broken_line(line: int, what: str) -> BrokenLineError:
    return BrokenLineError(f"line {line}: {what}", line=line)
