"""Apps for batches: a client of an emulator for each test, held to leave nothing behind."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import pytest
import pytest_asyncio

from dynamiq_async import AsyncApp
from dynamiq_async._http.retry import RetryPolicy
from dynamiq_async.emulator import Emulator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dynamiq_async.emulator import App


class Served(NamedTuple):
    """A client, and the service that it talks to."""

    app: AsyncApp
    emulator: Emulator


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
    limiter = app._api.sender.limiter
    assert limiter.in_flight == 0
    assert limiter.limit == limiter._own_limit
    assert not limiter._demands


@pytest_asyncio.fixture
async def app(leaves_nothing: None) -> AsyncIterator[AsyncApp]:
    """A client whose calls lead nowhere, for batches that make none."""
    made = AsyncApp("http://127.0.0.1:9", access_key="k")
    yield made
    await holds_nothing(made)


@pytest.fixture
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries come at once."""
    monkeypatch.setattr(RetryPolicy, "lengthen", lambda _, seconds: 0.0)
