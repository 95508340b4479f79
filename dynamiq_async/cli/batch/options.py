"""The options of `batch`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter
from cyclopts.validators import Number

from dynamiq_async.cli.batch.cells import Cells
from dynamiq_async.cli.batch.inputs import Format, RecordReader
from dynamiq_async.errors import InvalidArgumentError
from dynamiq_async.options import Adaptive

INPUTS = Group("Inputs", sort_key=5)
BATCH = Group("Batch", sort_key=8)
JOURNAL = Group("Journal", sort_key=9)


@Parameter(name="*", group=INPUTS)
@dataclass(frozen=True)
class Reading:
    """Where the inputs are, and how to read them."""

    input_format: Annotated[
        Format | None,
        Parameter(
            help="jsonl, csv, parquet or arrow (the last two with the extra arrow). [default: what "
            "the name ends in, else jsonl]"
        ),
    ] = None
    types: Annotated[
        str | None,
        Parameter(
            help="What columns of CSV are, such as age=int,score=float: text, int, float, bool or "
            "json. [default: text]"
        ),
    ] = None
    empty_null: Annotated[bool, Parameter(help="An empty cell of CSV is null.")] = False
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
    shard: Annotated[
        str | None,
        Parameter(
            help="Only one shard of the inputs, such as 2/8 for the second of eight. An input's "
            "shard depends only on its key."
        ),
    ] = None
    check: Annotated[
        bool,
        Parameter(
            negative="--no-check",
            help="With --no-check, the file is not checked first. A line that is no input is "
            "then a failed input, as on stdin, and the remaining time is unknown.",
        ),
    ] = True

    def reader(self, inputs: str) -> RecordReader:
        """The reader for the inputs that the command line names."""
        return RecordReader(
            inputs,
            format=self.input_format,
            key=self.key,
            limit=self.limit,
            shard=self.shard,
            cells=Cells(self.types, empty_null=self.empty_null)
            if self.types is not None or self.empty_null
            else None,
        )


@Parameter(name="*", group=BATCH)
@dataclass(frozen=True)
class Pace:
    """How many calls to make at a time, and how to make them."""

    concurrency: Annotated[
        int, Parameter(validator=Number(gte=1), help="How many calls run at a time. [default: 32]")
    ] = 32
    adaptive: Annotated[
        bool,
        Parameter(
            help="Adapt the number of calls to what the service accepts, up to --concurrency."
        ),
    ] = False
    rate: Annotated[
        str | None,
        Parameter(help="The highest rate of requests: 5 or 5/s (per second), 60/m or 1000/h."),
    ] = None
    mode: Annotated[
        Literal["invoke", "run"] | None,
        Parameter(
            help="run: background runs, followed to their end. [default: invoke; with --job, run]"
        ),
    ] = None
    ordered: Annotated[bool, Parameter(help="Results in the order of the inputs.")] = False
    grace: Annotated[
        float,
        Parameter(
            validator=Number(gte=0),
            help="Seconds for calls in progress to finish after Ctrl-C, SIGTERM or SIGHUP. "
            "[default: 10]",
        ),
    ] = 10.0

    max_failures: Annotated[
        float | None,
        Parameter(
            help="Stop when more inputs than this failed. A number below 1, such as 0.05, is a "
            "share of the finished inputs, checked once 100 are finished."
        ),
    ] = None
    connect_patience: Annotated[
        float,
        Parameter(
            validator=Number(gte=0),
            help="Seconds to wait for a service that cannot be reached any more. [default: 600]",
        ),
    ] = 600.0

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of `AsyncApp.map`."""
        adaptive = Adaptive(max=self.concurrency) if self.adaptive else None
        most = self.max_failures
        return {
            "concurrency": adaptive or self.concurrency,
            "rate": _rate_of(self.rate),
            "mode": self.mode,
            "ordered": self.ordered,
            "grace": self.grace,
            "max_failures": int(most) if most is not None and most.is_integer() else most,
            "connect_patience": self.connect_patience,
        }


@Parameter(name="*", group=JOURNAL)
@dataclass(frozen=True)
class Journaling:
    """What to keep for a later start, and what to do with an earlier one."""

    job: Annotated[
        str | None,
        Parameter(
            help="A name, the same in every start: each input has one run that counts, on any "
            "number of machines and after any crash. An existing run is followed, not repeated."
        ),
    ] = None
    journal: Annotated[
        str | None,
        Parameter(
            help="A file that keeps what was done. The same command, started again with it, calls "
            "only what is left. `dynamiq-async journal` shows the file."
        ),
    ] = None
    retry_failed: Annotated[
        bool, Parameter(help="Call inputs again that failed in an earlier start.")
    ] = False
    unknown: Annotated[
        Literal["raise", "retry", "skip"],
        Parameter(
            help="What to do about a call whose outcome nobody knows, because an earlier start "
            "died meanwhile: stop (raise), call again, or leave it out. Runs are found again. "
            "[default: raise]"
        ),
    ] = "raise"
    settle: Annotated[
        float | None,
        Parameter(
            validator=Number(gte=0),
            help="Seconds for which a run is looked for when the answer to its creation was lost; "
            "with --job, by which the service's lists may lag. [default: 10; with --job, 2]",
        ),
    ] = None

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of `AsyncApp.map`."""
        retries = self.retry_failed and self.job is None
        if self.journal is None and (retries or self.unknown != "raise"):
            argument = "retry_failed" if retries else "unknown"
            raise InvalidArgumentError(
                f"{argument} is about what a journal says; name it with --journal",
                argument=argument,
            )
        return vars(self)


def _rate_of(given: str | None) -> float | str | None:
    """The rate. A plain number means requests per second."""
    try:
        return float(given or "")
    except ValueError:
        return given


DEFAULT_READING = Reading()
DEFAULT_PACE = Pace()
DEFAULT_JOURNALING = Journaling()
