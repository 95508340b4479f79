"""Server-sent events: a decoder from bytes to events, without I/O."""

from dynamiq_async._json import KeepsRaw
from dynamiq_async.sse.decoder import SSEDecoder
from dynamiq_async.sse.event import ServerSentEvent

__all__ = ["KeepsRaw", "SSEDecoder", "ServerSentEvent"]
