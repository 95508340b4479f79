"""Events that keep the bytes they came as.

A stream decodes no more of an event than it needs to find its end and its position: the envelope,
without what lies in `data`. For a relay even that is too much to build the event again from, since
fields that the envelope's type does not know would be lost. So the streams it reads are made to
hand out events that have their JSON with them, byte for byte. Streams that are not relayed pay
nothing for it: their decoders are left alone.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from dynamiq_async import _json
from dynamiq_async.events.app_events import BrokenEvent, StreamEvent
from dynamiq_async.events.run_events import RunEvent, stored_event
from dynamiq_async.runs.requests import RunRequests

if TYPE_CHECKING:
    from collections.abc import Callable

    from dynamiq_async.runs.stream import RunStream
    from dynamiq_async.sse import SSEDecoder
    from dynamiq_async.streaming.app_stream import AppStream

_LF = b"\n"[0]
ORIGINAL = "original"
"""Under this key of their `__dict__`."""


# With a `__dict__`, because what is kept is no field of the event: its JSON does not have it.
class VerbatimStreamEvent(StreamEvent, frozen=True, gc=True, dict=True, kw_only=True):
    """A message of a root stream, and its bytes."""


class _RunEvent(RunEvent, frozen=True, dict=True, kw_only=True):
    """An event of a run, and its bytes."""


def keep_app_events(stream: AppStream[Any]) -> None:
    """Have the stream's events keep their bytes, from the next one that is read."""
    _keep(stream._decoder, VerbatimStreamEvent)


def keep_run_events(stream: RunStream[Any]) -> None:
    """The same for the stream of a run, over all the connections it will make."""
    requests = stream._requests
    stream._requests = _Requests(requests.api)
    if stream._reader is not None:
        _keep(stream._reader.decoder, _RunEvent)


def original(event: StreamEvent | RunEvent) -> bytes:
    """The JSON that the event came as; where it was read before it could be kept, the JSON of what
    is known of it."""
    kept: bytes | None = getattr(event, "__dict__", {}).get(ORIGINAL)
    if kept is not None:
        return kept
    if isinstance(event, BrokenEvent):
        return bytes(event.raw_data)
    return msgspec.json.encode(event)


class _Requests(RunRequests):
    """The Runs API, with events that keep their bytes wherever they come from."""

    def decoder(self) -> SSEDecoder[RunEvent]:
        decoder = super().decoder()
        _keep(decoder, _RunEvent)
        return decoder

    @staticmethod
    def read_stored(data: Any) -> RunEvent:
        event: RunEvent = _with_bytes(stored_event(data), _RunEvent, data)
        return event


def _keep(decoder: SSEDecoder[Any], kind: type[Any]) -> None:
    decoder._decode = _reader(msgspec.json.Decoder(kind).decode)
    decoder._recover = partial(_recover, decoder._recover, kind)


def _reader(decode: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def read(data: Any) -> Any:
        try:
            event = decode(data)
        except _json.DECODE_ERRORS:
            event = _json.decode_with(decode, data)
        if data[-1] == _LF:  # of the line: the decoder leaves it where JSON does not mind
            data = data[:-1]
        event.__dict__[ORIGINAL] = data if type(data) is bytes else bytes(data)
        return event

    return read


def _recover(recover: Any, kind: type[Any], data: bytes, error: Exception) -> Any:
    event = recover(data, error)
    if event is None or isinstance(event, BrokenEvent):
        return event
    return _with_bytes(event, kind, data)


def _with_bytes(event: Any, kind: type[Any], data: Any) -> Any:
    kept = kind(**{name: getattr(event, name) for name in kind.__struct_fields__})
    kept.__dict__[ORIGINAL] = bytes(data)
    return kept
