"""Nothing is run twice: what is sent again, what is not, and what the error says."""

from __future__ import annotations

import asyncio
import io
import pickle
import socket
from typing import TYPE_CHECKING, Any

import pytest

from dynamiq_async import Timeout, Upload, errors
from dynamiq_async._http.request_options import RequestOptions
from dynamiq_async.app import AsyncApp
from tests.support.wire import (
    CHUNKED,
    LAST_CHUNK,
    Peer,
    chunk,
    final,
    head,
    make_response,
    script,
    sse,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.network import MakeApp, Serve

INPUT = {"question": "?"}
OK = make_response({"a": 1})
STREAM = CHUNKED + chunk(sse(final())) + LAST_CHUNK


class Getter(AsyncApp):
    """A client with a call that does no harm when it is repeated."""

    async def get(self, **extras: Any) -> Any:
        given = RequestOptions(**extras)
        request = self._api.request("GET", "v1", "things", given=given)
        return await self._api.fetch(request, self._api.options.for_call(given), dict[str, int])


async def lose(peer: Peer) -> None:
    """Read the request, and close without a response."""
    peer.close()


async def reset(peer: Peer) -> None:
    peer.reset()


async def half_a_head(peer: Peer) -> None:
    await peer.send(OK[:20])
    peer.close()


async def half_a_body(peer: Peer) -> None:
    await peer.send(OK[:-3])
    peer.close()


LOST = [lose, reset, half_a_head, half_a_body]


@pytest.mark.parametrize("handler", LOST)
async def test_a_post_whose_response_is_lost_is_sent_once(
    handler: Any, serve: Serve, app_for: MakeApp
) -> None:
    wire = await serve(handler)
    with pytest.raises(errors.AmbiguousOutcomeError) as caught:
        await app_for(wire, max_retries=5).invoke(INPUT)
    assert len(wire.requests) == 1
    assert caught.value.attempts == 1
    assert isinstance(caught.value, errors.APIConnectionError)
    assert "retry=True" in caught.value.message
    again = pickle.loads(pickle.dumps(caught.value))
    assert (type(again), str(again)) == (type(caught.value), str(caught.value))


@pytest.mark.parametrize("handler", LOST[:3])
async def test_the_same_for_submit_and_for_opening_a_stream(
    handler: Any, serve: Serve, app_for: MakeApp
) -> None:
    wire = await serve(handler)
    app = app_for(wire)
    with pytest.raises(errors.AmbiguousOutcomeError):
        await app.submit(INPUT)
    with pytest.raises(errors.AmbiguousOutcomeError):
        await app.stream(INPUT).open()
    assert len(wire.requests) == 2


@pytest.mark.parametrize("handler", LOST)
async def test_retry_true_sends_it_again(
    handler: Any, serve: Serve, app_for: MakeApp, no_backoff: list[float]
) -> None:
    async def twice(peer: Peer) -> None:
        if len(wire.requests) < 3:
            await handler(peer)
        else:
            await peer.send(OK)

    wire = await serve(twice)
    assert await app_for(wire).invoke(INPUT, retry=True) == {"a": 1}
    assert len(wire.requests) == 3
    assert no_backoff == [0.5, 1.0]


async def test_retries_end(serve: Serve, app_for: MakeApp, no_backoff: list[float]) -> None:
    wire = await serve(lose)
    app = app_for(wire, max_retries=3)
    with pytest.raises(errors.APIConnectionError) as caught:
        await app.invoke(INPUT, retry=True)
    assert not isinstance(caught.value, errors.AmbiguousOutcomeError)
    assert caught.value.attempts == len(wire.requests) == 4
    with pytest.raises(errors.APIConnectionError):
        await app.with_options(max_retries=0).invoke(INPUT, retry=True)
    assert len(wire.requests) == 5
    with pytest.raises(errors.APIConnectionError):
        await app.invoke(INPUT, retry=True, max_retries=1)
    assert len(wire.requests) == 7


def refused(status: int, *lines: str) -> bytes:
    return make_response({"error": {"code": "x", "message": "later"}}, status, *lines)


# What a refusal means for a POST: status, header lines, whether it is sent again.
REFUSALS = [
    (429, (), True),
    (429, ("Retry-After: 3",), True),
    (503, ("Retry-After: 3",), True),
    (503, (), False),
    (502, (), False),
    (502, ("Retry-After: 3",), False),
    (504, (), False),
    (524, (), False),
    (408, (), False),
    (500, (), False),
    (400, (), False),
    (409, (), False),
]


@pytest.mark.parametrize(("status", "lines", "repeated"), REFUSALS)
@pytest.mark.parametrize("how", ["invoke", "stream", "submit"])
async def test_a_post_that_is_refused(
    how: str,
    status: int,
    lines: tuple[str, ...],
    repeated: bool,
    serve: Serve,
    app_for: MakeApp,
    no_backoff: list[float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from dynamiq_async._http.limiter import Limiter

    cooldowns: list[float] = []
    monkeypatch.setattr(Limiter, "cool_down", lambda _, seconds: cooldowns.append(seconds))
    good = {"invoke": OK, "stream": STREAM, "submit": make_response({"id": "1"}, 202)}[how]
    wire = await serve(script(refused(status, *lines), good))
    app = app_for(wire)

    async def call() -> None:
        if how == "stream":
            async with app.stream(INPUT) as stream:
                assert stream.response is not None
                assert stream.response.attempts == len(wire.requests)
        else:
            await getattr(app, how)(INPUT)

    if repeated:
        await call()
        assert len(wire.requests) == 2
        assert no_backoff == [3.0 if lines else 0.5]
        assert len(cooldowns) == 1
    else:
        with pytest.raises(errors.APIStatusError) as caught:
            await call()
        assert len(wire.requests) == 1
        assert caught.value.status == status
        unknown = status in (502, 503, 504, 524)
        assert isinstance(caught.value, errors.AmbiguousOutcomeError) is unknown
        assert caught.value.code == "x"
        assert caught.value.attempts == 1
        assert cooldowns == []


async def test_retry_false_forbids_even_what_would_be_safe(serve: Serve, app_for: MakeApp) -> None:
    wire = await serve(script(refused(429, "Retry-After: 1")))
    with pytest.raises(errors.RateLimitError):
        await app_for(wire).invoke(INPUT, retry=False)
    assert len(wire.requests) == 1


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


async def test_a_refused_connection_is_tried_again(
    serve: Serve, app_for: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was sent, so it is safe; here the server comes up in between."""
    wire = await serve(script(OK))
    app = app_for(f"http://127.0.0.1:{free_port()}")
    request = app._api.request("POST", "", given=RequestOptions(), body=b"{}")
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        request.url = f"{wire.url}/"

    monkeypatch.setattr("dynamiq_async._http.sender.asyncio.sleep", pause)
    result = await app._api.sender.fetch(request, app._api.options)
    assert result.attempts == 2
    assert len(pauses) == 1
    assert len(wire.requests) == 1


async def test_refused_connections_are_reported(app_for: MakeApp, no_backoff: list[float]) -> None:
    app = app_for(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(errors.ConnectError) as caught:
        await app.invoke(INPUT)
    assert not isinstance(caught.value, errors.AmbiguousOutcomeError)
    assert caught.value.attempts == 3
    assert isinstance(caught.value.__cause__, OSError)


async def test_an_unknown_name_is_reported(app_for: MakeApp) -> None:
    app = app_for("https://nowhere.invalid", max_retries=0)
    with pytest.raises(errors.ConnectError, match="cannot connect"):
        await app.invoke(INPUT)


# --- stale connections ---------------------------------------------------------------------------


async def once_per_connection(peer: Peer) -> None:
    """Keep the connection open, and drop it when it is used again."""
    if getattr(peer, "used", False):
        peer.reset()
    else:
        peer.used = True  # type: ignore[attr-defined]
        await peer.send(OK)


async def test_a_post_on_a_stale_connection_is_not_silently_repeated(
    serve: Serve, app_for: MakeApp
) -> None:
    wire = await serve(once_per_connection)
    app = app_for(wire)
    await app.invoke(INPUT)
    with pytest.raises(errors.AmbiguousOutcomeError):
        await app.invoke(INPUT)
    assert len(wire.requests) == 2
    assert wire.connections == 1


async def test_a_get_on_a_stale_connection_is_repeated_and_counted(
    serve: Serve, app_for: MakeApp, no_backoff: list[float]
) -> None:
    wire = await serve(once_per_connection)
    async with Getter(wire.url, access_key="k") as app:
        await app.get()
        request = app._api.request("GET", "v1", "things", given=RequestOptions())
        result = await app._api.sender.fetch(request, app._api.options)
    assert result.attempts == 2
    assert len(wire.requests) == 3
    assert wire.connections == 2


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
async def test_a_get_is_repeated(
    status: int, serve: Serve, no_backoff: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    from dynamiq_async._http.limiter import Limiter

    monkeypatch.setattr(Limiter, "cool_down", lambda *_: None)
    wire = await serve(script(refused(status), OK))
    async with Getter(wire.url, access_key="k") as app:
        assert await app.get() == {"a": 1}
        assert len(wire.requests) == 2
        assert wire.requests[0].method == "GET"
        assert wire.requests[0].target == "/v1/things"
    wire = await serve(script(refused(status), OK))
    async with Getter(wire.url, access_key="k") as app:
        with pytest.raises(errors.APIStatusError):
            await app.get(retry=False)
        assert len(wire.requests) == 1


# --- bodies that can be sent once only -----------------------------------------------------------


async def pieces() -> AsyncIterator[bytes]:
    yield b"some "
    yield b"bytes"


class Pipe(io.RawIOBase):
    """A file object that cannot go back."""

    def __init__(self, content: bytes) -> None:
        self._left = io.BytesIO(content)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._left.readinto(buffer)


@pytest.mark.parametrize("kind", ["bytes", "path", "file", "moved file", "bytearray", "view"])
async def test_files_that_can_be_rewound_are_sent_again_whole(
    kind: str, serve: Serve, app_for: MakeApp, no_backoff: list[float], tmp_path: Path
) -> None:
    content = b"some bytes" * 1000
    path = tmp_path / "a.bin"
    path.write_bytes(content)
    file = io.BytesIO(b"skipped" + content if kind == "moved file" else content)
    if kind == "moved file":
        file.seek(7)
    files: Any = {
        "bytes": content,
        "path": path,
        "file": file,
        "moved file": file,
        "bytearray": bytearray(content),
        "view": memoryview(content),
    }[kind]

    async def twice(peer: Peer) -> None:
        await peer.send(refused(429)) if len(wire.requests) == 1 else await peer.send(OK)

    wire = await serve(twice)
    app = app_for(wire)
    app._api.sender.limiter.cool_down = lambda seconds: None  # type: ignore[method-assign]
    assert await app.invoke(INPUT, files=files) == {"a": 1}
    first, second = (request.body for request in wire.requests)
    assert content in first
    assert first.partition(b"\r\n")[0] in second or content in second
    assert second.count(content) == 1
    assert len(first) == len(second)
    assert not file.closed


@pytest.mark.parametrize("kind", ["iterator", "pipe"])
async def test_files_that_cannot_are_sent_once(kind: str, serve: Serve, app_for: MakeApp) -> None:
    content: Any = pieces() if kind == "iterator" else io.BufferedReader(Pipe(b"some bytes"))
    wire = await serve(script(refused(429), OK))
    with pytest.raises(errors.RateLimitError) as caught:
        await app_for(wire).invoke(INPUT, files=Upload(content, name="a"), retry=True)
    assert caught.value.attempts == 1
    assert len(wire.requests) == 1
    assert b"some bytes" in wire.requests[0].body


# --- time limits before a response ---------------------------------------------------------------


@pytest.mark.parametrize("limit", ["first_byte", "total", "idle"])
async def test_a_limit_behind_the_request_is_ambiguous(
    limit: str, serve: Serve, app_for: MakeApp
) -> None:
    async def handler(peer: Peer) -> None:
        await peer.send(head(200, "Content-Length: 99") if limit == "idle" else b"")
        await peer.gone()

    wire = await serve(handler)
    app = app_for(wire, timeout=Timeout(**{limit: 0.05}))
    with pytest.raises(errors.AmbiguousTimeoutError) as caught:
        await app.invoke(INPUT)
    assert caught.value.limit == limit
    assert caught.value.seconds == 0.05
    assert isinstance(caught.value, TimeoutError)
    assert len(wire.requests) == 1
    async with Getter(wire.url, access_key="k", timeout=Timeout(**{limit: 0.05})) as getter:
        with pytest.raises(errors.APITimeoutError) as plain:
            await getter.get(max_retries=0)
        assert not isinstance(plain.value, errors.AmbiguousOutcomeError)


async def test_cancelling_a_backoff_sends_nothing(serve: Serve, app_for: MakeApp) -> None:
    wire = await serve(script(refused(429, "Retry-After: 20"), OK))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(app_for(wire).invoke(INPUT), 0.05)
    assert len(wire.requests) == 1
