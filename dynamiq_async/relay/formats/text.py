"""Plain text, for simple clients. Only a broken connection can say that it is incomplete."""

from __future__ import annotations

from typing import Any

from dynamiq_async.events.app_events import StreamEvent
from dynamiq_async.events.run_events import RunEvent
from dynamiq_async.relay.formats.base import Format, as_bytes, unfit


class Text(Format):
    """Only the text that is meant for the reader."""

    media_type = "text/plain; charset=utf-8"

    def event(self, event: Any) -> bytes:
        if isinstance(event, StreamEvent | RunEvent):
            event = event.text
        if not isinstance(event, str | bytes | bytearray | memoryview):
            raise unfit(event, "text", "str or bytes")
        return as_bytes(event)
