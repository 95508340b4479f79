"""The access key shows nowhere but in the requests to the App."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import gc
import logging
import pickle
import traceback
import weakref
from typing import TYPE_CHECKING, Any

import pydantic
import pytest

from dynamiq_async import AsyncApp, Callback, Timeout, errors
from dynamiq_async._credentials import revealed
from dynamiq_async._http.request_options import RequestOptions
from tests.support.network import KEY
from tests.support.wire import CHUNKED, Peer, chunk, final, head, make_response, says, script, sse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.network import MakeApp, Serve

INPUT = {"question": "?"}


@pytest.fixture(autouse=True)
def everything_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """At the lowest level, of every library; nothing of it may hold the key."""
    caplog.set_level(1)
    yield
    assert KEY not in caplog.text
    assert all(KEY not in repr(vars(record)) for record in caplog.records)


def visible_text(error: BaseException) -> str:
    """Everything that can be seen of an exception and of all that hangs on it."""
    texts: list[str] = []
    todo: list[BaseException | None] = [error]
    while todo:
        current = todo.pop()
        if current is not None:
            texts += [str(current), repr(current), repr(vars(current)), repr(current.args)]
            texts += getattr(current, "__notes__", [])
            todo += [current.__cause__, current.__context__]
            assert not type(current).__module__.startswith("aiohttp")
    texts += traceback.format_exception(error)
    texts.append(pickle.dumps(error).decode("latin-1"))
    return "\n".join(texts)


async def failure_of(call: Any) -> errors.DynamiqError:
    with pytest.raises(errors.DynamiqError) as caught:
        await call
    assert KEY not in visible_text(caught.value)
    return caught.value


def locals_of(error: BaseException | None) -> Iterator[tuple[str, str, object]]:
    """The local variables that an error tracker takes note of: function, name and value."""
    while error is not None:
        trace = error.__traceback__
        while trace is not None:
            code = trace.tb_frame.f_code
            if "tests" not in code.co_filename:
                for name, value in trace.tb_frame.f_locals.items():
                    yield code.co_qualname, name, value
            trace = trace.tb_next
        error = error.__cause__ or error.__context__


async def silent(peer: Peer) -> None:
    await peer.gone()


async def lost_half_way(peer: Peer) -> None:
    await peer.send(head(200, "Content-Type: application/json", "Content-Length: 99") + b"{")
    peer.close()


@pytest.mark.parametrize(
    "handler",
    [
        lambda peer: lost(peer),
        lambda peer: reset(peer),
        silent,
        lost_half_way,
        script(make_response(b"{nope")),
        script(make_response(b"<p>", kind="text/html")),
        script(make_response({"error": {"message": "no"}}, 403)),
        script(b"HTTP/1.1 2000 what\r\n\r\n"),
    ],
)
@pytest.mark.parametrize("kind", ["invoke", "stream", "runs", "follow", "upload"])
async def test_no_frame_of_an_error_holds_the_key_and_none_is_in_a_cycle(
    kind: str, handler: Any, serve: Serve, app_for: MakeApp
) -> None:
    wire = await serve(handler)
    app = app_for(wire, max_retries=0, timeout=Timeout(first_byte=0.2, idle=0.2))
    calls: dict[str, Any] = {
        "invoke": lambda: app.invoke({"large": "x" * 1000}),
        "stream": lambda: app.stream(INPUT).output(),
        "runs": lambda: app.runs.get("run-1"),
        "follow": lambda: app.runs.follow("run-1", max_resumes=0).output(),
        "upload": lambda: app.files.upload(b"x" * 1000, name="x.txt"),
    }
    watched: weakref.ref[BaseException] | None = None
    gc.collect()
    gc.disable()
    try:
        try:
            await calls[kind]()
        except errors.DynamiqError as error:
            held = [(where, name) for where, name, value in locals_of(error) if KEY in repr(value)]
            assert held == []
            watched = weakref.ref(error)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert watched is not None
        assert watched() is None
    finally:
        gc.enable()


async def test_the_key_is_sent_as_documented(serve: Serve, app_for: MakeApp) -> None:
    wire = await serve(script(make_response({})))
    await app_for(wire).invoke(INPUT)
    assert wire.requests[0].headers["authorization"] == f"Bearer {KEY}"
    await app_for(wire, access_key=False).invoke(INPUT)
    assert "authorization" not in wire.requests[1].headers
    assert KEY.encode() not in wire.requests[0].body


async def test_reprs(serve: Serve, app_for: MakeApp) -> None:
    wire = await serve(script(CHUNKED + chunk(sse(says("one")))))
    app = app_for(wire)
    async with app.stream(INPUT) as stream:
        await anext(stream)
        caller = app._api.sender
        request = stream._request
        for thing in (app, stream, stream.text(), stream.response, request, caller):
            assert KEY not in f"{thing}{thing!r}"
        assert KEY not in repr(app.with_options(timeout=1))
        assert KEY not in repr(app._api.options)
    assert "127.0.0.1" in repr(app)


def test_wrong_keys_are_not_repeated() -> None:
    for bad in (f"{KEY}\n", f"{KEY} ", f'"{KEY}ü"', b"", "", 5):
        with pytest.raises(errors.InvalidArgumentError) as caught:
            AsyncApp("http://127.0.0.1", access_key=bad)  # type: ignore[arg-type]
        assert KEY not in visible_text(caught.value)
        assert caught.value.argument == "access_key"


async def lost(peer: Peer) -> None:
    peer.close()


async def reset(peer: Peer) -> None:
    peer.reset()


async def echo(peer: Peer) -> None:
    """A server that sends back what it got, as it is."""
    await peer.send(peer.request.raw_head, peer.request.body)
    peer.close()


async def echo_in_a_header(peer: Peer) -> None:
    await peer.send(b"HTTP/1.1 200 OK\r\n" + peer.request.raw_head)
    peer.close()


async def echo_half_a_header(peer: Peer) -> None:
    await peer.send(b"HTTP/1.1 200 OK\r\nAuthorization: Bearer " + KEY.encode())
    peer.close()


async def echo_in_a_chunk_size(peer: Peer) -> None:
    await peer.send(CHUNKED, KEY.encode() + b"\r\n")
    peer.close()


async def echo_in_a_late_chunk_size(peer: Peer) -> None:
    await peer.send(CHUNKED, chunk(sse(says("one"))))
    await asyncio.sleep(0.01)
    await peer.send(KEY.encode() + b"\r\n")
    peer.close()


@pytest.mark.parametrize(
    "handler",
    [
        lost,
        reset,
        echo,
        echo_in_a_header,
        echo_half_a_header,
        echo_in_a_chunk_size,
        echo_in_a_late_chunk_size,
    ],
)
async def test_a_broken_exchange(handler: Any, serve: Serve, app_for: MakeApp) -> None:
    app = app_for(await serve(handler))
    await failure_of(app.invoke(INPUT))
    await failure_of(app.stream(INPUT).output())


async def test_no_connection(app_for: MakeApp) -> None:
    for url in ("http://127.0.0.1:9", "https://nowhere.invalid", "https://127.0.0.1:9"):
        await failure_of(app_for(url, max_retries=0).invoke(INPUT))


async def test_a_time_limit(serve: Serve, app_for: MakeApp) -> None:
    async def silent(peer: Peer) -> None:
        await peer.gone()

    await failure_of(app_for(await serve(silent), timeout=0.05).invoke(INPUT))


ECHOES = {
    "envelope": {"error": {"code": f"x{KEY}", "message": f"bad key {KEY}"}},
    "details": {"error": {"code": "bad", "message": "x", "details": {"key": [KEY], KEY: 1}}},
    "string": {"error": f"Bearer {KEY}"},
    "page": f"<title>{KEY}</title>{KEY}".encode(),
    "long": b"x" * 16_380 + KEY.encode(),
    "elsewhere": {"headers": {"Authorization": f"Bearer {KEY}"}},
}


@pytest.mark.parametrize("body", ECHOES.values(), ids=ECHOES)
@pytest.mark.parametrize("status", [302, 400, 401, 403, 429, 500, 502])
async def test_a_server_that_repeats_the_key_in_an_error(
    status: int, body: Any, serve: Serve, app_for: MakeApp
) -> None:
    lines = (f"X-Request-Id: {KEY}", f"Location: http://x/{KEY}", f"X-Other: Bearer {KEY}")
    wire = await serve(script(make_response(body, status, *lines)))
    app = app_for(wire, max_retries=0)
    error = await failure_of(app.invoke(INPUT))
    assert error.status == status
    await failure_of(app.stream(INPUT).open())


async def test_a_server_that_repeats_the_key_in_a_header(serve: Serve, app_for: MakeApp) -> None:
    wire = await serve(
        script(make_response({"a": 1}, 200, f"X-Echo: you sent {KEY}", "X-Other: 1"))
    )
    app = app_for(wire)
    request = app._api.request("GET", "v1", given=RequestOptions())
    headers = (await app._api.sender.fetch(request, app._api.options)).headers
    assert headers["x-echo"] == "you sent ***"
    assert headers["X-OTHER"] == "1"
    assert len(headers) == len(list(headers)) > 2
    assert KEY not in str(dict(headers))


async def test_a_server_that_repeats_the_key_in_a_2xx(serve: Serve, app_for: MakeApp) -> None:
    id_line = f"X-Request-Id: {KEY}"
    text = KEY.encode()
    for response in (
        make_response(b"<p>" + text, 200, id_line, kind="text/html"),
        make_response(b'{"a": ' + text, 200, id_line),
        make_response({"x": KEY}, 200, id_line),
        make_response(b'"' + text * 50 + b'"', 200, id_line),
        make_response(
            {"status": "failure", "input": None, "output": None, "error": {"message": KEY}},
            200,
            id_line,
        ),
    ):
        app = app_for(await serve(script(response)), max_response_bytes=1000)
        await failure_of(app.invoke(INPUT, output_type=list))
        await failure_of(app.stream(INPUT).open())


STREAM_ECHOES = {
    "bad event": b"data: {" + KEY.encode() + b"\n\n",
    "failed": sse(final({"error": f"bad key {KEY}"})),
    "failed with an object": sse(final({"error": {"message": KEY, "type": KEY}})),
    "failed node": sse(final({"a": {"status": "failure", "error": {"message": KEY}}})),
    "no such node": sse(final({KEY: {"status": "success", "output": 1}})),
    "misfit": sse(final({"a": {"status": "success", "output": KEY}})),
    "error in place of it": sse({"error": {"code": "unauthorized", "message": KEY}}),
    "cut": sse(says(KEY)) + sse(says(KEY))[:-1],
}


@pytest.mark.parametrize("body", STREAM_ECHOES.values(), ids=STREAM_ECHOES)
async def test_a_stream_that_repeats_the_key(body: bytes, serve: Serve, app_for: MakeApp) -> None:
    async def handler(peer: Peer) -> None:
        await peer.send(head(200, "Content-Type: text/event-stream", f"X-Request-Id: {KEY}"), body)
        peer.close()

    app = app_for(await serve(handler))
    stream = app.stream(INPUT)
    await failure_of(stream.output("a", output_type=int))
    assert KEY not in repr(stream.response)


# --- elsewhere -----------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("how", ["invoke", "stream"])
async def test_redirects_are_not_followed(
    how: str, status: int, serve: Serve, app_for: MakeApp
) -> None:
    elsewhere = await serve(script(make_response({"stolen": True})))
    wire = await serve(script(make_response(None, status, f"Location: {elsewhere.url}/x")))
    app = app_for(wire)
    call = app.invoke(INPUT) if how == "invoke" else app.stream(INPUT).open()
    error = await failure_of(call)
    assert isinstance(error, errors.RedirectError)
    assert elsewhere.url in error.message
    assert elsewhere.connections == 0
    assert len(wire.requests) == 1


async def test_cookies_are_not_replayed(serve: Serve, app_for: MakeApp) -> None:
    wire = await serve(script(make_response({}, 200, "Set-Cookie: session=1; Path=/")))
    app = app_for(wire.url.replace("127.0.0.1", "localhost"))  # an address would have no cookies
    for _ in range(2):
        await app.invoke(INPUT)
    assert all("cookie" not in request.headers for request in wire.requests)


def test_plain_http_is_for_loopback() -> None:
    with pytest.raises(errors.InvalidArgumentError, match="plain http"):
        AsyncApp("http://app.example", access_key=KEY)
    assert AsyncApp("http://app.example", access_key=KEY, allow_http=True).url


# --- pickles and copies --------------------------------------------------------------------------


def test_a_client_pickles_without_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DYNAMIQ_ACCESS_KEY", raising=False)
    app = AsyncApp(
        "http://127.0.0.1:9/prefix",
        access_key=KEY,
        timeout=Timeout(idle=7),
        max_retries=5,
        headers={"X-Mine": "1"},
        max_event_bytes=123,
    )
    pickled = pickle.dumps(app)
    assert KEY.encode() not in pickled
    again = pickle.loads(pickled)
    assert type(again) is AsyncApp
    assert again.url == app.url
    assert again._api.options == app._api.options
    assert again._api.max_event_bytes == 123
    assert again._api.sender.key is None
    monkeypatch.setenv("DYNAMIQ_ACCESS_KEY", "another")
    assert revealed(pickle.loads(pickled)._api.sender.key) == "another"
    public = pickle.dumps(AsyncApp("http://127.0.0.1:9", access_key=False))
    assert pickle.loads(public)._api.sender.key is None


def test_headers_that_carry_a_key_stay_where_they_are() -> None:
    headers = {"Authorization": f"Bearer {KEY}", "X-A": "1"}
    pickled = pickle.dumps(AsyncApp("http://127.0.0.1:9", access_key=KEY, headers=headers))
    assert KEY.encode() not in pickled
    assert pickle.loads(pickled)._api.headers == {"X-A": "1"}


def test_a_view_pickles_with_its_options() -> None:
    app = AsyncApp("http://127.0.0.1:9", access_key=KEY, headers={"X-A": "1"})
    view = app.with_options(timeout=3, max_retries=7, headers={"X-B": "2"})
    again = pickle.loads(pickle.dumps(view))
    assert again._api.options == view._api.options
    del view
    gc.collect()


def test_the_secret_itself_is_not_pickled() -> None:
    from dynamiq_async._credentials import Secret

    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(Secret(KEY))


async def test_callback_tokens_are_hidden() -> None:
    assert "t0ken" not in repr(Callback("https://x.example", token="t0ken"))


async def test_a_copy_is_a_view(serve: Serve, app_for: MakeApp) -> None:
    wire = await serve(script(make_response({})))
    app = app_for(wire)
    other = copy.copy(app)
    await other.invoke(INPUT)
    del other
    gc.collect()
    await app.invoke(INPUT)
    assert wire.connections == 1


@pytest.mark.parametrize("way", ["deepcopy", "asdict", "model_copy"])
async def test_what_is_copied_whole_keeps_its_own_key(
    way: str, serve: Serve, app_for: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    @dataclasses.dataclass
    class Settings:
        app: AsyncApp

    class Model(pydantic.BaseModel, arbitrary_types_allowed=True):
        app: AsyncApp

    monkeypatch.setenv("DYNAMIQ_ACCESS_KEY", "another-apps-key")
    wire = await serve(script(make_response({})))
    app = app_for(wire)
    ways: dict[str, Callable[[], AsyncApp]] = {
        "deepcopy": lambda: copy.deepcopy({"app": [app]})["app"][0],
        "asdict": lambda: dataclasses.asdict(Settings(app))["app"],
        "model_copy": lambda: Model(app=app).model_copy(deep=True).app,
    }
    other = ways[way]()
    await other.invoke(INPUT)
    await other.aclose()  # a view: closing it closes nothing
    await app.invoke(INPUT)
    assert wire.connections == 1
    assert {seen.headers["authorization"] for seen in wire.requests} == {f"Bearer {KEY}"}


@pytest.mark.parametrize(
    "proxy", ["http://user:pa55word@proxy.example:3128", "http://user:pa55w@rd/@proxy.example:3128"]
)
def test_a_proxys_password_stays_where_it_is(proxy: str) -> None:
    pickled = pickle.dumps(AsyncApp("http://127.0.0.1:9", access_key=KEY, proxy=proxy))
    assert b"pa55w" not in pickled
    assert pickle.loads(pickled)._network.proxy == "http://proxy.example:3128"


async def test_logging_says_what_went_on(
    serve: Serve, app_for: MakeApp, caplog: pytest.LogCaptureFixture, no_backoff: list[float]
) -> None:
    wire = await serve(
        script(make_response(None, 429), make_response({}, 200, "X-Request-Id: r-1"))
    )
    await app_for(wire).invoke(INPUT, extra_query={"token": "q"})
    ours = [r.getMessage() for r in caplog.records if r.name == "dynamiq_async"]
    assert any("429" in message for message in ours)
    assert any("retrying" in message for message in ours)
    assert any("r-1" in message for message in ours)
    assert not any("token" in message for message in ours)
    caplog.clear()
    caplog.set_level(logging.INFO)
    await app_for(wire).invoke(INPUT)
    assert not [r for r in caplog.records if r.name.startswith("dynamiq_async")]


def test_logging_is_not_configured() -> None:
    logger = logging.getLogger("dynamiq_async")
    assert logger.handlers == []
    assert logger.level == logging.NOTSET
    assert logger.propagate
