"""The browser leaves: in every phase, behind every server, and the upstream is closed at once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.support.backends import BACKENDS, Browser
from tests.support.wire import CHUNKED, chunk, says, sse

if TYPE_CHECKING:
    from tests.support.network import MakeApp, Serve
    from tests.support.wire import Peer

    from .conftest import Relaying

ENDLESS = chunk(sse(says("a word " * 10_000)))
each_backend = pytest.mark.parametrize("kind", BACKENDS)
each_way = pytest.mark.parametrize("how", ["close", "reset"])


async def silent(peer: Peer) -> None:
    await peer.gone()


async def only_headers(peer: Peer) -> None:
    await peer.send(CHUNKED)
    await peer.gone()


async def one_event(peer: Peer) -> None:
    await peer.send(CHUNKED, chunk(sse(says("hello"))))
    await peer.gone()


async def never_ending(peer: Peer) -> None:
    await peer.send(CHUNKED)
    while True:
        await peer.send(ENDLESS)


@each_backend
@each_way
@pytest.mark.parametrize("phase", ["before headers", "before events", "in the middle"])
async def test_the_upstream_is_closed_within_a_second(
    kind: str, how: str, phase: str, serve: Serve, app_for: MakeApp, relaying: Relaying
) -> None:
    handlers = {
        "before headers": silent,
        "before events": only_headers,
        "in the middle": one_event,
    }
    wire = await serve(handlers[phase])
    app = app_for(wire)
    port = await relaying(kind, lambda _: app.stream({}))
    browser = await Browser.ask(port)
    await wire.asked()
    if phase == "before events":
        await browser.head()
    elif phase == "in the middle":
        await browser.until(b"hello")

    browser.leave(how=how)

    async with asyncio.timeout(1.0):
        await wire.all_closed()


@each_backend
@each_way
async def test_the_same_holds_for_a_browser_that_does_not_read(
    kind: str, how: str, serve: Serve, app_for: MakeApp, relaying: Relaying
) -> None:
    wire = await serve(never_ending)
    app = app_for(wire)
    port = await relaying(kind, lambda _: app.stream({}))
    browser = await Browser.ask(port)
    await browser.until(b"a word")
    await asyncio.sleep(0.3)  # all buffers are full by then

    browser.leave(how=how)

    async with asyncio.timeout(1.0):
        await wire.all_closed()


async def test_aiohttp_gives_up_what_a_browser_that_half_left_has_not_taken(
    serve: Serve, app_for: MakeApp, relaying: Relaying
) -> None:
    wire = await serve(never_ending)
    app = app_for(wire)
    port = await relaying("aiohttp", lambda _: app.stream({}))
    browser = await Browser.ask(port)
    await browser.until(b"a word")
    await asyncio.sleep(0.3)

    browser.leave(how="half")

    async with asyncio.timeout(1.0):
        await wire.all_closed()
    with pytest.raises((ConnectionError, EOFError)):
        await browser.body()
