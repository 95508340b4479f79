"""Server-sent events, for `EventSource` and similar clients.

This format can report an error after the response has begun, and where to resume.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dynamiq_async import errors
from dynamiq_async._json import is_sound
from dynamiq_async.events.app_events import StreamEvent
from dynamiq_async.events.run_events import RunEvent
from dynamiq_async.relay.formats.base import (
    Format,
    as_bytes,
    breaks,
    named,
    with_breaks_as,
)
from dynamiq_async.relay.position import NO_POSITION
from dynamiq_async.relay.problems import ENDS
from dynamiq_async.sse import ServerSentEvent

if TYPE_CHECKING:
    from dynamiq_async.relay.formats.base import Context
    from dynamiq_async.relay.problems import EndKind, Problem

_NEXT_LINE = b"\ndata: "


class SSE(Format):
    """Server-sent events, with an `id:` line if there is a position to resume after.

    An event is sent as the JSON that arrived. A run's event is named after its type, as in the
    vendor's own stream. Text and bytes are sent as data with line ends turned into LF. A
    `ServerSentEvent` is sent with its own fields. Everything else is sent as JSON.
    """

    media_type = "text/event-stream; charset=utf-8"
    heartbeat = b": heartbeat\n\n"

    _context: Context
    _own_id = b""  # of the last frame with an id, if that was not the event's position

    def opening(self, context: Context) -> bytes:
        self._context = context
        wait = b"" if context.retry is None else b"retry: %d\n" % round(context.retry * 1000)
        # Browsers remember an id even if it comes without data.
        id = context.position or (NO_POSITION if context.restarts else "")
        return wait + _line(b"id", id.encode()) + b"\n"

    def event(self, event: Any) -> bytes:
        # By far the most frequent case, so it is checked first.
        if type(event) is StreamEvent and event is self._context.event:
            raw = event.raw if is_sound(event) else named(event.raw)
            return b"data: %b\n\n" % with_breaks_as(_NEXT_LINE, raw)
        if isinstance(event, ServerSentEvent):
            return self._explicit(event)
        if isinstance(event, RunEvent):
            name = event.type.encode("utf-8", "replace")
            raw = event.raw if is_sound(event) else named(event.raw)
            return self._frame(b"" if breaks(name) else name, raw)
        data = as_bytes(event)
        return self._frame(b"", data) if data else b""

    def _explicit(self, event: ServerSentEvent) -> bytes:
        name = b"" if event.event == "message" else event.event.encode()
        own_id = event.id.encode()
        if breaks(name) or breaks(own_id) or b"\0" in own_id:
            raise errors.InvalidArgumentError(
                "map returned an event whose name or id has a line break in it", argument="map"
            )
        retry = b"" if event.retry is None else b"retry: %d\n" % event.retry
        return self._frame(name, event.data.encode("utf-8", "replace"), own_id, retry)

    def _frame(self, name: bytes, data: bytes, own_id: bytes = b"", extra: bytes = b"") -> bytes:
        id = own_id or (self._context.position or "").encode()
        if id:
            self._own_id = own_id
        lines = with_breaks_as(_NEXT_LINE, data)
        return b"%b%b%bdata: %b\n\n" % (_line(b"id", id), _line(b"event", name), extra, lines)

    def end(self, kind: EndKind) -> bytes:
        id = (self._context.position or "").encode()
        if kind == "completed":
            return b"%bevent: end\ndata: {}\n\n" % _line(b"id", id)
        return b"%bevent: error\ndata: %b\n\n" % (_line(b"id", id), ENDS[kind].json())

    def failure(self, problem: Problem, position: str | None) -> bytes:
        known = None if problem.lasting else self._own_id.decode() or position
        return b"event: error\ndata: %b\n\n" % problem.json(known)


def _line(name: bytes, value: bytes) -> bytes:
    return b"%b: %b\n" % (name, value) if value else b""
