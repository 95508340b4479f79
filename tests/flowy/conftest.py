"""A Flowy client of an emulator for each test, which is held to leave nothing behind."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import pytest
import pytest_asyncio

from dynamiq_async import AsyncFlowy
from dynamiq_async._http.retry import RetryPolicy
from dynamiq_async.emulator import Emulator, Flowy, RequestRecord
from dynamiq_async.flowy import poller

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Clock:
    """The emulator's time, which a test moves."""

    def __init__(self) -> None:
        self.time = 1_800_000_000.0

    def __call__(self) -> float:
        return self.time


class Served(NamedTuple):
    """A client, and the service that it talks to."""

    client: AsyncFlowy
    emulator: Emulator
    clock: Clock

    @property
    def service(self) -> Flowy:
        return self.emulator.flowy

    def requests(self, method: str, beginning: str = "/") -> list[RequestRecord]:
        """The requests to the API with this method, whose path begins so."""
        return [
            seen
            for seen in self.emulator.requests
            if (seen.service, seen.method) == ("flowy", method)
            and seen.endpoint.startswith(beginning)
        ]

    @property
    def downloads(self) -> list[RequestRecord]:
        """The requests for links."""
        return [seen for seen in self.emulator.requests if seen.service == "flowy-files"]


class Serve(Protocol):
    async def __call__(self, **client: Any) -> Served: ...


@pytest.fixture(autouse=True)
def _held_to_it(quick_collections: None, leaves_nothing: None) -> None:
    """In all tests of this part."""


@pytest_asyncio.fixture
async def serve(leaves_nothing: None, waits: list[float]) -> AsyncIterator[Serve]:
    """Starts an emulator, with a client of it that holds no slot at the end of the test."""
    async with AsyncExitStack() as stack:

        async def start(**client: Any) -> Served:
            clock = Clock()
            emulator = await stack.enter_async_context(Emulator(clock=clock))
            settings = {"api_key": emulator.flowy_key, "base_url": emulator.flowy_url} | client
            made = AsyncFlowy(**settings)
            stack.push_async_callback(holds_nothing, made)
            return Served(made, emulator, clock)

        yield start


@pytest_asyncio.fixture
async def flowy(serve: Serve) -> Served:
    """A client with its defaults."""
    return await serve()


async def holds_nothing(client: AsyncFlowy) -> None:
    await client.aclose()
    limiters = client._api.sender.limiter, client._shared.runs, client._shared.downloader.limiter
    assert [limiter.in_flight for limiter in limiters] == [0, 0, 0]


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Retries and polls come at once; the list has what the retries would have waited."""
    waited: list[float] = []

    def lengthen(_: RetryPolicy, seconds: float) -> float:
        waited.append(seconds)
        return 0.0

    monkeypatch.setattr(RetryPolicy, "lengthen", lengthen)
    monkeypatch.setattr(poller, "POLL_SECONDS", (0.002, 0.01))
    monkeypatch.setattr(poller, "POLL_SHARE", 1e6)
    return waited
