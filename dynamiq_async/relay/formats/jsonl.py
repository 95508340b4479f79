"""JSON lines, for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dynamiq_async._json import encode
from dynamiq_async.events.app_events import BrokenEvent
from dynamiq_async.relay.formats.base import Format, as_bytes, unfit, with_breaks_as
from dynamiq_async.relay.problems import ENDS
from dynamiq_async.sse import ServerSentEvent

if TYPE_CHECKING:
    from dynamiq_async.relay.problems import EndKind, Problem


class JSONLines(Format):
    """A line of JSON for each event; bytes must be JSON already. A failure is the last line,
    `{"error": …}`."""

    media_type = "application/x-ndjson"

    def event(self, event: Any) -> bytes:
        if isinstance(event, ServerSentEvent):
            raise unfit(event, "jsonl", "JSON")
        if isinstance(event, BrokenEvent):
            event = event.data
        data = encode(event, "map") if isinstance(event, str) else as_bytes(event)
        # JSON strings cannot contain line breaks; elsewhere they are white space.
        return with_breaks_as(b" ", data) + b"\n"

    def end(self, kind: EndKind) -> bytes:
        return b"" if kind == "completed" else self.failure(ENDS[kind], None)

    def failure(self, problem: Problem, position: str | None) -> bytes:
        return problem.json() + b"\n"
