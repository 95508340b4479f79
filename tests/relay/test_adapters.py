"""Starlette, FastAPI, aiohttp and bare ASGI: the same answers over real sockets."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import importlib
import logging
import sys
import tracemalloc
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from aiohttp import web
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import StreamingResponse
from starlette.routing import Route

from dynamiq_async import DynamiqError, errors
from dynamiq_async.emulator import Fault
from dynamiq_async.relay import relay, resume
from dynamiq_async.relay.aiohttp import error_middleware, relay_response
from dynamiq_async.relay.asgi import respond
from dynamiq_async.relay.starlette import RelayResponse, error_response
from tests.support.backends import BACKENDS, Browser, Passing, aiohttp_serving, uvicorn_serving
from tests.support.log_records import fields
from tests.support.wire import CHUNKED, LAST_CHUNK, Peer, chunk, final, says, sse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.network import MakeApp, Serve

    from .conftest import Emulate, Relaying

each_backend = pytest.mark.parametrize("kind", BACKENDS)


async def talk(input: dict[str, Any], run: Any) -> Any:
    for word in ("one ", "two ", "three"):
        await run.text(word)


async def items(*values: Any) -> AsyncIterator[Any]:
    for value in values:
        yield value


async def broken(*values: Any) -> AsyncIterator[Any]:
    for value in values:
        yield value
        await asyncio.sleep(0)
    raise KeyError("of the backend")


# --- answers -------------------------------------------------------------------------------


@each_backend
async def test_a_stream_arrives_with_the_right_headers(
    kind: str, emulate: Emulate, relaying: Relaying
) -> None:
    app, _ = await emulate(talk)
    browser = await Browser.ask(await relaying(kind, lambda _: app.stream({}).text()))
    events = await browser.events()
    assert [event.data for event in events] == ["one ", "two ", "three", "{}"]
    assert browser.status == 200
    assert browser.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert browser.headers["cache-control"] == "no-cache, no-store, no-transform"
    assert browser.headers["x-accel-buffering"] == "no"
    assert browser.headers["connection"] == "keep-alive"
    assert "content-encoding" not in browser.headers


@each_backend
async def test_an_error_before_the_first_byte_has_its_status(
    kind: str, emulate: Emulate, relaying: Relaying
) -> None:
    app, emulator = await emulate()
    emulator.script(Fault(status=429, headers={"Retry-After": "90"}))
    browser = await Browser.ask(await relaying(kind, lambda _: app.stream({})))
    body = msgspec.json.decode(await browser.piece())
    assert (browser.status, browser.headers["retry-after"]) == (429, "90")
    assert body["error"]["code"] == "rate_limited"


@each_backend
async def test_a_browser_that_lost_its_connection_gets_the_rest(
    kind: str, emulate: Emulate, relaying: Relaying
) -> None:
    app, _ = await emulate(talk)
    run = await app.runs.create({})
    port = await relaying(kind, lambda headers: resume(app.runs, run.id, headers))
    browser = await Browser.ask(port, Last_Event_ID=f"{run.id}:3")
    ids = [event.id for event in await browser.events()]
    assert ids == [f"{run.id}:4", f"{run.id}:5", f"{run.id}:5:end"]
    browser = await Browser.ask(port, Last_Event_ID=ids[-1])
    await browser.head()
    assert browser.status == 204
    assert "content-type" not in browser.headers


@each_backend
async def test_asking_for_the_head_runs_nothing(
    kind: str, emulate: Emulate, relaying: Relaying
) -> None:
    app, emulator = await emulate()
    port = await relaying(kind, lambda _: app.stream({}))
    browser = await Browser.ask(port, method="HEAD")
    await browser.head()
    assert browser.headers["content-type"].startswith("text/event-stream")
    assert not emulator.requests


@each_backend
async def test_text_that_is_not_whole_is_cut_off_for_the_browser_too(
    kind: str, relaying: Relaying, caplog: pytest.LogCaptureFixture
) -> None:
    port = await relaying(kind, lambda _: broken("one"), format="text")
    browser = await Browser.ask(port)
    assert await browser.piece() == b"one"
    with pytest.raises((EOFError, ConnectionError)):
        await browser.piece()
    assert "of the backend" in caplog.text
    assert all(fields(record) for record in caplog.records if record.name == "dynamiq_async")


@each_backend
async def test_the_backends_own_errors_reach_its_log(
    kind: str, relaying: Relaying, caplog: pytest.LogCaptureFixture
) -> None:
    port = await relaying(kind, lambda _: broken("one"))
    browser = await Browser.ask(port)
    seen = await browser.until(b"event: error")
    with contextlib.suppress(EOFError):
        await browser.body()
    assert b"of the backend" not in seen
    assert "of the backend" in caplog.text


@each_backend
async def test_a_browser_that_leaves_is_no_error(
    kind: str, serve: Serve, app_for: MakeApp, relaying: Relaying, caplog: pytest.LogCaptureFixture
) -> None:
    wire = await serve(lambda peer: peer.gone())
    app = app_for(wire)
    port = await relaying(kind, lambda _: app.stream({}))
    browser = await Browser.ask(port)
    await wire.asked()
    browser.leave()
    await wire.all_closed()
    await asyncio.sleep(0.02)
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


@each_backend
async def test_memory_stays_flat_while_the_browser_does_not_read(
    kind: str, serve: Serve, app_for: MakeApp, relaying: Relaying
) -> None:
    sent, total = 0, 50 * 1024 * 1024
    piece = chunk(sse(says("x" * 64 * 1024)))

    async def handler(peer: Peer) -> None:
        nonlocal sent
        await peer.send(CHUNKED)
        while sent < total:
            await peer.send(piece)
            sent += len(piece)
        await peer.send(chunk(sse(final())), LAST_CHUNK)

    app = app_for(await serve(handler))
    browser = await Browser.ask(await relaying(kind, lambda _: app.stream({})))
    await browser.head()
    tracemalloc.start()
    try:
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.2)
        held = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sent < total / 2  # what is on its way lies in the system's buffers
    assert held < 4 * 1024 * 1024
    size = len(await browser.body())
    assert sent >= total
    assert size >= total


# --- starlette -------------------------------------------------------------------------------


async def test_responses_take_headers_and_background_tasks() -> None:
    done: list[str] = []

    async def endpoint(_: Any) -> RelayResponse:
        response = RelayResponse(
            items("a"),
            headers={"Cache-Control": "private", "Content-Type": "nonsense", "X-Own": "1"},
            background=BackgroundTask(done.append, "background"),
        )
        response.set_cookie("a", "1")
        response.set_cookie("b", "2")
        return response

    async with uvicorn_serving(Starlette(routes=[Route("/", endpoint)])) as port:
        browser = await Browser.ask(port)
        await browser.body()
    assert browser.headers["cache-control"] == "private"
    assert browser.headers["x-own"] == "1"
    assert browser.headers["content-type"].startswith("text/event-stream")
    assert done == ["background"]


async def test_errors_elsewhere_are_told_in_the_same_way(emulate: Emulate) -> None:
    app, _ = await emulate()

    async def missing(_: Any) -> None:
        await app.runs.cancel("r-1")

    async def garbage(request: Any) -> RelayResponse:
        return RelayResponse(resume(app.runs, "r-1", request.headers))

    async def wrong(_: Any) -> None:
        await app.invoke(7)

    starlette = Starlette(
        routes=[Route("/a", missing), Route("/b", garbage), Route("/c", wrong)],
        exception_handlers={DynamiqError: error_response},
    )
    application = web.Application(middlewares=[error_middleware])

    async def garbage_too(request: web.Request) -> web.StreamResponse:
        return await relay_response(request, resume(app.runs, "r-1", request.headers))

    async def broken_text(request: web.Request) -> web.StreamResponse:
        stream = app.stream({}).text()
        return await relay_response(request, stream, format="text")

    async def fine(_: web.Request) -> web.Response:
        return web.Response(text="fine")

    application.add_routes(
        [
            web.get("/a", missing),  # type: ignore[arg-type]
            web.get("/b", garbage_too),
            web.get("/c", wrong),  # type: ignore[arg-type]
            web.get("/d", broken_text),
            web.get("/e", fine),
        ]
    )
    async with uvicorn_serving(starlette) as one, aiohttp_serving(application) as other:
        for port in (one, other):
            browser = await Browser.ask(port, "/a")
            assert msgspec.json.decode(await browser.piece())["error"]["code"] == "not_found"
            assert browser.status == 404
            browser = await Browser.ask(port, "/b", Last_Event_ID="garbage")
            await browser.head()
            assert browser.status == 400
            browser = await Browser.ask(port, "/c")
            await browser.head()
            assert browser.status == 500
        browser = await Browser.ask(other, "/e")
        await browser.head()
        assert browser.status == 200


async def test_an_error_behind_the_first_byte_is_not_answered_a_second_time(
    serve: Serve, app_for: MakeApp
) -> None:
    async def handler(peer: Peer) -> None:
        await peer.send(CHUNKED, chunk(sse(says("one"))))
        peer.close()

    app = app_for(await serve(handler))

    async def endpoint(request: web.Request) -> web.StreamResponse:
        return await relay_response(request, app.stream({}).text(), format="text")

    application = web.Application(middlewares=[error_middleware])
    application.router.add_get("/", endpoint)
    async with aiohttp_serving(application) as port:
        browser = await Browser.ask(port)
        assert await browser.piece() == b"one"
        with pytest.raises((EOFError, ConnectionError)):
            await browser.piece()
        assert not browser._bytes


@pytest.mark.parametrize("middleware", [[], [Middleware(Passing)]])
async def test_starlettes_own_response_will_do_too(
    middleware: list[Any], serve: Serve, app_for: MakeApp
) -> None:
    """It forgets to close its body; the relay is closed all the same."""

    async def handler(peer: Peer) -> None:
        await peer.send(CHUNKED, chunk(sse(says("one"))))
        await peer.gone()

    wire = await serve(handler)
    app = app_for(wire)

    async def endpoint(_: Any) -> StreamingResponse:
        body = relay(app.stream({}), heartbeat=0.1)
        await body.open()
        return StreamingResponse(body, body.status, body.headers)

    starlette = Starlette(routes=[Route("/", endpoint)], middleware=middleware)
    async with uvicorn_serving(starlette) as port:
        browser = await Browser.ask(port)
        await browser.until(b"one")
        browser.leave()
        if not middleware:  # behind it, that response never learns that the browser has left
            async with asyncio.timeout(1):
                await wire.all_closed()
    await wire.all_closed()


async def test_cancelling_works_behind_middleware_that_is_cancelled(emulate: Emulate) -> None:
    """A middleware that gives up on its endpoint cancels it by anyio's rules."""

    async def waiting(input: dict[str, Any], run: Any) -> Any:
        await run.text("hello")
        await asyncio.get_running_loop().create_future()

    app, emulator = await emulate(waiting)

    class Impatient(BaseHTTPMiddleware):
        async def dispatch(self, request: Any, call_next: Any) -> Any:
            response = await call_next(request)
            async for _ in response.body_iterator:
                raise TimeoutError("impatient")

    closed: list[bool] = []

    class Noting(RelayResponse):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            try:
                await super().__call__(scope, receive, send)
            finally:
                closed.append(self.relay._pump.ended)

    async def endpoint(_: Any) -> RelayResponse:
        return Noting(app.runs.stream({}), on_leave="cancel")

    starlette = Starlette(routes=[Route("/", endpoint)], middleware=[Middleware(Impatient)])
    async with uvicorn_serving(starlette) as port:
        browser = await Browser.ask(port)
        await browser.head()
        assert browser.status == 500
        [run] = emulator.runs.values()
        assert run.status == "canceled"
        assert closed == [True]


# --- bare ASGI -------------------------------------------------------------------------------


class Server:
    """A server in the style of ASGI 2.4: sending to a browser that has left raises OSError."""

    def __init__(self, *, fail_at: int | None = None, method: str = "GET") -> None:
        self.scope: dict[str, Any] = {
            "type": "http",
            "method": method,
            "http_version": "2",
            "headers": [],
        }
        self.sent: list[Any] = []
        self.fail_at = fail_at
        self.left = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        if len(self.sent) == self.fail_at:
            raise BrokenPipeError
        self.sent.append(message)


async def test_asgi_alone_is_enough() -> None:
    server = Server()
    await respond(relay(items("a")), server.scope, server.receive, server.send)
    start, *pieces = server.sent
    assert start["status"] == 200
    assert b"connection" not in dict(start["headers"])  # HTTP/2 knows none
    assert b"".join(piece["body"] for piece in pieces).endswith(b"event: end\ndata: {}\n\n")
    assert [piece["more_body"] for piece in pieces][-2:] == [True, False]


@pytest.mark.parametrize(
    ("version", "asked", "told"),
    [("1.1", [], True), ("1.1", [(b"connection", b"Close")], False), ("1.0", [], False)],
)
async def test_keep_alive_is_told_where_it_is_so(version: str, asked: Any, told: bool) -> None:
    server = Server()
    server.scope |= {"http_version": version, "headers": asked}
    await respond(relay(items("a")), server.scope, server.receive, server.send)
    assert (b"connection" in dict(server.sent[0]["headers"])) is told


async def test_a_response_that_is_cancelled_twice_closes_the_upstream(emulate: Emulate) -> None:
    async def waiting(input: dict[str, Any], run: Any) -> Any:
        await asyncio.get_running_loop().create_future()

    app, _ = await emulate(waiting)
    held = asyncio.Event()

    class Slow(Server):
        async def send(self, message: Any) -> None:
            held.set()
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                await asyncio.sleep(0.01)

    server, body = Slow(), relay(app.stream({}))
    answering = asyncio.ensure_future(respond(body, server.scope, server.receive, server.send))
    await held.wait()
    for _ in range(2):
        answering.cancel()
        await asyncio.sleep(0)
    await asyncio.wait([answering])
    assert answering.cancelled()
    assert body._pump.ended
    await asyncio.sleep(0.02)


@pytest.mark.parametrize("place", [0, 1, 2])
async def test_a_server_that_says_so_by_an_error_is_understood(
    place: int, emulate: Emulate
) -> None:
    app, emulator = await emulate(talk)
    server = Server(fail_at=place)
    await respond(relay(app.stream({})), server.scope, server.receive, server.send)
    assert len(server.sent) == place
    await emulator.wait_until(lambda: all(seen.finished for seen in emulator.requests))


async def test_a_browser_that_left_before_the_status_is_noted_as_such(
    serve: Serve, app_for: MakeApp
) -> None:
    wire = await serve(lambda peer: peer.gone())
    for fail_at in (None, 0):
        server = Server(fail_at=fail_at)
        body = relay(app_for(wire).stream({}))
        answering = asyncio.ensure_future(respond(body, server.scope, server.receive, server.send))
        await asyncio.sleep(0.01)
        server.left.set()
        await answering
        if fail_at is None:
            assert [message.get("status") for message in server.sent] == [499, None]


async def test_an_error_of_the_server_is_raised(emulate: Emulate) -> None:
    app, _ = await emulate(talk)

    class Broken(Server):
        async def receive(self) -> dict[str, Any]:
            raise RuntimeError("unexpected message")

    server = Broken()
    with pytest.raises(RuntimeError, match="unexpected message"):
        await respond(relay(app.stream({})), server.scope, server.receive, server.send)


# --- aiohttp -------------------------------------------------------------------------------


async def test_http_1_0_has_no_keep_alive() -> None:
    async def endpoint(request: web.Request) -> web.StreamResponse:
        return await relay_response(request, items("a"), headers={"X-Own": "1"})

    application = web.Application()
    application.router.add_get("/", endpoint)
    async with aiohttp_serving(application) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
    assert answer.endswith(b"data: {}\n\n")
    assert b"keep-alive" not in answer
    assert b"X-Own: 1" in answer


# --- without the framework ------------------------------------------------------------------


def test_a_framework_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **options: Any) -> Any:
        if name.partition(".")[0] == "starlette":
            raise ImportError(name)
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.delitem(sys.modules, "dynamiq_async.relay.starlette")
    with pytest.raises(errors.MissingExtraError, match="pip install starlette"):
        importlib.import_module("dynamiq_async.relay.starlette")
