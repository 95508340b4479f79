"""Server-sent events, decoded piece by piece as the bytes arrive.

The rules are exactly those of the WHATWG HTML standard, section 9.2 "Server-sent events", and the
result never depends on where the stream was cut into chunks. There is no I/O here.

Promises:

- An event is returned by the call to `feed` that brings the end of its blank line.
- Time is linear in the bytes fed, whatever the chunks look like. Memory is bounded by
  `max_event_bytes` for the event under way, plus the chunk itself and the returned events.
- `SSEDecoder.feed` raises `EventDecodeError` for data that is not the JSON expected,
  `EventTooLargeError`, the errors of a `recover` function, and `TypeError` for a chunk that is not
  bytes. It raises nothing else, except what user code in a type's own hooks (`__post_init__`)
  raises other than `ValueError` and `TypeError`. msgspec takes these two for a failed validation.
"""

from __future__ import annotations

from collections import deque
from io import BytesIO
from itertools import islice, repeat
from operator import is_
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

import msgspec

from dynamiq_async import _json
from dynamiq_async._json import LINE, keep_line
from dynamiq_async.errors import EventTooLargeError, SSEError
from dynamiq_async.sse.event import ServerSentEvent, event_id, event_type, not_decoded, plain_events
from dynamiq_async.sse.lines import (
    BOM,
    COLUMN_NAMES,
    ERROR_LINE,
    ERROR_LINES,
    LARGE,
    SEVERAL,
    SMALL,
    Buffer,
    check_limit,
    in_lf,
    pieces,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

E = TypeVar("E")

# Numbers, because `13 in chunk` is eight times as fast as `b"\r" in chunk`.
_NUL, _LF, _CR, _COLON, _D, _E, _I, _R = b"\0\n\r:deir"


class SSEDecoder(Generic[E]):
    """An incremental decoder of one event stream.

    Args:
        type: the type that each event's data is decoded to as JSON: any type that msgspec knows.
            Without it, the events are `ServerSentEvent`. Events of a Struct that derives from
            `KeepsRaw` also have the bytes of their data, as `raw`.
        max_event_bytes: the largest event: all its `data`, `event`, `id` and `retry` lines, each
            with one byte for its end. Comments and lines of unknown names are not added up, but
            each of them must fit in the rest of the limit.
        recover: called as `recover(data, error)` for data that cannot be decoded, with msgspec's
            error. Its return value replaces the event, None drops the event, and `feed` passes its
            exceptions on.
        read_error: called as `read_error(data)` for the data of each event whose type is `error`,
            in place of decoding it. Return value and exceptions are treated as for `recover`.

    Attributes:
        retry: the reconnection time that the server asked for last, in milliseconds. Read only.
    """

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
        read_error: Callable[[bytes], E | None] | None = None,
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
        read_error: Callable[[bytes], Any] | None = None,
    ) -> None:
        check_limit(max_event_bytes)
        self._decode = None if type is None else msgspec.json.Decoder(type).decode
        self._keeps_raw = _json.KeepsRaw in getattr(type, "__mro__", ())
        self._recover = recover
        self._read_error = read_error
        self._limit = max_event_bytes
        self._small = min(SMALL, max_event_bytes)
        self._overflowed = False

        # Bytes: the stream's first ones until it is known whether they are a BOM (then None),
        # whether the last one was a CR, the unfinished line, or the whole unfinished block while
        # none of it has been read, and what an error left unread.
        self._head: bytes | None = b""
        self._cr = False
        self._tail: Buffer = b""
        self._cut = b""
        self._queue: list[Buffer] = []  # the next piece is the last
        # Whether a chunk without a CR can be read as it is, and whether nothing at all is held.
        self._plain = False
        self._idle = False

        # The block under way, by the names of the standard's buffers.
        self._event = b""
        self._data: Buffer | None = None
        self._id = b""
        self._retry: int | None = None
        self._size = 0

        self._events: list[Any] = []
        self._last_id = b""
        self.retry: int | None = None

    def feed(self, chunk: Buffer) -> list[E]:
        """Take the stream's next bytes, of any number, and return the events they complete.

        Raises:
            EventDecodeError: an event's data is not the JSON expected. That event is consumed.
                The error's `events` are those before it. The next call, such as `feed(b"")`,
                continues after it.
            EventTooLargeError: an event is larger than `max_event_bytes`. The error's `events`
                are those before it. The decoder is finished: each later call raises it again.

        If `recover` raises an `SSEError`, the earlier events are put before its `events`. After any
        other exception of `recover`, the next call returns the earlier events.
        """
        if not self._plain or type(chunk) is not bytes or _CR in chunk:
            chunk = self._prepare(chunk)
        if self._idle:
            if len(chunk) <= self._small and not self._cut and (events := self._take_one(chunk)):
                return events
            self._idle = False
        if self._queue or len(chunk) > LARGE:
            self._queue[:0] = reversed(pieces(chunk, LARGE))
        elif chunk:
            self._take(chunk)
        if self._queue:
            self._drain()
        self._idle = self._plain and not (self._tail or self._size)
        events, self._events = self._events, []
        return events

    @property
    def last_event_id(self) -> str:
        """The id after which to resume, as of the last blank line; `""` when there is none."""
        return event_id(self._last_id)

    @property
    def pending(self) -> bool:
        """Whether a stream that ended here would have been cut in the middle of an event.

        That is true after a `data`, `event`, `id` or `retry` line without its blank line, within
        any line but a comment, within a BOM, while an error has left unread bytes, and always
        after `EventTooLargeError`. Losing half a comment does not matter.
        """
        if self._cut:
            self._take(b"")  # reads the cut block
        return bool(
            self._size
            or self._head
            or self._queue
            or self._overflowed
            or (self._tail and self._tail[:1] != b":")
        )

    # --- bytes to lines ------------------------------------------------------------------------

    def _prepare(self, chunk: Buffer) -> bytes:
        """A chunk as lines that end in LF, without the stream's BOM."""
        if self._overflowed:
            raise self._too_large()
        if type(chunk) is not bytes:
            chunk = bytes(memoryview(chunk))  # the caller may use its buffer again
        if self._head is not None:
            chunk = self._head + chunk
            if len(chunk) < len(BOM) and BOM.startswith(chunk):
                self._head = chunk
                return b""
            self._head = None
            chunk = chunk.removeprefix(BOM)
        if chunk and (self._cr or _CR in chunk):
            chunk = self._normalise(chunk)
        self._plain = not self._cr
        return chunk

    def _normalise(self, chunk: bytes) -> bytes:
        """Turn CR and CRLF into LF, so that later steps know only one line end."""
        # A CR at the end counts at once; an LF that follows in the next chunk belongs to it.
        swallow = self._cr and chunk[0] == _LF
        self._cr = chunk[-1] == _CR
        self._idle = self._idle and not self._cr
        return in_lf(chunk, swallow=swallow)

    def _drain(self) -> None:
        while self._queue:
            self._take(self._queue.pop())
        if type(self._data) is memoryview:
            self._data = bytearray(self._data)  # a copy, so that the chunk is not kept alive

    def _take(self, piece: Buffer) -> None:
        """Read a piece of the stream: at most `LARGE` bytes, or one line or a part of one."""
        if self._tail and type(piece) is bytes and _LF not in piece:
            self._hold(piece)
            return
        if self._cut:
            piece = self._uncut(piece)
        # BytesIO finds line ends with memchr; bytes.split goes byte by byte.
        lines: list[Any] = list(BytesIO(piece)) if len(piece) <= 2 * LARGE else [piece]
        rest = lines.pop() if lines[-1][-1] != _LF else b""
        if lines:
            if self._tail:
                lines[0] = self._finish(lines[0])
            if type(lines[0]) is not bytes and lines[0][:5] != b"data:":
                lines[0] = bytes(lines[0])
        unread = iter(lines)
        try:
            if len(lines) >= SEVERAL and len(lines[0]) + len(piece) <= self._limit:
                first = 0
                if self._size or type(lines[0]) is not bytes:
                    first = lines.index(b"\n") + 1 if b"\n" in lines else len(lines)
                    self._interpret(islice(unread, first))
                read = self._read_columns(lines, first)
                lines = lines[read:]
                unread = iter(lines)
                if lines and read > first and self._hold_block(lines, rest):
                    return
            if lines:
                self._interpret(unread)
        except BaseException:
            if left := b"".join([*unread, rest]):
                self._queue.append(left)
            raise
        if rest:
            self._hold(rest)

    def _hold_block(self, lines: list[bytes], rest: bytes) -> bool:
        """Keep a block that the end of a piece has cut, so that the fast path can read it once it
        is whole. Not with a `retry` line, which takes effect before its block is complete."""
        cut = b"".join([*lines, rest])
        if len(cut) > LARGE or b"\n" in lines or b"retry" in cut:
            return False
        self._cut = cut
        return True

    def _uncut(self, piece: Buffer) -> Buffer:
        """The cut block joined with `piece`, unless that would copy too much."""
        cut, self._cut = self._cut, b""
        if len(piece) <= LARGE:
            return cut + piece
        self._take(cut)
        return piece

    def _hold(self, piece: Any) -> None:
        """Keep a piece of the unfinished line."""
        if not self._tail:
            self._tail = piece
        else:
            if type(self._tail) is bytes:
                self._tail = bytearray(self._tail)
            self._tail += piece
        if self._size + len(self._tail) > self._limit:
            raise self._too_large()

    def _finish(self, piece: Any) -> Buffer:
        """The whole line: the part that is held, and `piece`, its end."""
        line, self._tail = self._tail, b""
        line += piece
        if type(line) is bytes:
            return line
        return memoryview(line) if len(line) >= LARGE else bytes(line)

    # --- lines to events -----------------------------------------------------------------------

    def _interpret(self, lines: Iterable[Any]) -> None:
        """Read lines, each with its LF. This is the standard's algorithm, and the reference."""
        for line in lines:
            first = line[0]
            if first == _LF:
                self._end_block()
                continue
            size = self._size + len(line)
            if size > self._limit:
                raise self._too_large()
            if first == _D and line[:6] == b"data: ":
                self._add_data(line[6:-1])
            elif first == _E and line[:6] == b"event:":
                self._event = line
            elif first == _I and line[:3] == b"id:":
                if _NUL not in line:
                    self._id = line
            elif first == _COLON or not self._field(line):
                continue
            self._size = size

    def _field(self, line: Any) -> bool:
        """Read a field of unusual form or name; False if the name is unknown."""
        if line[:5] == b"data:":
            self._add_data(line[5:-1])
            return True
        name, _, value = line[:-1].partition(b":")
        if name == b"retry":
            value = value.removeprefix(b" ")
            if value.isdigit():
                # 18 digits are thirty million years; int() refuses thousands of them.
                self.retry = self._retry = int(value.lstrip(b"0")[:18] or b"0")
        elif name == b"data":
            self._add_data(value)
        elif name == b"event":
            self._event = b""
        elif name == b"id":
            self._id = b""
        else:
            return False
        return True

    def _add_data(self, value: Buffer) -> None:
        if self._data is None:
            self._data = value
        else:
            if type(self._data) is not bytearray:
                self._data = bytearray(self._data)
            self._data += b"\n"
            self._data += value

    def _end_block(self) -> None:
        self._last_id = self._id
        data, self._data = self._data, None
        event, self._event = self._event, b""
        retry, self._retry = self._retry, None
        self._size = 0
        if data is None:
            return
        if self._decode is None:
            text = str(data, "utf-8", "replace")
            self._events.append(ServerSentEvent(event_type(event), text, event_id(self._id), retry))
            return
        if self._read_error is not None and event in ERROR_LINES:
            if (decoded := self._called(self._read_error, bytes(data))) is not None:
                if isinstance(decoded, _json.KeepsRaw):
                    _json.keep(decoded, memoryview(data))
                self._events.append(decoded)
            return
        try:
            decoded = self._decode(data)
        except _json.DECODE_ERRORS:
            decoded = self._look_again(self._decode, bytes(data))
            if decoded is None:
                return
            if isinstance(decoded, _json.KeepsRaw):
                _json.keep(decoded, memoryview(data))
        else:
            if self._keeps_raw and type(data) is not bytearray:
                keep_line(decoded, LINE, data)
            elif self._keeps_raw:  # several lines, so the data may itself end in an LF
                _json.keep(decoded, data)
        self._events.append(decoded)

    # --- fast paths: they do what _interpret would do with the same lines, or nothing ----------

    def _take_one(self, chunk: bytes) -> list[Any] | None:
        """The event of a chunk that is just one block: `event:`, `id:` and then one `data: ` line.

        None for any other chunk; then nothing is changed. `partition` is the cheapest search: the
        call of a method with optional arguments, such as `find`, takes longer than its work.
        """
        head, _, data = chunk.partition(b"data: ")
        data, _, end = data.partition(b"\n")
        if end != b"\n":
            return None
        event, id_ = b"", self._id
        while head:
            line, end, head = head.partition(b"\n")
            if end and line[:6] == b"event:":
                event = line + end
            elif end and line[:3] == b"id:" and _NUL not in line:
                id_ = line + end
            else:
                return None
        if event and event[-2] == _R and self._read_error is not None and event in ERROR_LINES:
            return None
        try:
            if self._decode is not None:
                decoded = self._decode(data)
                if self._keeps_raw:
                    keep_line(decoded, LINE, data)
            else:
                decoded = ServerSentEvent(
                    event_type(event), data.decode("utf-8", "replace"), event_id(id_)
                )
        except Exception:  # noqa: BLE001 - `_interpret` meets it again, in its place
            return None
        self._id = self._last_id = id_
        return [decoded]

    def _read_columns(self, lines: list[bytes], first: int) -> int:
        """Read blocks from `lines[first]` on that have the same fields in the same order.

        Streams mostly consist of such blocks: the same line of every block is one column, and is
        checked and cut in C. Returns the number of the first line not read. If anything is unusual,
        that is `first`: then nothing was changed, and `_interpret` reads the same lines.
        """
        try:
            blank = lines.index(b"\n", first, first + 4)
        except ValueError:
            return first
        period = blank + 1 - first
        count = (len(lines) - first) // period
        stop = first + count * period
        if lines[blank:stop:period].count(b"\n") != count:
            return first
        columns: dict[int, list[bytes]] = {}
        for start in range(first, blank):
            column = lines[start:stop:period]
            line = column[0]
            letter = line[0]
            if letter == _D:
                columns[_D] = list(map(bytes.removeprefix, column, repeat(b"data: ")))
                if any(map(is_, column, columns[_D])):  # nothing was removed from it
                    return first
            else:
                columns[letter] = column
                if line == column[-1] and column.count(line) == count:
                    column = column[:1]
                text = b"\n" + b"".join(column)
                name = COLUMN_NAMES.get(letter)
                if not name or text.count(name) != len(column) or _NUL in text:
                    return first
                if letter == _E and self._read_error is not None and ERROR_LINE in text:
                    return first
        if len(columns) != period - 1 or _D not in columns:
            return first
        try:
            self._events += self._build(columns)
        except Exception:  # noqa: BLE001 - `_interpret` meets it again, in its place
            return first
        if _I in columns:
            self._id = self._last_id = columns[_I][-1]
        return stop

    def _build(self, columns: dict[int, list[bytes]]) -> Iterable[Any]:
        """The events of `data: ` values, each with its LF, and of whole lines of other fields."""
        if self._decode is not None:
            events = list(map(self._decode, columns[_D]))  # to JSON, the LF is white space
            if self._keeps_raw:
                deque(map(keep_line, events, repeat(LINE), columns[_D]), maxlen=0)
            return events
        return plain_events(columns[_D], columns.get(_E), columns.get(_I, self._last_id))

    # --- errors --------------------------------------------------------------------------------

    def _called(self, function: Callable[..., Any], *given: Any) -> Any:
        try:
            return function(*given)
        except SSEError as raised:
            raised.events[:0] = self._take_events()
            raise

    def _look_again(self, decode: Callable[[Any], Any], data: bytes) -> Any:
        """Decode tolerantly, or else recover, data that did not decode; None drops the event."""
        try:
            return _json.decode_with(decode, data)
        except _json.DECODE_ERRORS as error:
            if self._recover is None:
                raise not_decoded(data, error, self._take_events()) from error
            return self._called(self._recover, data, error)

    def _too_large(self) -> EventTooLargeError:
        self._overflowed = True
        self._plain = False
        self._queue.clear()
        self._tail = b""
        self._data = None
        message = f"an event is larger than max_event_bytes ({self._limit})"
        return EventTooLargeError(message, limit=self._limit, events=self._take_events())

    def _take_events(self) -> list[Any]:
        events, self._events = self._events, []
        return events
