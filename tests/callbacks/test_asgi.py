"""A receiver as an ASGI application: by itself, under uvicorn, and inside Starlette and FastAPI."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.routing import Mount, Route

from dynamiq_async.callbacks import CallbackReceiver, CallbackResult
from tests.support.callback_senders import TOKEN, Sender, callback, post, under_uvicorn

pytestmark = pytest.mark.usefixtures("quick_collections", "leaves_nothing")

BODY = json.dumps(callback()).encode()


class Inbound:
    """A receiver that notes what it was given, and raises when a test wants it to."""

    def __init__(self, **options: Any) -> None:
        self.results: list[CallbackResult] = []
        self.error: Exception | None = None
        self.app = CallbackReceiver(tokens=TOKEN, on_result=self.take, **options)

    async def take(self, result: CallbackResult) -> None:
        self.results.append(result)
        if self.error is not None:
            raise self.error


@pytest.fixture
def inbound() -> Inbound:
    return Inbound(max_body_bytes=10_000)


# --- the protocol ---------------------------------------------------------------------------------


async def call(app: Any, messages: list[dict[str, Any]], **scope: Any) -> list[dict[str, Any]]:
    """What the application sends when it is given these messages."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    headers = [(b"authorization", f"Bearer {TOKEN}".encode())]
    await app({"type": "http", "method": "POST", "headers": headers} | scope, receive, send)
    return sent


async def test_a_body_comes_in_messages(inbound: Inbound) -> None:
    pieces = [{"type": "http.request", "body": BODY[n : n + 7], "more_body": True}
              for n in range(0, len(BODY), 7)]  # fmt: skip
    start, body = await call(inbound.app, [*pieces, {"type": "http.request"}])
    assert start["status"] == 200
    assert (b"content-type", b"application/json") in start["headers"]
    assert (b"content-length", str(len(body["body"])).encode()) in start["headers"]
    assert body["body"] == b'{"status":"ok"}'
    assert len(inbound.results) == 1


async def test_a_sender_that_disconnects_in_the_middle_gets_no_response(inbound: Inbound) -> None:
    half = {"type": "http.request", "body": BODY[:20], "more_body": True}
    assert await call(inbound.app, [half, {"type": "http.disconnect"}]) == []
    assert inbound.results == []


async def test_nothing_is_read_when_the_head_is_refused(inbound: Inbound) -> None:
    messages = [{"type": "http.request", "body": BODY}]
    start, _ = await call(inbound.app, messages, headers=[])
    assert start["status"] == 401
    assert len(messages) == 1


async def test_a_servers_lifespan_is_completed(inbound: Inbound) -> None:
    messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent = await call(inbound.app, messages, type="lifespan")
    assert [message["type"] for message in sent] == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]


async def test_a_websocket_is_refused(inbound: Inbound) -> None:
    sent = await call(inbound.app, [{"type": "websocket.connect"}], type="websocket")
    assert sent == [{"type": "websocket.close"}]


def test_no_framework_is_imported_before_it_is_used() -> None:
    program = (
        "import sys, dynamiq_async.callbacks as c\n"
        "c.CallbackReceiver(tokens='t', on_result=print), c.CallbackInbox()\n"
        "frameworks = {'aiohttp', 'starlette', 'fastapi', 'uvicorn', 'anyio'}\n"
        "print(sorted(frameworks & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


# --- over sockets ---------------------------------------------------------------------------------


@pytest.mark.parametrize("http", ["h11", "httptools"])
async def test_it_is_a_whole_application(inbound: Inbound, http: str) -> None:
    async with under_uvicorn(inbound.app, http) as port:
        assert (await post(port, callback())).json == {"status": "ok"}
        assert (await post(port, callback())).json == {"status": "duplicate"}
        assert (await post(port, callback("run-2"), "/any/path?x=1")).status == 200
    assert [result.id for result in inbound.results] == ["run-1", "run-2"]


@pytest.mark.parametrize("http", ["h11", "httptools"])
async def test_bad_requests_get_their_status(inbound: Inbound, http: str) -> None:
    async with under_uvicorn(inbound.app, http) as port, Sender(port) as sender:
        await sender.head("/", method="HEAD")
        assert (await sender.read_response(bodyless=True)).status == 405
        get = await post(port, b"", method="GET")
        assert (get.status, get.headers["allow"]) == (405, "post")
        unknown = await post(port, callback(), token="guess\xe9\xff")
        assert (unknown.status, unknown.code) == (401, "unauthorized")
        assert unknown.headers["www-authenticate"].startswith("bearer")
        assert (await post(port, callback(), token=None)).status == 401
        assert (await post(port, callback(), content_type="text/plain")).status == 415
        malformed = await post(port, b"{")
        assert (malformed.status, malformed.code) == (400, "bad_request")
        assert (await post(port, {"id": 5})).json["error"]["details"].keys() == {"id", "status"}
        response = await post(port, b"x" * 10_001)
        assert (response.status, response.code) == (413, "payload_too_large")
    assert inbound.results == []


@pytest.mark.parametrize("http", ["h11", "httptools"])
async def test_a_body_is_refused_before_it_is_sent(inbound: Inbound, http: str) -> None:
    async with under_uvicorn(inbound.app, http) as port, Sender(port) as sender:
        await sender.head(content_length=10_001)
        assert (await sender.read_response()).status == 413


@pytest.mark.parametrize("http", ["h11", "httptools"])
async def test_a_chunked_body_is_refused_once_it_is_too_large(inbound: Inbound, http: str) -> None:
    async with under_uvicorn(inbound.app, http) as port, Sender(port) as sender:
        await sender.head(transfer_encoding="chunked")
        await sender.write(b"2711\r\n" + b"x" * 10_001 + b"\r\n")  # and no last chunk
        assert (await sender.read_response()).status == 413


async def test_a_chunked_body_is_taken(inbound: Inbound) -> None:
    async with under_uvicorn(inbound.app) as port, Sender(port) as sender:
        await sender.head(transfer_encoding="chunked")
        for n in range(0, len(BODY), 10):
            piece = BODY[n : n + 10]
            await sender.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        await sender.write(b"0\r\n\r\n")
        assert (await sender.read_response()).status == 200
    assert inbound.results[0].output == {"answer": 42}


async def test_a_sender_that_dies_in_the_middle_may_come_again(inbound: Inbound) -> None:
    async with under_uvicorn(inbound.app) as port:
        async with Sender(port) as sender:
            await sender.head(content_length=len(BODY))
            await sender.write(BODY[:20])
        assert (await post(port, callback())).json == {"status": "ok"}
    assert len(inbound.results) == 1


async def test_a_handler_that_raises_is_a_500_and_can_be_delivered_again(
    inbound: Inbound, caplog: pytest.LogCaptureFixture
) -> None:
    inbound.error = ValueError("the password of the database is wrong")
    async with under_uvicorn(inbound.app) as port:
        response = await post(port, callback())
        assert response.status == 500
        assert b"password" not in response.body
        inbound.error = None
        assert (await post(port, callback())).json == {"status": "ok"}
    assert "ValueError: the password" in caplog.text  # the framework logs it


async def test_deliveries_at_the_same_time_are_handled_once() -> None:
    held, go = asyncio.Event(), asyncio.Event()
    results = []

    async def take(result: CallbackResult) -> None:
        results.append(result)
        held.set()
        await go.wait()

    async with under_uvicorn(CallbackReceiver(tokens=TOKEN, on_result=take)) as port:
        first = asyncio.ensure_future(post(port, callback()))
        await held.wait()
        others = [asyncio.ensure_future(post(port, callback())) for _ in range(5)]
        other = await post(port, callback(), token="wrong")  # behind them, and not held up
        assert other.status == 401
        go.set()
        responses = await asyncio.gather(first, *others)
    assert [response.status for response in responses] == [200] * 6
    assert len(results) == 1


# --- inside other applications --------------------------------------------------------------------


async def test_starlette_mounts_it(inbound: Inbound) -> None:
    app = Starlette(routes=[Mount("/mounted", inbound.app), Route("/routed", inbound.app)])
    async with under_uvicorn(app) as port:
        assert (await post(port, callback("run-1"), "/mounted/")).status == 200
        assert (await post(port, callback("run-2"), "/routed")).status == 200
        assert (await post(port, callback("run-3"), "/elsewhere")).status == 404
        assert (await post(port, b"", "/routed", method="GET")).json["error"]["code"]
    assert [result.id for result in inbound.results] == ["run-1", "run-2"]


async def test_fastapi_mounts_it(inbound: Inbound) -> None:
    app = FastAPI()
    app.mount("/callbacks", inbound.app)
    app.routes.append(Route("/routed", inbound.app))
    async with under_uvicorn(app) as port:
        assert (await post(port, callback("run-0"), "/routed")).json == {"status": "ok"}
        assert (await post(port, callback(), "/callbacks/")).json == {"status": "ok"}
        assert (await post(port, callback(), "/callbacks/", token="x")).status == 401


async def test_it_works_behind_middleware_that_reads_requests_its_own_way(
    inbound: Inbound,
) -> None:
    async def pass_on(request: Any, call_next: Any) -> Any:
        return await call_next(request)

    app = Starlette(routes=[Mount("/callbacks", inbound.app)])
    app.add_middleware(BaseHTTPMiddleware, dispatch=pass_on)
    async with under_uvicorn(app) as port:
        assert (await post(port, callback(), "/callbacks/")).json == {"status": "ok"}
        assert (await post(port, b"x" * 20_000, "/callbacks/")).status == 413
        inbound.error = ValueError("oops")
        assert (await post(port, callback("run-2"), "/callbacks/")).status == 500
        inbound.error = None
        assert (await post(port, callback("run-2"), "/callbacks/")).json == {"status": "ok"}


async def test_any_framework_can_hand_over_its_request(inbound: Inbound) -> None:
    """Such as a FastAPI route of one's own, with dependencies and the like."""
    from starlette.requests import Request
    from starlette.responses import Response

    async def route(request: Request) -> Response:
        reply = await inbound.app.receive(request.headers, request.stream(), method=request.method)
        return Response(reply.body, reply.status, reply.headers)

    app = Starlette(routes=[Route("/callbacks", route, methods=["POST"])])
    async with under_uvicorn(app) as port:
        assert (await post(port, callback(), "/callbacks")).json == {"status": "ok"}
        assert (await post(port, b"[]", "/callbacks")).status == 400
