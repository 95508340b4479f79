"""Against servers in the style of the examples of the vendor's library: Starlette on uvicorn, with
the protocol of `websockets`, which pings by itself and closes on who does not answer."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager, nullcontext
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import msgspec
import pytest

from dynamiq_async import AsyncApp, errors
from dynamiq_async.websocket.protocol import SocketProtocol

uvicorn = pytest.importorskip("uvicorn")
pytest.importorskip("websockets")
pytest.importorskip("starlette")

from starlette.applications import Starlette  # noqa: E402
from starlette.routing import WebSocketRoute  # noqa: E402
from starlette.websockets import WebSocket, WebSocketDisconnect  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from dynamiq_async import StreamEvent

INPUT = {"question": "?"}
KEY = "dynamiq_acc_vendor"
ENGINES = ["websockets-sansio", "wsproto"]


class Runs:
    """What such a server does: it takes inputs and sends the library's events, in this order."""

    def __init__(self, events: list[dict[str, Any]]) -> None:
        self.events = events
        self.started: list[Any] = []
        self.answers: list[Any] = []
        self.left: list[int] = []

    async def serve(self, socket: WebSocket) -> None:
        if socket.headers.get("authorization") != f"Bearer {KEY}":
            await socket.close(code=1008)
            return
        await socket.accept()
        try:
            while True:
                message = await socket.receive_json()
                self.started.append(message)
                await self.run(socket)
        except WebSocketDisconnect as left:
            self.left.append(left.code)

    async def run(self, socket: WebSocket) -> None:
        wf_run_id = str(uuid4())
        for event in self.events:
            event = {**event, "wf_run_id": wf_run_id}
            await socket.send_text(json.dumps(event))
            data = event["data"]
            if "mutable_data_params" in data or data.get("action") == "ask":
                answer = await socket.receive_json()
                self.answers.append(answer)
                assert answer["wf_run_id"] == wf_run_id


@asynccontextmanager
async def serving(endpoint: Any, engine: str, **options: Any) -> AsyncIterator[str]:
    routes = [WebSocketRoute("/", endpoint)]
    config = uvicorn.Config(
        Starlette(routes=routes), port=0, ws=engine, lifespan="off", log_config=None, **options
    )
    server = uvicorn.Server(config)
    server.capture_signals = _no_signals
    task = asyncio.ensure_future(server.serve())
    while not server.started:
        await asyncio.sleep(0.001)
    try:
        (listener,) = server.servers
        yield f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await task


def _no_signals() -> Any:
    return nullcontext()


def plain(events: list[StreamEvent]) -> list[dict[str, Any]]:
    return [msgspec.json.decode(msgspec.json.encode(event)) for event in events]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("protocol", [SocketProtocol(), SocketProtocol(data="input")])
async def test_real_events_come_through_run_after_run(
    capture: Callable[[str], list[StreamEvent]], engine: str, protocol: SocketProtocol
) -> None:
    events = capture("02")
    server = Runs(plain(events))
    async with (
        serving(server.serve, engine) as url,
        AsyncApp(url, access_key=KEY) as app,
        app.connect(protocol=protocol) as socket,
    ):
        for _ in range(3):
            run = socket.run(INPUT)
            got = [event async for event in run]
            assert [event.data for event in got] == [event.data for event in events]
            assert await run.output()
    if protocol.data == "request":
        assert server.started[0] == {"entity_id": None, "data": {"input": INPUT, "stream": True}}
    else:
        assert server.started[0] == {"entity_id": None, "data": INPUT}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("prefix", ["07", "08"])
async def test_people_in_the_loop(
    capture: Callable[[str], list[StreamEvent]], engine: str, prefix: str
) -> None:
    server = Runs(plain(capture(prefix)))
    async with (
        serving(server.serve, engine, ws_ping_interval=0.02, ws_ping_timeout=0.05) as url,
        AsyncApp(url, access_key=KEY) as app,
        app.connect() as socket,
    ):
        async for event in socket.run(INPUT):
            if event.question and event.event == "approval":
                await asyncio.sleep(0.2)  # people take their time, and the server pings meanwhile
                await socket.approve(event, {"to": "bob@example.com"})
            elif event.question:
                await asyncio.sleep(0.2)
                await socket.answer(event, "friendly please")
    (answer,) = server.answers
    data: Any = {"is_approved": True, "data": {"to": "bob@example.com"}}
    assert answer["data"] == (data if prefix == "07" else {"content": "friendly please"})


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_key_it_does_not_know_is_refused_in_the_handshake(engine: str) -> None:
    async with (
        serving(Runs([]).serve, engine) as url,
        AsyncApp(url, access_key="another-key") as app,
    ):
        with pytest.raises(errors.PermissionDeniedError):
            await app.connect().open()


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_server_that_breaks_says_so(engine: str) -> None:
    async def broken(socket: WebSocket) -> None:
        await socket.accept()
        await socket.receive_json()
        await socket.close(code=1011, reason="it broke")

    async with (
        serving(broken, engine) as url,
        AsyncApp(url, access_key=KEY) as app,
        app.connect() as socket,
    ):
        with pytest.raises(errors.StreamInterruptedError, match=r"1011 \(it broke") as caught:
            await socket.run(INPUT).output()
        assert caught.value.code == "1011"


@pytest.mark.parametrize("engine", ENGINES)
async def test_leaving_is_noticed(capture: Callable[[str], list[StreamEvent]], engine: str) -> None:
    server = Runs(plain(capture("08")))
    async with serving(server.serve, engine) as url, AsyncApp(url, access_key=KEY) as app:
        async with app.connect() as socket:
            async for event in socket.run(INPUT):
                if event.question:
                    break
        async with asyncio.timeout(5):
            while not server.left:
                await asyncio.sleep(0.001)
    assert server.left == [1001]
