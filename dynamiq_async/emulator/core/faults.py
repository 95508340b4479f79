"""Faults as data: one `Fault` describes what goes wrong with one request.

A fault combines independent parts: what happens before the response (`delay`, `status`, a `drop`
without a position), what happens at one position of its body (`send`, `stall`, `drop` at
`after_events` or `at_byte`), how the body ends (`terminator`), how it is cut into writes
(`framing`, `write_size`), and which events a stream contains (`skip`, `duplicate`, `swap`,
`replay`, `ignore_after_sequence`).

A new kind of fault is a field here. `responding` applies what happens before the response, `wire`
what happens to its bytes, `event_stream` what happens to its events.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Literal

from .json import encode

BODYLESS = frozenset({204, 304})
"""The statuses whose responses have no body."""

_HEADER = re.compile(r"[^\r\n\0]*")
_PHRASES = {status.value: status.phrase for status in HTTPStatus}

FOREVER = math.inf
"""For `stall`, `delay` and `terminator`: until the client leaves or the emulator is closed."""

HTML_PAGE = b"""<!DOCTYPE html>
<html><head><title>Bad Gateway</title></head>
<body><center><h1>Bad Gateway</h1></center><hr><center>proxy</center></body></html>
"""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What happens to one request. Without arguments nothing happens.

    The fields come in this order: what happens before the response; what happens at one position of
    its body, in the order `send`, `stall`, `drop`; how the body ends; how its bytes are written;
    and which events a stream contains, by sequence number (on the root endpoint the first is 1).

    Attributes:
        delay: seconds before the first byte of the response.
        status: the status of a response that replaces the service's own.
        headers: the headers of that response. Without `status` and `body`, they are added to those
            of the service's own response, or replace them.
        body: the body of that response: bytes, text, or any value that becomes JSON. By default it
            is an error envelope.
        executes: True: the App runs to its end before `status`, `body` or a `drop` replaces its
            response, so that a client cannot know the outcome. "begins": the run is created, and
            the replacement does not wait for its end.
        after_events: the position, in whole SSE events; 0 is right after the headers.
        at_byte: the position, in bytes of the body without its transfer coding.
        send: bytes to insert at the position.
        stall: seconds without a byte, at the position.
        drop: how the connection is closed at the position, which cancels a run of the root endpoint
            (the run may be ahead of its stream, or over). "close": the TCP connection is closed
            cleanly, but without the end that HTTP requires. "reset": RST. "truncate": like close,
            in the middle of a chunk that announced more. Without a position the connection is
            closed before the first byte of the response.
        terminator: seconds between the last byte of the body and its end (its last chunk);
            "missing": the connection is closed instead.
        framing: "chunked" (the default of streams), "length" (the whole body is made before it is
            sent, with a Content-Length), "close" (the body ends with the connection).
        write_size: the body is split into writes of this many bytes, regardless of events. In a
            chunked body each write is one chunk.
        skip: events that are left out of this response (also of a page of `/events`).
        duplicate: events that are sent twice.
        swap: events that change places with the event after them.
        replay: how many events before `after_sequence` are sent again.
        ignore_after_sequence: whether the stream ignores `after_sequence` and starts with the first
            event.
    """

    delay: float = 0.0
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    executes: bool | Literal["begins"] = False

    after_events: int | None = None
    at_byte: int | None = None
    send: bytes = b""
    stall: float = 0.0
    drop: Literal["reset", "close", "truncate"] | None = None

    terminator: float | Literal["missing"] = 0.0
    framing: Literal["chunked", "length", "close"] | None = None
    write_size: int | None = None

    skip: Collection[int] = ()
    duplicate: Collection[int] = ()
    swap: Collection[int] = ()
    replay: int = 0
    ignore_after_sequence: bool = False

    def __post_init__(self) -> None:
        if self.drop not in (None, "reset", "close", "truncate"):
            raise ValueError("drop is 'reset', 'close' or 'truncate'")
        acts = bool(self.send or self.stall or self.drop)
        if self.after_events is not None and self.at_byte is not None:
            raise ValueError("a fault has one position: after_events or at_byte")
        if self.positioned and not acts:
            raise ValueError("nothing happens at the position: give send, stall or drop")
        if not self.positioned and (self.send or self.stall):
            raise ValueError("send and stall need a position (before the answer: delay)")
        if not self.positioned and self.drop == "truncate":
            raise ValueError("truncate cuts a body: give after_events or at_byte")
        if self.write_size is not None and self.write_size < 1:
            raise ValueError("write_size is a number of bytes, at least 1")
        if self.status is not None and not 200 <= self.status <= 999:
            raise ValueError("status is a number from 200 to 999")
        for name in ("delay", "stall", "terminator", "after_events", "at_byte", "replay"):
            value = getattr(self, name)
            if isinstance(value, int | float) and not value >= 0:  # refuses NaN too
                raise ValueError(f"{name} is a number, at least 0")
        for name, value in self.headers.items():
            if not name or not _HEADER.fullmatch(f"{name}{value}"):
                raise ValueError(f"headers: {name!r} has no name, or a line break")

    @classmethod
    def html_page(cls, status: int = 502, **more: Any) -> Fault:
        """A proxy's HTML page in place of the App's response."""
        headers = {"Content-Type": "text/html; charset=utf-8"}
        return cls(status=status, headers=headers, body=HTML_PAGE, **more)

    @property
    def positioned(self) -> bool:
        """Whether something happens at a position of the body."""
        return self.after_events is not None or self.at_byte is not None

    @property
    def replaces_response(self) -> bool:
        """Whether the client sees nothing of the service's own response."""
        dropped = self.drop is not None and not self.positioned
        return dropped or self.status is not None or self.body is not None

    def response(self) -> tuple[int, str, bytes]:
        """The status, content type and body that replace the service's response."""
        status = self.status or 200
        if status in BODYLESS:
            return status, "application/json", b""
        if isinstance(self.body, bytes):
            return status, "application/octet-stream", self.body
        if isinstance(self.body, str):
            return status, "text/plain; charset=utf-8", self.body.encode()
        body = self.body
        if body is None:
            code = _PHRASES.get(status, "error").lower().replace(" ", "_")
            body = {"error": {"code": code, "message": f"the emulator was told to answer {status}"}}
        return status, "application/json", encode(body)


NO_FAULT = Fault()
