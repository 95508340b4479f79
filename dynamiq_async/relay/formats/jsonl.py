"""JSON lines, for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dynamiq_async._json import encode
from dynamiq_async.events.app_events import BrokenEvent
from dynamiq_async.events.run_events import BrokenRunEvent
from dynamiq_async.relay.formats.base import Format, as_bytes, unfit, with_breaks_as
from dynamiq_async.relay.problems import ENDS
from dynamiq_async.sse import ServerSentEvent

if TYPE_CHECKING:
    from dynamiq_async.relay.formats.base import Context
    from dynamiq_async.relay.problems import EndKind, Problem


class JSONLines(Format):
    """A line of JSON for each event. Bytes must be JSON already. The first line of a run is its id,
    `{"run": id}`, as soon as that is known. After a failure, the last line is `{"error": …}`, with
    the position to resume after in `last_event_id` if there is one."""

    media_type = "application/x-ndjson"

    _context: Context
    _told = False

    def opening(self, context: Context) -> bytes:
        self._context = context
        return self.run_known()

    def run_known(self) -> bytes:
        run_id = self._context.run_id if self._context.of_run else None
        if self._told or run_id is None:
            return b""
        self._told = True
        return encode({"run": run_id}, "run") + b"\n"

    def event(self, event: Any) -> bytes:
        if isinstance(event, ServerSentEvent):
            raise unfit(event, "jsonl", "JSON")
        if isinstance(event, BrokenEvent | BrokenRunEvent):
            event = event.data
        data = encode(event, "map") if isinstance(event, str) else as_bytes(event)
        # In JSON, line breaks are never within strings. Elsewhere, they are white space.
        return self.run_known() + with_breaks_as(b" ", data) + b"\n"

    def end(self, kind: EndKind) -> bytes:
        return self.run_known() if kind == "completed" else self.failure(ENDS[kind], None)

    def failure(self, problem: Problem, position: str | None) -> bytes:
        return self.run_known() + problem.json(position) + b"\n"
