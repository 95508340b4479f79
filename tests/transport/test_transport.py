"""The seam to aiohttp, where no server can bring about what has to be met."""

from __future__ import annotations

import asyncio
import os
import socket
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from dynamiq_async import Timeout, Upload, errors
from dynamiq_async._http.multipart import Multipart
from dynamiq_async._http.request_options import RequestOptions
from dynamiq_async.transport import Request
from dynamiq_async.transport._aiohttp_body import PIECE, RequestBody
from dynamiq_async.transport._aiohttp_response import AiohttpResponse
from dynamiq_async.transport.aiohttp import _LEFT_TO_PARENT
from tests.support.network import in_flight, turns
from tests.support.wire import CHUNKED, Peer, chunk, make_response, says, script, sse

if TYPE_CHECKING:
    from tests.support.network import MakeApp, Serve

INPUT = {"question": "?"}
OK = make_response({"a": 1})


@pytest.mark.parametrize("when", ["lost before", "never waited for"])
async def test_a_lost_connection_of_which_aiohttp_tells_nobody(when: str) -> None:
    """Its future comes too late, or is cancelled with a `close` of the session."""
    protocol = aiohttp.client_proto.ResponseHandler(asyncio.get_running_loop())
    content = aiohttp.StreamReader(protocol, 2**16, loop=asyncio.get_running_loop())
    if when == "lost before":
        protocol.connection_lost(None)
    raw: Any = SimpleNamespace(
        content=content,
        status=200,
        headers={},
        connection=SimpleNamespace(protocol=protocol, close=lambda: None),
        close=lambda: None,
    )
    request = Request("GET", "http://x/", {})
    response = AiohttpResponse(raw, request, None)
    if when != "lost before":
        assert protocol.closed is not None
        protocol.closed.cancel()
        await turns()
    with pytest.raises(errors.APIConnectionError, match="the connection broke"):
        await response.read()
    response.close()
    await turns()


async def test_a_child_process_leaves_the_connections_alone(
    serve: Serve, app_for: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a fork would see it; `test_clients` forks for good."""
    wire = await serve(script(OK))
    app = app_for(wire)
    await app.invoke(INPUT)
    left_before = len(_LEFT_TO_PARENT)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    await app.invoke(INPUT)
    assert wire.connections == wire.open == 2
    monkeypatch.undo()
    await app.aclose()
    assert len(_LEFT_TO_PARENT) == left_before + 2
    assert wire.open == 2
    for session in _LEFT_TO_PARENT[left_before:]:
        await session.aclose()
    del _LEFT_TO_PARENT[left_before:]


async def test_a_child_process_forgets_what_is_closed_already(
    serve: Serve, app_for: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire = await serve(script(OK))
    app = app_for(wire)
    await app.invoke(INPUT)
    (session,) = app._api.sender._transport._sessions.values()  # type: ignore[union-attr]
    await session.aclose()
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: -1)
        await app.invoke(INPUT)
        await app.aclose()
    assert _LEFT_TO_PARENT.pop() is session


class Sink:
    """What aiohttp hands to a body to be written to."""

    def __init__(self) -> None:
        self.pieces: list[int] = []

    async def write(self, piece: Any) -> None:
        self.pieces.append(len(piece))


async def test_a_body_is_written_in_pieces_and_says_when_it_starts() -> None:
    for size, pieces in ((10, [10]), (PIECE, [PIECE]), (PIECE + 1, [PIECE, 1])):
        request = Request("POST", "http://x/", {}, b"x" * size)
        request.sent = False
        body: Any = RequestBody(request)
        assert body.size == size
        before = request.sent
        sink = Sink()
        await body.write(sink)
        assert (before, request.sent) == (False, True)
        assert sink.pieces == pieces


async def test_the_most_that_is_taken_of_a_file_and_how_far_it_is(
    serve: Serve, app_for: MakeApp
) -> None:
    wire = await serve(script(OK))
    app = app_for(wire, max_retries=0)
    told: list[tuple[int, int | None]] = []

    async def pieces() -> Any:
        for _ in range(3):
            yield b"x" * 10

    for limit in (30, 29):
        form = Multipart(
            [],
            [("file", Upload(pieces(), name="big"))],
            max_file_bytes=limit,
            progress=lambda sent, size: told.append((sent, size)),
        )
        request = app._api.request("POST", "v1", "files", body=form, given=RequestOptions())
        if limit == 30:
            await app._api.sender.fetch(request, app._api.options)
        else:
            with pytest.raises(errors.InvalidArgumentError, match="big is larger than 29 bytes"):
                await app._api.sender.fetch(request, app._api.options)
    assert told == [(10, None), (20, None), (30, None), (10, None), (20, None)]
    assert len(wire.requests) == 1


async def test_a_connection_that_breaks_is_not_blamed_on_the_file() -> None:
    class Broken:
        async def write(self, piece: Any) -> None:
            raise failure

    for failure in (aiohttp.ClientConnectionResetError("gone"), BrokenPipeError(), OSError("x")):
        form = Multipart([], [("file", Upload(b"x"))])
        body: Any = RequestBody(Request("POST", "http://x/", {}, form))
        with pytest.raises(type(failure)):
            await body.write(Broken())
        assert form.failure is None


async def test_a_source_that_breaks_is_not_blamed_on_the_connection(
    serve: Serve, app_for: MakeApp
) -> None:
    async def gone() -> Any:
        yield b"x"
        raise ConnectionResetError("the file server went away")

    wire = await serve(script(OK))
    with pytest.raises(errors.InvalidArgumentError, match="the file server went away") as caught:
        await app_for(wire).invoke(INPUT, files=Upload(gone(), name="x"))
    assert caught.value.argument == "files"
    assert isinstance(caught.value.__cause__, ConnectionResetError)


async def test_a_connection_that_breaks_in_mid_upload_is_ambiguous(
    serve: Serve, app_for: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def cut(self: Peer, headers: dict[str, str]) -> bytes:
        self.reset()
        raise ConnectionResetError

    async def endless() -> Any:
        for _ in range(10**6):
            yield b"x" * 100_000

    monkeypatch.setattr(Peer, "read_body", cut)
    wire = await serve(script(OK))
    app = app_for(wire)
    with pytest.raises(errors.AmbiguousConnectionError):
        await app.invoke(INPUT, files=Upload(endless(), name="x"))
    assert in_flight(app) == 0


async def test_a_lease_is_given_back_once(serve: Serve, app_for: MakeApp) -> None:
    wire = await serve(script(CHUNKED + chunk(sse(says("x")))))
    app = app_for(wire)
    request = app._api.request("POST", "", given=RequestOptions(), body=b"{}", stream=True)
    opened = await app._api.sender.open(request, app._api.options)
    assert in_flight(app) == 1
    opened.close()
    opened.close()
    assert in_flight(app) == 0


async def test_a_bad_event_without_a_key_to_hide(serve: Serve, app_for: MakeApp) -> None:
    wire = await serve(script(CHUNKED + chunk(b"data: {\n\n")))
    with pytest.raises(errors.EventDecodeError):
        await anext(app_for(wire, access_key=False).stream(INPUT))


async def test_an_app_has_runs_and_files(app_for: MakeApp) -> None:
    app = app_for("http://127.0.0.1:9")
    assert callable(app.runs.create)
    assert callable(app.files.upload)


async def test_a_given_transport_can_stand_in(app_for: MakeApp) -> None:
    """A fake network, through the seam; errors that are time-outs by kind pass as they are."""

    class Fake:
        async def send(self, request: Any, *, connect_timeout: Any) -> Any:
            raise errors.ConnectTimeoutError("none", limit="connect", seconds=connect_timeout)

        async def aclose(self) -> None:
            self.closed = True

        def abandon(self) -> bool:
            return False

    app = app_for("http://127.0.0.1:9", max_retries=0, timeout=Timeout(connect=3))
    fake: Any = Fake()
    app._api.sender._transport = fake
    with pytest.raises(errors.ConnectTimeoutError) as caught:
        await app.invoke(INPUT)
    assert caught.value.seconds == 3
    assert in_flight(app) == 0
    await app.aclose()
    assert fake.closed
    await turns()


@pytest.mark.parametrize("name", ["bot.localhost", "my.Bot.LOCALHOST", "bot.localhost."])
async def test_names_under_localhost_are_this_machine(
    name: str, serve: Serve, app_for: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether or not the resolver knows them: here it knows nothing but `localhost`."""
    asked = []
    resolve = socket.getaddrinfo

    def knows_localhost(host: Any, *more: Any, **named: Any) -> Any:
        asked.append(host)
        if host not in ("localhost", "127.0.0.1"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return resolve(host, *more, **named)

    monkeypatch.setattr(socket, "getaddrinfo", knows_localhost)
    wire = await serve(script(OK, OK))
    app = app_for(wire.url.replace("127.0.0.1", name))
    assert await app.invoke(INPUT) == {"a": 1}
    assert wire.requests[0].headers["host"].startswith(name.lower().removesuffix("."))
    assert "localhost" in asked
    assert not [host for host in asked if "bot" in str(host).lower()]
    elsewhere = app_for(
        wire.url.replace("127.0.0.1", "bot.localhost.example"), allow_http=True, max_retries=0
    )
    with pytest.raises(errors.ConnectError):
        await elsewhere.invoke(INPUT)
