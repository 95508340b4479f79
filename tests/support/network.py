"""What every test of the network part is held to: it leaves nothing behind."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Protocol

import pytest
import pytest_asyncio

from dynamiq_async import AsyncApp
from tests.support.wire import Wire

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator

    from tests.support.wire import Handler

KEY = "dynamiq_acc_s3cr3t-0123456789"


@pytest.fixture(autouse=True)
def _held_to_it(quick_collections: None, leaves_nothing: None) -> None:
    """In all tests of this part."""


class Serve(Protocol):
    async def __call__(self, handler: Handler, *, tls: ssl.SSLContext | None = None) -> Wire: ...


class MakeApp(Protocol):
    def __call__(self, wire: Wire | str, **options: Any) -> AsyncApp: ...


@pytest_asyncio.fixture
async def serve() -> AsyncIterator[Serve]:
    """Starts a server that lasts as long as the test."""
    async with AsyncExitStack() as stack:

        async def start(handler: Handler, *, tls: ssl.SSLContext | None = None) -> Wire:
            return await stack.enter_async_context(Wire(handler, tls=tls))

        yield start


@pytest_asyncio.fixture
async def app_for(serve: Serve) -> AsyncIterator[MakeApp]:
    """Makes clients that are closed, and checked to hold no slot, at the end of the test."""
    apps: list[AsyncApp] = []

    def make(wire: Wire | str, **options: Any) -> AsyncApp:
        options.setdefault("access_key", KEY)
        app = AsyncApp(wire if isinstance(wire, str) else wire.url, **options)
        apps.append(app)
        return app

    yield make
    for app in apps:
        await app.aclose()
        assert in_flight(app) == 0


def in_flight(app: AsyncApp) -> int:
    """How many of the client's slots are taken."""
    limiter = app._api.sender.limiter
    return limiter.in_flight + limiter.streams.in_flight


@pytest.fixture
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Retries come at once; what they would have waited is in the list."""
    from dynamiq_async._http.retry import RetryPolicy

    waits: list[float] = []

    def lengthen(_: RetryPolicy, seconds: float) -> float:
        waits.append(seconds)
        return 0.0

    monkeypatch.setattr(RetryPolicy, "lengthen", lengthen)
    return waits


class FakeClock:
    """The loop's and the gate's time, which a test can put forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    async def pass_by(self, seconds: float) -> None:
        """Let time pass, and let everybody notice."""
        self.ahead += seconds
        await turns()


async def turns(count: int = 30) -> None:
    """Let the loop turn, so that what was sent over loopback has arrived and was looked at."""
    for _ in range(count):
        await asyncio.sleep(0)


@pytest_asyncio.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    fake = FakeClock()
    loop = asyncio.get_running_loop()
    loop_time = loop.time
    monkeypatch.setattr(loop, "time", lambda: loop_time() + fake.ahead)
    return fake
