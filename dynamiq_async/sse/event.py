"""One server-sent event, and the texts in its lines."""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING, Any

import msgspec

from dynamiq_async import _json
from dynamiq_async.errors import EventDecodeError

if TYPE_CHECKING:
    from collections.abc import Iterable


class ServerSentEvent(msgspec.Struct, frozen=True, gc=False):
    """One event as the standard describes it, its data not interpreted.

    Attributes:
        event: the event's type, `"message"` when the server named none.
        data: the `data` lines, joined by LF; bytes that are not UTF-8 are U+FFFD.
        id: the last event id at this point of the stream, `""` when there was none.
        retry: the reconnection time in milliseconds, if this event's block set a valid one.
    """

    event: str = "message"
    data: str = ""
    id: str = ""
    retry: int | None = None

    def json(self) -> Any:
        """The data, decoded as JSON. Raises `EventDecodeError` when it is not JSON."""
        data = self.data.encode("utf-8", "replace")
        try:
            return _json.decode(data)
        except _json.DECODE_ERRORS as error:
            raise not_decoded(data, error) from error


def not_decoded(data: bytes, error: Exception, events: Any = ()) -> EventDecodeError:
    """The error for an event whose data cannot be decoded, with the events before it."""
    message = f"an event's data is not the JSON expected: {error}"
    return EventDecodeError(message, data=data, events=events)


def event_type(line: bytes) -> str:
    """The event type in an `event:` line, or the default type when there is no line."""
    return line[6:-1].removeprefix(b" ").decode("utf-8", "replace") or "message"


def event_id(line: bytes) -> str:
    """The last event id in an `id:` line, or `""`."""
    return line[3:-1].removeprefix(b" ").decode("utf-8", "replace")


def plain_events(
    values: list[bytes], types: list[bytes] | None, ids: list[bytes] | bytes
) -> Iterable[ServerSentEvent]:
    """The events of `data` values, each with its LF, and of their `event` and `id` lines. `ids` is
    a single line if all events have the same."""
    return map(
        ServerSentEvent,
        repeat("message") if types is None else map(event_type, types),
        [value[:-1].decode("utf-8", "replace") for value in values],
        repeat(event_id(ids)) if isinstance(ids, bytes) else map(event_id, ids),
    )
