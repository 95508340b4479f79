"""Streams: their lifecycle, and the events that are read from a response.

The wire facts and their sources are in docs/contract.md.
"""

from dynamiq_async.streaming.app_stream import AppStream
from dynamiq_async.streaming.endpoint_stream import EndpointStream
from dynamiq_async.streaming.event_stream import Batches, EventStream
from dynamiq_async.streaming.output_stream import OutputStream, TextStream

__all__ = ["AppStream", "Batches", "EndpointStream", "EventStream", "OutputStream", "TextStream"]
