"""Server-sent events: bytes go in, events come out; no I/O."""

from dynamiq_async._json import KeepsRaw
from dynamiq_async.sse.decoder import SSEDecoder
from dynamiq_async.sse.event import ServerSentEvent

__all__ = ["KeepsRaw", "SSEDecoder", "ServerSentEvent"]
