"""The formats of a relay: the built-in ones by name, and the base class for your own.

    class Parts(Format):
        media_type = "application/x-ndjson"

        def event(self, event):
            return msgspec.json.encode({"text": event.text}) + b"\\n" if event.text else b""

        def end(self, kind):
            return msgspec.json.encode({"end": kind}) + b"\\n"

        def failure(self, problem, position):
            return msgspec.json.encode({"error": problem.code, "behind": position}) + b"\\n"

    relay(stream, format=Parts())

A format is a small state machine without I/O. `Format` documents when each method is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from dynamiq_async.errors import InvalidArgumentError
from dynamiq_async.relay.formats.ag_ui import AGUI
from dynamiq_async.relay.formats.base import Context, Format, OnShutdown, as_bytes
from dynamiq_async.relay.formats.jsonl import JSONLines
from dynamiq_async.relay.formats.sse import SSE
from dynamiq_async.relay.formats.text import Text
from dynamiq_async.relay.formats.ui_message_stream import UIMessageStream
from dynamiq_async.relay.problems import EndKind, Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "AGUI",
    "FORMATS",
    "SSE",
    "Context",
    "EndKind",
    "Format",
    "FormatName",
    "JSONLines",
    "OnShutdown",
    "Problem",
    "Text",
    "UIMessageStream",
    "as_bytes",
    "format_of",
]

FormatName = Literal["sse", "jsonl", "text", "ui-message-stream", "ag-ui"]

FORMATS: Mapping[str, type[Format]] = {
    "sse": SSE,
    "jsonl": JSONLines,
    "text": Text,
    "ui-message-stream": UIMessageStream,
    "ag-ui": AGUI,
}


def format_of(given: FormatName | Format) -> Format:
    """The built-in format of that name, or the `Format` that was given.

    Raises:
        InvalidArgumentError: it is neither, or belongs to another relay.
    """
    if isinstance(given, Format):
        return given.take()
    kind = FORMATS.get(given) if isinstance(given, str) else None
    if kind is None:
        raise InvalidArgumentError(
            f"format must be one of {', '.join(map(repr, FORMATS))} or a Format, not {given!r}",
            argument="format",
        )
    return kind()
