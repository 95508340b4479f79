"""What a browser gets to read: events as frames of a format, and what goes around them.

`sse` is for `EventSource` and its like, `jsonl` for programs, `text` for what reads just that. In
the middle of an answer only the first can say that something is wrong and where to go on; JSON
lines can say the former; that a text is not whole only a broken connection can tell.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from dynamiq_async import errors
from dynamiq_async._json import encode
from dynamiq_async.events.app_events import BrokenEvent, StreamEvent
from dynamiq_async.events.run_events import RunEvent
from dynamiq_async.relay.position import NO_POSITION
from dynamiq_async.sse import ServerSentEvent

if TYPE_CHECKING:
    from dynamiq_async.relay.problems import Problem
    from dynamiq_async.relay.sources import Source

Format = Literal["sse", "jsonl", "text"]

_LINE_END = re.compile(rb"\r\n|\r|\n")
_LF, _CR = b"\n\r"
_OVER = frozenset({"run_failed", "run_canceled"})


class Frames(Protocol):
    """A format.

    Attributes:
        media_type: the answer's content type.
        heartbeat: what may be sent at any time and means nothing; `b""` if there is no such thing.
        tells: whether a failure can be told in the middle of an answer.
    """

    media_type: ClassVar[str]
    heartbeat: ClassVar[bytes]
    tells: ClassVar[bool]

    def opening(self) -> bytes:
        """What is sent before the first event comes."""

    def event(self, event: Any, shown: Any) -> bytes:
        """The frame of an event of which `shown` is to be seen, which may be the event itself;
        `b""` if there is nothing to see.

        Raises:
            InvalidArgumentError: it cannot be shown in this format.
        """

    def end(self) -> bytes:
        """What is sent at the end, when all is well."""

    def failure(self, problem: Problem) -> bytes:
        """What is sent in place of the end, where that can be told."""


class SSEFrames:
    """Server-sent events, with an `id:` line where there is a position to resume behind.

    An event itself is its JSON as it came, that of a run under the name of its type, as in the
    vendor's own stream. Text and bytes are data as they are, but that line ends become LF. A
    `ServerSentEvent` is what it says. Everything else is JSON.
    """

    media_type: ClassVar[str] = "text/event-stream; charset=utf-8"
    heartbeat: ClassVar[bytes] = b": heartbeat\n\n"
    tells: ClassVar[bool] = True

    def __init__(self, source: Source, retry: float | None) -> None:
        self._source = source
        self._retry = retry
        # Now, because the source may be ahead of the browser when the first frame is sent.
        self._opening_id = (source.opening_id or "").encode()
        # Of the last frame, and so what the browser has.
        self._id = b"" if source.opening_id == NO_POSITION else self._opening_id

    def opening(self) -> bytes:
        wait = b"" if self._retry is None else b"retry: %d\n" % round(self._retry * 1000)
        # Browsers take note of an id that comes without data.
        return wait + _line(b"id", self._opening_id) + b"\n"

    def event(self, event: Any, shown: Any) -> bytes:
        # Most of them by far: one look, and no more.
        if shown is event and type(shown) is StreamEvent and not _breaks(data := shown.raw):
            return b"data: %b\n\n" % data
        if isinstance(shown, ServerSentEvent):
            return self._explicit(event, shown)
        if isinstance(shown, RunEvent):
            name = shown.type.encode("utf-8", "replace")
            return self._frame(event, b"" if _breaks(name) else name, shown.raw)
        data = _bytes(shown)
        return self._frame(event, b"", data) if data else b""

    def _explicit(self, event: Any, shown: ServerSentEvent) -> bytes:
        name = b"" if shown.event == "message" else shown.event.encode()
        own_id = shown.id.encode()
        if _breaks(name) or _breaks(own_id) or b"\0" in own_id:
            raise errors.InvalidArgumentError(
                "map returned an event whose name or id has a line break in it", argument="map"
            )
        retry = b"" if shown.retry is None else b"retry: %d\n" % shown.retry
        return self._frame(event, name, shown.data.encode("utf-8", "replace"), own_id, retry)

    def _frame(
        self, event: Any, name: bytes, data: bytes, own_id: bytes = b"", extra: bytes = b""
    ) -> bytes:
        id = own_id
        if not id and isinstance(event, RunEvent) and (prefix := self._source.prefix()):
            id = b"%b%d" % (prefix, event.sequence)
        if _breaks(data):
            data = _LINE_END.sub(b"\ndata: ", data)
        if id:
            self._id = id
        return b"%b%b%bdata: %b\n\n" % (_line(b"id", id), _line(b"event", name), extra, data)

    def end(self) -> bytes:
        return self._last(b"end", b"{}")

    def failure(self, problem: Problem) -> bytes:
        if problem.code in _OVER:
            return self._last(b"error", problem.json())
        known = None if problem.lasting else self._id.decode() or None
        return b"event: error\ndata: %b\n\n" % problem.json(known)

    def _last(self, name: bytes, data: bytes) -> bytes:
        id = (self._source.position(end=True) or "").encode()
        return b"%bevent: %b\ndata: %b\n\n" % (_line(b"id", id), name, data)


class JSONLines:
    """A line of JSON for each event; bytes are taken to be JSON already. A failure is the last
    line, `{"error": …}`."""

    media_type: ClassVar[str] = "application/x-ndjson"
    heartbeat: ClassVar[bytes] = b""
    tells: ClassVar[bool] = True

    def opening(self) -> bytes:
        return b""

    def event(self, event: Any, shown: Any) -> bytes:
        if isinstance(shown, ServerSentEvent):
            raise _unfit(shown, "jsonl", "JSON")
        if isinstance(shown, BrokenEvent):
            shown = shown.data
        data = encode(shown, "map") if isinstance(shown, str) else _bytes(shown)
        # Outside of strings, which cannot hold them, line breaks are white space to JSON.
        return (_LINE_END.sub(b" ", data) if _breaks(data) else data) + b"\n"

    def end(self) -> bytes:
        return b""

    def failure(self, problem: Problem) -> bytes:
        return problem.json() + b"\n"


class Text:
    """The text for the reader, and nothing else."""

    media_type: ClassVar[str] = "text/plain; charset=utf-8"
    heartbeat: ClassVar[bytes] = b""
    tells: ClassVar[bool] = False

    def opening(self) -> bytes:
        return b""

    def event(self, event: Any, shown: Any) -> bytes:
        if isinstance(shown, StreamEvent | RunEvent):
            shown = shown.text
        if not isinstance(shown, str | bytes | bytearray | memoryview):
            raise _unfit(shown, "text", "str or bytes")
        return _bytes(shown)

    def end(self) -> bytes:
        return b""

    def failure(self, problem: Problem) -> bytes:
        return b""


def _bytes(shown: Any) -> bytes:
    if isinstance(shown, StreamEvent | RunEvent):
        return shown.raw
    if isinstance(shown, str):
        return shown.encode("utf-8", "replace")
    if isinstance(shown, bytes | bytearray | memoryview):
        return bytes(shown)
    return encode(shown, "map")


def _breaks(data: bytes) -> bool:
    return _LF in data or _CR in data


def _line(name: bytes, value: bytes) -> bytes:
    return b"%b: %b\n" % (name, value) if value else b""


def _unfit(shown: Any, format: Format, wanted: str) -> errors.InvalidArgumentError:
    return errors.InvalidArgumentError(
        f"with format={format!r}, what is shown of an event must be {wanted}, not "
        f"{type(shown).__name__}",
        argument="map",
    )
