"""A connection to the recorded App. It uses plain sockets: the emulator has no HTTP client.

Bytes are returned with the time at which they came, and bytes before a reset are not lost.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

from ..core.tasks import stop

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Coroutine

    from yarl import URL

_MOST = 1024 * 1024  # reading pauses while this many bytes wait for `receive`
_PIECE = 64 * 1024


@asynccontextmanager
async def beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run this concurrently with the block, and cancel it at the end of the block."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        await stop({task})


class Upstream(asyncio.Protocol):
    """One connection.

    Attributes:
        failure: the error that ended it, once `receive` has returned no bytes; None if the App
            closed it.
    """

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self._transport: asyncio.Transport
        self._pieces: deque[tuple[float, bytes]] = deque()
        self._size = 0
        self._ended = False
        self._news = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    @classmethod
    async def open(cls, url: URL, trust: ssl.SSLContext | None, timeout: float) -> Upstream:
        """Connect to the host of a URL. `trust` is for HTTPS; None: the system's trust store.

        Raises `OSError` (`TimeoutError` among them).
        """
        host = url.raw_host or ""
        # Names under .localhost are this machine, even if the resolver does not know them.
        there = "localhost" if host.removesuffix(".").endswith(".localhost") else host
        secure = (trust or True) if url.scheme == "https" else None
        async with asyncio.timeout(timeout):
            _, protocol = await asyncio.get_running_loop().create_connection(
                cls, there, url.port or 0, ssl=secure, server_hostname=host if secure else None
            )
        return protocol

    @asynccontextmanager
    async def sending(self, *parts: bytes | memoryview) -> AsyncIterator[None]:
        """Send these while the block runs, because an App may respond before it has read them."""

        async def send() -> None:
            for part in parts:
                await self.send(part)

        async with beside(send()):
            yield

    async def send(self, data: bytes | memoryview) -> None:
        """Send these bytes. If the connection is gone they are lost, and `receive` reports it."""
        view = memoryview(data)
        for start in range(0, len(view), _PIECE):
            await self._writable.wait()
            self._transport.write(bytes(view[start : start + _PIECE]))

    async def receive(self) -> tuple[float, bytes]:
        """The next bytes, and the loop's time when they came; no bytes at the end."""
        while not self._pieces:
            if self._ended:
                return asyncio.get_running_loop().time(), b""
            self._news.clear()
            await self._news.wait()
        at, data = self._pieces.popleft()
        self._size -= len(data)
        if self._size < _MOST and not self._ended:
            self._transport.resume_reading()
        return at, data

    def close(self) -> None:
        """Close the connection at once."""
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio: the connection is open."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Called by asyncio: bytes came."""
        self._pieces.append((asyncio.get_running_loop().time(), data))
        self._size += len(data)
        if self._size >= _MOST:
            self._transport.pause_reading()
        self._news.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio: the connection is closed."""
        self.failure = exc
        self._ended = True
        self._writable.set()
        self._news.set()

    def pause_writing(self) -> None:
        """Called by asyncio: too many bytes wait to be sent."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Called by asyncio: enough of the bytes have been sent."""
        self._writable.set()
