"""What `batch` writes: one line of JSON for each input, to stdout or to a file.

A file takes its name when it is complete. Until then it has `.partial` behind its name, and keeps
it when the batch is interrupted.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import msgspec

from dynamiq_async._failures import failed_nodes
from dynamiq_async.batch.journal import describe
from dynamiq_async.cli import output
from dynamiq_async.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dynamiq_async.batch.models import Key, MapResult

_SHOWN_KINDS = 3


class Results:
    """Writes the lines to a file or to stdout.

    Args:
        target: a path, or `-` for stdout.
        with_input: repeat the input in its line.
        replaceable: the file that an interrupted batch left may be replaced, because a journal has
            its results.

    Attributes:
        with_failed_nodes: how many outputs are of workflows that came through with failed nodes.

    Raises:
        InvalidArgumentError: the file cannot be made.
    """

    def __init__(self, target: str, *, with_input: bool, replaceable: bool) -> None:
        self._path = None if target == "-" else Path(target)
        self._with_input = with_input
        self._file: BinaryIO | None = None
        self._failures: Counter[str] = Counter()
        self._examples: dict[str, str] = {}
        self.with_failed_nodes = 0
        if self._path is None:
            return
        if self._path.is_dir():
            raise InvalidArgumentError(f"{target} is a folder", argument="output")
        self.partial = self._path.with_name(f"{self._path.name}.partial")
        if self.partial.exists() and not replaceable:
            raise InvalidArgumentError(
                f"{self.partial} is what an interrupted batch left; move it away, or let a batch "
                "that can be interrupted have a --journal",
                argument="output",
            )

    @property
    def unfinished(self) -> Path | None:
        """The file that has the lines written so far; None for stdout."""
        return None if self._file is None else self.partial

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        """Open the file while the body runs. It gets its name in the end, unless the body fails."""
        if self._path is None:
            yield
            return
        try:
            self._file = self.partial.open("wb")
        except OSError as error:
            raise InvalidArgumentError(
                f"{self.partial} cannot be written: {error.strerror}", argument="output"
            ) from error
        try:
            with self._file:
                yield
        except BaseException:
            if not self.partial.stat().st_size:
                self.partial.unlink()
            raise
        self.partial.replace(self._path)

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

    def flush(self) -> None:
        """Make the lines written so far visible in the file."""
        if self._file is not None:
            self._file.flush()

    def _failure(self, error: Exception) -> dict[str, Any]:
        kind = type(error).__name__
        self._failures[kind] += 1
        self._examples.setdefault(kind, str(error))
        return describe(error)

    def _write(self, line: dict[str, Any]) -> None:
        data = msgspec.json.encode(line) + b"\n"
        if self._file is None:
            output.write(data)
        else:
            self._file.write(data)
