"""What a transport takes and gives. The room's door says how to write one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping


class Body(Protocol):
    """A body that is too large to be held whole.

    Iterate it with `async for`: the pieces are bytes, and none is empty. It may be iterated again
    when the request is sent again. Close the iterator where you stop before its end
    (`contextlib.aclosing`), so that files are closed then. Let what it raises through; the client
    knows it for the body's own.
    """

    @property
    def length(self) -> int | None:
        """Its length in bytes, for `Content-Length`; None where only chunks will do."""

    def __aiter__(self) -> AsyncGenerator[bytes, None]: ...


class Request:
    """A request to be sent as it is.

    Attributes:
        method: in capitals.
        url: absolute and quoted.
        headers: all but those of the connection and the body's framing (`Host`, `Content-Length`,
            `Transfer-Encoding`), which are the transport's. They hold the key: log none of them.
        body: bytes, a `Body`, or None.
        sent: whether some of it may have been sent. A transport that can tell sets it to False when
            `send` begins and to True before the first byte goes out: a request that was still
            waiting for its connection when a time limit passed is sent again without a risk. Where
            no transport sets it, it is True, which is the safe side.
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
        """What errors call it: no query, no header."""
        return f"{self.method} {self.url.partition('?')[0]}"


class Response(Protocol):
    """A response whose body is read piece by piece."""

    @property
    def status(self) -> int:
        """The HTTP status."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Looked up without regard to case."""

    @property
    def framed(self) -> bool:
        """Whether HTTP tells where the body ends (by chunks, a length, or HTTP/2's frames). If it
        does not, the end of the connection is the end of the body, whole or not."""

    async def read(self) -> bytes:
        """What has arrived of the body, or wait for some; `b""` at the end, however often.

        What the transport asked to be compressed it hands out decompressed.

        Raises:
            APIConnectionError: the connection broke, or the body is not whole.
        """

    def close(self) -> None:
        """Give the connection up: back to the pool if the body was read to its end, else closed.

        May be called at any time and any number of times, also while `read` waits and by a
        finaliser, so it does not wait itself.
        """


class Connection(Response, Protocol):
    """The response to an upgrade that was agreed to. From `101` on, the connection is its body:
    `read` gives the bytes that come, and `b""` once the other side has closed."""

    @property
    def unsent(self) -> int:
        """How many of the bytes that were written the network has not taken yet."""

    def write(self, data: bytes) -> None:
        """Send, without waiting. What is written to a lost connection is dropped: `read` tells."""

    async def drain(self) -> None:
        """Wait until the network has taken most of what was written, or the connection is lost."""

    def close(self) -> None:
        """Close the connection. What is unsent is dropped."""


@runtime_checkable
class Transport(Protocol):
    """Sends requests, for many tasks at once."""

    async def send(self, request: Request, *, connect_timeout: float | None) -> Response:
        """Send a request, and return when the headers of the response are here.

        Args:
            connect_timeout: seconds that a new connection may take, TLS included. None: no limit.

        Raises:
            ConnectError: no connection came about; nothing was sent.
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
            A `Connection` if the status is 101, or else the response of a server that does not
            agree.
        """
