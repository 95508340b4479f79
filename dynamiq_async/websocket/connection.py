"""An open WebSocket: messages both ways on a connection that was upgraded.

A task of its own reads everything that arrives, so that pings are answered and a close is noticed
even while the program does not read (it may wait for a person). Only messages are buffered, and
above `HIGH_WATER` they wait in the network.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, NamedTuple, cast

from dynamiq_async import errors
from dynamiq_async.websocket._frames import open_protocol

if TYPE_CHECKING:
    from websockets.frames import Frame

    from dynamiq_async._http.sender import OpenResponse
    from dynamiq_async.transport import Connection

_CLOSE, _PING, _PONG = 0x8, 0x9, 0xA

NORMAL, GOING_AWAY, PROTOCOL_ERROR, TOO_BIG = 1000, 1001, 1002, 1009
_NO_CODE = 1005  # the standard's code for a close frame without a code
_UNSENDABLE = {1004, _NO_CODE, 1006, 1015, *range(1016, 3000)}  # reserved by the standard

HIGH_WATER = 256 * 1024
"""With more unread bytes of messages than this, the connection is not read any further."""

_OVERHEAD = 64  # bytes added to the size of each message, so that empty ones count too

GOODBYE_SECONDS = 0.25
"""How long to wait for the other side's close frame."""


class Closing(NamedTuple):
    """The server's close frame. The code is 1005 where it had none."""

    code: int
    reason: str


class WebSocket:
    """Messages both ways.

    Args:
        opened: the upgraded connection, which is closed with this.
        label: its name in errors.
        max_message_bytes: the largest message accepted.
        heartbeat: seconds of silence after which the server is pinged. If it is silent for as long
            again, the connection is given up. None: never.

    Attributes:
        closing: the server's close frame, once it has come.
    """

    closing: Closing | None = None

    def __init__(
        self,
        opened: OpenResponse,
        label: str,
        *,
        max_message_bytes: int,
        heartbeat: float | None,
    ) -> None:
        self._opened = opened
        self._stream = cast("Connection", opened.response)
        self._label = label
        self._limit = max_message_bytes
        self._protocol = open_protocol(max_message_bytes, self._on_close)
        self._loop = asyncio.get_running_loop()
        self._messages: list[bytes | None] = []
        self._size = 0  # of these messages, in bytes, with the overhead of each
        self._parts = bytearray()  # of a message whose frames have not all arrived
        self._cut = 0  # how many bytes of an incomplete frame have arrived
        self._fence: bytes | None = None  # the ping whose pong is the next fence
        self._news = asyncio.Event()  # something but a pong came since the last `receive`
        self._room = asyncio.Event()  # there is room for more messages
        self._room.set()
        self._leaving = False
        self._error: Exception | None = None
        self._heard = self._loop.time()
        self._backlog = 0  # the unsent bytes at the last heartbeat
        self._timer: asyncio.Handle | None = None
        if heartbeat is not None:
            self._timer = self._loop.call_later(heartbeat, self._beat, heartbeat)
        self._reading = self._loop.create_task(self._read())

    @property
    def ended(self) -> bool:
        """Whether nothing more can come after the messages that `receive` still has."""
        return self._error is not None or self.closing is not None

    # What arrives.

    async def _read(self) -> None:
        error = None
        try:
            while data := await self._stream.read():
                self._take_in(data)
                if self.closing is not None or self._protocol.parser_exc is not None:
                    return  # bytes after this have no meaning
                if self._size > HIGH_WATER:
                    self._room.clear()
                    await self._room.wait()
                    self._heard = self._loop.time()
        except errors.DynamiqError as failure:
            error = failure
        finally:
            cut = " in the middle of a message" if self._cut or self._parts else ""
            self._end(
                error or errors.APIConnectionError(f"{self._label}: the connection broke{cut}")
            )

    def _take_in(self, data: bytes) -> None:
        self._heard = self._loop.time()
        unfinished = self._cut + len(self._parts)
        self._protocol.receive_data(data)
        self._cut += len(data)
        for frame in self._protocol.events_received():
            self._take(frame)  # type: ignore[arg-type]  # the handshake is behind us
        self._write()
        if self.closing is not None:
            self._end(None)
        elif self._protocol.parser_exc is not None:
            self._end(self._violation(self._protocol.parser_exc))
        elif self._cut + len(self._parts) > unfinished:  # a large message may take its time
            self._news.set()

    def _take(self, frame: Frame) -> None:
        size = len(frame.data)
        self._cut -= size + (2 if size < 126 else 4 if size < 1 << 16 else 10)
        if frame.opcode == _PONG:
            if frame.data == self._fence:
                self._fence = None  # once is enough
                self._messages.append(None)
            return
        if frame.opcode < _CLOSE and not self._leaving:
            self._parts += frame.data
            if frame.fin:
                self._messages.append(bytes(self._parts))
                self._size += len(self._parts) + _OVERHEAD
                self._parts.clear()
        self._news.set()

    def _on_close(self, payload: bytes) -> bytes:
        """Note the code and reason of a close frame, even a forbidden code; returns the reply."""
        if len(payload) == 1:
            return payload  # half a code is a violation
        code = int.from_bytes(payload[:2]) if payload else _NO_CODE
        self.closing = Closing(code, payload[2:].decode("utf-8", "replace"))
        usable = not payload or (1000 <= code < 5000 and code not in _UNSENDABLE)
        return payload[:2] if usable else PROTOCOL_ERROR.to_bytes(2)

    def _violation(self, violation: Exception) -> errors.DynamiqError:
        sent = self._protocol.close_sent
        if sent is not None and sent.code == TOO_BIG:
            return errors.EventTooLargeError(
                f"{self._label}: a message is larger than max_event_bytes ({self._limit})",
                limit=self._limit,
            )
        return errors.APIConnectionError(
            f"{self._label}: what came is not a WebSocket's: {violation}"
        )

    def _end(self, error: Exception | None) -> None:
        """Note that nothing more comes, because of `error`. The first reason counts."""
        if self._timer is not None:
            self._timer.cancel()
        if not self.ended:
            self._error = error
        self._news.set()

    def _beat(self, heartbeat: float, pinged_at: float | None = None, again: bool = False) -> None:
        """Ping the server after a silence, and give up on a server that stays silent."""
        now = self._loop.time()
        backlog, self._backlog = self._backlog, self._stream.unsent
        if self._backlog < backlog or not self._room.is_set():
            # A pong could not be seen, or the ping is still on its way behind a large message.
            self._heard = now
        silence = now - self._heard
        if pinged_at is None or self._heard > pinged_at:
            pinged_at = None
            if silence >= heartbeat:
                self._ping(b"")
                pinged_at, silence = now, 0.0
            self._timer = self._loop.call_later(
                heartbeat - silence, self._beat, heartbeat, pinged_at
            )
        elif not again:
            # If the loop was blocked, the pong may have arrived but not been read yet.
            self._timer = self._loop.call_soon(self._beat, heartbeat, pinged_at, True)
        else:
            self._end(
                errors.APIConnectionError(
                    f"{self._label}: not a sign of the server for {silence:.1f} s, and no answer "
                    "to a ping"
                )
            )
            self._stream.close()

    # What its owner calls.

    async def receive(self) -> list[bytes | None] | None:
        """Return the messages that have arrived, or wait for some. An empty list is a sign of life
        (the server's ping, a piece of a message). None comes after the last message, once the
        server has closed. A None among the messages is a `fence`.

        Raises:
            APIConnectionError: the connection broke, or the bytes that came violate the protocol.
            EventTooLargeError: a message is larger than `max_message_bytes`.
        """
        if not self.ended:
            await self._news.wait()
        messages = self.take()
        if messages or not self.ended:
            return messages
        if self._error is not None:
            raise self._error
        return None

    def take(self) -> list[bytes | None]:
        """The messages that have arrived, without waiting."""
        messages, self._messages = self._messages, []
        self._size = 0
        self._news.clear()
        self._room.set()
        return messages

    def fence(self) -> None:
        """Mark a place among the messages by a None: those before it were sent before the server
        got this, those after it later. It is a ping whose pong keeps its place."""
        self._fence = os.urandom(8)
        self._ping(self._fence)

    async def send(self, message: bytes) -> None:
        """Send a text message.

        Raises:
            APIConnectionError: the connection broke.
        """
        if not (self._leaving or self.ended):
            self._protocol.send_text(message)
            self._write()
            await self._stream.drain()
        if self._error is not None:
            raise self._error

    def fail(self, error: Exception) -> None:
        """Make a waiting `receive`, and every later one, raise `error`."""
        self._end(error)
        if self._stream.unsent:
            self._stream.close()  # else a `send` would wait for a server that does not read

    async def aclose(self) -> None:
        """Send a close frame, and wait briefly for the server's."""
        self._say_goodbye(NORMAL)
        self.take()
        _, reading = await asyncio.wait([self._reading], timeout=GOODBYE_SECONDS)
        if reading:
            self._reading.cancel()
            await asyncio.wait(reading)

    def close(self) -> None:
        """Send a close frame, without waiting. May be called at any time, also by a finaliser."""
        if not self._loop.is_closed():
            self._say_goodbye(GOING_AWAY)
            self._end(errors.StreamClosedError(f"{self._label}: the WebSocket was closed"))
            self._reading.cancel()
        self._opened.close()

    # What is written.

    def _ping(self, payload: bytes) -> None:
        self._protocol.send_ping(payload)
        self._write()

    def _say_goodbye(self, code: int) -> None:
        self._leaving = True
        if self._protocol.close_sent is None:
            self._protocol.send_close(code)
            self._write()

    def _write(self) -> None:
        for piece in self._protocol.data_to_send():
            # A server that pings without reading the pongs gets no more of them.
            if piece[0] & 0x0F != _PONG or not self._stream.unsent:
                self._stream.write(piece)
