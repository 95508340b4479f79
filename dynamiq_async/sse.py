"""Server-sent events, decoded piece by piece as the bytes arrive.

The rules are those of the WHATWG HTML standard, section 9.2 "Server-sent events", to the letter,
and the result never depends on where the stream was cut into chunks. There is no I/O here: bytes
go in, events come out.

Promises:

- An event is handed out by the call to `feed` that brings the end of its blank line.
- Time is linear in the bytes fed, whatever the chunks look like. Memory is bounded by
  `max_event_bytes` for the event under way, beside the chunk itself and the events handed out.
- `SSEDecoder.feed` raises `EventDecodeError` for data that is not the JSON expected,
  `EventTooLargeError`, and what a `recover` function raises; `TypeError` for what is not bytes.
  Nothing else, but what user code in a type's own hooks (`__post_init__`) raises beyond the
  `ValueError` and `TypeError` that msgspec takes for a failed validation.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

import msgspec

from dynamiq_async import _json
from dynamiq_async.errors import (
    EventDecodeError,
    EventTooLargeError,
    InvalidArgumentError,
    SSEError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["SSEDecoder", "ServerSentEvent"]

E = TypeVar("E")
Buffer = bytes | bytearray | memoryview

_BOM = b"\xef\xbb\xbf"

# Numbers, because `13 in chunk` is eight times as fast as `b"\r" in chunk`.
_NUL, _LF, _CR = b"\0\n\r"

# From this size on a payload is decoded where it lies. Below it, copying it into a `bytes` of its
# own is cheaper than what a memoryview costs.
_LARGE = 64 * 1024

# From this size on a chunk may hold enough events for the fast paths to pay.
_SEVERAL = 4096


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
        """The data, decoded as JSON. Raises `EventDecodeError` when it is none."""
        data = self.data.encode("utf-8", "replace")
        try:
            return _json.decode(data)
        except _json.DECODE_ERRORS as error:
            raise _not_decoded(data, error) from error


class SSEDecoder(Generic[E]):
    """An incremental decoder of one event stream.

    Args:
        type: what each event's data is decoded to as JSON: any type that msgspec knows. Without
            it, the events are `ServerSentEvent`.
        max_event_bytes: how large one event may be: its `data`, `event` and `id` lines without
            their line ends. Other lines do not add up, but each single line, a comment too, has
            to fit in what the event under way leaves.
        recover: called as `recover(data, error)` for data that cannot be decoded; what it returns
            takes the event's place, None drops the event, and what it raises is raised by `feed`.

    Attributes:
        last_event_id: the id to resume behind, as of the last blank line.
        retry: the reconnection time that the server asked for last, in milliseconds.

    Both attributes are for reading only.
    """

    __slots__ = (
        "_cr",
        "_data",
        "_decode",
        "_event",
        "_events",
        "_head",
        "_id",
        "_limit",
        "_overflowed",
        "_queue",
        "_recover",
        "_retry",
        "_size",
        "_tail",
        "last_event_id",
        "retry",
    )

    @overload
    def __init__(
        self: SSEDecoder[ServerSentEvent], type: None = None, *, max_event_bytes: int = ...
    ) -> None: ...
    @overload
    def __init__(
        self,
        type: type[E],
        *,
        max_event_bytes: int = ...,
        recover: Callable[[bytes, Exception], E | None] | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self: SSEDecoder[Any],
        type: Any,
        *,
        max_event_bytes: int = ...,
        recover: Callable[[bytes, Exception], Any] | None = None,
    ) -> None: ...
    def __init__(
        self,
        type: Any = None,
        *,
        max_event_bytes: int = 64 * 1024 * 1024,
        recover: Callable[[bytes, Exception], Any] | None = None,
    ) -> None:
        if max_event_bytes < 1:
            raise InvalidArgumentError(
                f"max_event_bytes is {max_event_bytes}; it has to be at least 1",
                argument="max_event_bytes",
            )
        self._decode = None if type is None else msgspec.json.Decoder(type).decode
        self._recover = recover
        self._limit = max_event_bytes
        self._overflowed = False

        # Bytes: the stream's first ones until it is known whether they are a BOM (then None),
        # whether the last one was a CR, the unfinished line, and what an error left unread.
        self._head: bytes | None = b""
        self._cr = False
        self._tail: Buffer = b""
        self._queue: deque[Buffer] = deque()

        # The block under way, by the names of the standard's buffers.
        self._event = b""
        self._data: Buffer | None = None
        self._id = ""
        self._retry: int | None = None
        self._size = 0

        self._events: list[Any] = []
        self.last_event_id = ""
        self.retry: int | None = None

    def feed(self, chunk: Buffer) -> list[E]:
        """Take the stream's next bytes, of any number, and return the events they complete.

        Raises:
            EventDecodeError: an event's data is not the JSON expected. That event is consumed.
                The error's `events` are those before it; the next call, `feed(b"")` will do,
                goes on behind it.
            EventTooLargeError: an event is larger than `max_event_bytes`. The error's `events`
                are those before it. The decoder is finished: each later call raises it again.

        An `SSEError` that `recover` raises gets the earlier events put before its `events`.
        Behind any other exception from there, the next call hands them out.
        """
        if self._overflowed:
            raise self._too_large()
        if type(chunk) is not bytes:
            chunk = bytes(memoryview(chunk))  # the caller may use its buffer again
        if self._head is not None:
            chunk = self._skip_bom(self._head + chunk)
        if self._cr or _CR in chunk:
            chunk = self._normalise(chunk)
        if self._queue or len(chunk) > _LARGE:
            self._queue.extend(_windows(chunk))
        else:
            self._take(chunk)
        while self._queue:
            self._take(self._queue.popleft())
        events, self._events = self._events, []
        return events

    @property
    def pending(self) -> bool:
        """Whether a stream that ended here would have been cut in the middle of an event.

        That is so after a `data`, `event` or `id` line without its blank line, within any line
        but a comment, within a BOM, when an error left bytes to go on with, and for good after
        `EventTooLargeError`. Half a comment is no loss, and neither are whole `retry` lines.
        """
        return bool(
            self._size
            or self._head
            or self._queue
            or self._overflowed
            or (self._tail and self._tail[:1] != b":")
        )

    # --- bytes to lines ------------------------------------------------------------------------

    def _skip_bom(self, head: bytes) -> bytes:
        if len(head) < len(_BOM) and _BOM.startswith(head):
            self._head = head
            return b""
        self._head = None
        return head.removeprefix(_BOM)

    def _normalise(self, chunk: bytes) -> bytes:
        """Turn CR and CRLF into LF, so that all behind this knows one line end only."""
        if not chunk:
            return chunk
        # A CR at the end counts at once; an LF that follows in the next chunk belongs to it.
        swallow = self._cr and chunk[0] == _LF
        self._cr = chunk[-1] == _CR
        lines = chunk.splitlines()  # of bytes: splits at LF, CR and CRLF and at nothing else
        if chunk[-1] in b"\r\n":
            lines.append(b"")
        return b"\n".join(lines[1:] if swallow else lines)

    def _take(self, chunk: Buffer) -> None:
        """Read a piece of the stream that is no longer than `_LARGE` or has no line end."""
        if len(chunk) > _LARGE:
            self._hold(chunk)
            return
        if type(chunk) is not bytes:
            chunk = bytes(chunk)
        if len(chunk) >= _SEVERAL:
            if self._tail or self._size:
                # Finish the block under way first; what follows starts with a block of its own.
                cut = chunk.find(b"\n\n") + 2
                if 2 <= cut < len(chunk):
                    self._queue.appendleft(chunk[cut:])
                    chunk = chunk[:cut]
            elif len(chunk) <= self._limit and (
                self._read_bare(chunk) or self._read_columns(chunk)
            ):
                return
        self._read(chunk.split(b"\n"))

    def _read(self, lines: list[Any]) -> None:
        """Read the lines of a piece: the first may end the line held, the last is unfinished.

        This is the standard's algorithm, and the truth about the format.
        """
        rest = lines.pop()
        if self._tail and lines:
            lines[0] = self._finish(lines[0])
        unread = iter(lines)
        try:
            for line in unread:
                if not line:
                    self._end_block()
                    continue
                size = self._size + len(line)
                if size > self._limit:
                    raise self._too_large()
                name = line[:6]
                if name == b"data: ":
                    if self._data is None:
                        self._data = line[6:]
                    else:
                        self._add_data(line[6:])
                elif name == b"event:":
                    self._event = line
                elif not self._field(line):
                    continue
                self._size = size
        except BaseException:
            left = b"\n".join([*unread, rest])
            if left and not self._overflowed:
                self._queue.appendleft(left)
            raise
        if rest:
            self._hold(rest)

    def _field(self, line: Any) -> bool:
        """Read a field; False if it is an unknown one, or a comment: a field without a name."""
        if line[:5] == b"data:":
            self._add_data(line[5:])
            return True
        name, _, value = bytes(line).partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._add_data(value)
        elif name == b"event":
            self._event = b""
        elif name == b"id":
            if _NUL not in value:
                self._id = value.decode("utf-8", "replace")
        elif name == b"retry":
            if value.isdigit():
                # 18 digits are thirty million years; int() refuses thousands of them.
                self.retry = self._retry = int(value.lstrip(b"0")[:18] or b"0")
        else:
            return False
        return True

    def _add_data(self, value: Buffer) -> None:
        if self._data is None:
            self._data = value
            return
        if type(self._data) is not bytearray:
            self._data = bytearray(self._data)
        self._data += b"\n"
        self._data += value

    def _end_block(self) -> None:
        self.last_event_id = self._id
        data, self._data = self._data, None
        event, self._event = self._event, b""
        retry, self._retry = self._retry, None
        self._size = 0
        if data is None:
            return
        if self._decode is None:
            self._events.append(
                ServerSentEvent(
                    _name(event), str(data, "utf-8", "replace"), self.last_event_id, retry
                )
            )
            return
        try:
            decoded = self._decode(data)
        except _json.DECODE_ERRORS:
            decoded = self._look_again(self._decode, bytes(data))
            if decoded is None:
                return
        self._events.append(decoded)

    def _hold(self, piece: Buffer) -> None:
        """Keep a piece of the unfinished line."""
        if not self._tail:
            self._tail = piece
        else:
            if type(self._tail) is not bytearray:
                self._tail = bytearray(self._tail)
            self._tail += piece
        if self._size + len(self._tail) > self._limit:
            raise self._too_large()

    def _finish(self, piece: bytes) -> Buffer:
        """The line whose beginning is held, of which `piece` is the end."""
        line, self._tail = self._tail, b""
        if type(line) is bytes:
            return line + piece
        if type(line) is bytearray:
            line += piece
        return memoryview(line) if len(line) >= _LARGE else bytes(line)

    # --- the fast paths ------------------------------------------------------------------------
    # Each starts where a block starts, with a chunk that cannot exceed the limit, and either does
    # exactly what `_read` would do, or nothing.

    def _read_bare(self, chunk: bytes) -> bool:
        """Read blocks of one `data: ` line each, by the whole seven bytes between two of them.

        A part without a line break lies between `data: ` and a blank line: it is one block.
        """
        if not chunk.startswith(b"data: "):
            return False
        parts = chunk.split(b"\n\ndata: ")
        rest = b""
        if chunk.endswith(b"\n\n"):
            parts[-1] = parts[-1][:-2]
        elif len(parts) > 1:
            rest = b"data: " + parts.pop()
        else:
            return False
        parts[0] = parts[0][6:]
        if _LF in b"".join(parts):
            return False
        try:
            self._events += self._build(parts)
        except Exception:  # noqa: BLE001 - `_read` meets it again, in its place
            return False
        if rest:
            self._read(rest.split(b"\n"))
        return True

    def _read_columns(self, chunk: bytes) -> bool:
        """Read blocks that all have the same few fields in the same order, field by field.

        All lines of a column begin alike exactly if the least and the greatest of them do.
        """
        lines = chunk.split(b"\n")
        rest = lines.pop()
        if b"" not in lines[:4]:
            return False
        period = lines.index(b"") + 1
        stop = len(lines) // period * period
        if stop < 3 * period or any(lines[period - 1 : stop : period]):
            return False
        columns: dict[bytes, list[bytes]] = {}
        for first in range(period - 1):
            column = lines[first:stop:period]
            low, high = min(column), max(column)
            name = low[: low.find(b": ") + 2]
            if name not in (b"data: ", b"event: ", b"id: ") or not high.startswith(name):
                return False
            if name in columns:
                return False
            columns[name] = [line[len(name) :] for line in column]
        if b"data: " not in columns:
            return False
        ids = columns.get(b"id: ")
        if ids and _NUL in b"".join(ids):
            return False
        try:
            self._events += self._build(columns[b"data: "], columns.get(b"event: "), ids)
        except Exception:  # noqa: BLE001 - `_read` meets it again, in its place
            return False
        if ids:
            self._id = self.last_event_id = ids[-1].decode("utf-8", "replace")
        self._read([*lines[stop:], rest])
        return True

    def _build(
        self,
        datas: list[bytes],
        names: list[bytes] | None = None,
        ids: list[bytes] | None = None,
    ) -> list[Any]:
        if self._decode is not None:
            decode = self._decode
            return [decode(data) for data in datas]
        if names is None and ids is None:
            id_ = self.last_event_id
            return [
                ServerSentEvent("message", data.decode("utf-8", "replace"), id_) for data in datas
            ]
        ids = ids or [self.last_event_id.encode()] * len(datas)
        names = names or [b""] * len(datas)
        return [
            ServerSentEvent(
                name.decode("utf-8", "replace") or "message",
                data.decode("utf-8", "replace"),
                id_.decode("utf-8", "replace"),
            )
            for name, data, id_ in zip(names, datas, ids, strict=True)
        ]

    def _look_again(self, decode: Callable[[Any], Any], data: bytes) -> Any:
        """Decode with tolerance what did not decode, or recover from it; None drops the event."""
        try:
            return _json.decode_with(decode, data)
        except _json.DECODE_ERRORS as error:
            if self._recover is None:
                raise _not_decoded(data, error, self._take_events()) from error
            try:
                return self._recover(data, error)
            except SSEError as raised:
                raised.events[:0] = self._take_events()
                raise

    def _too_large(self) -> EventTooLargeError:
        self._overflowed = True
        self._queue.clear()
        self._tail = b""
        self._data = None
        return EventTooLargeError(
            f"an event is larger than max_event_bytes ({self._limit})",
            limit=self._limit,
            events=self._take_events(),
        )

    def _take_events(self) -> list[Any]:
        events, self._events = self._events, []
        return events


def _not_decoded(data: bytes, error: Exception, events: Any = ()) -> EventDecodeError:
    return EventDecodeError(
        f"an event's data is not the JSON expected: {error}", data=data, events=events
    )


def _name(line: Any) -> str:
    """The type in an `event:` line, or what stands for it when there is none."""
    return bytes(line[6:]).removeprefix(b" ").decode("utf-8", "replace") or "message"


def _windows(chunk: bytes) -> list[Buffer]:
    """Cut a chunk of any length for `_take`: behind line ends, and around lines over `_LARGE`."""
    view = memoryview(chunk)
    windows: list[Buffer] = []
    start = 0
    while len(chunk) - start > _LARGE:
        stop = chunk.rfind(b"\n", start, start + _LARGE) + 1
        if not stop:
            stop = chunk.find(b"\n", start + _LARGE)
            if stop < 0:
                # It goes on in the next chunk: keep it alone alive, not the chunk around it.
                windows.append(bytearray(view[start:]))
                return windows
        windows.append(view[start:stop])
        start = stop
    if start < len(chunk):
        windows.append(view[start:])
    return windows
