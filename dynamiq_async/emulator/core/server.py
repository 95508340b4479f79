"""A server on a port of this machine: its start, its end, and what a test sees of it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable

    from .callers import Callers
    from .listener import Listener
    from .log import Changes, Log
    from .request_record import RequestRecord


class LocalServer:
    """The emulator, or a tape in the place of an App. A subclass sets the attributes."""

    _listener: Listener
    _callers: Callers
    _changes: Changes
    _requests: Log[RequestRecord]
    _temporary: tempfile.TemporaryDirectory[str] | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def start(self) -> None:
        """Listen."""
        await self._listener.start()
        self._temporary = tempfile.TemporaryDirectory(prefix="dynamiq-emulator-")
        self._callers.on_loopback = self._listener.on_loopback

    async def aclose(self) -> None:
        """Stop at once, and cancel all requests. May be called twice."""
        temporary, self._temporary = self._temporary, None
        if temporary is not None:
            try:
                await self._stop()
            finally:
                temporary.cleanup()

    async def _stop(self) -> None:
        await self._listener.aclose()

    @property
    def _folder(self) -> Path:
        """Where large bodies are kept while it runs."""
        assert self._temporary is not None  # noqa: S101 - requests come only while it runs
        return Path(self._temporary.name)

    @property
    def url(self) -> str:
        """The URL that clients call."""
        return self._listener.url

    @property
    def host(self) -> str:
        """The host it listens on."""
        return self._listener.host

    @property
    def port(self) -> int:
        """The port it listens on; after the start the actual one, if 0 was given."""
        return self._listener.port

    @property
    def running(self) -> bool:
        """Whether it listens."""
        return self._listener.running

    @property
    def requests(self) -> Log[RequestRecord]:
        """Every request, in the order in which the bodies were complete."""
        return self._requests

    async def wait_until(
        self, condition: Callable[[], object], *, timeout: float | None = 5.0
    ) -> None:
        """Wait until `condition()` is true. It is called whenever the server's state changes.

        Raises `TimeoutError` after `timeout` seconds.
        """
        await self._changes.wait_until(condition, timeout)
