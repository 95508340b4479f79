"""A headless Chromium, and a network between it and the backend that can be cut."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Self

from tests.support.browser import chromium

__all__ = ["chromium"]


class Network:
    """Passes bytes on between a browser and the backend at `port`, until it is cut.

    Attributes:
        cuts: how many connections were cut.
    """

    def __init__(self, port: int) -> None:
        self._backend = port
        self._left: int | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.cuts = 0

    def cut_after(self, size: int) -> None:
        """Let through `size` more bytes of events, wherever that is, and cut the connection."""
        self._left = size

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self._backend)
        up = asyncio.ensure_future(_pass_on(reader, to_writer))
        try:
            await self._down(to_reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass  # one side left, or the test is over
        finally:
            self._tasks.discard(task)
            up.cancel()
            await asyncio.wait([up])
            for end in (writer, to_writer):
                end.transport.abort()
                with suppress(ConnectionError):
                    await end.wait_closed()

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        events = False
        while data := await reader.read(65536):
            events = events or b"text/event-stream" in data
            if events and self._left is not None:
                data, self._left = data[: self._left], self._left - len(data)
            writer.write(data)
            await writer.drain()
            if events and self._left is not None and self._left <= 0:
                self._left = None
                self.cuts += 1
                writer.close()  # what was let through arrives
                await writer.wait_closed()
                return


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
