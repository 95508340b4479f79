"""The one seam to the network: what the rest of the package asks of an HTTP client.

`_aiohttp` fills it. Everything above sees bytes, statuses and this package's errors, never the
library below, so another client (or a fake one, in a test) can stand in its place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dynamiq_async._request import Request


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


class Transport(Protocol):
    """Sends one request at a time, and many at once."""

    async def send(
        self, request: Request, attempt: Attempt, *, connect_timeout: float | None
    ) -> Response:
        """Send `request`, follow no redirect, and return when the headers of the answer are here.

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
    from dynamiq_async._aiohttp import AiohttpTransport

    return AiohttpTransport(**settings)
