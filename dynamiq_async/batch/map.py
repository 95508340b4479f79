"""`Map`: the results of a batch, as an async iterator that must be closed."""

from __future__ import annotations

import asyncio
import os
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Literal, Self, TypeVar, Unpack
from uuid import UUID

from dynamiq_async import errors
from dynamiq_async._http.client import Client, api_of
from dynamiq_async._http.request_options import UNSET, RequestOptions, TimeoutLike
from dynamiq_async._json import check_type
from dynamiq_async.batch.columns import Columns
from dynamiq_async.batch.displays import ShowProgress, display_of
from dynamiq_async.batch.engine import Fanout
from dynamiq_async.batch.inputs import Inputs, Items, KeyOf
from dynamiq_async.batch.jobs import LIST_LAG, JobRuns, job_id
from dynamiq_async.batch.map_handler import MapHandler, OnError, Unknown
from dynamiq_async.batch.models import BatchProgress, MapResult
from dynamiq_async.batch.modes import Call, Invoke, Mode, RunToEnd, run_session
from dynamiq_async.batch.options import (
    FanOutOptions,
    check_one_of,
    check_seconds_or_zero,
    check_unused,
    demand_of,
    outage_of,
)
from dynamiq_async.batch.stopping import StopRules
from dynamiq_async.batch.tables import Rows
from dynamiq_async.batch.tally import Tally
from dynamiq_async.options import OnLeave, check_count

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

    from dynamiq_async._http.outage import Outage
    from dynamiq_async.batch.journal import Journal, JournalStore
    from dynamiq_async.batch.shards import Shard
    from dynamiq_async.options import Adaptive

T = TypeVar("T")
C = TypeVar("C", bound=Client)
R = TypeVar("R")

DEFAULT_CONCURRENCY = 32
DEFAULT_SETTLE = 10.0
CONNECT_PATIENCE = 600.0


class FanOutIterator(Generic[R]):
    """The base of `Map` and `StreamMany`: one reader, and every way out ends the batch."""

    def __init__(self, engine: Fanout[R]) -> None:
        self._engine = engine
        self._ready: Iterator[R] = iter(())

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> R:
        for result in self._ready:
            return result
        try:
            batch = await self._engine.take()
        except asyncio.CancelledError:
            await self._engine.aclose()
            raise
        if batch is None:
            raise StopAsyncIteration
        self._ready = ready = iter(batch)
        return next(ready)

    async def __aenter__(self) -> Self:
        self._engine.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Start nothing new, end the calls under way, and return when nothing runs any more.

        May be called from any task, at any time, any number of times. Results that were finished
        before can still be read. After them, reading raises StreamClosedError, unless they were
        all.
        """
        await self._engine.aclose()

    @property
    def progress(self) -> BatchProgress:
        """The figures of this moment. Cheap to get, also after the end."""
        return self._engine.progress()

    def __del__(self) -> None:
        self._engine.abandon()


class Map(FanOutIterator[MapResult[T]]):
    """The results of a batch, from `AsyncApp.map`: as they come, or in the order of the inputs.

    The batch starts with the first read, or on entering `async with`. A cancelled read closes it.
    An exception from the inputs' own iterator is raised after the results of the calls under way.

    As tables, results have the columns `key` (as text), `state` ("done", "failed" or "unknown"),
    `output` (as JSON), `error` (its message), `error_type`, `error_status`, `run_id`, `attempts`,
    `started` and `seconds`. If the `output_type` is a Struct, a dataclass or a pydantic model, each
    of its fields has a column too, with null for a value that the column's Arrow type cannot hold.
    """

    def __init__(self, engine: Fanout[MapResult[T]], output_type: Any = Any) -> None:
        super().__init__(engine)
        self._output_type = output_type

    def arrow_batches(self, rows: int = 10_000) -> ArrowBatches:
        """The rest of the results as record batches of pyarrow, each of at most `rows` rows.

            async for batch in results.arrow_batches(10_000):
                writer.write_batch(batch)

        At most one record batch is held in memory. An error that ends the results is raised after
        a last record batch with the results before it.

        Raises:
            MissingExtraError: the extra `arrow` is not installed.
            InvalidArgumentError: `rows` is not a positive integer.
        """
        check_count(rows, "rows")
        return ArrowBatches(self, Columns(self._output_type), rows)

    async def to_arrow(self) -> Any:
        """The rest of the results, all of them, as one `pyarrow.Table`.

        Raises:
            MissingExtraError: the extra `arrow` is not installed.
            BatchStoppedError: its `table` has the results so far. Reading may raise other errors.
        """
        batches = self.arrow_batches()
        found: list[Any] = []
        try:
            async with self:
                async for batch in batches:
                    found.append(batch)  # noqa: PERF401 - they are kept, however it ends
        except errors.BatchStoppedError as stopped:
            stopped.table = batches.table(found)
            raise
        return batches.table(found)


class ArrowBatches:
    """Results as record batches, from `Map.arrow_batches`."""

    def __init__(self, results: Map[Any], columns: Columns, rows: int) -> None:
        self._results = results
        self._columns = columns
        self._rows = rows
        self._waiting = Rows(columns)
        self._failure: Exception | None = None
        self.table: Callable[[Sequence[Any]], Any] = self._waiting.table

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        try:
            async for result in self._results:
                self._waiting.add(self._columns.of_result(result))
                if len(self._waiting) >= self._rows:
                    return self._waiting.take()
        except Exception as error:
            if not len(self._waiting):
                raise
            self._failure = error
        if not len(self._waiting):
            raise StopAsyncIteration
        return self._waiting.take()


async def collected(results: Map[T]) -> list[MapResult[T]]:
    """All results, in the order of the inputs.

    Raises:
        BatchStoppedError: with the results so far. Reading may raise other errors.
    """
    found: list[MapResult[T]] = []
    try:
        async with results:
            async for result in results:
                found.append(result)  # noqa: PERF401 - they are kept, however it ends
    except errors.BatchStoppedError as stopped:
        stopped.results = found
        raise
    finally:
        found.sort(key=lambda result: result.index)
    return found


def fan_out(
    client: C,
    inputs: Inputs,
    call: Callable[[C, Any], Awaitable[T]],
    *,
    mode: str = "call",
    output_type: Any = Any,
    ordered: bool = False,
    timeout: TimeoutLike = UNSET,
    max_retries: int | None = None,
    connect_patience: float = CONNECT_PATIENCE,
    given: Mapping[str, Any] | None = None,
    **options: Unpack[FanOutOptions],
) -> Map[T]:
    """Await `call(client, input)` for each input, with a patient view of `client`.

    The arguments are those of `AsyncApp.map`. `mode` is the name that a journal gives to these
    calls. `given` are the options of `AsyncApp.map` by which a journal distinguishes calls.
    """
    check_type(output_type)
    outage = outage_of(connect_patience)
    working = Call(client, call, RequestOptions(timeout, max_retries), output_type, outage)
    working.name = mode
    return _map(
        client, inputs, working, outage, output_type, ordered=ordered, given=given, **options
    )


def map_app(
    app: C,
    inputs: Inputs,
    *,
    call: Callable[[C, Any], Awaitable[Any]] | None = None,
    mode: Literal["invoke", "run"] | None = None,
    job: str | None = None,
    output_type: Any = Any,
    settle: float | None = None,
    on_leave: OnLeave = "detach",
    user_id: str | None = None,
    session_id: str | UUID | None = None,
    last_node_output: bool | None = None,
    error_on_node_failure: bool | None = None,
    retry: bool | None = None,
    timeout: TimeoutLike = UNSET,
    max_retries: int | None = None,
    extra_body: Mapping[str, Any] | None = None,
    extra_headers: Mapping[str, str] | None = None,
    extra_query: Mapping[str, Any] | None = None,
    connect_patience: float = CONNECT_PATIENCE,
    **options: Any,
) -> Map[Any]:
    """`AsyncApp.map`; see there."""
    check_one_of("invoke" if mode is None else mode, ("invoke", "run"), "mode")
    check_type(output_type)
    check_seconds_or_zero(0 if settle is None else settle, "settle")
    check_one_of(on_leave, ("detach", "cancel"), "on_leave")
    leaves = None if on_leave == "detach" else on_leave
    outage = outage_of(connect_patience)
    given = RequestOptions(timeout, max_retries, retry, extra_headers, extra_query)
    root_only = {
        "last_node_output": last_node_output,
        "error_on_node_failure": error_on_node_failure,
    }
    fields: dict[str, Any] = {"user_id": user_id, "extra_body": extra_body}
    common = (app, given, fields, output_type, outage)
    working: Mode
    if call is not None:
        unused = {
            **root_only,
            **fields,
            "session_id": session_id,
            "retry": retry,
            "extra_headers": extra_headers,
            "extra_query": extra_query,
            "on_leave": leaves,
            "mode": None if mode == "invoke" else mode,
            "job": job,
        }
        check_unused(unused, "beside call, which makes its own calls: say it there")
        working = Call(app, call, given, output_type, outage)
    elif mode == "run" or job is not None:
        check_unused(root_only, "for runs")
        working = _runs(common, options, mode, job, session_id, retry, settle, on_leave)
    else:
        check_unused({"on_leave": leaves}, "in mode 'invoke', whose calls have no runs to cancel")
        fields |= root_only | {"session_id": session_id}
        working = Invoke(*common)
    told = fields | {"extra_headers": extra_headers, "extra_query": extra_query}
    return _map(app, inputs, working, outage, output_type, given=told, **options)


def _runs(
    common: tuple[Any, ...],
    options: dict[str, Any],
    mode: str | None,
    job: str | None,
    session_id: str | UUID | None,
    retry: bool | None,
    settle: float | None,
    on_leave: OnLeave,
) -> RunToEnd:
    """The mode that makes a run for each input. With `job`, the job's id is put into `options`."""
    if job is None:
        session = run_session(session_id, retry, options.get("journal"))
        settle = DEFAULT_SETTLE if settle is None else settle
        return RunToEnd(*common, session_id=session, settle=settle, on_leave=on_leave)
    other = {"mode": None if mode == "run" else mode, "session_id": session_id}
    check_unused(other, "with job, which makes runs with sessions of their own")
    leaves = {"on_leave": None if on_leave == "detach" else on_leave}
    check_unused(leaves, "with job, whose runs are everybody's")
    run_session(None, retry, None)
    options["job"] = job_id(job)
    return JobRuns(
        *common,
        job=options["job"],
        retry_failed=options.get("retry_failed", False),
        settle=LIST_LAG if settle is None else settle,
    )


def _map(
    client: Client,
    inputs: Inputs,
    mode: Mode,
    outage: Outage,
    output_type: Any,
    *,
    concurrency: int | Adaptive = DEFAULT_CONCURRENCY,
    ordered: bool = False,
    key: KeyOf = None,
    on_error: OnError = "return",
    rate: float | str | None = None,
    include_input: bool = True,
    grace: float = 0.0,
    journal: JournalStore | str | os.PathLike[str] | None = None,
    unknown: Unknown = "raise",
    retry_failed: bool = False,
    max_failures: float | None = None,
    shard: Shard | None = None,
    total: int | None = None,
    progress: ShowProgress = False,
    job: UUID | None = None,
    given: Mapping[str, Any] | None = None,
) -> Map[Any]:
    check_one_of(on_error, ("return", "raise"), "on_error")
    check_one_of(unknown, ("raise", "retry", "skip"), "unknown")
    check_seconds_or_zero(grace, "grace")
    demand = demand_of(concurrency, rate)
    api = api_of(client)
    rules = StopRules(max_failures, api.options.policy.max_wait)
    tally = Tally(rules, api.sender.telemetry)
    handler: MapHandler
    if journal is None:
        handler = MapHandler(
            mode, tally, api.sender, on_error=on_error, include_input=include_input
        )
    else:
        # With SQLite and hashes, so only where it is needed.
        from dynamiq_async.batch.journaled_handler import JournaledHandler

        handler = JournaledHandler(
            mode,
            tally,
            api.sender,
            _opening(journal, mode.name, api.url, job, retry_failed=retry_failed),
            given or {},
            on_error=on_error,
            include_input=include_input,
            unknown=unknown,
        )
    items = Items(inputs, key, shard=shard, texts=job is not None, total=total)
    display = display_of(progress)
    limiter = api.sender.limiter
    engine = Fanout(
        *(items, handler, tally, limiter, demand, outage),
        ordered=ordered,
        grace=grace,
        display=display,
    )
    return Map(engine, output_type)


def _opening(
    journal: JournalStore | str | os.PathLike[str],
    mode: str,
    url: str,
    job: UUID | None,
    *,
    retry_failed: bool,
) -> Callable[[], Awaitable[Journal]]:
    # With SQLite, so only where it is needed.
    from dynamiq_async.batch.journal import Journal, JournalStore

    if not isinstance(journal, str | os.PathLike | JournalStore):
        raise errors.InvalidArgumentError(
            f"journal must be the path of a file or a JournalStore, not {journal!r}",
            argument="journal",
        )
    return partial(
        Journal.open, journal, mode=mode, app_url=url, retry_failed=retry_failed, job=job
    )
