"""The batches of a client that calls Apps: `map`, `batch` and `stream_many`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, Unpack, overload

from dynamiq_async._http.client import Client
from dynamiq_async.batch.map import DEFAULT_CONCURRENCY, Map, collected, map_app
from dynamiq_async.batch.stream_many import StreamMany, stream_app

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dynamiq_async.batch.inputs import Inputs, KeyOf
    from dynamiq_async.batch.models import MapResult
    from dynamiq_async.batch.options import BatchOptions, MapOptions, StreamManyOptions
    from dynamiq_async.events.app_events import StreamEvent
    from dynamiq_async.events.run_events import RunEvent
    from dynamiq_async.options import Adaptive

T = TypeVar("T")


class Batching(Client):
    """The methods of `AsyncApp` for many inputs at once."""

    @overload
    def map(
        self,
        inputs: Inputs,
        *,
        call: Callable[[Self, Any], Awaitable[T]],
        output_type: Any = ...,
        **options: Unpack[MapOptions],
    ) -> Map[T]: ...
    @overload
    def map(
        self, inputs: Inputs, *, output_type: type[T], **options: Unpack[MapOptions]
    ) -> Map[T]: ...
    @overload
    def map(
        self, inputs: Inputs, *, output_type: Any, **options: Unpack[MapOptions]
    ) -> Map[Any]: ...
    @overload
    def map(self, inputs: Inputs, **options: Unpack[MapOptions]) -> Map[Any]: ...
    def map(self, inputs: Inputs, **options: Any) -> Map[Any]:
        """Call the App once for each input, with bounded concurrency.

            async with app.map(inputs, concurrency=64) as results:
                async for result in results:
                    print(result.key, result.unwrap())

        Every input has exactly one result or error, which carries its key. An exception from an
        input's call is that input's error, and does not delay the others. If the service asks to
        slow down, the whole client slows down and no input fails: its request is sent again for as
        long as it takes, unless `retry=False` forbids that.

        Args:
            inputs: any iterable or async iterable, read lazily: a small multiple of the
                concurrency is held. If its iterator raises, that error ends the batch after the
                results of the calls under way. Or a frame of pandas, polars, pyarrow or DuckDB, or
                anything else with `__arrow_c_stream__` (with the extra `arrow`): each row is
                a mapping, with numbers, times and missing values as JSON has them.
            concurrency: how many calls run at a time (32); or `Adaptive(min=…, max=…)`, to find out
                how many the service takes.
            ordered: return the results in the order of the inputs, rather than as they finish.
                Calls for later inputs may run some way ahead of the slowest.
            key: identifies each result: a function of the input, or the name of one of its fields.
                It gives a string or an integer. By default the index. The second input with the
                same key gets an InvalidArgumentError as its result. A batch notices any repetition
                within the last 100,000 keys, and with a journal every one.
            mode: "invoke" for a synchronous call; "run" for a background run, which is followed to
                its end. The result of a run has its `run_id`.
            job: a name, the same in every start: each key has one run that counts, on any number
                of machines. It implies `mode="run"`. The run's session is
                `uuid5(uuid5(NS, job), str(key))`, with `NS` of `dynamiq_async.batch`. If a run
                exists, it is followed, whatever its state, and its result has `found` set;
                otherwise one is created. After a create, the session's runs are listed once more.
                Of several runs, the first by start time and id that was not canceled counts; the
                others are canceled. If the run has another input, the result is
                a JobConflictError. With `retry_failed`, a key whose run failed gets another run,
                whose session is made of `f"{key}\\n{n}"`. There is one gap: if two processes
                attempt a key within the settling time, a second run can begin before it is
                canceled. Only an idempotency key at the service could rule that out.
            shard: only a part of the inputs: "2/8" (or `(2, 8)`) for the second of eight. Which
                part an input belongs to depends on its key alone, so it stays the same.
            total: the number of inputs, if the inputs themselves do not have a length.
            progress: True: show a bar at a terminal and in a notebook, by `rich` where that is
                installed, else by `tqdm`; elsewhere, and without both, log a line every 10 s (at
                INFO, to the logger `dynamiq_async`). Or a function that is called with the
                `BatchProgress` twice a second, and at the end; if it raises, the batch ends.
            call: any coroutine function of the App and the input, in place of the App's call. It
                is given a view of this App, which waits as patiently as the batch. A function that
                makes requests while it holds a stream open needs `max_connections` to be higher
                than the concurrency.
            output_type: what to decode outputs to; with `call`, only those kept in a journal.
            on_error: "return" errors as results; or "raise" the first one, which ends the batch:
                calls under way are cancelled, or get their `grace`.
            rate: the most requests in a period: a number a second, or a text such as "60/m". It
                applies to all requests of the client while the batch runs.
            include_input: whether results carry their input.
            grace: seconds that calls under way have to finish when the batch is closed or its
                reader is cancelled. By default they are cancelled at once.
            journal: the path of a file that survives the process, or a store of your own
                (`dynamiq_async.batch.journal.JournalStore`). When the same job is started again
                with it, inputs that are done are not called again; their results have
                `from_journal` set. A journal needs inputs that JSON can hold, and keys that stay
                the same. If a known key has another `user_id`, `extra_body` or the like, its result
                is a JournalError.
            unknown: what to do about a call that was under way when an earlier start ended, so
                that its outcome is unknown. "raise" begins nothing more, returns the results of the
                calls under way and raises AmbiguousOutcomeError; "retry" calls again; "skip" makes
                that error its result. In mode "run" the run is found again by its id, or by the
                session that was made for it.
            retry_failed: with a journal, call failed inputs again, rather than return their errors.
            max_failures: stop when more inputs than this failed. A float below 1 is a share of the
                finished inputs, checked once 100 are finished. Results from a journal do not
                count. None: any number may fail.
            connect_patience: seconds (600) to wait for a connection, once the batch has had one and
                lost it. No input fails meanwhile because it could not be sent. 0: such inputs fail
                after `max_retries`, and stop the batch.
            settle: seconds (10) to look for a run whose create got no response. If none is found,
                only a later start creates it anew. One risk remains: that the service acts on the
                lost request after that time. With `job`: the longest time (2) for which the
                service's lists may lag behind.
            on_leave: in mode "run", what happens to a run that the batch does not follow to its
                end, because it is closed, cancelled or stopped, or the run's `timeout` passes:
                "detach" lets the run go on, "cancel" cancels it. With a journal, a later start
                makes a new run for one that was canceled. Not with `job`, whose runs other
                processes share.
            timeout, max_retries: for each call instead of the client's. In mode "run", `timeout`
                applies to the create and again to the run (an hour, unless one is set).
            user_id, last_node_output, error_on_node_failure, retry: as for `invoke`.
            extra_body, extra_headers, extra_query: as for `invoke`.
            session_id: as for `invoke`. If all runs share this session, a run has none of its own
                by which it could be found again.

        Raises:
            InvalidArgumentError: an argument cannot be used; nothing was sent.

        Reading also raises: BatchStoppedError, after all results so far, when the batch cannot
        succeed: on 401, 402 and a 403 with a code; on five other 403 while no call succeeded; when
        there is no connection; after three waits in a row of more than `max_retry_after`; and by
        `max_failures`. JournalError when the journal cannot be used. StreamClosedError when the
        batch was closed before its end. ClientClosedError when the client was closed; the outcome
        of the calls under way is then unknown.
        """
        return map_app(self, inputs, **options)

    @overload
    async def batch(
        self,
        inputs: Inputs,
        *,
        call: Callable[[Self, Any], Awaitable[T]],
        output_type: Any = ...,
        **options: Unpack[BatchOptions],
    ) -> list[MapResult[T]]: ...
    @overload
    async def batch(
        self, inputs: Inputs, *, output_type: type[T], **options: Unpack[BatchOptions]
    ) -> list[MapResult[T]]: ...
    @overload
    async def batch(
        self, inputs: Inputs, *, output_type: Any, **options: Unpack[BatchOptions]
    ) -> list[MapResult[Any]]: ...
    @overload
    async def batch(
        self, inputs: Inputs, **options: Unpack[BatchOptions]
    ) -> list[MapResult[Any]]: ...
    async def batch(self, inputs: Inputs, **options: Any) -> list[MapResult[Any]]:
        """The results of `map`, all of them, in the order of the inputs.

        The arguments are those of `map`. Raises what `map` and reading from it raise;
        a BatchStoppedError has the results that there are.
        """
        return await collected(map_app(self, inputs, **options))

    @overload
    def stream_many(
        self,
        inputs: Inputs,
        *,
        mode: Literal["stream"] = "stream",
        concurrency: int | Adaptive = DEFAULT_CONCURRENCY,
        key: KeyOf = None,
        rate: float | str | None = None,
        include_input: bool = True,
        grace: float = 0.0,
        **options: Unpack[StreamManyOptions],
    ) -> StreamMany[StreamEvent]: ...
    @overload
    def stream_many(
        self,
        inputs: Inputs,
        *,
        mode: Literal["run"],
        concurrency: int | Adaptive = DEFAULT_CONCURRENCY,
        key: KeyOf = None,
        rate: float | str | None = None,
        include_input: bool = True,
        grace: float = 0.0,
        **options: Unpack[StreamManyOptions],
    ) -> StreamMany[RunEvent]: ...
    def stream_many(self, inputs: Inputs, **options: Any) -> StreamMany[Any]:
        """Stream the App's answers to many inputs with bounded concurrency, interleaving events.

            async for item in app.stream_many(inputs, concurrency=8):
                if item.event is not None:
                    print(item.key, item.event.text)
                else:
                    print(item.key, item.result.unwrap())

        Each input's events are followed by exactly one item with a `result`: the output (None where
        a stream ended properly without the workflow's final event) or the error. A slow reader
        slows the streams down. Closing this iterator closes all streams.

        Args:
            inputs, concurrency, key, rate, include_input, grace: as for `map`.
            mode: "stream" for `stream`, "run" for `runs.stream`.
            max_failures, connect_patience: as for `map`.

        The other arguments are passed to `stream` or `runs.stream`.

        Raises:
            InvalidArgumentError: an argument cannot be used; nothing was sent.
        """
        return stream_app(self, inputs, **options)
