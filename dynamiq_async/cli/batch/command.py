"""`batch`: calls the App once for each line of a file."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import os
import re
import signal
from collections import deque
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any, cast

import msgspec
from cyclopts import Parameter
from msgspec import structs

from dynamiq_async._http.bodies import root_body
from dynamiq_async._http.client import api_of
from dynamiq_async._http.request_options import RequestOptions
from dynamiq_async._words import counted
from dynamiq_async.batch import job_session
from dynamiq_async.batch.displays import duration, line
from dynamiq_async.batch.journal import SQLiteJournal
from dynamiq_async.batch.models import BatchProgress
from dynamiq_async.cli import output
from dynamiq_async.cli.batch.inputs import (
    BrokenLineError,
    CountedInputs,
    FileInputs,
    RecordReader,
    StreamedInputs,
)
from dynamiq_async.cli.batch.options import (
    DEFAULT_JOURNALING,
    DEFAULT_PACE,
    DEFAULT_READING,
    Journaling,
    Pace,
    Reading,
)
from dynamiq_async.cli.batch.progress import show_progress
from dynamiq_async.cli.batch.results import Results
from dynamiq_async.cli.options import (
    CALL,
    DEFAULT_CONNECTION,
    DEFAULT_LIMITS,
    DEFAULT_NODES,
    OUTPUT,
    Connection,
    Limits,
    NodeOptions,
)
from dynamiq_async.cli.writing import Target
from dynamiq_async.errors import (
    AmbiguousOutcomeError,
    DynamiqError,
    InvalidArgumentError,
    JournalError,
    StreamClosedError,
)
from dynamiq_async.runs.requests import RunRequests

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dynamiq_async._http.request import Request
    from dynamiq_async.app import AsyncApp
    from dynamiq_async.batch import Map
    from dynamiq_async.batch.journal import Record
    from dynamiq_async.batch.models import Key

_SHOWN_REQUESTS = 3
_ALL_OTHERS = 20
"""As many inputs in a row that a journal refuses, and nothing else, are those of another batch."""
_STDIN = "/dev/stdin"
_STOPPING = {"SIGINT": "Ctrl-C", "SIGTERM": "SIGTERM", "SIGHUP": "SIGHUP"}
_CHOICE = re.compile(r"\b(\w+)='(\w+)'")  # how the SDK's messages name an argument


def batch(
    inputs: Annotated[
        str,
        Parameter(
            allow_leading_hyphen=True,
            help="JSON lines (an object with the Input node's fields on each), CSV (with a "
            "header, separated by commas, semicolons, tabs or bars), Parquet or Arrow; `-` for "
            "stdin.",
        ),
    ],
    /,
    *,
    out: Annotated[
        str,
        Parameter(
            name=("--output", "-o"),
            group=OUTPUT,
            allow_leading_hyphen=True,
            help="Where the results go, as JSON lines: a file, which is there when it is complete "
            "(a device or a pipe is written as it is), or `-` for stdout. A name that ends in "
            ".parquet, .arrow or .csv is a table's. [default: -]",
        ),
    ] = "-",
    with_input: Annotated[
        bool, Parameter(group=OUTPUT, help="Repeat the input in its result.")
    ] = False,
    dry_run: Annotated[
        bool, Parameter(group=OUTPUT, help="Show the first requests, and send nothing.")
    ] = False,
    user_id: Annotated[str | None, Parameter(group=CALL, help="Whom the calls belong to.")] = None,
    reading: Reading = DEFAULT_READING,
    pace: Pace = DEFAULT_PACE,
    journaling: Journaling = DEFAULT_JOURNALING,
    limits: Limits = DEFAULT_LIMITS,
    nodes: NodeOptions = DEFAULT_NODES,
    connection: Connection = DEFAULT_CONNECTION,
) -> None:
    """Call the App once for each input, many at a time, and write a line for each result.

    The command checks a file first: if a line is not an input, nothing is sent. On stdin, such
    a line is a failed input. The exit code is 0 if every input has an output, and 1 if one has
    none. After the first Ctrl-C, SIGTERM or SIGHUP, calls under way may finish. The second one ends
    them.

    ```
    dynamiq-async batch inputs.jsonl -o results.jsonl --concurrency 64 --journal job.db
    dynamiq-async batch inputs.jsonl -o results.jsonl --journal job.db --retry-failed
    dynamiq-async batch questions.csv --key id --rate 60/m --adaptive > results.jsonl
    dynamiq-async batch in.parquet -o out.parquet --key id --job nightly-2026-11-28
    dynamiq-async batch in.parquet -o out-2.parquet --key id --job nightly --shard 2/8
    ```
    """
    reader = reading.reader(inputs)
    journal = Path(os.path.realpath(journaling.journal)) if journaling.journal else None
    fields = {"user_id": user_id, **nodes.arguments()}
    if dry_run:
        asyncio.run(_show_requests(reader, connection, pace.mode, journaling.job, fields))
        return
    arguments = pace.arguments() | journaling.arguments() | limits.arguments() | fields
    arguments["include_input"] = with_input
    target = Target(
        out,
        may_replace=journal is not None or journaling.job is not None,
        input=reader.path or Path(_STDIN),
        journal=journal,
        key_file=connection.key_file,
    )
    results = Results(target, with_input=with_input)
    if journal is not None:
        arguments["journal"] = JournalFirst(journal, results)
    job = Job(reader, results, arguments)
    try:
        with results.closing():
            if reader.is_file and reading.check:
                job.check()
            asyncio.run(job.run(connection))
    except (KeyboardInterrupt, asyncio.CancelledError):
        job.remark("interrupted")
        raise KeyboardInterrupt from None
    except AmbiguousOutcomeError as error:
        job.remark("stopped", chosen=False)
        error.message = _CHOICE.sub(r"--\1 \2", error.message)
        raise
    except Exception:
        job.remark("stopped")
        raise
    job.conclude()


class JournalFirst(SQLiteJournal):
    """A journal that opens the results after it has its lock, before any call."""

    def __init__(self, path: Path, results: Results) -> None:
        super().__init__(path)
        self._results = results

    async def begin(self, records: Sequence[Record]) -> Sequence[Record]:
        await self._results.open()
        return await super().begin(records)


class Job:
    """One start of a batch: its calls, results and messages."""

    def __init__(self, reader: RecordReader, results: Results, arguments: dict[str, Any]) -> None:
        self._reader = reader
        self._results = results
        self._arguments = arguments
        self._count: int | None = None
        self._map: Map[Any] | None = None
        self._written = 0
        self._broken = 0
        self._refused = 0
        self._held: deque[tuple[int, Key, Exception]] = deque()
        self._stopped_by = ""
        self._started = perf_counter()
        self._live = output.is_terminal("stderr") and not results.are_shown

    def check(self) -> None:
        """Check the file.

        Raises:
            InvalidArgumentError: some of its lines are not inputs.
        """
        reading = output.working(f"looking through {self._reader.name}")
        with reading if self._live else contextlib.nullcontext():
            self._count = self._reader.check()

    async def run(self, connection: Connection) -> None:
        """Work through all inputs. After a cancellation, calls under way get the grace period."""
        inputs = self._inputs()
        async with connection.open() as app:
            self._map = results = app.map(inputs, key=lambda _: inputs.key, **self._arguments)
            if self._arguments["journal"] is None:
                await self._results.open()
            with self._cancelled_by_signals():
                async with results, show_progress(self._progress, live=self._live):
                    await self._work(results)
                    self._write_broken(math.inf)
                    await self._results.open()
                    await self._results.drain(whole=True)

    async def _work(self, results: Map[Any]) -> None:
        reading = asyncio.create_task(self._read(results))
        try:
            await asyncio.wait([reading])
        except asyncio.CancelledError:
            self._announce_grace()
            try:
                await results.aclose()
            finally:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
                await self._read(results)  # results that were finished in the meantime
                self._write_broken(math.inf)
            raise
        try:
            await reading
        except JournalError as error:
            if isinstance(error.__cause__, InvalidArgumentError):  # the results cannot be opened
                raise error.__cause__ from None
            raise

    def remark(self, what: str, *, chosen: bool = True) -> None:
        """Print how far the batch came, where its results are, and how to go on. `chosen`: the same
        command goes on, since the user need not choose anything."""
        if not self._progress().done:
            return
        journal = self._arguments["journal"]
        parts = [f"{what}: {line(self._progress(), ended=True)}"]
        if self._results.unread:
            parts.append("nobody has read the last results")
        if self._results.unfinished:
            parts.append(f"the results so far are in {self._results.unfinished}")
        if journal is not None and 0 < self._refused == self._written:
            parts.append(f"what was done before stays in {journal}")
        elif journal is not None:
            same = "the same command" if chosen else "the same command with your choice"
            parts.append(f"{same} goes on where it was, with {journal}")
        elif self._arguments["job"] is not None:
            parts.append("the same command finds the runs of the job again")
        else:
            parts.append("without a --journal, the same command begins anew")
        output.remark("; ".join(parts))

    def conclude(self) -> None:
        """Print the totals and the most frequent failures.

        Raises:
            DynamiqError: not every input has an output.
        """
        figures = self._progress()
        seconds = duration(perf_counter() - self._started)
        nodes = self._results.with_failed_nodes
        tolerated = f", {nodes:,} with failed nodes" if nodes else ""
        output.remark(f"{line(figures, ended=True)}{tolerated}, in {seconds}")
        if not figures.failed:
            return
        for complaint in self._results.complaints():
            output.remark(f"  {complaint}")
        advice = "with a --journal, they could be called again alone"
        if self._arguments["journal"] is not None or self._arguments["job"] is not None:
            advice = "the same command with --retry-failed calls them again"
            if self._refused == figures.failed:
                advice = (
                    "start with the inputs and options that the journal has, or with a new journal"
                )
            if figures.unknown and self._arguments["journal"] is not None:
                advice += f", --unknown retry also the {figures.unknown:,} of unknown outcome"
        raise DynamiqError(
            f"{figures.failed:,} of {counted(figures.done, 'input', grouped=True)} failed; {advice}"
        )

    def _inputs(self) -> FileInputs | StreamedInputs:
        if not self._reader.is_file:
            return StreamedInputs(self._reader, self._note_broken)
        if self._count is None:
            return FileInputs(self._reader, self._note_broken)
        return CountedInputs(self._reader, self._note_broken, self._count)

    async def _read(self, results: Map[Any]) -> None:
        with contextlib.suppress(StreamClosedError):  # after Ctrl-C
            async for result in results:
                self._results.write(result)
                self._refused += isinstance(result.error, JournalError)
                self._written += 1
                if self._refused == self._written == _ALL_OTHERS:
                    raise self._belongs_to_others(result.error)
                self._write_broken(self._written)
                if not self._stopped_by:
                    await self._results.drain()

    def _belongs_to_others(self, error: Exception | None) -> DynamiqError:
        journal, first = self._arguments["journal"], counted(_ALL_OTHERS, "input")
        return DynamiqError(
            f"the journal {journal} knows the first {first} otherwise, and none of them was "
            "called; start with the inputs and the options that it has, such as --types, or with "
            f"a new journal ({error})"
        )

    def _note_broken(self, key: Key, error: Exception, behind: int) -> None:
        self._broken += 1
        self._held.append((behind if self._arguments["ordered"] else 0, key, error))
        self._write_broken(self._written)

    def _write_broken(self, written: float) -> None:
        """Write the lines of records that are not inputs, in their place if the output is ordered.

        Args:
            written: how many lines of inputs were written.
        """
        while self._held and self._held[0][0] <= written:
            _, key, error = self._held.popleft()
            self._results.write_broken(key, error)

    def _progress(self) -> BatchProgress:
        """The batch's figures. Records that are not inputs count as failed; the batch never sees
        them."""
        figures = self._map.progress if self._map is not None else BatchProgress()
        return structs.replace(
            figures, done=figures.done + self._broken, failed=figures.failed + self._broken
        )

    def _announce_grace(self) -> None:
        in_flight, grace = self._progress().in_flight, self._arguments["grace"]
        if in_flight and grace:
            output.remark(
                f"{self._stopped_by}: up to {grace:g} s for the {counted(in_flight, 'call')} "
                "under way; once more ends at once"
            )

    @contextlib.contextmanager
    def _cancelled_by_signals(self) -> Iterator[None]:
        """Let each Ctrl-C, SIGTERM and SIGHUP cancel this task, at its next await.

        asyncio by itself does so only at the first Ctrl-C. At the second, it raises
        KeyboardInterrupt in the middle of whatever runs. Signals that the process was started to
        ignore, as under nohup, stay ignored.
        """
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None  # noqa: S101 - this is a coroutine

        def stop(name: str) -> None:
            self._stopped_by = name
            task.cancel()

        with contextlib.ExitStack() as handled:
            for name, shown in _STOPPING.items():
                number = getattr(signal, name, None)  # Windows lacks some
                if number is None or signal.getsignal(number) == signal.SIG_IGN:
                    continue
                # This is not available on Windows, or in a thread other than the main thread.
                with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
                    loop.add_signal_handler(number, stop, shown)
                    handled.callback(loop.remove_signal_handler, number)
            yield


async def _show_requests(
    reader: RecordReader,
    connection: Connection,
    mode: str | None,
    job: str | None,
    fields: dict[str, Any],
) -> None:
    """Print the first requests as they would be sent, but without the key."""
    async with replace(connection, public=True).open() as app:
        for key, value in itertools.islice(reader.records(), _SHOWN_REQUESTS):
            if isinstance(value, BrokenLineError):
                raise InvalidArgumentError(f"{reader.name}, {value.message}", argument="input")
            session = None if mode != "run" else "(one for each run)"
            if job is not None:
                session = job_session(job, key)
            request = _request_of(app, value, session, fields)
            output.write_line(f"{request.method} {request.url}")
            output.print_json(msgspec.Raw(cast("bytes", request.body)))  # without files


def _request_of(app: AsyncApp, input: Any, session: str | None, fields: dict[str, Any]) -> Request:
    api, given = api_of(app), RequestOptions()
    if session is not None:
        return RunRequests(api).create_request(
            input, given, session_id=session, background=True, **fields
        )
    return api.request("POST", "", body=root_body(input, **fields), given=given)
