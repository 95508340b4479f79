"""Batches: one call for each of many inputs, with bounded concurrency. No input is lost.

`Map` returns a result or an error for every input. `StreamMany` returns the events of many streams,
interleaved. `fan_out` makes a `Map` from any client and any coroutine function.
"""

from dynamiq_async.batch.batching import Batching
from dynamiq_async.batch.jobs import NS, job_session
from dynamiq_async.batch.map import Map, collected, fan_out
from dynamiq_async.batch.models import (
    BatchProgress,
    MapFailure,
    MapResult,
    MapSuccess,
    StreamItem,
)
from dynamiq_async.batch.options import BatchOptions, FanOutOptions, MapOptions, StreamManyOptions
from dynamiq_async.batch.stream_many import StreamMany

__all__ = [
    "NS",
    "BatchOptions",
    "BatchProgress",
    "Batching",
    "FanOutOptions",
    "Map",
    "MapFailure",
    "MapOptions",
    "MapResult",
    "MapSuccess",
    "StreamItem",
    "StreamMany",
    "StreamManyOptions",
    "collected",
    "fan_out",
    "job_session",
]
