"""Time limits: each measures one thing, and the one deadline holds over everything."""

from __future__ import annotations

import asyncio
import errno
import os
import time
from contextlib import contextmanager
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from dynamiq_async import Timeout, errors
from dynamiq_async._http.client import patient_view
from dynamiq_async._http.limiter import Demand
from dynamiq_async._http.request_options import RequestOptions
from tests.support.network import in_flight, turns
from tests.support.wire import (
    CHUNKED,
    LAST_CHUNK,
    Peer,
    chunk,
    final,
    head,
    make_response,
    says,
    script,
    sse,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator

    from dynamiq_async import AsyncApp, StreamEvent
    from tests.support.network import FakeClock, MakeApp, Serve

T = TypeVar("T")

INPUT = {"question": "?"}
OK = make_response({"a": 1})
ONE, TWO, END = sse(says("one")), sse(says("two")), sse(final())
UNLIMITED = {"connect": None, "pool": None, "first_byte": None, "idle": None, "total": None}


def only(**limits: float) -> Timeout:
    return Timeout(**{**UNLIMITED, **limits})


async def silent(peer: Peer) -> None:
    await peer.gone()


def start(awaitable: Awaitable[T]) -> asyncio.Future[T]:
    return asyncio.ensure_future(awaitable)


async def read_one(stream: Any) -> StreamEvent:
    event: StreamEvent = await anext(stream)
    return event


class Paced:
    """A server that streams what a test gives it, when the test says so."""

    def __init__(self) -> None:
        self.peer: asyncio.Future[Peer] = asyncio.get_running_loop().create_future()

    async def __call__(self, peer: Peer) -> None:
        await peer.send(CHUNKED)
        self.peer.set_result(peer)
        await peer.gone()

    async def send(self, data: bytes) -> None:
        await (await self.peer).send(chunk(data))
        await turns()


# --- idle ----------------------------------------------------------------------------------------


async def test_idle_is_silence_while_reading(
    serve: Serve, app_for: MakeApp, clock: FakeClock
) -> None:
    paced = Paced()
    wire = await serve(paced)
    app = app_for(wire, timeout=only(idle=100))
    stream = app.stream(INPUT)
    reading = start(anext(stream))
    await paced.peer
    await clock.pass_by(99)
    assert not reading.done()
    await paced.send(ONE)
    assert (await reading).text == "one"
    reading = start(anext(stream))
    await turns()
    await clock.pass_by(99)
    assert not reading.done()
    await clock.pass_by(2)
    with pytest.raises(errors.IdleTimeoutError) as caught:
        await reading
    assert (caught.value.limit, caught.value.seconds) == ("idle", 100)
    assert caught.value.run_id == "wf-1"
    assert isinstance(caught.value, errors.APITimeoutError)
    assert in_flight(app) == 0
    await wire.all_closed()


async def test_heartbeats_and_half_events_are_life(
    serve: Serve, app_for: MakeApp, clock: FakeClock
) -> None:
    paced = Paced()
    app = app_for(await serve(paced), timeout=only(idle=100))
    stream = app.stream(INPUT)
    reading = start(anext(stream))
    for piece in (b": heartbeat\n", b":\n\n", ONE[:7], ONE[7:-1], b": x"):
        await paced.send(piece)
        await clock.pass_by(90)
        assert not reading.done()
    await paced.send(b"\n\n")
    assert (await reading).text == "one"
    await stream.aclose()


async def test_a_slow_consumer_is_no_idle_timeout(
    serve: Serve, app_for: MakeApp, clock: FakeClock
) -> None:
    paced = Paced()
    app = app_for(await serve(paced), timeout=only(idle=100))
    async with app.stream(INPUT) as stream:
        await paced.send(ONE)
        await clock.pass_by(1000)
        assert (await read_one(stream)).text == "one"
        await clock.pass_by(1000)
        reading = start(anext(stream))
        await turns()
        await clock.pass_by(99)
        assert not reading.done()
        await paced.send(TWO)
        assert (await reading).text == "two"


async def test_bytes_that_arrived_while_the_loop_was_held_up_count(
    serve: Serve, app_for: MakeApp, clock: FakeClock
) -> None:
    """The limit passes in the very turn of the loop in which they are found."""
    paced = Paced()
    app = app_for(await serve(paced), timeout=only(idle=100))
    stream = app.stream(INPUT)
    reading = start(anext(stream))
    peer = await paced.peer
    await turns()
    peer.writer.write(chunk(ONE))
    clock.ahead += 150  # while the loop was held up
    assert (await reading).text == "one"
    reading = start(anext(stream))
    await paced.send(TWO)
    assert (await reading).text == "two"
    await stream.aclose()


async def test_no_limit_cuts_a_long_stream(
    serve: Serve, app_for: MakeApp, clock: FakeClock
) -> None:
    """With the default limits."""
    paced = Paced()
    app = app_for(await serve(paced))
    stream = app.stream(INPUT)
    for _ in range(50):
        reading = start(anext(stream))
        await turns()
        await clock.pass_by(290)
        await paced.send(ONE)
        assert (await reading).text == "one"
    await clock.pass_by(10**7)
    await paced.send(END)
    assert (await read_one(stream)).is_final
    await stream.aclose()


async def test_idle_within_a_call(serve: Serve, app_for: MakeApp, clock: FakeClock) -> None:
    arrived = asyncio.Event()

    async def handler(peer: Peer) -> None:
        await peer.send(head(200, "Content-Type: application/json", "Content-Length: 7"))
        for _ in range(3):
            arrived.set()
            await asyncio.sleep(90)
            await peer.send(b" ")
        await peer.gone()

    wire = await serve(handler)
    call = start(app_for(wire, timeout=only(idle=100)).invoke(INPUT))
    await arrived.wait()
    await turns()
    for _ in range(3):
        await clock.pass_by(91)
        assert not call.done()
    await clock.pass_by(101)
    with pytest.raises(errors.AmbiguousTimeoutError) as caught:
        await call
    assert caught.value.limit == "idle"


# --- first byte, connect, pool -------------------------------------------------------------------


@pytest.mark.parametrize("how", ["invoke", "stream"])
async def test_first_byte(how: str, serve: Serve, app_for: MakeApp, clock: FakeClock) -> None:
    wire = await serve(silent)
    app = app_for(wire, timeout=only(first_byte=100, idle=5))
    call = start(app.invoke(INPUT) if how == "invoke" else app.stream(INPUT).open())
    await wire.asked()
    await clock.pass_by(99)
    assert not call.done()
    await clock.pass_by(2)
    with pytest.raises(errors.AmbiguousTimeoutError, match="first_byte limit of 100") as caught:
        await call
    assert caught.value.limit == "first_byte"
    await wire.all_closed()
    assert in_flight(app) == 0


async def test_connect_to_a_black_hole(
    app_for: MakeApp, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    tries: list[Any] = []

    async def never(sock: Any, address: Any) -> None:
        tries.append(address)
        await asyncio.sleep(10**6)

    monkeypatch.setattr(loop, "sock_connect", never)
    app = app_for("http://127.0.0.1:9", timeout=only(connect=100), max_retries=0)
    call = start(app.invoke(INPUT))
    await turns()
    await clock.pass_by(98)
    assert not call.done()
    await clock.pass_by(4)  # aiohttp rounds long limits up to whole seconds
    with pytest.raises(errors.ConnectTimeoutError) as caught:
        await call
    assert caught.value.limit == "connect"
    assert not isinstance(caught.value, errors.AmbiguousOutcomeError)
    assert isinstance(caught.value, errors.ConnectError)
    assert len(tries) == 1


async def test_connect_covers_tls(serve: Serve, app_for: MakeApp, clock: FakeClock) -> None:
    """A server that accepts and then says nothing; the request was never sent."""
    accepted = asyncio.Event()

    async def mute(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.set()
        await asyncio.sleep(10**5)
        writer.close()

    server = await asyncio.start_server(mute, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    app = app_for(f"https://127.0.0.1:{port}", timeout=only(connect=100), max_retries=0)
    call = start(app.invoke(INPUT))
    await accepted.wait()
    await turns()
    await clock.pass_by(102)
    with pytest.raises(errors.ConnectTimeoutError):
        await call
    await clock.pass_by(10**6)
    server.close()
    await server.wait_closed()
    await turns()


async def test_other_limits_before_the_request_is_out(
    app_for: MakeApp, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`total` passes while connecting: certainly not sent, whatever limit it was."""

    async def never(*_: Any) -> None:
        await asyncio.sleep(10**6)

    monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", never)
    app = app_for("http://127.0.0.1:9", timeout=only(total=100), max_retries=0)
    call = start(app.invoke(INPUT))
    await turns()
    await clock.pass_by(101)
    with pytest.raises(errors.ConnectTimeoutError) as caught:
        await call
    assert caught.value.limit == "total"


def queued(app: AsyncApp) -> AsyncApp:
    """A view for one of many calls."""
    return patient_view(app, RequestOptions())


@contextmanager
def occupied(app: AsyncApp) -> Iterator[None]:
    """One of the slots for calls is taken."""
    limiter = app._api.sender.limiter
    limiter.acquire_urgently()
    yield
    limiter.release()


async def test_pool(serve: Serve, app_for: MakeApp, clock: FakeClock) -> None:
    wire = await serve(silent)
    app = app_for(wire, max_connections=1, timeout=only(pool=100))
    first = start(app.invoke(INPUT))
    await wire.asked()
    second = start(app.invoke(INPUT))
    await turns()
    await clock.pass_by(99)
    assert not second.done()
    await clock.pass_by(2)
    with pytest.raises(errors.PoolTimeoutError, match="max_connections") as caught:
        async with asyncio.timeout(5):
            await second
    assert (caught.value.limit, caught.value.seconds) == ("pool", 100)
    assert not isinstance(caught.value, errors.AmbiguousOutcomeError)
    assert len(wire.requests) == 1
    assert not first.done()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_calls_and_streams_do_not_hold_up_each_other(serve: Serve, app_for: MakeApp) -> None:
    async def handler(peer: Peer) -> None:
        await peer.send(CHUNKED + chunk(ONE) if len(wire.requests) < 4 else OK)

    wire = await serve(handler)
    app = app_for(wire, max_connections=1, max_streams=2, timeout=only(pool=5))
    streams = [app.stream(INPUT), app.with_options().stream(INPUT)]
    for stream in streams:
        await stream.open()
    with pytest.raises(errors.PoolTimeoutError, match=r"client's 2 streams ended.*max_streams"):
        await app.stream(INPUT, timeout=only(pool=0.01)).open()
    with occupied(app), pytest.raises(errors.PoolTimeoutError, match="max_connections"):
        await app.invoke(INPUT, timeout=only(pool=0.01))
    await streams[0].aclose()
    with occupied(app):
        async with app.stream(INPUT):
            assert in_flight(app) == 3
    assert await app.invoke(INPUT) == {"a": 1}
    await streams[1].aclose()


async def test_a_cooldown_holds_back_streams_too(serve: Serve, app_for: MakeApp) -> None:
    wire = await serve(script(OK))
    app = app_for(wire, max_streams=1)
    app._api.sender.limiter.streams.acquire_urgently()
    waiting = start(app.stream(INPUT, timeout=20).open())
    await turns()
    app._api.sender.limiter.cool_down(50)  # also those that wait for a slot
    with pytest.raises(errors.RateLimitError):
        await waiting
    app._api.sender.limiter.streams.release()
    with pytest.raises(errors.RateLimitError):
        await app.stream(INPUT, timeout=20).open()
    assert wire.requests == []


async def test_streams_of_a_batch_are_among_its_calls(serve: Serve, app_for: MakeApp) -> None:
    wire = await serve(script(CHUNKED + chunk(ONE)))
    app = app_for(wire, max_streams=1)
    async with app.stream(INPUT), queued(app).stream(INPUT):
        limiter = app._api.sender.limiter
        assert (limiter.in_flight, limiter.streams.in_flight) == (1, 1)


@pytest.mark.parametrize("kind", ["call", "stream"])
async def test_a_long_wait_for_a_slot_is_logged_once(
    kind: str, serve: Serve, app_for: MakeApp, clock: FakeClock, caplog: Any
) -> None:
    wire = await serve(script(CHUNKED + chunk(ONE)) if kind == "stream" else script(OK))
    app = app_for(wire, max_connections=1, max_streams=1)
    limiter = app._api.sender.limiter if kind == "call" else app._api.sender.limiter.streams

    def begin() -> asyncio.Future[Any]:
        return start(app.stream(INPUT).open() if kind == "stream" else app.invoke(INPUT))

    for times in (1, 2):
        limiter.acquire_urgently()
        waiting = [begin() for _ in range(3)]
        await turns()
        await clock.pass_by(4)
        assert len(caplog.records) == times - 1
        await clock.pass_by(2)
        assert len(caplog.records) == times
        for call in waiting:
            call.cancel()
        await asyncio.wait(waiting)
        limiter.release()
    record = caplog.records[0]
    assert record.levelname == "WARNING"
    option = "max_streams" if kind == "stream" else "max_connections"
    assert f"raise {option}" in record.getMessage()
    assert "has waited 5 s" in record.getMessage()


@pytest.mark.parametrize("why", ["queued", "rate"])
async def test_a_wait_that_was_asked_for_is_not_logged(
    why: str, serve: Serve, app_for: MakeApp, clock: FakeClock, caplog: Any
) -> None:
    wire = await serve(script(OK))
    app = app_for(wire, max_connections=1)
    limiter = app._api.sender.limiter
    with limiter.demand(Demand(1, interval=1.0 if why == "rate" else 0.0)), occupied(app):
        call = start((queued(app) if why == "queued" else app).invoke(INPUT))
        await turns()
        await clock.pass_by(10)
        assert not call.done()
        call.cancel()
        await asyncio.wait([call])
    assert not caplog.records


async def test_a_look_at_a_run_waits_for_no_slot_but_for_a_cooldown(
    serve: Serve, app_for: MakeApp
) -> None:
    wire = await serve(script(make_response({"data": {"id": "run-1", "status": "running"}})))
    app = app_for(wire, max_connections=1)
    with occupied(app):
        waiting = start(app.invoke(INPUT))  # those in line are overtaken
        await turns()
        assert (await app.runs.get("run-1")).id == "run-1"
        app._api.sender.limiter.cool_down(50)
        with pytest.raises(errors.RateLimitError):
            await app.runs.get("run-1", timeout=20)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert len(wire.requests) == 1


async def test_the_end_of_a_streams_body_is_waited_for_for_50_ms(
    serve: Serve, app_for: MakeApp, clock: FakeClock
) -> None:
    wire = await serve(script(CHUNKED + chunk(sse(final()))))
    stream = app_for(wire).stream(INPUT)
    await anext(stream)
    end = start(anext(stream, None))
    await turns()
    await clock.pass_by(0.04)
    assert not end.done()
    await clock.pass_by(0.02)
    assert end.done()
    assert await end is None


async def test_streams_take_slots_until_they_are_over(serve: Serve, app_for: MakeApp) -> None:
    wire = await serve(script(CHUNKED + chunk(ONE)))
    app = app_for(wire, max_streams=1)
    async with app.stream(INPUT) as stream:
        waiting = start(app.stream(INPUT).open())
        await turns()
        assert not waiting.done()
        assert len(wire.requests) == 1
        await anext(stream)
    await waiting
    assert len(wire.requests) == 2


# --- total ---------------------------------------------------------------------------------------


async def test_total_over_a_call(serve: Serve, app_for: MakeApp, clock: FakeClock) -> None:
    wire = await serve(silent)
    call = start(app_for(wire, timeout=100).invoke(INPUT))
    await wire.asked()
    await clock.pass_by(99)
    assert not call.done()
    await clock.pass_by(2)
    with pytest.raises(errors.AmbiguousTimeoutError, match="total limit of 100"):
        await call


async def test_total_over_attempts_and_waits(
    serve: Serve, app_for: MakeApp, clock: FakeClock
) -> None:
    """The second attempt has what the first and the wait have left of it."""

    async def handler(peer: Peer) -> None:
        if len(wire.requests) == 1:
            await peer.send(make_response(None, 429, "Retry-After: 40"))
        else:
            await peer.gone()

    wire = await serve(handler)
    call = start(app_for(wire, timeout=100).invoke(INPUT))
    await wire.asked()
    await turns()
    await clock.pass_by(50)
    await wire.asked(2)
    await clock.pass_by(48)
    assert not call.done()
    await clock.pass_by(3)
    with pytest.raises(errors.AmbiguousTimeoutError) as caught:
        await call
    assert caught.value.limit == "total"
    assert caught.value.attempts == 2


async def test_a_wait_that_does_not_fit_is_not_begun(serve: Serve, app_for: MakeApp) -> None:
    wire = await serve(script(make_response(None, 429, "Retry-After: 50"), OK))
    with pytest.raises(errors.RateLimitError) as caught:
        await app_for(wire, timeout=40).invoke(INPUT)
    assert caught.value.retry_after == 50
    assert len(wire.requests) == 1


async def test_a_wait_over_the_cap_raises_at_once(serve: Serve, app_for: MakeApp) -> None:
    wire = await serve(script(make_response(None, 429, "Retry-After: 259200"), OK))
    with pytest.raises(errors.RateLimitError) as caught:
        await app_for(wire, max_retry_after=100).invoke(INPUT)
    assert caught.value.retry_after == 259200
    assert len(wire.requests) == 1


async def test_total_over_the_wait_for_a_slot(
    serve: Serve, app_for: MakeApp, clock: FakeClock
) -> None:
    wire = await serve(silent)
    app = app_for(wire, max_connections=1, timeout=Timeout(pool=1000))
    first = start(app.invoke(INPUT))
    await wire.asked()
    second = start(app.invoke(INPUT, timeout=100))
    await turns()
    await clock.pass_by(101)
    with pytest.raises(errors.PoolTimeoutError) as caught:
        async with asyncio.timeout(5):
            await second
    assert (caught.value.limit, caught.value.seconds) == ("total", 100)
    first.cancel()
    await asyncio.wait([first])


async def test_total_over_a_cooldown_that_grows(
    serve: Serve, app_for: MakeApp, clock: FakeClock
) -> None:
    wire = await serve(script(OK))
    app = app_for(wire)
    app._api.sender.limiter.cool_down(10)
    call = start(app.invoke(INPUT, timeout=40))
    await turns()
    app._api.sender.limiter.cool_down(55)
    await clock.pass_by(20)
    with pytest.raises(errors.RateLimitError, match="was not sent"):
        await call
    assert wire.requests == []


@pytest.mark.parametrize("slow", [False, True])
async def test_total_over_a_stream(
    slow: bool, serve: Serve, app_for: MakeApp, clock: FakeClock
) -> None:
    paced = Paced()
    wire = await serve(paced)
    app = app_for(wire, timeout=Timeout(total=100))
    stream = app.stream(INPUT)
    reading = start(anext(stream))
    await paced.send(ONE)
    assert (await reading).text == "one"
    if not slow:
        reading = start(anext(stream))
    await turns()
    await clock.pass_by(101)
    with pytest.raises(errors.APITimeoutError) as caught:
        await (anext(stream) if slow else reading)
    assert (caught.value.limit, caught.value.seconds) == ("total", 100)
    assert caught.value.run_id == "wf-1"
    await wire.all_closed()


async def test_the_limits_of_a_stream_end_with_it(
    serve: Serve, app_for: MakeApp, clock: FakeClock
) -> None:
    wire = await serve(script(CHUNKED + chunk(ONE + END) + LAST_CHUNK))
    app = app_for(wire, timeout=Timeout(total=100, idle=50))
    stream = app.stream(INPUT)
    assert len([event async for event in stream]) == 2
    assert not app._api.sender.timer()._checks
    await clock.pass_by(200)
    assert await anext(stream, None) is None
    assert (await app.stream(INPUT).output("agent-1")) == {"content": "hi"}
    assert wire.connections == 1


# --- where limits are set ------------------------------------------------------------------------


async def test_none_means_no_limit_at_all(serve: Serve, app_for: MakeApp, clock: FakeClock) -> None:
    wire = await serve(silent)
    for call in (
        app_for(wire, timeout=None).invoke(INPUT),
        app_for(wire, timeout=5).invoke(INPUT, timeout=None),
        app_for(wire, timeout=5).with_options(timeout=None).invoke(INPUT),
    ):
        count = len(wire.requests)
        task = start(call)
        await wire.asked(count + 1)
        await clock.pass_by(10**6)
        assert not task.done()
        task.cancel()
        await asyncio.wait([task])


async def test_a_number_leaves_the_other_limits(
    serve: Serve, app_for: MakeApp, clock: FakeClock
) -> None:
    wire = await serve(silent)
    app = app_for(wire, timeout=Timeout(first_byte=50))
    call = start(app.invoke(INPUT, timeout=100))
    await wire.asked()
    await clock.pass_by(51)
    with pytest.raises(errors.APITimeoutError) as caught:
        await call
    assert caught.value.limit == "first_byte"


@pytest.mark.parametrize("bad", [0, -1, float("nan"), float("inf"), True, "5"])
async def test_misspelt_limits(bad: Any, app_for: MakeApp) -> None:
    app = app_for("http://127.0.0.1:9")
    for make in (
        lambda: app_for("http://127.0.0.1:9", timeout=bad),
        lambda: app.with_options(timeout=bad),
        lambda: app.stream(INPUT, timeout=bad),
        lambda: app_for("http://127.0.0.1:9", max_retry_after=bad),
    ):
        with pytest.raises(errors.InvalidArgumentError):
            make()


# --- one "slow down" for all ---------------------------------------------------------------------


async def test_a_429_slows_the_whole_client(
    serve: Serve, app_for: MakeApp, clock: FakeClock
) -> None:
    wire = await serve(script(make_response(None, 429, "Retry-After: 50"), OK))
    app = app_for(wire)
    first = start(app.invoke(INPUT))
    await wire.asked()
    await turns()
    others = [start(app.invoke(INPUT)), start(app.with_options(max_retries=0).invoke(INPUT))]
    await clock.pass_by(49)
    assert len(wire.requests) == 1
    await clock.pass_by(10)
    async with asyncio.timeout(5):
        assert await asyncio.gather(first, *others) == [{"a": 1}] * 3
    assert len(wire.requests) == 4
    assert app._api.sender.limiter.throttled == 1


@pytest.mark.parametrize("limit", ["first_byte", "total", "idle"])
async def test_what_arrived_while_the_process_stood_still_is_no_timeout(
    limit: str, serve: Serve, app_for: MakeApp, clock: FakeClock
) -> None:
    """The limit and the arrival are due in one turn of the loop, as after a SIGSTOP."""
    peers: list[Peer] = []

    async def handler(peer: Peer) -> None:
        if limit == "idle":
            await peer.send(OK[:-2])
        peers.append(peer)
        await peer.gone()

    wire = await serve(handler)
    call = start(app_for(wire, timeout=only(**{limit: 10.0})).invoke(INPUT))
    await wire.asked()
    await turns()
    rest = OK[-2:] if limit == "idle" else OK
    descriptor = peers[0].writer.get_extra_info("socket").fileno()
    asyncio.get_running_loop().call_later(5, os.write, descriptor, rest)
    clock.ahead += 20
    assert await asyncio.wait_for(call, 5) == {"a": 1}


class WithoutFiles:
    """A transport of a process that has too many files open, for so many requests."""

    def __init__(self, times: int, number: int) -> None:
        self.times, self.number, self.asked = times, number, 0

    async def send(self, request: Any, *, connect_timeout: float | None) -> Any:
        self.asked += 1
        if self.asked <= self.times:
            raise errors.ConnectError("cannot connect") from OSError(self.number, "too many")
        return Sent()

    async def aclose(self) -> None:
        pass


class Sent:
    status, framed = 200, True

    def __init__(self) -> None:
        self.headers = {"Content-Type": "application/json"}
        self.pieces = [b'{"a": 1}']

    async def read(self) -> bytes:
        return self.pieces.pop() if self.pieces else b""

    def close(self) -> None:
        pass


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
async def test_a_lack_of_files_is_waited_for_like_a_slot(
    number: int, app_for: MakeApp, no_backoff: list[float]
) -> None:
    transport = WithoutFiles(20, number)
    app = app_for("https://app.example", transport=transport, max_retries=0)
    assert await app.invoke(INPUT) == {"a": 1}
    assert transport.asked == 21
    transport = WithoutFiles(20, number)
    app = app_for("https://app.example", transport=transport, max_retries=0)
    assert [result.output for result in await app.batch([INPUT])] == [{"a": 1}]


async def test_a_lack_of_files_is_waited_for_as_long_as_for_a_slot(app_for: MakeApp) -> None:
    transport = WithoutFiles(10**9, errno.EMFILE)
    app = app_for("https://app.example", transport=transport, timeout=only(pool=0.1))
    with pytest.raises(errors.ConnectError):
        await app.invoke(INPUT)
    assert transport.asked == 1


async def test_another_failure_to_connect_is_not_waited_for(
    app_for: MakeApp, no_backoff: list[float]
) -> None:
    transport = WithoutFiles(10**9, errno.ECONNREFUSED)
    app = app_for("https://app.example", transport=transport, max_retries=1)
    with pytest.raises(errors.ConnectError):
        await app.invoke(INPUT)
    assert transport.asked == 2


AT_ONCE = ["0", "0.0", "Thu, 01 Jan 1970 00:00:00 GMT"]


@pytest.mark.parametrize("said", AT_ONCE)
async def test_a_wait_of_nothing_is_no_loop(
    said: str, serve: Serve, app_for: MakeApp, clock: FakeClock
) -> None:
    wire = await serve(script(make_response(None, 429, f"Retry-After: {said}")))
    app = app_for(wire)
    async with app.map([INPUT], concurrency=1) as results:
        first = asyncio.ensure_future(anext(results))
        for count, least in enumerate([0.5, 1.0, 2.0, 4.0, 8.0, 8.0], start=1):
            await wire.asked(count)
            await turns(100)
            await clock.pass_by(least - 0.1)
            assert len(wire.requests) == count
            await clock.pass_by(least * 0.25 + 0.2)
        first.cancel()


@pytest.mark.parametrize("said", AT_ONCE)
async def test_a_refusal_without_a_wait_slows_the_whole_client_too(
    said: str, serve: Serve, app_for: MakeApp, clock: FakeClock
) -> None:
    wire = await serve(script(make_response(None, 429, f"Retry-After: {said}"), OK))
    app = app_for(wire, max_retries=0)
    with pytest.raises(errors.RateLimitError):
        await app.invoke(INPUT)
    call = start(app.invoke(INPUT))
    await turns()
    await clock.pass_by(0.4)
    assert len(wire.requests) == 1
    await clock.pass_by(0.5)
    assert await asyncio.wait_for(call, 5) == {"a": 1}


def dated(seconds: float, off: float) -> bytes:
    """A 429 whose date lies `seconds` ahead, of a server whose clock is `off` by so much."""
    now = time.time() + off
    when, at = formatdate(now + seconds, usegmt=True), formatdate(now, usegmt=True)
    return make_response(None, 429, f"Retry-After: {when}", f"Date: {at}")


@pytest.mark.parametrize("off", [-600, 600])
async def test_a_date_is_read_by_the_servers_clock(
    off: float, serve: Serve, app_for: MakeApp, clock: FakeClock
) -> None:
    wire = await serve(script(dated(30, off), OK))
    call = start(app_for(wire).invoke(INPUT))
    await wire.asked()
    await turns()
    await clock.pass_by(29)
    assert len(wire.requests) == 1
    await clock.pass_by(4)
    assert await asyncio.wait_for(call, 5) == {"a": 1}


async def test_a_wait_of_days_fails_one_item_and_the_batch_goes_on(
    serve: Serve, app_for: MakeApp, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    wire = await serve(script(make_response(None, 429, "Retry-After: 259200"), OK))
    app = app_for(wire)
    async with app.map([INPUT, INPUT], concurrency=1) as results:
        refused = await anext(results)
        assert isinstance(refused.error, errors.RateLimitError)
        assert refused.error.retry_after == 259200
        assert [record.levelname for record in caplog.records if "259200" in record.message] == [
            "WARNING"
        ]
        second = asyncio.ensure_future(anext(results))
        await turns()
        await clock.pass_by(59)
        assert len(wire.requests) == 1
        await clock.pass_by(4)
        assert (await asyncio.wait_for(second, 5)).output == {"a": 1}


async def test_a_cooldown_over_the_cap_refuses_without_sending(
    serve: Serve, app_for: MakeApp, clock: FakeClock
) -> None:
    wire = await serve(script(OK))
    app = app_for(wire, max_retry_after=100)
    app._api.sender.limiter.cool_down(500)
    for call in (app.invoke(INPUT), app.invoke(INPUT, max_retries=0)):
        with pytest.raises(errors.RateLimitError, match="was not sent") as caught:
            await call
        assert caught.value.status == 429
        assert caught.value.retry_after == pytest.approx(500, abs=5)
    assert wire.requests == []
    assert app._api.sender.limiter.throttled == 1  # our own refusals do not count
    await clock.pass_by(601)
    assert await app.invoke(INPUT) == {"a": 1}


async def test_what_is_urgent_passes_a_cooldown_and_a_full_pool(
    serve: Serve, app_for: MakeApp
) -> None:
    wire = await serve(script(OK))
    app = app_for(wire, max_connections=1)
    with occupied(app):
        app._api.sender.limiter.cool_down(50)
        request = app._api.request("POST", "v1", "cancel", given=RequestOptions(), urgent=True)
        assert (await app._api.sender.fetch(request, app._api.options)).body == b'{"a":1}'
        assert in_flight(app) == 1
