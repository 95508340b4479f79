"""The arguments that batches share, as type checkers see them, and their checks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypedDict

from dynamiq_async import errors
from dynamiq_async._http.limiter import Demand
from dynamiq_async._http.outage import Outage
from dynamiq_async._http.request_options import SendingOptions
from dynamiq_async.options import Adaptive, OnLeave, check_count, check_seconds, rate_interval
from dynamiq_async.options import check_one_of as check_one_of

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping
    from uuid import UUID

    from dynamiq_async.batch.displays import ShowProgress
    from dynamiq_async.batch.inputs import KeyOf
    from dynamiq_async.batch.journal import JournalStore
    from dynamiq_async.batch.map_handler import OnError, Unknown
    from dynamiq_async.batch.shards import Shard
    from dynamiq_async.runs.questions import OnQuestion
    from dynamiq_async.streaming.app_stream import FinalEvent
    from dynamiq_async.streaming.event_reader import OnBadEvent


class FanOutOptions(TypedDict, total=False):
    """The arguments of every batch."""

    concurrency: int | Adaptive
    key: KeyOf
    on_error: OnError
    rate: float | str | None
    include_input: bool
    grace: float
    journal: JournalStore | str | os.PathLike[str] | None
    unknown: Unknown
    retry_failed: bool
    max_failures: float | None
    shard: Shard | None
    total: int | None
    progress: ShowProgress


class BatchOptions(FanOutOptions, SendingOptions, total=False):
    """The arguments of `AsyncApp.batch` that do not change the type it returns."""

    mode: Literal["invoke", "run"] | None
    job: str | None
    settle: float | None
    on_leave: OnLeave
    connect_patience: float
    user_id: str | None
    session_id: str | UUID | None
    last_node_output: bool | None
    error_on_node_failure: bool | None
    retry: bool | None


class MapOptions(BatchOptions, total=False):
    """The arguments of `AsyncApp.map` that do not change the type it returns."""

    ordered: bool


class StreamManyOptions(SendingOptions, total=False):
    """The arguments that `AsyncApp.stream_many` hands on to `stream` or `runs.stream`."""

    event: str | None
    on_bad_event: OnBadEvent
    final_event: FinalEvent | None
    last_node_output: bool | None
    error_on_node_failure: bool | None
    dedupe: bool
    on_leave: OnLeave
    on_question: OnQuestion | None
    max_failures: float | None
    connect_patience: float
    resume: bool
    max_resumes: int
    user_id: str | None
    session_id: str | None
    retry: bool | None


def demand_of(concurrency: int | Adaptive, rate: float | str | None) -> Demand:
    """What a batch demands of its client's limiter."""
    interval = rate_interval(rate, "rate")
    if isinstance(concurrency, Adaptive):
        return Demand(concurrency.max, concurrency, interval)
    return Demand(check_count(concurrency, "concurrency"), None, interval)


def outage_of(connect_patience: float) -> Outage:
    """Where the calls of a batch wait for a connection."""
    check_seconds_or_zero(connect_patience, "connect_patience")
    return Outage(connect_patience)


def check_seconds_or_zero(value: float, argument: str) -> None:
    """Raise InvalidArgumentError unless `value` is a number of seconds or 0."""
    if value is None or isinstance(value, bool) or value != 0:
        check_seconds(value if value is not None else 0, argument)


def check_unused(given: Mapping[str, Any], why: str) -> None:
    """Raise InvalidArgumentError for an argument that has no meaning here."""
    for name, value in given.items():
        if value is not None:
            raise errors.InvalidArgumentError(f"{name} has no meaning {why}", argument=name)
