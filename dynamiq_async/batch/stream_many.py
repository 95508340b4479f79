"""`StreamMany`: the events of many streams in one iteration, each with its key."""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from dynamiq_async._http.client import api_of, patient_view
from dynamiq_async._http.request_options import UNSET, RequestOptions, TimeoutLike
from dynamiq_async.batch.engine import Fanout
from dynamiq_async.batch.inputs import Inputs, Items, KeyOf
from dynamiq_async.batch.map import CONNECT_PATIENCE, DEFAULT_CONCURRENCY, FanOutIterator
from dynamiq_async.batch.map_handler import begun, check_open, keep, unless_ended
from dynamiq_async.batch.models import StreamItem
from dynamiq_async.batch.options import (
    check_one_of,
    check_seconds_or_zero,
    demand_of,
    outage_of,
)
from dynamiq_async.batch.stopping import StopRules
from dynamiq_async.batch.tally import Tally
from dynamiq_async.streaming.app_stream import AppStream

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dynamiq_async._http.client import Client
    from dynamiq_async._http.sender import Sender
    from dynamiq_async.batch.inputs import Item
    from dynamiq_async.options import Adaptive
    from dynamiq_async.runs.stream import RunStream

E = TypeVar("E")


class StreamMany(FanOutIterator[StreamItem[E]]):
    """The events of many streams as they come, from `AsyncApp.stream_many`.

    Each stream's events come in their order, followed by one item with its `result`. A slow reader
    slows the streams down.
    """


class _StreamHandler:
    """Opens a stream for each item, and returns its events and its result."""

    emit: Callable[[list[StreamItem[Any]]], Awaitable[None]]

    def __init__(
        self,
        open_stream: Callable[[Any], AppStream[Any] | RunStream[Any]],
        tally: Tally,
        sender: Sender,
        *,
        include_input: bool,
    ) -> None:
        self._open_stream = open_stream
        self._tally = tally
        self._sender = sender
        self._include_input = include_input

    async def open(self) -> None:
        """Nothing is needed."""

    async def aclose(self) -> None:
        """Nothing is left."""

    async def __call__(self, item: Item) -> StreamItem[Any]:
        key, index = item.key, item.index
        draft = begun(item, include_input=self._include_input)
        started = perf_counter()
        try:
            if item.error is not None:
                raise item.error
            async with self._open_stream(item.input) as stream:
                try:
                    async for events in stream.batches():
                        await self.emit(
                            [StreamItem(key=key, index=index, event=event) for event in events]
                        )
                    draft.output = await _output(stream)
                finally:
                    draft.usage = stream.usage
        except asyncio.CancelledError as error:
            keep(unless_ended(error), draft)
        except Exception as error:  # noqa: BLE001 - the stream's result
            check_open(self._sender, error)
            keep(error, draft)
        ended = perf_counter()
        draft.seconds = ended - started
        result = draft.finished()
        self._tally.count(result, ended)
        return StreamItem(key=key, index=index, result=result)


async def _output(stream: AppStream[Any] | RunStream[Any]) -> Any:
    # The vendor does not promise the root endpoint's final event: without it, there is no output.
    if isinstance(stream, AppStream) and stream.final is None:
        return None
    return await stream.output()


def stream_app(
    app: Client,
    inputs: Inputs,
    *,
    concurrency: int | Adaptive = DEFAULT_CONCURRENCY,
    key: KeyOf = None,
    mode: Literal["stream", "run"] = "stream",
    rate: float | str | None = None,
    include_input: bool = True,
    grace: float = 0.0,
    timeout: TimeoutLike = UNSET,
    max_retries: int | None = None,
    max_failures: float | None = None,
    connect_patience: float = CONNECT_PATIENCE,
    **options: Any,
) -> StreamMany[Any]:
    """`AsyncApp.stream_many`; see there."""
    check_one_of(mode, ("stream", "run"), "mode")
    check_seconds_or_zero(grace, "grace")
    outage = outage_of(connect_patience)
    view: Any = patient_view(app, RequestOptions(timeout, max_retries), outage)
    start = view.stream if mode == "stream" else view.runs.stream

    def open_stream(input: Any) -> AppStream[Any] | RunStream[Any]:
        stream: AppStream[Any] | RunStream[Any] = start(input, **options)
        return stream

    open_stream({})  # checks the options, and sends nothing
    api = api_of(app)
    sender, rules = api.sender, StopRules(max_failures, api.options.policy.max_wait)
    tally = Tally(rules, sender.telemetry)
    handler = _StreamHandler(open_stream, tally, sender, include_input=include_input)
    demand = demand_of(concurrency, rate)
    engine = Fanout(Items(inputs, key), handler, tally, sender.limiter, demand, outage, grace=grace)
    handler.emit = engine.emit
    return StreamMany(engine)
