"""The types of a transport: its requests, bodies and responses. The docstring of
`dynamiq_async.transport` says how to write a transport."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping


class Body(Protocol):
    """A body that is too large to be held in memory.

    Iterate it with `async for`: the pieces are bytes, and none is empty. It may be iterated again
    when the request is sent again. If you stop before its end, close the iterator
    (`contextlib.aclosing`), so that files are closed. Let its exceptions through; the client
    recognises them as errors of the body.
    """

    @property
    def length(self) -> int | None:
        """Its length in bytes, for `Content-Length`; None where it must be sent in chunks."""

    def __aiter__(self) -> AsyncGenerator[bytes, None]: ...


class Request:
    """A request to be sent as it is.

    Attributes:
        method: in capitals.
        url: absolute and quoted.
        headers: all headers but those of the connection and the body's framing (`Host`,
            `Content-Length`, `Transfer-Encoding`), which the transport adds. They hold the key:
            log none of them.
        body: bytes, a `Body`, or None.
        sent: whether any part of it may have been sent. If a transport knows, it sets this to False
            when `send` begins and to True before it sends the first byte. Then a request that still
            waited for its connection when a time limit passed can safely be sent again. True by
            default, which is the safe value.
    """

    __slots__ = ("body", "headers", "method", "sent", "url")

    def __init__(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | Body | None = None,
    ) -> None:
        self.method: str = method
        self.url: str = url
        self.headers: Mapping[str, str] = headers
        self.body: bytes | Body | None = body
        self.sent: bool = True

    def __repr__(self) -> str:
        return f"<Request {self}>"

    def __str__(self) -> str:
        """Its name in errors, without query and headers."""
        return f"{self.method} {self.url.partition('?')[0]}"


class Response(Protocol):
    """A response whose body is read piece by piece."""

    @property
    def status(self) -> int:
        """The HTTP status."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers, looked up without regard to case."""

    @property
    def framed(self) -> bool:
        """Whether HTTP's framing shows where the body ends (by chunks, a length, or HTTP/2's
        frames). Otherwise the body ends with the connection, complete or not."""

    async def read(self) -> bytes:
        """Return the bytes of the body that have arrived, or wait for some; `b""` at the end, also
        in every later call.

        If the transport asked for compression, it returns the body decompressed.

        Raises:
            APIConnectionError: the connection broke, or the body is incomplete.
        """

    def close(self) -> None:
        """Release the connection: back to the pool if the body was read to its end, else close it.

        May be called at any time and any number of times, also while `read` waits and by a
        finaliser, so it must not wait.
        """


class Connection(Response, Protocol):
    """The response to an upgrade that the server accepted. After the `101`, the connection is the
    body: `read` returns the bytes that come, and `b""` once the other side has closed."""

    @property
    def unsent(self) -> int:
        """How many of the written bytes the network has not taken yet."""

    def write(self, data: bytes) -> None:
        """Send, without waiting. On a lost connection the data is dropped; `read` then raises."""

    async def drain(self) -> None:
        """Wait until the network has taken most of the written bytes, or the connection is lost."""

    def close(self) -> None:
        """Close the connection. Unsent bytes are dropped."""


@runtime_checkable
class Transport(Protocol):
    """Sends requests, for many tasks at once."""

    async def send(self, request: Request, *, connect_timeout: float | None) -> Response:
        """Send a request, and return when the headers of the response have arrived.

        Args:
            connect_timeout: seconds that a new connection may take, TLS included. None: no limit.

        Raises:
            ConnectError: no connection was made; nothing was sent.
            ConnectTimeoutError: the same, because `connect_timeout` passed.
            APIConnectionError: the connection broke before the response.
        """

    async def aclose(self) -> None:
        """Close all connections. Its owner calls this."""


@runtime_checkable
class Upgrades(Transport, Protocol):
    """A transport that can leave HTTP: what `AsyncApp.connect` needs."""

    async def upgrade(
        self, request: Request, *, connect_timeout: float | None
    ) -> Response | Connection:
        """Send a request with an `Upgrade` header. Raises what `send` raises.

        Returns:
            A `Connection` if the status is 101, else the response of a server that refused.
        """
