"""Relays that a server ends before their stream is over, in this process."""

from __future__ import annotations

import asyncio
import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn
from aiohttp import web
from starlette.applications import Starlette
from starlette.routing import Route

from dynamiq_async import errors
from dynamiq_async.emulator import Fault
from dynamiq_async.relay import relay
from dynamiq_async.relay.aiohttp import relay_response, setup
from dynamiq_async.relay.starlette import RelayResponse
from tests.support.backends import Browser, aiohttp_serving, listening

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, MutableMapping

    from dynamiq_async import AsyncApp
    from dynamiq_async.emulator import Emulator

    from .conftest import Emulate


async def speak(input: Any, run: Any) -> Any:
    await run.text("hello")
    await asyncio.get_running_loop().create_future()


async def spoken(emulate: Emulate) -> tuple[AsyncApp, Emulator, str]:
    """A run that has said one word, and waits."""
    app, emulator = await emulate(speak)
    run = await app.runs.create({}, background=True)
    async for event in app.runs.follow(run.id):
        if event.text:
            break
    return app, emulator, run.id


class Server:
    """A server as uvicorn is one: a method of it handles SIGTERM."""

    should_exit = False

    def handle_exit(self, *_: Any) -> None:
        self.should_exit = True


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    before = signal.signal(signal.SIGTERM, server.handle_exit)
    yield server
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("on_leave", ["detach", "cancel"])
async def test_relays_end_when_their_server_was_told_to_stop(
    on_leave: Any, emulate: Emulate, server: Server
) -> None:
    app, emulator, run = await spoken(emulate)
    sent: list[bytes] = []

    async def receive() -> MutableMapping[str, Any]:
        await asyncio.get_running_loop().create_future()
        return {}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message.get("body", b""))
        if b"hello" in sent[-1]:
            signal.raise_signal(signal.SIGTERM)

    response = RelayResponse(app.runs.follow(run), on_leave=on_leave)
    async with asyncio.timeout(10):
        await response({"type": "http", "method": "GET", "headers": []}, receive, send)
    assert b'"code":"unavailable"' in b"".join(sent)
    assert f'"last_event_id":"{run}:2"'.encode() in b"".join(sent)
    assert emulator.runs[run].status == ("canceled" if on_leave == "cancel" else "started")
    emulator.runs[run].cancel()


@pytest.mark.parametrize("rejects", [True, False])
async def test_a_connection_is_broken_for_pages_that_go_on_only_then(
    rejects: bool, emulate: Emulate, server: Server
) -> None:
    """A server rejects the message that breaks it, and nothing more is to be said. A middleware
    takes it first, so that only an exception gets through."""
    app, emulator, run = await spoken(emulate)
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        await asyncio.get_running_loop().create_future()
        return {}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)
        if b"hello" in message.get("body", b""):
            signal.raise_signal(signal.SIGTERM)
        if rejects and message["type"] == "http.response.broken_off":
            raise RuntimeError("no such message")

    response = RelayResponse(app.runs.follow(run), format="ui-message-stream")
    scope = {"type": "http", "method": "GET", "headers": []}
    async with asyncio.timeout(10):
        if rejects:
            await response(scope, receive, send)
        else:
            with pytest.raises(errors.StreamClosedError):
                await response(scope, receive, send)
    assert sent[-1]["type"] == "http.response.broken_off"
    assert not any(b"[DONE]" in message.get("body", b"") for message in sent)
    emulator.runs[run].cancel()


async def test_aiohttp_breaks_a_connection_for_pages_that_go_on_only_then(
    emulate: Emulate,
) -> None:
    app, emulator, run = await spoken(emulate)

    async def events(request: web.Request) -> web.StreamResponse:
        return await relay_response(request, app.runs.follow(run), format="ui-message-stream")

    backend = web.Application()
    setup(backend)
    backend.add_routes([web.get("/", events)])
    async with aiohttp_serving(backend) as port, asyncio.timeout(10):
        browser = await Browser.ask(port)
        await browser.until(b"hello")
        await backend.shutdown()
        with pytest.raises(EOFError):
            await browser.body()
    emulator.runs[run].cancel()


async def test_a_stream_that_was_closed_elsewhere_is_an_error_of_the_handler() -> None:
    async def gone() -> AsyncIterator[str]:
        yield "hello"
        raise errors.StreamClosedError("closed elsewhere")

    raised: list[Exception] = []

    async def events(request: web.Request) -> web.StreamResponse:
        try:
            return await relay_response(request, gone(), format="text")
        except errors.StreamClosedError as error:
            raised.append(error)
            raise

    backend = web.Application()
    backend.add_routes([web.get("/", events)])
    async with aiohttp_serving(backend) as port, asyncio.timeout(10):
        browser = await Browser.ask(port)
        with pytest.raises(EOFError):
            await browser.body()
    assert len(raised) == 1


async def test_a_relay_that_begins_while_aiohttp_stops_ends_at_once(emulate: Emulate) -> None:
    app, emulator, run = await spoken(emulate)
    asked, stopping = asyncio.Event(), asyncio.Event()

    async def events(request: web.Request) -> web.StreamResponse:
        asked.set()
        await stopping.wait()
        return await relay_response(request, app.runs.follow(run), on_leave="cancel")

    backend = web.Application()
    setup(backend)
    backend.add_routes([web.get("/", events)])
    async with aiohttp_serving(backend) as port, asyncio.timeout(10):
        browser = await Browser.ask(port)
        await asked.wait()
        await backend.shutdown()
        stopping.set()
        assert b'"code":"unavailable"' in await browser.body()
    assert emulator.runs[run].status == "canceled"


async def test_a_client_cancels_the_runs_of_its_relays_before_it_closes(emulate: Emulate) -> None:
    app, emulator, run = await spoken(emulate)
    body = relay(app.runs.follow(run), on_leave="cancel")
    await body.open()
    async with asyncio.timeout(10):
        while b"hello" not in await anext(body):
            pass
        await app.aclose()
        rest = b"".join([piece async for piece in body])
    assert b'"code":"unavailable"' in rest
    assert emulator.runs[run].status == "canceled"


async def test_a_run_whose_id_is_not_known_yet_is_canceled_all_the_same(emulate: Emulate) -> None:
    app, emulator = await emulate(speak)
    emulator.script(Fault(at_byte=0, stall=0.2))
    body = relay(app.runs.stream({}), on_leave="cancel")
    async with asyncio.timeout(10):
        await body.open()
        body.shut_down()
        sent = b"".join([piece async for piece in body])
        await body.aclose()
    assert b'"code":"unavailable"' in sent
    assert [run.status for run in emulator.runs.values()] == ["canceled"]


async def test_a_relay_may_close_its_own_client(emulate: Emulate) -> None:
    app, emulator, run = await spoken(emulate)

    async def close(event: Any) -> Any:
        await app.aclose()
        return event

    body = relay(app.runs.follow(run), on_leave="cancel", map=close)
    async with asyncio.timeout(10):
        await body.open()
        sent = b"".join([piece async for piece in body])
    assert b"event: error" in sent
    emulator.runs[run].cancel()


async def test_leaving_a_relay_that_was_shut_down_changes_nothing(emulate: Emulate) -> None:
    app, emulator, run = await spoken(emulate)
    body = relay(app.runs.follow(run), on_leave="cancel")
    await body.open()
    body.shut_down()
    async with asyncio.timeout(10):
        await body.aclose()
    assert emulator.runs[run].status == "canceled"


@pytest.mark.parametrize("nested", [False, True])
async def test_uvicorn_in_a_thread_ends_its_relays_too(nested: bool) -> None:
    """There it handles no signals; whoever runs it sets `should_exit`."""

    async def endless() -> AsyncIterator[str]:
        yield "hello"
        await asyncio.get_running_loop().create_future()

    async def endpoint(request: Any) -> RelayResponse:
        return RelayResponse(endless(), heartbeat=None)

    settings: dict[str, Any] = {"lifespan": "off", "ws": "none", "log_config": None}
    app = Starlette(routes=[Route("/", endpoint)])
    server = uvicorn.Server(uvicorn.Config(app, **settings))
    sock = listening()

    async def within() -> None:
        await server.serve(sockets=[sock])

    def run() -> None:
        asyncio.run(within()) if nested else server.run(sockets=[sock])

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    browser = await Browser.ask(sock.getsockname()[1])
    try:
        await browser.until(b"hello")
        server.should_exit = True
        async with asyncio.timeout(30):
            assert b'"code":"unavailable"' in await browser.body()
    finally:
        server.force_exit = server.should_exit = True
        browser.leave()
        await asyncio.to_thread(thread.join, 30)
    assert not thread.is_alive()
