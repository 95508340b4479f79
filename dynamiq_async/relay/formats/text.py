"""Plain text, for what reads just that. That it is not whole only a broken connection can tell."""

from __future__ import annotations

from typing import Any

from dynamiq_async.events.app_events import StreamEvent
from dynamiq_async.events.run_events import RunEvent
from dynamiq_async.relay.formats.base import Format, as_bytes, unfit


class Text(Format):
    """The text for the reader, and nothing else."""

    media_type = "text/plain; charset=utf-8"

    def event(self, event: Any) -> bytes:
        if isinstance(event, StreamEvent | RunEvent):
            event = event.text
        if not isinstance(event, str | bytes | bytearray | memoryview):
            raise unfit(event, "text", "str or bytes")
        return as_bytes(event)
