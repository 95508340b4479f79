"""A client of an emulator for each test, which is held to leave nothing behind."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import pytest
import pytest_asyncio

from dynamiq_async import AsyncApp
from dynamiq_async._http.retry import RetryPolicy
from dynamiq_async.emulator import Emulator
from dynamiq_async.runs import requests as requests_module
from dynamiq_async.runs import waiting
from tests.support.network import FakeClock, clock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dynamiq_async.emulator import App

__all__ = ["FakeClock", "clock"]


class Served(NamedTuple):
    """A client, and the service that it talks to."""

    app: AsyncApp
    emulator: Emulator

    @property
    def posts(self) -> list[str]:
        """The paths of all POST requests."""
        return [seen.endpoint for seen in self.emulator.requests if seen.method == "POST"]

    def asked(self, ending: str) -> list[Any]:
        """The requests whose path ends so."""
        return [seen for seen in self.emulator.requests if seen.endpoint.endswith(ending)]


class Serve(Protocol):
    async def __call__(
        self, app: str | App = ..., *, client: dict[str, Any] | None = None, **options: Any
    ) -> Served: ...


@pytest.fixture(autouse=True)
def _held_to_it(quick_collections: None, leaves_nothing: None) -> None:
    """In all tests of this part."""


@pytest_asyncio.fixture
async def serve(leaves_nothing: None) -> AsyncIterator[Serve]:
    """Starts an emulator, with a client of it that holds no slot at the end of the test."""
    async with AsyncExitStack() as stack:

        async def start(
            app: str | App = "echo", *, client: dict[str, Any] | None = None, **options: Any
        ) -> Served:
            emulator = await stack.enter_async_context(Emulator(app, **options))
            made = AsyncApp(emulator.url, access_key=emulator.access_key or False, **(client or {}))
            stack.push_async_callback(holds_nothing, made)
            return Served(made, emulator)

        yield start


async def holds_nothing(app: AsyncApp) -> None:
    await app.aclose()
    assert in_flight(app) == 0


def in_flight(app: AsyncApp) -> int:
    """How many of the client's slots are taken."""
    limiter = app._api.sender.limiter
    return limiter.in_flight + limiter.streams.in_flight


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Retries, looks and polls come at once; what the retries would have waited is listed."""
    waited: list[float] = []

    def lengthen(_: RetryPolicy, seconds: float) -> float:
        waited.append(seconds)
        return 0.0

    monkeypatch.setattr(RetryPolicy, "lengthen", lengthen)
    monkeypatch.setattr(waiting, "POLL_SECONDS", (0.002, 0.01))
    monkeypatch.setattr(requests_module, "SECOND_LOOK_SECONDS", 0.002)
    monkeypatch.setattr(requests_module, "SETTLE_SECONDS", 0.15)
    return waited
