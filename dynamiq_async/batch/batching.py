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
    """What `AsyncApp` does with many inputs at once."""

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
        """Call the App once for each input, so many at a time.

            async with app.map(inputs, concurrency=64) as results:
                async for result in results:
                    print(result.key, result.unwrap())

        Every input has exactly one result or error, which carries its key. What an input's call
        raises is that result's error, and holds up nobody. A service that asks to slow down slows
        down the whole client, and costs no input: it is sent again for as long as it takes, unless
        `retry=False` forbids that.

        Args:
            inputs: any iterable or async iterable, read lazily: a small multiple of the
                concurrency is held. What its iterator raises ends the batch, when what was under
                way has been handed out. Or a frame of pandas, polars, pyarrow or DuckDB, or
                anything else with `__arrow_c_stream__` (with the extra `arrow`): each row is
                a mapping, with numbers, times and missing values as JSON has them.
            concurrency: how many at a time (32); or `Adaptive(min=…, max=…)`, to find out how many
                the service takes.
            ordered: hand the results out in the order of the inputs, rather than as they finish.
                The others may be some way ahead of the slowest.
            key: what each result is known by: a function of the input, or the name of one of its
                fields; a string or an integer. By default the index. A key that comes twice is
                an InvalidArgumentError as the second one's result; within the last 100,000 keys
                that is noticed in any case, and with a journal always.
            mode: "invoke" for a synchronous call; "run" for a background run, which is followed to
                its end. Its result has the `run_id`.
            job: a name, the same in every start: each key has one run that counts, on any number
                of machines. It implies `mode="run"`. The run's session is
                `uuid5(uuid5(NS, job), str(key))`, of `dynamiq_async.batch`. A run that is there is
                followed, whatever its state, rather than made: such a result says `found`. After
                a create the session is looked at once more. Of several runs the first one counts
                that was not canceled, by the time of its start and its id; the others are
                canceled. A run of another input is a JobConflictError as the result. With
                `retry_failed`, what failed has another run, whose session is made of
                `f"{key}\\n{n}"`. What this cannot promise: while two live attempts meet within
                the settling time, a second run can begin before it is canceled. It would take an
                idempotency key at the service to rule that out.
            shard: only a part of the inputs: "2/8" (or `(2, 8)`) for the second of eight. Which
                part an input belongs to depends on its key alone, so it stays the same.
            total: how many inputs there are, where they do not tell it themselves.
            progress: True: show a bar at a terminal and in a notebook, by `rich` where that is
                installed, else by `tqdm`; elsewhere, and without both, log a line every 10 s (at
                INFO, to the logger `dynamiq_async`). Or a function that is called with the
                `BatchProgress` twice a second, and at the end; what it raises ends the batch.
            call: instead, any coroutine function of the App and the input. The App it is given is
                a view of this one, whose calls are as patient: one that makes requests while it
                holds a stream open needs `max_connections` of more than the concurrency.
            output_type: what to decode outputs to; with `call`, those that a journal kept.
            on_error: "return" errors as results; or "raise" the first one, which ends the batch:
                what is under way is cancelled, or has its `grace`.
            rate: at most so many requests: a number a second, or such as "60/m". It holds for all
                of the client's requests while the batch runs.
            include_input: whether results carry their input.
            grace: seconds that what is under way has to finish when the batch is closed or its
                reader is cancelled. By default it is cancelled at once.
            journal: the path of a file that survives the process, or a store of your own
                (`dynamiq_async.batch.journal.JournalStore`). The same job started again with it
                calls nothing again that is done; such a result says `from_journal`. It needs
                inputs that JSON can hold, and keys that stay the same. Another `user_id`,
                `extra_body` or such for a key that it knows is a JournalError as its result.
            unknown: what to do about a call that was under way when an earlier start ended, so
                that nobody knows its outcome. "raise" begins nothing more, hands out what is under
                way and raises AmbiguousOutcomeError; "retry" calls again; "skip" makes that error
                its result. In mode "run" the run is found again by its id, or by the session that
                was made for it.
            retry_failed: with a journal, call again what failed, rather than return its error.
            max_failures: stop when more inputs than this failed; a float below 1 is a share of
                those that are finished, looked at once 100 are. Results from a journal do not
                count. None: any number may fail.
            connect_patience: seconds (600) that a service is waited for which could be reached in
                this batch, and cannot any more. What could not be sent costs no input meanwhile.
                0: such inputs fail after `max_retries`, and stop the batch.
            settle: seconds that a run is looked for whose create was not answered (10) before it
                is created anew, and only in a later start. What remains possible: that the service
                takes up a request so long after it was lost. With `job`: for how long at most the
                service's lists may lag behind (2).
            on_leave: in mode "run", what becomes of a run that the batch does not follow to its
                end, because it is closed, cancelled or stopped, or the run's `timeout` passes:
                "detach" leaves it going, "cancel" cancels it. With a journal, a later start begins
                one that was canceled anew. Not with `job`, whose runs are everybody's.
            timeout, max_retries: for each call instead of the client's. In mode "run", `timeout`
                holds for the create and again for the run (an hour, unless one is set).
            user_id, last_node_output, error_on_node_failure, retry: as for `invoke`.
            extra_body, extra_headers, extra_query: as for `invoke`.
            session_id: as for `invoke`. One for all runs takes their own from them, by which they
                are found again.

        Raises:
            InvalidArgumentError: an argument cannot be used; nothing was sent.

        Reading raises, besides: BatchStoppedError, behind all results there are, when the batch
        cannot go well: on 401, 402 and a 403 with a code; on five other 403 while no call
        succeeded; when there is no connection; after three waits in a row of more than
        `max_retry_after`; and by `max_failures`. JournalError when the journal cannot be used;
        StreamClosedError when the batch was closed before its end. ClientClosedError when the
        client was: of what was under way nobody knows the outcome then.
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
        """Stream the App's answers to many inputs, so many at a time, their events interleaved.

            async for item in app.stream_many(inputs, concurrency=8):
                if item.event is not None:
                    print(item.key, item.event.text)
                else:
                    print(item.key, item.result.unwrap())

        For each input there is, behind its events, exactly one item with a `result`: the output
        (None where a stream ended properly without the workflow's final event) or the error. Who
        does not read holds the streams back; closing closes all of them.

        Args:
            inputs, concurrency, key, rate, include_input, grace: as for `map`.
            mode: "stream" for `stream`, "run" for `runs.stream`.
            max_failures, connect_patience: as for `map`.

        The other arguments are handed on to that method.

        Raises:
            InvalidArgumentError: an argument cannot be used; nothing was sent.
        """
        return stream_app(self, inputs, **options)
