"""Walking away, silence, and slowness: nothing is held, left or swallowed."""

from __future__ import annotations

import asyncio
import gc
import socket as sockets
import threading
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest

from dynamiq_async import AsyncApp, Timeout, errors
from dynamiq_async.websocket.connection import NORMAL
from tests.support.limits import HANG_SECONDS
from tests.support.network import KEY, in_flight, turns
from tests.support.websocket_peers import (
    CLOSE,
    CONTINUATION,
    END,
    INPUT,
    ONE,
    PING,
    PONG,
    QUESTION,
    TEXT,
    TWO,
    SocketPeer,
    accept_of,
    frame,
    goodbye,
    saying,
    talking,
    text,
)
from tests.support.wire import Peer, final, head, says

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.support.network import FakeClock, MakeApp, Serve


class Closes:
    """A server that says something and notes with what the client closes."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = pieces
        self.codes: list[int] = []

    async def __call__(self, socket: SocketPeer) -> None:
        first = True
        while True:
            opcode, payload = await socket.frame()
            if opcode == CLOSE:
                self.codes.append(int.from_bytes(payload))
                await socket.send(frame(CLOSE, payload))
                return
            if first:
                await socket.send(*self.pieces)
            first = False


# --- leaving -------------------------------------------------------------------------------------


async def test_the_end_of_async_with_says_goodbye(serve: Serve, app_for: MakeApp) -> None:
    server = Closes(ONE, END)
    wire = await serve(talking(server))
    app = app_for(wire)
    async with app.connect() as socket:
        assert in_flight(app) == 1
        assert await socket.run(INPUT).output()
        assert in_flight(app) == 1
        assert repr(socket) == f"<AppSocket GET {wire.url}/>"
    assert in_flight(app) == 0
    await wire.all_closed()
    assert server.codes == [1000]


@pytest.mark.parametrize("way", ["break", "aclose", "exception", "text"])
async def test_leaving_a_run_half_way_closes_the_socket(
    serve: Serve, app_for: MakeApp, way: str
) -> None:
    server = Closes(ONE, TWO)
    wire = await serve(talking(server))
    app = app_for(wire)
    async with app.connect() as socket:
        if way == "break":
            async for _ in socket.run(INPUT):
                break
        elif way == "aclose":
            run = socket.run(INPUT)
            await anext(run)
            await run.aclose()
            await run.aclose()
        elif way == "text":
            async for _ in socket.run(INPUT).text():
                break
        else:
            with pytest.raises(ZeroDivisionError):
                async with socket.run(INPUT) as run:
                    async for _ in run:
                        raise ZeroDivisionError
        assert socket.closed
        assert in_flight(app) == 0
        await wire.all_closed()
        with pytest.raises(errors.StreamClosedError, match="did not come to its end"):
            await socket.run(INPUT).output()
    assert server.codes == [1001]


@pytest.mark.parametrize("way", ["break", "aclose"])
async def test_leaving_when_the_end_has_come_keeps_it(
    serve: Serve, app_for: MakeApp, way: str
) -> None:
    app = app_for(await serve(talking(_twice)))
    async with app.connect() as socket:
        run = socket.run(INPUT)
        async for event in run:
            if event.is_final or way == "aclose":
                break
        if way == "aclose":
            await run.aclose()
        del run
        assert await socket.run(INPUT).output()


async def _twice(socket: SocketPeer) -> None:
    for run_id in ("wf-1", "wf-2"):
        await socket.message()
        await socket.say({**says("one"), "wf_run_id": run_id}, {**final(), "wf_run_id": run_id})
    await socket.gone()


async def test_a_socket_that_is_dropped_is_closed(serve: Serve, app_for: MakeApp) -> None:
    wire = await serve(talking(_twice))
    app = app_for(wire)
    socket = app.connect()
    assert await socket.run(INPUT).output()
    del socket
    assert in_flight(app) == 0
    await wire.all_closed()


async def test_so_is_one_that_is_dropped_in_the_middle_of_a_run(
    serve: Serve, app_for: MakeApp
) -> None:
    wire = await serve(saying(ONE))
    app = app_for(wire)
    socket: Any = app.connect()
    run: Any = socket.run(INPUT)
    await anext(run)
    del socket
    assert in_flight(app) == 1
    del run
    assert in_flight(app) == 0
    await wire.all_closed()


async def test_or_dropped_in_another_thread(serve: Serve, app_for: MakeApp) -> None:
    wire = await serve(talking(_twice))
    app = app_for(wire)
    held = [app.connect()]
    assert await held[0].run(INPUT).output()
    thread = threading.Thread(target=held.clear)
    thread.start()
    await asyncio.to_thread(thread.join)
    await wire.all_closed()
    assert in_flight(app) == 0


def test_or_left_to_a_closed_loop(capfd: pytest.CaptureFixture[str]) -> None:
    gone = threading.Event()

    def serve_one(listener: sockets.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            request = connection.recv(65536).decode()
            key = request.partition("Sec-WebSocket-Key: ")[2].partition("\r\n")[0]
            lines = "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Accept: "
            connection.sendall(head(101, *lines)[:-4] + accept_of(key).encode() + b"\r\n\r\n")
            while connection.recv(65536):
                continue
        gone.set()

    with sockets.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve_one, args=(listener,))
        thread.start()
        app = AsyncApp(f"http://127.0.0.1:{listener.getsockname()[1]}", access_key=KEY)
        kept = [app.connect()]
        asyncio.run(kept[0].open())
        assert gone.wait(5)
        thread.join()
        assert in_flight(app) == 1
        kept.clear()
        gc.collect()
        assert in_flight(app) == 0
        asyncio.run(app.aclose())
    assert capfd.readouterr().err == ""


PHASES = ["handshake", "silent", "between", "mid_message"]


async def _reach(phase: str, serve: Serve, app_for: MakeApp) -> tuple[Any, Any, Any]:
    if phase == "handshake":

        async def handler(peer: Peer) -> None:
            await peer.gone()

        wire = await serve(handler)
    else:
        said = {"silent": b"", "between": ONE, "mid_message": TWO[:30]}[phase]
        wire = await serve(saying(said))
    socket = app_for(wire).connect()
    run = socket.run(INPUT)
    if phase == "between":
        await anext(run)
    return wire, socket, run


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("what", ["run", "socket"])
async def test_aclose_from_another_task_ends_a_read(
    serve: Serve, app_for: MakeApp, phase: str, what: str
) -> None:
    wire, socket, run = await _reach(phase, serve, app_for)
    reading = asyncio.ensure_future(anext(run))
    await wire.asked()
    await turns()
    async with asyncio.timeout(2):
        await asyncio.gather(*[(run if what == "run" else socket).aclose() for _ in range(2)])
    with pytest.raises(errors.StreamClosedError):
        await reading
    await wire.all_closed()
    await socket.aclose()


@pytest.mark.parametrize("phase", PHASES)
async def test_a_cancelled_read_frees_everything(
    serve: Serve, app_for: MakeApp, phase: str
) -> None:
    wire, socket, run = await _reach(phase, serve, app_for)
    reading = asyncio.ensure_future(anext(run))
    await wire.asked()
    await turns()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    await wire.all_closed()
    assert socket._sender.limiter.in_flight == 0


@pytest.mark.parametrize("number", range(12))
async def test_cancellation_at_every_turn(serve: Serve, app_for: MakeApp, number: int) -> None:
    wire = await serve(saying(ONE, END))
    app = app_for(wire)

    async def use() -> None:
        async with app.connect() as socket:
            await socket.run(INPUT).output()

    using = asyncio.ensure_future(use())
    await turns(number)
    using.cancel()
    with pytest.raises(asyncio.CancelledError):
        await using
    assert in_flight(app) == 0
    await wire.all_closed()


async def test_a_server_that_does_not_say_goodbye_is_not_waited_for(
    serve: Serve, app_for: MakeApp
) -> None:
    wire = await serve(saying(ONE, END))
    tasks = len(asyncio.all_tasks())
    async with asyncio.timeout(HANG_SECONDS), app_for(wire).connect() as socket:
        assert len(asyncio.all_tasks()) > tasks
        await socket.run(INPUT).output()
    assert len(asyncio.all_tasks()) <= tasks + 1  # the server's own
    await wire.all_closed()


async def test_a_cancelled_goodbye_frees_everything(serve: Serve, app_for: MakeApp) -> None:
    wire = await serve(saying(ONE, END))
    app = app_for(wire)
    socket = app.connect()
    await socket.run(INPUT).output()
    closing = asyncio.ensure_future(socket.aclose())
    await turns(2)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert in_flight(app) == 0
    await wire.all_closed()


async def test_what_comes_behind_our_goodbye_is_dropped(serve: Serve, app_for: MakeApp) -> None:
    async def conversation(socket: SocketPeer) -> None:
        assert await socket.frame() == (CLOSE, b"\x03\xe8")
        await socket.send(ONE, frame(PING), goodbye(1000))

    async with app_for(await serve(talking(conversation))).connect() as socket:
        wire = socket._wire
        assert wire is not None
        await socket.aclose()
        assert wire.closing == (1000, "")
        assert wire.take() == []


async def test_goodbye_gets_through_a_flood(serve: Serve, app_for: MakeApp) -> None:
    async def conversation(socket: SocketPeer) -> None:
        await socket.message()
        while True:
            await socket.send(ONE * 100)

    wire = await serve(talking(conversation))
    async with app_for(wire).connect() as socket:
        await anext(socket.run(INPUT))
    await wire.all_closed()


async def test_the_client_s_end_is_the_socket_s(serve: Serve, app_for: MakeApp) -> None:
    wire = await serve(saying(ONE))
    app = app_for(wire)
    async with app.connect() as socket:
        run = socket.run(INPUT)
        await anext(run)
        reading = asyncio.ensure_future(anext(run))
        await turns()
        await app.aclose()
        with pytest.raises(errors.ClientClosedError):
            await reading
    await wire.all_closed()


# --- a server that does not read -----------------------------------------------------------------


def _deaf(peer_done: asyncio.Event) -> Callable[[SocketPeer], Awaitable[None]]:
    async def conversation(socket: SocketPeer) -> None:
        sock: sockets.socket = socket.peer.writer.get_extra_info("socket")
        sock.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
        socket.peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await peer_done.wait()

    return conversation


BIG = {"question": "x" * 20_000_000}


@pytest.mark.parametrize("way", ["aclose", "cancel", "total", "heartbeat"])
async def test_a_server_that_does_not_read_holds_up_nobody(
    serve: Serve, app_for: MakeApp, way: str
) -> None:
    done = asyncio.Event()
    wire = await serve(talking(_deaf(done)))
    app = app_for(wire)
    socket = app.connect(heartbeat=0.05 if way == "heartbeat" else None)
    await socket.open()
    run = socket.run(BIG, timeout=0.05 if way == "total" else None)
    sending = asyncio.ensure_future(anext(run))
    await asyncio.sleep(0.02)
    assert not sending.done()
    if way == "aclose":
        await socket.aclose()
    elif way == "cancel":
        sending.cancel()
    expected: Any = {
        "aclose": errors.StreamClosedError,
        "cancel": asyncio.CancelledError,
        "total": errors.APITimeoutError,
        "heartbeat": errors.StreamInterruptedError,
    }[way]
    with pytest.raises(expected):
        async with asyncio.timeout(5):
            await sending
    assert in_flight(app) == 0
    done.set()
    await wire.all_closed()


async def test_pings_without_end_are_not_answered_without_end(
    serve: Serve, app_for: MakeApp
) -> None:
    done = asyncio.Event()
    sent = 0

    async def conversation(socket: SocketPeer) -> None:
        nonlocal sent
        await socket.message()
        socket.peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        for _ in range(400):
            await socket.send(frame(PING, b"x" * 125) * 100)
            sent += 100
        await socket.send(END)
        await done.wait()

    wire = await serve(talking(conversation))
    async with app_for(wire).connect() as socket:
        run = socket.run(INPUT)
        await run.output()
        assert sent == 40_000
        assert socket._wire is not None
        assert socket._wire._stream.unsent < 1000
        done.set()


# --- pings ---------------------------------------------------------------------------------------


async def test_pings_are_answered_while_nobody_reads(serve: Serve, app_for: MakeApp) -> None:
    pongs: list[tuple[int, bytes]] = []
    answered = asyncio.Event()

    async def conversation(socket: SocketPeer) -> None:
        await socket.message()
        await socket.send(ONE)
        for number in range(3):
            await socket.send(frame(PING, b"%d" % number))
            pongs.append(await socket.frame())
        answered.set()
        await socket.send(END)
        await socket.gone()

    app = app_for(await serve(talking(conversation)))
    async with app.connect() as socket:
        async for event in socket.run(INPUT):
            if event.text:
                await answered.wait()  # as one who asks a person would
    assert pongs == [(PONG, b"0"), (PONG, b"1"), (PONG, b"2")]


async def test_a_server_that_answers_pings_is_alive(
    serve: Serve, app_for: MakeApp, clock: FakeClock
) -> None:
    pings = 0

    async def conversation(socket: SocketPeer) -> None:
        nonlocal pings
        await socket.message()
        while pings < 10:
            opcode, payload = await socket.frame()
            assert opcode == PING
            pings += 1
            await socket.send(frame(PONG, payload))
        await socket.send(ONE, END)
        await socket.gone()

    app = app_for(await serve(talking(conversation)))
    async with app.connect(heartbeat=0.01) as socket:
        assert await socket.run(INPUT).output()
    assert pings == 10


async def test_a_server_that_does_not_is_noticed(serve: Serve, app_for: MakeApp) -> None:
    wire = await serve(saying(ONE))
    async with app_for(wire).connect(heartbeat=0.02) as socket:
        run = socket.run(INPUT)
        await anext(run)
        with pytest.raises(errors.StreamInterruptedError, match="not a sign of the server"):
            await anext(run)
    await wire.all_closed()


async def test_also_while_nobody_reads(serve: Serve, app_for: MakeApp) -> None:
    wire = await serve(talking(lambda socket: socket.gone()))
    async with app_for(wire).connect(heartbeat=0.02) as socket:
        await wire.all_closed()
        assert socket.closed
        with pytest.raises(errors.ConnectError, match="not sent"):
            await socket.run(INPUT).output()


async def test_nor_is_one_that_takes_in_a_large_input_slowly(
    serve: Serve, app_for: MakeApp, clock: FakeClock
) -> None:
    go, taken = asyncio.Semaphore(0), asyncio.Semaphore(0)
    size = 40_000_000

    async def conversation(socket: SocketPeer) -> None:
        for _ in range(9):
            await go.acquire()
            await socket.reader.readexactly(size // 10)
            taken.release()
        await socket.reader.readexactly(size // 10)
        await socket.send(END)
        await socket.gone()

    app = app_for(await serve(talking(conversation)))
    async with app.connect(heartbeat=20) as socket:
        reading = asyncio.ensure_future(socket.run({"large": "x" * size}).output())
        await turns()
        for _ in range(9):
            go.release()
            await taken.acquire()
            await clock.pass_by(21)
        assert await reading


async def test_a_loop_that_was_held_up_is_no_dead_server(
    serve: Serve, app_for: MakeApp, clock: FakeClock
) -> None:
    async def conversation(socket: SocketPeer) -> None:
        await socket.message()
        await socket.send(ONE)
        while (await socket.frame())[0] == PING:
            await socket.send(frame(PONG))

    app = app_for(await serve(talking(conversation)))
    async with app.connect(heartbeat=10) as socket:
        run = socket.run(INPUT)
        await anext(run)
        for _ in range(5):
            await clock.pass_by(30)
            assert not socket.closed


# --- time ----------------------------------------------------------------------------------------


async def test_silence_is_an_idle_timeout_and_pongs_do_not_break_it(
    serve: Serve, app_for: MakeApp, clock: FakeClock
) -> None:
    async def conversation(socket: SocketPeer) -> None:
        await socket.message()
        while (await socket.frame())[0] == PING:
            await socket.send(frame(PONG))

    app = app_for(await serve(talking(conversation)), timeout=Timeout(idle=60))
    async with app.connect(heartbeat=20) as socket:
        reading = asyncio.ensure_future(socket.run(INPUT).output())
        await turns()
        for _ in range(3):
            await clock.pass_by(25)
        with pytest.raises(errors.IdleTimeoutError) as caught:
            await reading
        assert caught.value.limit == "idle"


@pytest.mark.parametrize("fragments", [False, True])
async def test_a_large_message_that_takes_its_time_is_no_idle_timeout(
    serve: Serve, app_for: MakeApp, clock: FakeClock, fragments: bool
) -> None:
    go = asyncio.Semaphore(0)
    whole = text(final())[4:]
    cuts = [whole[:10], whole[10:20], whole[20:30], whole[30:]]
    pieces = (
        [
            frame(CONTINUATION if i else TEXT, cut, final=i == len(cuts) - 1)
            for i, cut in enumerate(cuts)
        ]
        if fragments
        else [text(final())[:14], *cuts[1:]]
    )

    async def conversation(socket: SocketPeer) -> None:
        await socket.message()
        for piece in pieces:
            await go.acquire()
            await socket.send(piece)
        await socket.gone()

    app = app_for(await serve(talking(conversation)), timeout=Timeout(idle=60))
    async with app.connect(heartbeat=None) as socket:
        reading = asyncio.ensure_future(socket.run(INPUT).output())
        await turns()
        for _ in pieces:
            await clock.pass_by(50)
            go.release()
            await turns()
        assert await reading


async def test_the_server_s_pings_are_life(
    serve: Serve, app_for: MakeApp, clock: FakeClock
) -> None:
    go = asyncio.Semaphore(0)

    async def conversation(socket: SocketPeer) -> None:
        await socket.message()
        for _ in range(4):
            await go.acquire()
            await socket.send(frame(PING))
            await socket.frame()
        await go.acquire()
        await socket.send(END)
        await socket.gone()

    app = app_for(await serve(talking(conversation)), timeout=Timeout(idle=60))
    async with app.connect(heartbeat=None) as socket:
        reading = asyncio.ensure_future(socket.run(INPUT).output())
        await turns()
        for _ in range(5):
            await clock.pass_by(50)
            go.release()
            await turns()
        assert await reading


async def test_a_person_s_silence_is_no_idle_timeout(
    serve: Serve, app_for: MakeApp, clock: FakeClock
) -> None:
    async def conversation(socket: SocketPeer) -> None:
        await socket.message()
        await socket.send(QUESTION)
        await socket.message()
        await socket.gone()

    app = app_for(await serve(talking(conversation)), timeout=Timeout(idle=60))
    async with app.connect(heartbeat=None) as socket:
        run = socket.run(INPUT)
        event = await anext(run)
        reading = asyncio.ensure_future(anext(run))
        await turns()
        await clock.pass_by(1000)
        assert not reading.done()
        await socket.answer(event, "at last")
        await clock.pass_by(50)
        assert not reading.done()
        await clock.pass_by(50)
        with pytest.raises(errors.IdleTimeoutError):
            await reading


async def test_a_slow_reader_is_no_idle_timeout_and_no_dead_server(
    serve: Serve, app_for: MakeApp, clock: FakeClock
) -> None:
    async def conversation(socket: SocketPeer) -> None:
        await socket.message()
        await socket.send(ONE * 2000)
        await socket.send(END)
        await socket.gone()

    app = app_for(await serve(talking(conversation)), timeout=Timeout(idle=60))
    async with app.connect(heartbeat=10) as socket:
        run = socket.run(INPUT)
        await anext(run)
        for _ in range(10):
            await clock.pass_by(100)
        assert not socket.closed
        assert len([event async for event in run if event.text]) == 1999


async def test_total_is_for_each_run(serve: Serve, app_for: MakeApp, clock: FakeClock) -> None:
    async def conversation(socket: SocketPeer) -> None:
        await _twice(socket)

    app = app_for(await serve(talking(conversation)), timeout=Timeout(total=100))
    async with app.connect(heartbeat=None) as socket:
        for _ in range(2):
            assert await socket.run(INPUT).output()
            await clock.pass_by(90)
        reading = asyncio.ensure_future(socket.run(INPUT).output())
        await turns()
        await clock.pass_by(101)
        with pytest.raises(errors.APITimeoutError) as caught:
            await reading
        assert caught.value.limit == "total"


# --- backpressure --------------------------------------------------------------------------------


async def test_a_slow_reader_slows_the_server_and_memory_stays_flat(
    serve: Serve, app_for: MakeApp
) -> None:
    sent = 0
    piece = text(says("x" * 1000)) * 50

    async def conversation(socket: SocketPeer) -> None:
        nonlocal sent
        await socket.message()
        for _ in range(300):
            await socket.send(piece)
            sent += len(piece)
        await socket.send(END)
        await socket.gone()

    app = app_for(await serve(talking(conversation)))
    async with app.connect() as socket:
        run = socket.run(INPUT)
        await anext(run)
        tracemalloc.start()
        try:
            await asyncio.sleep(0.2)
            held = sent
            assert held < len(piece) * 150
            count = 1
            async for event in run:
                count += bool(event.text)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert count == 15_000
    assert peak < 8_000_000


async def test_a_flood_between_runs_is_left_in_the_network(serve: Serve, app_for: MakeApp) -> None:
    sent = 0

    async def conversation(socket: SocketPeer) -> None:
        nonlocal sent
        await socket.message()
        await socket.send(END)
        for _ in range(200):
            await socket.send(ONE * 500)
            sent += 1
        await socket.message()
        await socket.send(text({**final(), "wf_run_id": "wf-2"}))
        await socket.gone()

    app = app_for(await serve(talking(conversation)))
    async with app.connect() as socket:
        assert await socket.run(INPUT).output()
        await asyncio.sleep(0.1)
        assert sent < 200
        run = socket.run(INPUT)
        assert await run.output()
        assert run.run_id == "wf-2"


def test_the_codes_are_those_of_the_standard() -> None:
    assert (TEXT, PING, PONG) == (TEXT, PING, PONG)
    assert goodbye(1000)[2:] == NORMAL.to_bytes(2)
