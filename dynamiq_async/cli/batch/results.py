"""What `batch` writes: one line of JSON for each input, to stdout or to a file."""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import TYPE_CHECKING, Any

from dynamiq_async._failures import failed_nodes
from dynamiq_async.batch.journal import describe
from dynamiq_async.cli import output
from dynamiq_async.cli.writing import PATIENCE, ROOM

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from dynamiq_async.batch.models import Key, MapResult
    from dynamiq_async.cli.writing import Target, Writer

_SHOWN_KINDS = 3


class Results:
    """Writes the lines to a file, which is not complete before all are there, or to stdout.

    Args:
        target: where they go.
        with_input: repeat the input in its line.

    Attributes:
        with_failed_nodes: how many outputs are of workflows that came through with failed nodes.
    """

    def __init__(self, target: Target, *, with_input: bool) -> None:
        self._target = target
        self._with_input = with_input
        self._writer: Writer | None = None
        self._failures: Counter[str] = Counter()
        self._examples: dict[str, str] = {}
        self.with_failed_nodes = 0

    @property
    def are_shown(self) -> bool:
        """Whether they go to the terminal."""
        return self._target.path is None and output.is_terminal()

    @property
    def unfinished(self) -> Path | None:
        """The file that has the lines written so far; None where they are in their place."""
        return None if self._writer is None else self._target.partial

    @property
    def unread(self) -> bool:
        """Whether nobody has taken the last lines."""
        return self._writer is None and output.unwritten() > 0

    async def open(self) -> None:
        """Open the file, unless that was done.

        Raises:
            InvalidArgumentError: it cannot be written, or another process writes it.
        """
        if self._writer is None and self._target.path is not None:
            self._writer = self._target.writer()
            await self._writer.drain()

    async def drain(self, *, whole: bool = False) -> None:
        """Wait while more lines than a few were not taken, or while any was not.

        Raises:
            OSError: they cannot be written.
        """
        if self._writer is None:
            await output.drain(whole=whole)
        else:
            await self._writer.drain(0 if whole else ROOM)

    @contextlib.contextmanager
    def closing(self) -> Iterator[None]:
        """Put the file in its place when the body has ended well; else keep what there is."""
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
            writer.flush(None if complete else PATIENCE)
        finally:
            writer.close()
            self._target.finish(complete=complete)

    def write(self, result: MapResult[Any]) -> None:
        """Write a result's line."""
        line: dict[str, Any] = {"key": result.key}
        if self._with_input:
            line["input"] = result.input
        if result.error is None:
            line["output"] = result.output
            self.with_failed_nodes += bool(failed_nodes(result.output))
        else:
            line["error"] = self._failure(result.error)
        if result.run_id is not None:
            line["run_id"] = result.run_id
        if result.found:
            line["found"] = True
        line |= {"attempts": result.attempts, "seconds": round(result.seconds, 6)}
        self._write(line)

    def write_broken(self, key: Key, error: Exception) -> None:
        """Write the line of a record that is no input."""
        self._write({"key": key, "error": self._failure(error)})

    def complaints(self) -> list[str]:
        """The commonest kinds of failure, each with the first one's message."""
        return [
            f"{count:,} x {kind}, such as: {self._examples[kind]}"
            for kind, count in self._failures.most_common(_SHOWN_KINDS)
        ]

    def _failure(self, error: Exception) -> dict[str, Any]:
        kind = type(error).__name__
        self._failures[kind] += 1
        self._examples.setdefault(kind, str(error))
        return describe(error)

    def _write(self, line: dict[str, Any]) -> None:
        data = output.json_line(line)
        if self._writer is None:
            output.write(data)
        else:
            self._writer.put(data)
