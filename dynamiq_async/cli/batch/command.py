"""`batch`: the App called once for each line of a file."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import signal
from dataclasses import dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import msgspec
from cyclopts import Group, Parameter
from cyclopts.validators import Number
from msgspec import structs

from dynamiq_async._http.bodies import root_body
from dynamiq_async._http.client import api_of
from dynamiq_async._http.request_options import RequestOptions
from dynamiq_async.batch.models import BatchProgress
from dynamiq_async.cli import output
from dynamiq_async.cli.batch.inputs import (
    BrokenLineError,
    CountedInputs,
    FileInputs,
    Format,
    RecordReader,
    StreamedInputs,
)
from dynamiq_async.cli.batch.progress import duration, line, show_progress
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
from dynamiq_async.errors import (
    AmbiguousOutcomeError,
    DynamiqError,
    InvalidArgumentError,
    StreamClosedError,
)
from dynamiq_async.options import Adaptive
from dynamiq_async.runs.requests import RunRequests

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dynamiq_async._http.request import Request
    from dynamiq_async.app import AsyncApp
    from dynamiq_async.batch import Map
    from dynamiq_async.batch.models import Key

_SHOWN_REQUESTS = 3
_CHOICE = re.compile(r"\b(\w+)='(\w+)'")  # an argument in the SDK's messages

INPUTS = Group("Inputs", sort_key=5)
BATCH = Group("Batch", sort_key=8)
JOURNAL = Group("Journal", sort_key=9)


@Parameter(name="*", group=INPUTS)
@dataclass(frozen=True)
class Reading:
    """What the inputs are."""

    input_format: Annotated[
        Format | None,
        Parameter(help="jsonl or csv. [default: csv for a name that ends so, else jsonl]"),
    ] = None
    key: Annotated[
        str | None,
        Parameter(
            help="The field that an input is known by; it is sent like the others. [default: the "
            "number of its line]"
        ),
    ] = None
    limit: Annotated[
        int | None, Parameter(validator=Number(gte=1), help="Only the first N inputs.")
    ] = None
    check: Annotated[
        bool,
        Parameter(
            negative="--no-check",
            help="With --no-check, a file is not looked through first. A line that is no input is "
            "then a failed one, as it is on stdin, and the time left is not known.",
        ),
    ] = True


@Parameter(name="*", group=BATCH)
@dataclass(frozen=True)
class Pace:
    """How many calls at a time, and how they are made."""

    concurrency: Annotated[
        int, Parameter(validator=Number(gte=1), help="How many at a time. [default: 32]")
    ] = 32
    adaptive: Annotated[
        bool, Parameter(help="Find out how many the service takes, up to --concurrency.")
    ] = False
    rate: Annotated[
        str | None, Parameter(help="At most so many requests: 5/s, 60/m or 1000/h.")
    ] = None
    mode: Annotated[
        Literal["invoke", "run"],
        Parameter(help="run: background runs, followed to their end. [default: invoke]"),
    ] = "invoke"
    ordered: Annotated[bool, Parameter(help="Results in the order of the inputs.")] = False
    grace: Annotated[
        float,
        Parameter(
            validator=Number(gte=0),
            help="Seconds that what is under way has to finish after Ctrl-C. [default: 10]",
        ),
    ] = 10.0

    max_failures: Annotated[
        float | None,
        Parameter(
            help="Stop when more inputs than this failed; below 1, such as 0.05, it is a share of "
            "those that are finished, looked at from 100 on."
        ),
    ] = None
    connect_patience: Annotated[
        float,
        Parameter(
            validator=Number(gte=0),
            help="Seconds for which a service that could be reached before is waited for. "
            "[default: 600]",
        ),
    ] = 600.0

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of `AsyncApp.map`."""
        adaptive = Adaptive(max=self.concurrency) if self.adaptive else None
        most = self.max_failures
        return {
            "concurrency": adaptive or self.concurrency,
            "rate": self.rate,
            "mode": self.mode,
            "ordered": self.ordered,
            "grace": self.grace,
            "max_failures": int(most) if most is not None and most.is_integer() else most,
            "connect_patience": self.connect_patience,
        }


@Parameter(name="*", group=JOURNAL)
@dataclass(frozen=True)
class Journaling:
    """What is remembered of an earlier start."""

    journal: Annotated[
        str | None,
        Parameter(
            help="A file that survives the process: started again with it, the batch calls nothing "
            "again that is done. `dynamiq-async journal` shows it."
        ),
    ] = None
    retry_failed: Annotated[bool, Parameter(help="Call again what failed in an earlier start.")] = (
        False
    )
    unknown: Annotated[
        Literal["raise", "retry", "skip"],
        Parameter(
            help="What to do about a call whose outcome nobody knows, because an earlier start "
            "died meanwhile: stop (raise), call again, or leave it out. Runs are found again. "
            "[default: raise]"
        ),
    ] = "raise"
    settle: Annotated[
        float,
        Parameter(
            validator=Number(gte=0),
            help="Seconds for which a run is looked for when the answer to its creation was lost. "
            "[default: 10]",
        ),
    ] = 10.0

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of `AsyncApp.map`."""
        if self.journal is None and (self.retry_failed or self.unknown != "raise"):
            argument = "retry_failed" if self.retry_failed else "unknown"
            raise InvalidArgumentError(
                f"{argument} is about what a journal says; name it with --journal",
                argument=argument,
            )
        return vars(self)


DEFAULT_READING = Reading()
DEFAULT_PACE = Pace()
DEFAULT_JOURNALING = Journaling()


def batch(
    inputs: Annotated[
        str,
        Parameter(
            allow_leading_hyphen=True,
            help="JSON lines (an object with the Input node's fields on each) or CSV (with a "
            "header); `-` for stdin.",
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
            help="Where the results go, as JSON lines: a file, which is there when it is complete, "
            "or `-` for stdout. [default: -]",
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

    A file is looked through first: when a line is no input, nothing is sent. On stdin, such a line
    is a failed input. The exit code is 0 only when every input has an output, and 1 when one has
    not. The first Ctrl-C lets what is under way finish, the second does not.

    ```
    dynamiq-async batch inputs.jsonl -o results.jsonl --concurrency 64 --journal job.db
    dynamiq-async batch inputs.jsonl -o results.jsonl --journal job.db --retry-failed
    dynamiq-async batch questions.csv --key id --rate 60/m --adaptive > results.jsonl
    ```
    """
    reader = RecordReader(inputs, format=reading.input_format, key=reading.key, limit=reading.limit)
    fields = {"user_id": user_id, **nodes.arguments()}
    if dry_run:
        asyncio.run(_show_requests(reader, connection, pace.mode, fields))
        return
    arguments = pace.arguments() | journaling.arguments() | limits.arguments() | fields
    arguments["include_input"] = with_input
    results = Results(out, with_input=with_input, replaceable=journaling.journal is not None)
    count = reader.check() if reader.is_file and reading.check else None
    job = Job(reader, results, count, arguments)
    try:
        with results.open():
            asyncio.run(job.run(connection))
    except (KeyboardInterrupt, asyncio.CancelledError):
        job.remark("interrupted")
        raise KeyboardInterrupt from None
    except AmbiguousOutcomeError as error:
        job.remark("stopped")
        error.message = _CHOICE.sub(r"--\1 \2", error.message)
        raise
    except Exception:
        job.remark("stopped")
        raise
    job.conclude()


class Job:
    """One start of a batch: its calls, its results and its remarks."""

    def __init__(
        self,
        reader: RecordReader,
        results: Results,
        count: int | None,
        arguments: dict[str, Any],
    ) -> None:
        self._reader = reader
        self._results = results
        self._count = count
        self._arguments = arguments
        self._map: Map[Any] | None = None
        self._broken = 0
        self._started = perf_counter()

    async def run(self, connection: Connection) -> None:
        """Work through all inputs. When it is cancelled, what is under way has its grace."""
        inputs = self._inputs()
        async with connection.open() as app, _cancelled_by_ctrl_c():
            self._map = results = app.map(inputs, key=lambda _: inputs.key, **self._arguments)
            async with results, show_progress(self._progress, self._results.flush):
                reading = asyncio.create_task(self._read(results))
                try:
                    await asyncio.wait([reading])
                except asyncio.CancelledError:
                    self._announce_grace()
                    try:
                        await results.aclose()
                    finally:
                        await asyncio.gather(reading, return_exceptions=True)
                        await self._read(results)  # what was finished meanwhile
                    raise
                await reading

    def remark(self, what: str) -> None:
        """Print how far the batch came, where its results are, and how to go on."""
        if not self._progress().done:
            return
        journal = self._arguments["journal"]
        parts = [f"{what}: {line(self._progress(), ended=True)}"]
        if self._results.unfinished:
            parts.append(f"the results so far are in {self._results.unfinished}")
        if journal is not None:
            parts.append(f"the same command goes on where it was, with {journal}")
        else:
            parts.append("without a --journal, the same command begins anew")
        output.remark("; ".join(parts))

    def conclude(self) -> None:
        """Print the totals and the commonest failures.

        Raises:
            DynamiqError: not every input has an output.
        """
        figures = self._progress()
        seconds = duration(perf_counter() - self._started)
        output.remark(f"{line(figures, ended=True)}, in {seconds}")
        if not figures.failed:
            return
        for complaint in self._results.complaints():
            output.remark(f"  {complaint}")
        advice = "with a --journal, they could be called again alone"
        if self._arguments["journal"] is not None:
            advice = "the same command with --retry-failed calls them again"
            if figures.unknown:
                advice += f", --unknown retry also the {figures.unknown:,} of unknown outcome"
        raise DynamiqError(f"{figures.failed:,} of {figures.done:,} inputs failed; {advice}")

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

    def _note_broken(self, key: Key, error: Exception) -> None:
        self._broken += 1
        self._results.write_broken(key, error)

    def _progress(self) -> BatchProgress:
        """The batch's figures. Records that are no inputs, which it never sees, are failed ones."""
        figures = self._map.progress if self._map is not None else BatchProgress()
        return structs.replace(
            figures, done=figures.done + self._broken, failed=figures.failed + self._broken
        )

    def _announce_grace(self) -> None:
        in_flight, grace = self._progress().in_flight, self._arguments["grace"]
        if in_flight and grace:
            output.remark(
                f"Ctrl-C: up to {grace:g} s for the {in_flight} calls under way; "
                "once more ends at once"
            )


@contextlib.asynccontextmanager
async def _cancelled_by_ctrl_c() -> AsyncIterator[None]:
    """Let each Ctrl-C cancel this task, at its next await. asyncio by itself does so once only: at
    the second Ctrl-C, it raises KeyboardInterrupt in the middle of whatever runs."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None  # noqa: S101 - this is a coroutine
    try:
        loop.add_signal_handler(signal.SIGINT, task.cancel)
    except (NotImplementedError, RuntimeError, ValueError):  # on Windows; in another thread
        yield
        return
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)


async def _show_requests(
    reader: RecordReader, connection: Connection, mode: str, fields: dict[str, Any]
) -> None:
    """Print the first requests as they would be sent, without the key."""
    async with replace(connection, public=True).open() as app:
        for _, value in itertools.islice(reader.records(), _SHOWN_REQUESTS):
            if isinstance(value, BrokenLineError):
                raise InvalidArgumentError(f"{reader.name}, {value.message}", argument="input")
            request = _request_of(app, value, mode, fields)
            output.write_line(f"{request.method} {request.url}")
            output.print_json(msgspec.Raw(cast("bytes", request.body)))  # no files go with it


def _request_of(app: AsyncApp, input: Any, mode: str, fields: dict[str, Any]) -> Request:
    api, given = api_of(app), RequestOptions()
    if mode == "run":
        return RunRequests(api).create_request(
            input, given, session_id="(one for each run)", background=True, **fields
        )
    return api.request("POST", "", body=root_body(input, **fields), given=given)
