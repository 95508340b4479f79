"""The seam as users see it: doubles and adapters through public names only."""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import aiohttp
import pytest
import pytest_asyncio

from dynamiq_async import AsyncApp, AsyncFlowy, AsyncManagement, Timeout, Upload, errors, transport
from dynamiq_async.emulator import FOREVER, Emulator, Fault, RunContext
from dynamiq_async.management.models import App
from tests.support import httpx_transport
from tests.support.httpx_transport import HttpxTransport
from tests.support.websocket_peers import PING, PONG, accept_of, frame, text
from tests.support.wire import final, says, sse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

KEY = "dynamiq_acc_s3cr3t-0123456789"
URL = "https://app.example"
INPUT = {"question": "?"}
SSE = {"Content-Type": "text/event-stream"}


class Canned:
    """A response that was written down."""

    def __init__(self, *pieces: Any, status: int = 200, framed: bool = True, headers: Any = ()):
        self.pieces, self.status, self.framed = list(pieces), status, framed
        self.headers = {"Content-Type": "application/json"} | dict(headers)
        self.closed = 0

    async def read(self) -> Any:
        piece = self.pieces.pop(0) if self.pieces else b""
        return await piece() if callable(piece) else piece

    def close(self) -> None:
        self.closed += 1


class Double:
    """A transport that gives the next of its responses, or does what it is told."""

    def __init__(self, *script: Any) -> None:
        self.script, self.asked = list(script), []  # type: ignore[var-annotated]

    async def send(self, request: transport.Request, *, connect_timeout: float | None) -> Any:
        self.asked.append((request.method, request.url, request.body, connect_timeout))
        step = self.script.pop(0)
        return await step(request) if callable(step) else step

    async def aclose(self) -> None:
        raise AssertionError("a given transport is its owner's to close")


def app_on(double: Any, **options: Any) -> AsyncApp:
    return AsyncApp(URL, access_key=KEY, transport=double, **options)


async def forever(_: Any = None) -> Any:
    await asyncio.Event().wait()


def raising(error: Exception) -> Any:
    async def step(_: Any = None) -> Any:
        raise error

    return step


def test_a_double_is_small_and_so_is_an_adapter() -> None:
    double = inspect.getsource(Canned) + inspect.getsource(Double)
    assert len([line for line in double.splitlines() if line.strip()]) <= 30
    assert len(Path(httpx_transport.__file__).read_text().splitlines()) <= 150


def test_the_door_s_example_runs() -> None:
    doc = transport.__doc__ or ""
    code = doc[doc.index("    class Fixed") : doc.index("**What is sent**")]
    lines = inspect.cleandoc("\n" + code)
    compiled = compile(lines, "example", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    asyncio.run(eval(compiled, {"AsyncApp": AsyncApp}))


# --- what is sent and what comes back ------------------------------------------------------------


async def test_a_call() -> None:
    double = Double(Canned(b'{"a"', b": 1}"))
    async with app_on(double, timeout=Timeout(connect=3)) as app:
        assert await app.invoke(INPUT) == {"a": 1}
    assert double.asked == [("POST", f"{URL}/", b'{"input":{"question":"?"}}', 3)]


async def test_headers_are_all_there_and_the_framing_is_not() -> None:
    seen: list[Any] = []

    async def note(request: transport.Request) -> Canned:
        seen.append(request)
        return Canned(b"1")

    async with app_on(Double(note, note), headers={"X-Mine": "1"}) as app:
        await app.invoke(INPUT)
        await app.invoke(INPUT, files=[b"x", Upload(b"yz", name="n")])
    plain, form = seen
    assert plain.headers["Authorization"] == f"Bearer {KEY}"
    assert plain.headers["X-Mine"] == "1"
    assert plain.headers["Content-Type"] == "application/json"
    assert form.headers["Content-Type"].startswith("multipart/form-data; boundary=")
    assert not {"host", "content-length", "transfer-encoding"} & {h.lower() for h in form.headers}
    for _ in range(2):
        content = b"".join([piece async for piece in form.body])
        assert len(content) == form.body.length
    assert KEY not in f"{form!r}{form}"


async def test_a_stream_and_leaving_it() -> None:
    whole = Canned(sse(says("one")), sse(says("two"), final()), headers=SSE)
    left = Canned(sse(says("one")), forever, headers=SSE)
    async with app_on(Double(whole, left)) as app:
        assert [piece async for piece in app.stream(INPUT).text()] == ["one", "two"]
        async for event in app.stream(INPUT):
            assert event.text == "one"
            break
        assert left.closed == whole.closed == 1


async def test_a_read_that_waits_is_ended_from_another_task() -> None:
    async with app_on(Double(Canned(forever, headers=SSE), Canned(forever, headers=SSE))) as app:
        stream = app.stream(INPUT)
        reading = asyncio.ensure_future(anext(stream))
        while not stream.response:
            await asyncio.sleep(0)
        await stream.aclose()
        with pytest.raises(errors.StreamClosedError):
            await reading
        with pytest.raises(errors.IdleTimeoutError):
            await anext(app.stream(INPUT, timeout=Timeout(idle=0.01)))


async def test_the_first_reason_to_fail_a_read_is_the_one() -> None:
    async with app_on(Double(Canned(forever, headers=SSE), Canned(b"x", headers=SSE))) as app:
        request = app._api.request("POST", "", body=b"{}", stream=True)
        for waits in (True, False):
            opened = await app._api.sender.open(request, app._api.options)
            reading: Any = opened.response.read()
            if waits:
                reading = asyncio.ensure_future(reading)
                await asyncio.sleep(0)
            opened.response.fail(ZeroDivisionError())
            opened.response.fail(KeyError())
            with pytest.raises(ZeroDivisionError):
                await reading
            opened.close()


async def test_the_first_reason_is_the_one_on_a_connection_of_our_own() -> None:
    async with Emulator() as emulator, AsyncApp(emulator.url, access_key=KEY) as app:
        emulator.script(Fault(status=200, headers=SSE, body=b": \n\n"))
        opened = await app._api.sender.open(
            app._api.request("POST", "", body=b"{}", stream=True), app._api.options
        )
        opened.response.fail(errors.IdleTimeoutError("first"))
        opened.response.fail(errors.StreamClosedError("second"))
        for _ in range(2):
            with pytest.raises(errors.IdleTimeoutError):
                await opened.response.read()
        opened.close()


async def test_a_task_that_is_cancelled_besides_is_cancelled() -> None:
    async with app_on(Double(Canned(forever, headers=SSE))) as app:
        request = app._api.request("POST", "", body=b"{}", stream=True)
        opened = await app._api.sender.open(request, app._api.options)
        reading = asyncio.ensure_future(opened.response.read())
        await asyncio.sleep(0)
        opened.response.fail(ZeroDivisionError())
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        opened.close()


async def test_a_body_whose_end_nobody_tells_is_not_taken_for_whole() -> None:
    async with app_on(Double(Canned(sse(says("one")), framed=False, headers=SSE))) as app:
        with pytest.raises(errors.StreamInterruptedError):
            await app.stream(INPUT).output()


async def test_headers_may_be_in_any_case_and_the_key_is_masked() -> None:
    async with app_on(Double(Canned(status=401, headers={"X-REQUEST-ID": f"for {KEY}"}))) as app:
        with pytest.raises(errors.AuthenticationError) as caught:
            await app.invoke(INPUT)
    assert caught.value.request_id == "for ***"


# --- retries and what is certain -----------------------------------------------------------------


@pytest.fixture
def at_once(no_backoff: list[float]) -> list[float]:
    return no_backoff


async def test_what_was_not_taken_is_sent_again(at_once: list[float]) -> None:
    busy = Canned(status=429, headers={"Retry-After": "0"})
    refused = raising(errors.ConnectError("nobody is there"))
    double = Double(refused, busy, Canned(b"1"))
    async with app_on(double) as app:
        assert await app.invoke(INPUT) == 1
    assert len(double.asked) == 3
    assert busy.closed == 1


async def test_a_limit_that_passes_before_the_request_is_sent_risks_nothing(
    at_once: list[float],
) -> None:
    async def unsent(request: transport.Request) -> None:
        request.sent = False
        await forever()

    double = Double(unsent, unsent, Canned(b"1"))
    async with app_on(double, timeout=Timeout(first_byte=0.01)) as app:
        assert await app.invoke(INPUT) == 1
        with pytest.raises(errors.ConnectTimeoutError, match="before the request was sent"):
            double.script.append(unsent)
            await app.invoke(INPUT, max_retries=0)


async def test_a_transport_that_does_not_tell_is_taken_to_have_sent(at_once: list[float]) -> None:
    async def sent(request: transport.Request) -> None:
        request.sent = False
        request.sent = True
        await forever()

    for hangs in (forever, sent):
        async with app_on(Double(hangs), timeout=Timeout(first_byte=0.01)) as app:
            with pytest.raises(errors.AmbiguousTimeoutError) as caught:
                await app.invoke(INPUT)
            assert caught.value.limit == "first_byte"


async def test_an_attempt_that_was_not_sent_says_nothing_of_the_next(at_once: list[float]) -> None:
    async def unsent(request: transport.Request) -> None:
        request.sent = False
        raise errors.ConnectError("nobody is there")

    async with app_on(Double(unsent, forever), timeout=Timeout(first_byte=0.01)) as app:
        with pytest.raises(errors.AmbiguousTimeoutError):
            await app.invoke(INPUT)


# --- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [KeyError("x"), OSError(5, "disk"), TimeoutError("late"), ValueError(f"bad {KEY}")]
)
async def test_an_error_of_the_double_s_own_is_named(error: Exception) -> None:
    async with app_on(Double(raising(error))) as app:
        with pytest.raises(errors.AmbiguousConnectionError, match="the transport raised") as caught:
            await app.invoke(INPUT)
    assert type(error).__name__ in caught.value.message
    assert KEY not in str(caught.value)
    chain: Any = caught.value
    while chain is not None:
        assert isinstance(chain, errors.DynamiqError)
        chain = chain.__cause__ or chain.__context__


async def test_so_is_one_while_a_body_is_read() -> None:
    broken = Canned(b"{", raising(LookupError("gone")))
    cut = Canned(sse(says("one")), raising(LookupError("gone")), headers=SSE)
    odd = Canned(None)
    async with app_on(Double(broken, cut, odd)) as app:
        with pytest.raises(errors.AmbiguousConnectionError, match="LookupError: gone"):
            await app.invoke(INPUT)
        stream = app.stream(INPUT)
        assert (await anext(stream)).text == "one"
        with pytest.raises(errors.StreamInterruptedError, match="LookupError"):
            await anext(stream)
        with pytest.raises(errors.AmbiguousConnectionError, match="TypeError"):
            await app.invoke(INPUT)
    assert broken.closed == cut.closed == odd.closed == 1


async def test_errors_of_this_package_pass_as_they_are() -> None:
    error = errors.ConnectTimeoutError("none", limit="connect", seconds=3)
    async with app_on(Double(raising(error)), max_retries=0) as app:
        with pytest.raises(errors.ConnectTimeoutError) as caught:
            await app.invoke(INPUT)
    assert caught.value is error


async def test_what_the_body_s_source_raises_is_raised() -> None:
    async def failing() -> AsyncIterator[bytes]:
        yield b"x"
        raise LookupError("no more")

    async def reads(request: Any) -> None:
        assert [piece async for piece in request.body]

    async with app_on(Double(reads)) as app:
        with pytest.raises(LookupError, match="no more"):
            await app.invoke(INPUT, files=Upload(failing()))


async def test_a_close_that_fails_is_nobody_s_error(caplog: pytest.LogCaptureFixture) -> None:
    class Stuck(Canned):
        def close(self) -> None:
            raise RuntimeError(f"stuck with {KEY}")

    caplog.set_level("DEBUG", "dynamiq_async")
    async with app_on(Double(Stuck(b"1"))) as app:
        assert await app.invoke(INPUT) == 1
    assert "RuntimeError: stuck with ***" in caplog.text


async def test_cancellation_goes_through() -> None:
    async with app_on(Double(forever)) as app:
        call = asyncio.ensure_future(app.invoke(INPUT))
        await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call


# --- the option ----------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [AsyncApp, AsyncManagement, AsyncFlowy])
@pytest.mark.parametrize(
    "options", [{"verify": "x"}, {"proxy": "http://p"}, {"trust_env": True}, {"session": object()}]
)
def test_a_transport_has_its_own_way_to_the_network(make: Any, options: dict[str, Any]) -> None:
    name = "base_url" if make is not AsyncApp else "host_or_url"
    key = {AsyncApp: "access_key", AsyncManagement: "token", AsyncFlowy: "api_key"}[make]
    with pytest.raises(errors.InvalidArgumentError, match="session, verify, proxy") as caught:
        make(**{name: URL, key: KEY}, transport=Double(), **options)
    assert caught.value.argument == "transport"


@pytest.mark.parametrize("wrong", ["direct_", "", object(), 5, Canned()])
def test_a_transport_is_one(wrong: Any) -> None:
    with pytest.raises(errors.InvalidArgumentError, match="transport must be") as caught:
        app_on(wrong)
    assert caught.value.argument == "transport"


async def test_session_names_the_one_on_aiohttp() -> None:
    async with Emulator("echo") as emulator, aiohttp.ClientSession() as session:
        for options in ({}, {"session": session}, {"trust_env": True}):
            async with AsyncApp(
                emulator.url, access_key=emulator.access_key, transport="session", **options
            ) as app:
                assert await app.invoke({"a": 1})


def test_a_transport_is_not_pickled_and_a_choice_is() -> None:
    app = pickle.loads(pickle.dumps(app_on(Double())))
    assert app._network.transport is None
    app = pickle.loads(pickle.dumps(app_on("session")))
    assert app._network.transport == "session"


async def test_a_websocket_needs_a_transport_that_can_upgrade() -> None:
    async with app_on(Double()) as app:
        with pytest.raises(errors.InvalidArgumentError, match="needs upgrade") as caught:
            await app.connect().open()
    assert caught.value.argument == "transport"


class Upgrading(Double):
    """A transport whose server agrees to everything, and then says what it is told."""

    async def upgrade(self, request: transport.Request, *, connect_timeout: float | None) -> Any:
        response = await self.send(request, connect_timeout=connect_timeout)
        response.headers |= {
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Accept": accept_of(request.headers["Sec-WebSocket-Key"]),
        }
        return response


class Upgraded(Canned):
    """The connection behind its 101."""

    unsent = 0

    def __init__(self, *pieces: Any, broken: Exception | None = None) -> None:
        super().__init__(*pieces, status=101)
        self.written: list[bytes] = []
        self.broken = broken

    def write(self, data: bytes) -> None:
        self.written.append(data)
        if self.broken is not None:
            raise self.broken

    async def drain(self) -> None:
        if self.broken is not None:
            raise self.broken


async def test_a_websocket_over_a_transport_that_can() -> None:
    said = Upgraded(text(says("one")) + text(final())[:9], text(final())[9:], forever)
    refused = Canned(b"{}", status=403)
    async with app_on(Upgrading(said, refused)) as app:
        async with app.connect() as socket:
            assert [event.text async for event in socket.run(INPUT)] == ["one", ""]
        assert said.closed == 1
        assert len(said.written) == 2
        with pytest.raises(errors.PermissionDeniedError):
            await app.connect().open()


@pytest.mark.parametrize("unsent", [0, 1])
async def test_pings_are_answered_unless_what_is_sent_piles_up(unsent: int) -> None:
    said = Upgraded(frame(PING, b"?"), text(says("one")), text(final()), forever)
    said.unsent = unsent
    async with app_on(Upgrading(said)) as app, app.connect() as socket:
        assert [event.text async for event in socket.run(INPUT)] == ["one", ""]
    pongs = [data for data in said.written if data[0] & 0x0F == PONG]
    assert len(pongs) == (0 if unsent else 1)


async def test_what_breaks_a_websocket_is_named_too() -> None:
    unwritable = Upgraded(forever, broken=LookupError("gone"))
    unreadable = Upgraded(raising(LookupError("gone")))
    async with app_on(Upgrading(unwritable, unreadable)) as app:
        for _ in range(2):
            async with app.connect() as socket:
                with pytest.raises(errors.APIConnectionError, match="LookupError: gone"):
                    await socket.run(INPUT).output()
    assert unwritable.closed == unreadable.closed == 1


async def test_all_clients_use_it_for_everything() -> None:
    found = {"data": {"id": str(UUID(int=1)), "name": "bot", "hostname": "bot.example"}}
    double = Double(Canned(json.dumps(found).encode()), Canned(b"1"))
    async with AsyncManagement(URL, token=KEY, transport=double) as management:
        async with management.open(UUID(int=1), access_key=KEY) as app:
            assert await app.invoke(INPUT) == 1
        other = Double(Canned(b"2"))
        opened = management.open(App(hostname="bot.example"), access_key=KEY, transport=other)
        async with opened as app:
            assert await app.invoke(INPUT) == 2
        opened = management.open(
            App(hostname="bot.example"), access_key=KEY, transport="session", proxy="http://p"
        )
        async with opened as app:
            assert app._network.given is None
    assert [url for _, url, _, _ in double.asked][1:] == ["https://bot.example/"]
    async with AsyncFlowy(KEY, URL, transport=double) as flowy:
        assert flowy._shared.downloader._get_transport()._transport is double  # type: ignore[attr-defined]


# --- an adapter ----------------------------------------------------------------------------------


async def talker(input: dict[str, Any], run: RunContext) -> Any:
    for number in range(input.get("count", 1)):
        await run.text(f"{number} ")
    return "done"


@pytest_asyncio.fixture
async def httpx_app() -> AsyncIterator[tuple[AsyncApp, Emulator]]:
    """A client on httpx, and the emulator that it talks to."""
    async with (
        HttpxTransport() as httpx,
        Emulator(talker) as emulator,
        AsyncApp(emulator.url, access_key=emulator.access_key, transport=httpx) as app,
    ):
        yield app, emulator


async def test_httpx_calls(httpx_app: tuple[AsyncApp, Emulator]) -> None:
    app, emulator = httpx_app
    for _ in range(3):
        assert "done" in str(await app.invoke(INPUT))
    assert emulator.connections == 1
    with pytest.raises(errors.ConnectError):
        nobody = AsyncApp("http://127.0.0.1:9", access_key=KEY, transport=app._network.transport)
        await nobody.invoke(INPUT, max_retries=0)


async def test_httpx_resumes_the_stream_of_a_run(
    httpx_app: tuple[AsyncApp, Emulator], at_once: list[float]
) -> None:
    app, emulator = httpx_app
    emulator.script(Fault(after_events=3, drop="reset"), match="POST /v1/runs")
    emulator.script(
        Fault(after_events=2, drop="truncate"),
        Fault(after_events=1, drop="close", framing="close"),
        match="GET /v1/runs/*/stream",
    )
    async with app.runs.stream({"count": 12}) as stream:
        sequences = [event.sequence async for event in stream]
    assert sequences == list(range(sequences[0], sequences[0] + len(sequences)))
    assert stream.reconnects >= 3
    assert stream.final is not None


async def test_httpx_uploads(httpx_app: tuple[AsyncApp, Emulator], tmp_path: Path) -> None:
    app, emulator = httpx_app
    path = tmp_path / "large"
    path.write_bytes(b"0123456789" * 100_000)
    assert (await app.files.upload(path)).size == 1_000_000

    async def pieces() -> AsyncIterator[bytes]:
        yield b"some "
        yield b"bytes"

    assert (await app.files.upload(pieces(), name="x")).size == 10

    async def failing() -> AsyncIterator[bytes]:
        yield b"x"
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        await app.files.upload(failing(), name="x")
    assert len(emulator.requests) == 2


async def test_httpx_lets_go_of_a_stream_that_is_left(
    httpx_app: tuple[AsyncApp, Emulator],
) -> None:
    app, emulator = httpx_app
    emulator.script(Fault(after_events=2, stall=FOREVER), times=None)
    async for _ in app.stream({"count": 5}):
        break
    with pytest.raises(errors.IdleTimeoutError):
        await app.stream({"count": 5}, timeout=Timeout(idle=0.02)).output()
    stream = app.stream({"count": 5})
    await anext(stream)
    await stream.aclose()
    await emulator.wait_until(lambda: all(seen.disconnected for seen in emulator.requests))
    assert len(emulator.requests) == 3
