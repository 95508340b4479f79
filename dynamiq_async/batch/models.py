"""What batches hand out: results with their keys, items of many streams, and figures on the way."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from msgspec import Struct

if TYPE_CHECKING:
    from types import TracebackType

T = TypeVar("T")
E = TypeVar("E")

Key = str | int


class MapResult(Struct, Generic[T], kw_only=True):
    """What became of one input: an output or an error.

    Attributes:
        key: the key that was given for the input, or its index.
        index: the input's place among the inputs, from 0.
        input: the input itself; None with `include_input=False`.
        output: what came out, unless there is an error.
        error: what went wrong.
        attempts: how many requests it took, where that is known: in mode "invoke".
        run_id: of the run, in mode "run".
        started_at: when the input was taken up, in UTC.
        seconds: how long it took from there, waiting included.
        from_journal: it was done in an earlier start of the job; nothing was called for it now.
    """

    key: Key
    index: int
    started_at: datetime
    input: Any = None
    output: T | None = None
    error: Exception | None = None
    attempts: int | None = None
    run_id: str | None = None
    seconds: float = 0.0
    from_journal: bool = False

    @property
    def ok(self) -> bool:
        """Whether there is an output."""
        return self.error is None

    def unwrap(self) -> T:
        """The output.

        Raises:
            Exception: the error, if there is one; with the traceback of where it came from.
        """
        if self.error is not None:
            raise self.error.with_traceback(_origin(self.error.__traceback__))
        return self.output  # type: ignore[return-value] # T may be None


def _origin(traceback: TracebackType | None) -> TracebackType | None:
    """`traceback` without what `unwrap` added to it before, lest it grow with each call."""
    origin = traceback
    while traceback is not None:
        if traceback.tb_frame.f_code is MapResult.unwrap.__code__:
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
    """How far a batch is, at the moment it was asked.

    Attributes:
        total: how many inputs there are; None when they do not tell.
        started: how many were taken up.
        in_flight: how many of them are under way.
        limit: how many may be, now.
        done: how many have a result.
        failed: how many of these are errors.
        unknown: how many of those are of an unknown outcome (`AmbiguousOutcomeError`).
        skipped: how many of `done` came from the journal, without a call.
        throttled: how often the service asked the client to slow down since the batch began.
        cooldown: seconds for which it asked that nothing be sent, from now.
        rate: results a second, over the last half minute or so; those from the journal not counted.
        eta: seconds until all are done at this rate; None when that cannot be told.
    """

    total: int | None = None
    started: int = 0
    in_flight: int = 0
    limit: int = 0
    done: int = 0
    failed: int = 0
    unknown: int = 0
    skipped: int = 0
    throttled: int = 0
    cooldown: float = 0.0
    rate: float = 0.0
    eta: float | None = None
