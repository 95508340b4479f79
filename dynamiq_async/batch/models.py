"""What batches return: results with their keys, items of many streams, and progress figures."""

from __future__ import annotations

from datetime import datetime
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Generic,
    Literal,
    NoReturn,
    TypeAlias,
    TypeVar,
    final,
)

from msgspec import Struct

from dynamiq_async.errors import AmbiguousOutcomeError, DynamiqError
from dynamiq_async.events import Usage

if TYPE_CHECKING:
    from types import TracebackType

T = TypeVar("T")
E = TypeVar("E")

Key = str | int


class _Tried(Struct, kw_only=True):
    """The attributes of every result."""

    key: Key
    index: int
    started_at: datetime
    input: Any = None
    attempts: int | None = None
    run_id: str | None = None
    seconds: float = 0.0
    from_journal: bool = False
    found: bool = False
    usage: Usage | None = None

    def asdict(self) -> dict[str, Any]:
        """The result as a plain dictionary, for a row of a frame.

        `key`, `index`, `state` ("done", "failed" or "unknown"), `input`, `output`, `error` (its
        message), `error_type`, `error_status` (of HTTP), `run_id`, `attempts`, `started` (in
        UTC), `seconds`, `from_journal` and `found`.
        """
        error = getattr(self, "error", None)
        message, kind, status = error_facts(error)
        return {
            "key": self.key,
            "index": self.index,
            "state": state_of(error),
            "input": self.input,
            "output": getattr(self, "output", None),
            "error": message,
            "error_type": kind,
            "error_status": status,
            "run_id": self.run_id,
            "attempts": self.attempts,
            "started": self.started_at,
            "seconds": self.seconds,
            "from_journal": self.from_journal,
            "found": self.found,
        }


@final
class MapSuccess(_Tried, Generic[T], kw_only=True):
    """An input's output.

    Attributes:
        key: the key that was given for the input, or its index.
        index: the input's place among the inputs, from 0.
        input: the input itself; None with `include_input=False`.
        output: the App's output.
        attempts: how many requests it took, where that is known: in mode "invoke".
        run_id: of the run, in mode "run".
        started_at: when work on the input began, in UTC.
        seconds: how long it took from there, waiting included.
        from_journal: the input was done in an earlier start of the job, and was not called again.
        found: with `job=`, the run existed already, and was followed rather than made.
        usage: what the run or the stream consumed, according to its events. None where they did not
            say, for synchronous calls, and for runs that had ended when they were found.
    """

    ok: ClassVar[Literal[True]] = True
    error: ClassVar[None] = None
    output: T

    def unwrap(self) -> T:
        """The output."""
        return self.output


@final
class MapFailure(_Tried, kw_only=True):
    """The failure of an input.

    Attributes:
        error: the error.

    The other attributes are those of `MapSuccess`.
    """

    ok: ClassVar[Literal[False]] = False
    output: ClassVar[None] = None
    error: Exception

    def unwrap(self) -> NoReturn:
        """Raise the error, with its original traceback."""
        raise self.error.with_traceback(_origin(self.error.__traceback__))


MapResult: TypeAlias = MapSuccess[T] | MapFailure
"""The result of one input: a success or a failure. Every type checker tells them apart by `error
is None`, `ok is True`, `isinstance` and `match`. Pyright and Pyrefly cannot do so by `ok` alone."""


class Draft(_Tried, kw_only=True):
    """A result that is not finished. It may have both an output and an error."""

    output: Any = None
    error: Exception | None = None

    def finished(self) -> MapResult[Any]:
        """The result. If there is an error, it counts, whatever the output."""
        # One call with all fields takes half as long as setting them one by one.
        if self.error is None:
            return MapSuccess(
                key=self.key,
                index=self.index,
                started_at=self.started_at,
                input=self.input,
                attempts=self.attempts,
                run_id=self.run_id,
                seconds=self.seconds,
                from_journal=self.from_journal,
                found=self.found,
                usage=self.usage,
                output=self.output,
            )
        return MapFailure(
            key=self.key,
            index=self.index,
            started_at=self.started_at,
            input=self.input,
            attempts=self.attempts,
            run_id=self.run_id,
            seconds=self.seconds,
            from_journal=self.from_journal,
            found=self.found,
            usage=self.usage,
            error=self.error,
        )


def state_of(error: BaseException | None) -> str:
    """The state of a result with this error, as journals name it."""
    if error is None:
        return "done"
    return "unknown" if isinstance(error, AmbiguousOutcomeError) else "failed"


def error_facts(error: BaseException | None) -> tuple[str | None, str | None, int | None]:
    """The message of an error, the name of its class, and the status of its HTTP response."""
    if error is None:
        return None, None, None
    message = error.message if isinstance(error, DynamiqError) else str(error)
    return message, type(error).__name__, getattr(error, "status", None)


def _origin(traceback: TracebackType | None) -> TracebackType | None:
    """`traceback` without the frames of earlier `unwrap` calls, so that it does not grow."""
    origin = traceback
    while traceback is not None:
        if traceback.tb_frame.f_code is MapFailure.unwrap.__code__:
            origin = traceback.tb_next
        traceback = traceback.tb_next
    return origin


class StreamItem(Struct, Generic[E], kw_only=True):
    """One event of one of many streams, or the end of that stream.

    Attributes:
        key: the key that was given for the stream's input, or its index.
        index: the input's place among the inputs, from 0.
        event: the event; None at the stream's end.
        result: at the stream's end, and only there: its output or error.
    """

    key: Key
    index: int
    event: E | None = None
    result: MapResult[Any] | None = None


class BatchProgress(Struct, frozen=True, kw_only=True):
    """The progress of a batch at one moment.

    Attributes:
        total: how many inputs there are; None when that is not known.
        started: how many inputs were begun.
        in_flight: how many of these are under way.
        limit: how many may be under way now.
        done: how many inputs have a result.
        failed: how many of `done` are errors.
        unknown: how many of `failed` have an unknown outcome (`AmbiguousOutcomeError`).
        skipped: how many of `done` came from the journal, without a call.
        found: how many of `done` are runs of a job that existed already.
        usage: what all results consumed, as far as they say.
        throttled: how often the service asked the client to slow down since the batch began.
        cooldown: seconds from now for which the service asked that nothing be sent.
        offline: for how long there has been no connection, in seconds; 0 when there is one.
        rate: results a second over the last half minute or so, without those from the journal.
        eta: seconds until all inputs are done at this rate; None when that is not known.
    """

    total: int | None = None
    started: int = 0
    in_flight: int = 0
    limit: int = 0
    done: int = 0
    failed: int = 0
    unknown: int = 0
    skipped: int = 0
    found: int = 0
    usage: Usage | None = None
    throttled: int = 0
    cooldown: float = 0.0
    offline: float = 0.0
    rate: float = 0.0
    eta: float | None = None
