"""What the tests of the relay are held to, and what they start from."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Protocol

import pytest
import pytest_asyncio

from dynamiq_async import AsyncApp
from dynamiq_async.emulator import Emulator
from tests.support.backends import Browser, backend
from tests.support.network import app_for, pytest_generate_tests, serve, transport_kind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from dynamiq_async.emulator import App
    from tests.support.backends import MakeStream

__all__ = ["app_for", "pytest_generate_tests", "serve", "transport_kind"]


@pytest.fixture(autouse=True)
def _held_to_it(quick_collections: None, leaves_nothing: None) -> Iterator[None]:
    """In all tests of this part."""
    yield
    while Browser.opened:
        Browser.opened.pop().leave()


class Emulate(Protocol):
    async def __call__(self, app: str | App = ..., **options: Any) -> tuple[AsyncApp, Emulator]: ...


@pytest_asyncio.fixture
async def emulate(leaves_nothing: None) -> AsyncIterator[Emulate]:
    """Starts an emulator, with a client of it that holds no slot at the end of the test."""
    async with AsyncExitStack() as stack:

        async def start(app: str | App = "llm", **options: Any) -> tuple[AsyncApp, Emulator]:
            emulator = await stack.enter_async_context(Emulator(app, **options))
            client = AsyncApp(emulator.url, access_key=emulator.access_key or False)
            stack.push_async_callback(_holds_nothing, client)
            return client, emulator

        yield start


async def _holds_nothing(app: AsyncApp) -> None:
    await app.aclose()
    assert app._api.sender.limiter.in_flight == 0


class Relaying(Protocol):
    async def __call__(self, kind: str, make: MakeStream, **options: Any) -> int: ...


@pytest_asyncio.fixture
async def relaying(leaves_nothing: None) -> AsyncIterator[Relaying]:
    """Starts backends; gives their ports."""
    async with AsyncExitStack() as stack:

        async def start(kind: str, make: MakeStream, **options: Any) -> int:
            return await stack.enter_async_context(backend(kind, make, **options))

        yield start
