"""The client's side of a WebSocket (RFC 6455), on a connection that aiohttp upgraded.

aiohttp finds the host, connects, agrees on TLS, goes through proxies and sends the handshake like
any other request; what comes behind the 101 is read here. Its own WebSocket client would follow
redirects with the key, lose the body of a refused handshake, leave pings unanswered while nobody
reads (so that servers give up on a program that waits for a person), and take a slow reader for a
dead server. Compression is not offered, so a message is never larger than it looks.
"""

from __future__ import annotations

import asyncio
import os
from base64 import b64encode
from contextlib import suppress
from hashlib import sha1
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from dynamiq_async import errors

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class Closing(NamedTuple):
    """What the server said when it closed a WebSocket: 1005 where it named no code."""

    code: int
    reason: str


class WebSocket(Protocol):
    """Messages both ways.

    Attributes:
        closing: the server's close frame, once it has come.
    """

    closing: Closing | None

    @property
    def ended(self) -> bool:
        """Whether nothing more can come behind what `receive` still has."""

    async def receive(self) -> list[bytes | None] | None:
        """The messages that have arrived, or wait for some. An empty list is a sign of life (the
        server's ping, a piece of a message); None comes behind the last message, once the server
        closed. A None among the messages is a `fence`.

        Raises:
            APIConnectionError: the connection broke, or what came is not a WebSocket's.
            EventTooLargeError: a message is larger than `max_message_bytes`.
        """

    def take(self) -> list[bytes | None]:
        """The messages that have arrived, without waiting."""

    def fence(self) -> None:
        """Have a None put between what the server said before it heard of this, and what it says
        afterwards: a ping and its pong, which keep their places among the messages."""

    async def send(self, message: bytes) -> None:
        """Send a text message.

        Raises:
            APIConnectionError: the connection broke.
        """

    def fail(self, error: Exception) -> None:
        """Make a `receive` that waits, and every later one, raise `error`."""

    async def aclose(self) -> None:
        """Say goodbye, and wait shortly for the other side to."""

    def close(self) -> None:
        """Say that we leave, without waiting. May be called at any time, also by a finaliser."""


CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
_FINAL, _RESERVED, _MASKED, _LENGTH = 0x80, 0x70, 0x80, 0x7F
_MAX_CONTROL = 125

NORMAL, GOING_AWAY, PROTOCOL_ERROR, TOO_BIG = 1000, 1001, 1002, 1009
_NO_CODE = 1005  # what the standard calls a close frame without one
_UNSENDABLE = {1004, _NO_CODE, 1006, 1015, *range(1016, 3000)}  # the standard's own, or nobody's

_ACCEPT = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # the standard's

HIGH_WATER = 256 * 1024
"""From so many bytes on that nobody has taken, the connection is not read any further."""

GOODBYE_SECONDS = 0.25
"""How long the other side's close frame is waited for."""


def new_nonce() -> str:
    """A `Sec-WebSocket-Key`. The standard wants another one for each handshake."""
    return b64encode(os.urandom(16)).decode()


def is_accepted(nonce: str, headers: Mapping[str, str]) -> bool:
    """Whether the headers of a 101 are those of a WebSocket handshake with this nonce, and of
    no extension, since none was offered."""
    answer = b64encode(sha1(nonce.encode() + _ACCEPT, usedforsecurity=False).digest()).decode()
    return (
        headers.get("upgrade", "").lower() == "websocket"
        and "upgrade" in headers.get("connection", "").lower()
        and headers.get("sec-websocket-accept", "").strip() == answer
        and "sec-websocket-extensions" not in headers
    )


# --- frames: no I/O ------------------------------------------------------------------------------


class FrameError(Exception):
    """What arrived cannot be gone on with; `code` is what to close with."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class FrameReader:
    """A server's frames, put together to messages: bytes go in, `(opcode, payload)` come out.

    The result does not depend on how the bytes are cut up. Memory is bounded by `limit`, the most
    bytes that a message may have, and the chunk at hand.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = bytearray()  # the beginning of a frame
        self._wanted = 0  # how long that frame will be, as far as it is known
        self._kind = 0  # the opcode of the message under way, if its frames are not all here
        self._parts = bytearray()

    @property
    def pending(self) -> bool:
        """Whether a connection that ended here would have been cut in the middle of a message."""
        return bool(self._held or self._kind)

    @property
    def size(self) -> int:
        """How many bytes of a message are here that is not complete."""
        return len(self._held) + len(self._parts)

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Take the next bytes, of any number, and give the messages and control frames that they
        complete.

        Raises:
            FrameError: the frames violate the standard, or a message is too large.
        """
        if self._held:
            self._held += data
            if len(self._held) < self._wanted:
                return
            data = bytes(self._held)
            self._held.clear()
        start = 0
        self._wanted = 0
        while (begin_end := self._measure(data, start)) is not None:
            begin, end = begin_end
            if end > len(data):
                self._wanted = end - start
                break
            first, payload = data[start], data[begin:end]
            start = end
            opcode = first & 0x0F
            if opcode >= CLOSE or (first & _FINAL and not self._kind):
                yield opcode, payload
                continue
            self._kind = self._kind or opcode
            self._parts += payload
            if first & _FINAL:
                kind, self._kind = self._kind, 0
                parts, self._parts = self._parts, bytearray()
                yield kind, bytes(parts)
        self._held += data[start:]

    def _measure(self, data: bytes, start: int) -> tuple[int, int] | None:
        """Where the payload of the frame at `start` begins and ends; None if its head is cut."""
        begin = start + 2
        if len(data) < begin:
            return None
        first, second = data[start], data[start + 1]
        length = second & _LENGTH
        if length > _MAX_CONTROL:
            begin += 2 if length == _MAX_CONTROL + 1 else 8
            if len(data) < begin:
                return None
            length = int.from_bytes(data[start + 2 : begin])
        self._check(first, second, length)
        return begin, begin + length

    def _check(self, first: int, second: int, length: int) -> None:
        opcode = first & 0x0F
        if first & _RESERVED or second & _MASKED:
            raise FrameError(PROTOCOL_ERROR, "a frame with bits that were not agreed on")
        if opcode >= CLOSE:
            if opcode > PONG or length > _MAX_CONTROL or not first & _FINAL:
                raise FrameError(PROTOCOL_ERROR, "an impossible control frame")
        elif opcode > BINARY or (opcode == CONTINUATION) != bool(self._kind):
            raise FrameError(PROTOCOL_ERROR, "a frame that does not belong there")
        elif len(self._parts) + length > self._limit:
            raise FrameError(TOO_BIG, "a message is too large")


def frame(opcode: int, payload: bytes) -> bytes:
    """A client's frame, which the standard wants masked with a fresh random key."""
    length = len(payload)
    if length <= _MAX_CONTROL:
        head = bytes((_FINAL | opcode, _MASKED | length))
    elif length < 1 << 16:
        head = bytes((_FINAL | opcode, _MASKED | 126)) + length.to_bytes(2)
    else:
        head = bytes((_FINAL | opcode, _MASKED | 127)) + length.to_bytes(8)
    key = os.urandom(4)
    pad = (key * (length // 4 + 1))[:length]
    masked = (int.from_bytes(payload) ^ int.from_bytes(pad)).to_bytes(length)
    return head + key + masked


def read_close(payload: bytes) -> Closing:
    """What a close frame says, be it a code that may not be sent.

    Raises:
        FrameError: it is cut off.
    """
    if len(payload) == 1:
        raise FrameError(PROTOCOL_ERROR, "half a close code")
    code = int.from_bytes(payload[:2]) if payload else _NO_CODE
    return Closing(code, payload[2:].decode("utf-8", "replace"))


def close_answer(payload: bytes) -> bytes:
    """What a close frame is answered with: its own code, if that is one which may be sent."""
    code = int.from_bytes(payload[:2])
    usable = 1000 <= code < 5000 and code not in _UNSENDABLE
    return payload[:2] if usable or not payload else PROTOCOL_ERROR.to_bytes(2)


# --- the connection ------------------------------------------------------------------------------


class Socket:
    """An open WebSocket. See `dynamiq_async.transport.WebSocket`.

    All that arrives is looked at as it arrives, in no task of its own: pings are answered and a
    close is noticed also while nobody reads. Only messages wait, and from `HIGH_WATER` on they
    wait in the network.
    """

    closing: Closing | None = None

    def __init__(
        self, protocol: Any, label: str, *, max_message_bytes: int, heartbeat: float | None
    ) -> None:
        self._protocol = protocol
        self._label = label
        self._limit = max_message_bytes
        self._frames = FrameReader(max_message_bytes)
        self._loop = asyncio.get_running_loop()
        self._messages: list[bytes | None] = []
        self._size = 0  # of these, in bytes
        self._fence: bytes | None = None  # the ping whose pong is the next fence
        self._news = False  # whether something but a pong came since the last `receive`
        self._paused = False
        self._waiter: asyncio.Future[None] | None = None
        self._goodbye: asyncio.Future[None] | None = None
        self._closed = False  # whether our close frame is on its way
        self._deaf = False  # whether what still comes means nothing any more
        self._error: Exception | None = None
        self._heartbeat = heartbeat
        self._heard = self._loop.time()
        self._backlog = 0  # what was unsent when the heart beat last
        self._timer: asyncio.Handle | None = None
        if heartbeat is not None:
            self._timer = self._loop.call_later(heartbeat, self._beat)
        protocol.set_parser(self, None)
        if protocol.transport is None:
            self.feed_eof()

    @property
    def ended(self) -> bool:
        return self._error is not None or self.closing is not None

    # What aiohttp's connection calls.

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self._heard = self._loop.time()
        if not self._deaf:
            unfinished = self._frames.size
            try:
                for opcode, payload in self._frames.feed(data):
                    self._take(opcode, payload)
                    if opcode == CLOSE:
                        break
            except FrameError as error:
                self._give_up(error)
            if self._frames.size > unfinished:  # a large message may take its time
                self._notice()
            self._flow()
        return False, b""

    def feed_eof(self) -> None:
        cut = " in the middle of a message" if self._frames.pending else ""
        self._end(errors.APIConnectionError(f"{self._label}: the connection broke{cut}"))

    # What arrives.

    def _take(self, opcode: int, payload: bytes) -> None:
        if opcode == PING:
            if not self._unsent:  # who pings without reading the answers gets no more of them
                self._write(PONG, payload)
        elif opcode == CLOSE:
            self._deaf = True
            self.closing = read_close(payload)
            self._write_close(close_answer(payload))
            self._end(None)
        elif opcode == PONG:
            if payload == self._fence:
                self._fence = None  # once is enough
                self._messages.append(None)
            return
        elif not self._closed:
            self._messages.append(payload)
            self._size += len(payload)
        self._notice()

    def _give_up(self, violation: FrameError) -> None:
        if violation.code == TOO_BIG:
            error: errors.DynamiqError = errors.EventTooLargeError(
                f"{self._label}: a message is larger than max_event_bytes ({self._limit})",
                limit=self._limit,
            )
        else:
            error = errors.APIConnectionError(
                f"{self._label}: what came is not a WebSocket's: {violation}"
            )
        self._deaf = True
        self._write_close(violation.code.to_bytes(2))
        self._end(error)

    def _end(self, error: Exception | None) -> None:
        """Nothing more comes, for this reason, unless there was one before."""
        self._stop()
        if not self.ended:
            self._error = error
        self._wake()
        if self._goodbye is not None and not self._goodbye.done():
            self._goodbye.set_result(None)

    def _notice(self) -> None:
        """Let who waits know that the server is at work."""
        self._news = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _flow(self) -> None:
        """Read on only as far as somebody takes what is read."""
        full = self._size > HIGH_WATER
        if full == self._paused:
            return
        self._paused = full
        if full:
            self._protocol.pause_reading()
        else:
            self._heard = self._loop.time()
            self._protocol.resume_reading()

    def _beat(self, pinged_at: float | None = None, again: bool = False) -> None:
        """After a silence, ask whether the server is there; give up on one that says nothing."""
        assert self._heartbeat is not None  # noqa: S101 - for the type checker
        now = self._loop.time()
        backlog, self._backlog = self._backlog, self._unsent
        if self._paused or self._unsent < backlog:
            # A pong could not be seen, or the ping is still on its way behind a large message.
            self._heard = now
        silence = now - self._heard
        if pinged_at is None or self._heard > pinged_at:
            pinged_at = None
            if silence >= self._heartbeat:
                self._write(PING, b"")
                pinged_at, silence = now, 0.0
            self._timer = self._loop.call_later(self._heartbeat - silence, self._beat, pinged_at)
        elif not again:
            # If the loop was held up, the pong may be here and not have had its turn yet.
            self._timer = self._loop.call_soon(self._beat, pinged_at, True)
        else:
            self._end(
                errors.APIConnectionError(
                    f"{self._label}: not a sign of the server for {silence:.1f} s, and no answer "
                    "to a ping"
                )
            )
            self._protocol.transport.abort()

    # What its owner calls.

    async def receive(self) -> list[bytes | None] | None:
        if not (self._news or self.ended):
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        messages = self.take()
        if messages or not self.ended:
            return messages
        if self._error is not None:
            raise self._error
        return None

    def take(self) -> list[bytes | None]:
        messages, self._messages = self._messages, []
        self._size = 0
        self._news = False
        self._flow()
        return messages

    def fence(self) -> None:
        self._fence = os.urandom(8)
        self._write(PING, self._fence)

    async def send(self, message: bytes) -> None:
        self._write(TEXT, message)
        try:
            with suppress(OSError):  # which `feed_eof` was told too
                await self._protocol._drain_helper()
        except asyncio.CancelledError:
            # Some versions of aiohttp leave behind what they waited for, to warn of its failure.
            waiter = self._protocol._drain_waiter
            waiter.add_done_callback(lambda waiter: waiter.cancelled() or waiter.exception())
            raise
        if self._error is not None:
            raise self._error

    def fail(self, error: Exception) -> None:
        if not self.ended:
            self._error = error
        self._wake()
        if self._unsent:
            self._protocol.transport.abort()  # else a `send` would wait for who does not read

    async def aclose(self) -> None:
        self._write_close(NORMAL.to_bytes(2))
        self.take()
        if self.closing is None and self._protocol.transport is not None:
            if self._goodbye is None:
                self._goodbye = self._loop.create_future()
            await asyncio.wait([self._goodbye], timeout=GOODBYE_SECONDS)

    def close(self) -> None:
        self._stop()
        if self._loop.is_closed():
            return
        self._write_close(GOING_AWAY.to_bytes(2))
        self.fail(errors.StreamClosedError(f"{self._label}: the WebSocket was closed"))

    @property
    def _unsent(self) -> int:
        """How many bytes the system has not taken yet."""
        transport = self._protocol.transport
        return transport.get_write_buffer_size() if transport is not None else 0

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _write(self, opcode: int, payload: bytes) -> None:
        transport = self._protocol.transport
        if not (self._closed or transport is None or transport.is_closing()):
            transport.write(frame(opcode, payload))

    def _write_close(self, code: bytes) -> None:
        self._write(CLOSE, code)
        self._closed = True
