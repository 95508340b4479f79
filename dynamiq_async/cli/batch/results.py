"""Writes the results of `batch`: a line of JSON for each input, or a row of a table, depending on
the file's name."""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from typing import TYPE_CHECKING, Any

from dynamiq_async._failures import failed_nodes
from dynamiq_async.batch.columns import Columns
from dynamiq_async.batch.journal import describe
from dynamiq_async.batch.tables import check_installed, format_of, table_file
from dynamiq_async.cli import output
from dynamiq_async.cli.writing import PATIENCE, ROOM

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from dynamiq_async.batch.models import Key, MapResult
    from dynamiq_async.batch.tables import TableFile
    from dynamiq_async.cli.writing import Target, Writer

_SHOWN_KINDS = 3


class Results:
    """Writes the lines to stdout, or to a file that appears when all lines are written.

    Args:
        target: where the lines go.
        with_input: repeat the input in its line.

    Attributes:
        with_failed_nodes: how many outputs are of workflows that completed with failed nodes.
    """

    def __init__(self, target: Target, *, with_input: bool) -> None:
        self._target = target
        self._with_input = with_input
        self._writer: Writer | None = None
        self._format = format_of(target.given)
        self._columns = Columns(with_input=with_input)
        self._table: TableFile | None = None
        if self._format in ("parquet", "arrow"):
            check_installed()
        self._failures: Counter[str] = Counter()
        self._examples: dict[str, str] = {}
        self.with_failed_nodes: int = 0

    @property
    def are_shown(self) -> bool:
        """Whether the lines go to the terminal."""
        return self._target.path is None and output.is_terminal()

    @property
    def unfinished(self) -> Path | None:
        """The file with the lines written so far. None if they are in their final place."""
        return None if self._writer is None else self._target.partial

    @property
    def unread(self) -> bool:
        """Whether nobody has read the last lines."""
        return self._writer is None and output.unwritten() > 0

    async def open(self) -> None:
        """Open the file, unless it is open.

        Raises:
            InvalidArgumentError: it cannot be written, or another process writes it.
        """
        if self._writer is None and self._target.path is not None:
            self._writer = self._target.writer()
            await self._writer.drain()
            if self._format != "jsonl":
                self._table = table_file(_Sink(self._writer), self._format, self._columns)

    async def drain(self, *, whole: bool = False) -> None:
        """Wait until the reader has taken all lines, or all but a few.

        Raises:
            OSError: the lines cannot be written.
        """
        if self._writer is None:
            await output.drain(whole=whole)
        else:
            await self._writer.drain(0 if whole else ROOM)

    @contextlib.contextmanager
    def closing(self) -> Iterator[None]:
        """Move the file to its place if the body succeeds. Otherwise, keep the partial file."""
        try:
            yield
        except BaseException:
            self._close(complete=False)
            raise
        self._close(complete=True)

    def _close(self, *, complete: bool) -> None:
        writer = self._writer
        if writer is None:
            output.give_up()
            return
        try:
            if self._table is not None:
                self._table.close()
            writer.flush(None if complete else PATIENCE)
        finally:
            writer.close()
            self._target.finish(complete=complete)

    def write(self, result: MapResult[Any]) -> None:
        """Write a result's line."""
        if self._table is not None:
            self._count(result)
            self._table.add(self._columns.of_result(result))
            return
        line: dict[str, Any] = {"key": result.key}
        if self._with_input:
            line["input"] = result.input
        if result.error is None:
            line["output"] = result.output
        else:
            line["error"] = describe(result.error)
        self._count(result)
        if result.run_id is not None:
            line["run_id"] = result.run_id
        if result.found:
            line["found"] = True
        if result.usage is not None:
            line["usage"] = result.usage
        line |= {"attempts": result.attempts, "seconds": round(result.seconds, 6)}
        self._write(line)

    def write_broken(self, key: Key, error: Exception) -> None:
        """Write the line of a record that is not an input."""
        if self._table is not None:
            self._failure(error)
            self._table.add(self._columns.of_error(key, error))
            return
        self._failure(error)
        self._write({"key": key, "error": describe(error)})

    def complaints(self) -> list[str]:
        """The most frequent kinds of failure, each with the message of the first one."""
        return [
            f"{count:,} x {kind}, such as: {self._examples[kind]}"
            for kind, count in self._failures.most_common(_SHOWN_KINDS)
        ]

    def _count(self, result: MapResult[Any]) -> None:
        if result.error is None:
            self.with_failed_nodes += bool(failed_nodes(result.output))
        else:
            self._failure(result.error)

    def _failure(self, error: Exception) -> None:
        kind = type(error).__name__
        self._failures[kind] += 1
        self._examples.setdefault(kind, str(error))

    def _write(self, line: dict[str, Any]) -> None:
        data = output.json_line(line)
        if self._writer is None:
            output.write(data)
        else:
            self._writer.put(data)


class _Sink(io.RawIOBase):
    """A file object that passes its bytes to a writer."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        copied = bytes(data)
        self._writer.put(copied)
        return len(copied)
