"""The one seam to the network: what the rest of the package asks of an HTTP client.

`_aiohttp` fills it. Everything above sees bytes, statuses and this package's errors, never the
library below, so another client (or a fake one, in a test) can stand in its place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dynamiq_async._http.request import Request


class Attempt:
    """What one sending of a request has done so far. `sent` turns true when its body starts out;
    `failure` is what the body's own source raised."""

    __slots__ = ("failure", "sent")

    def __init__(self) -> None:
        self.sent = False
        self.failure: Exception | None = None


class Response(Protocol):
    """A response whose body is read piece by piece.

    Attributes:
        status: the HTTP status.
    """

    status: int

    @property
    def headers(self) -> Mapping[str, str]:
        """Looked up without regard to case."""

    @property
    def framed(self) -> bool:
        """Whether HTTP tells where the body ends (chunks or a length). If it does not, the end of
        the connection is the end of the body, whole or not."""

    @property
    def received(self) -> bool:
        """Whether the whole body is here, so that `read` does not wait any more."""

    @property
    def at_end(self) -> bool:
        """Whether the whole body has been read."""

    async def read(self) -> bytes:
        """The bytes that have arrived, or wait for some; `b""` at the end of the body.

        Raises:
            APIConnectionError: the connection broke, or the framing was violated.
        """

    def fail(self, error: Exception) -> None:
        """Make a `read` that waits, and every later one, raise `error`."""

    def close(self) -> None:
        """Give the connection up: back to the pool if the body was read, else closed.

        May be called at any time and any number of times, also by a finaliser.
        """

    def websocket(self, *, max_message_bytes: int, heartbeat: float | None) -> WebSocket:
        """The WebSocket that begins behind a 101. `close` closes its connection.

        Args:
            max_message_bytes: the most that a message may have.
            heartbeat: seconds of silence after which the server is pinged, and after as many
                more without a sign of it given up. None: never.

        Raises:
            APIResponseError: the handshake is wrong.
        """


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


class Transport(Protocol):
    """Sends one request at a time, and many at once."""

    async def send(
        self, request: Request, attempt: Attempt, *, connect_timeout: float | None
    ) -> Response:
        """Send `request`, follow no redirect, and return when the headers of the answer are here.
        One that asks for a WebSocket gets its `Sec-WebSocket-Key` here, a fresh one each time.

        Raises:
            ConnectError: no connection came about; nothing was sent.
            APIConnectionError: it broke before the answer.
        """

    async def aclose(self) -> None:
        """Close all connections that this transport made."""

    def abandon(self) -> bool:
        """The same from a finaliser, without awaiting; whether there was anything to close."""


def aiohttp_transport(settings: Mapping[str, Any]) -> Transport:
    """The transport on aiohttp, which is imported only now."""
    from dynamiq_async.transport.aiohttp import AiohttpTransport

    return AiohttpTransport(**settings)
