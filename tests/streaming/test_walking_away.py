"""Every way out of a stream or a call, in every phase: nothing is held, left or swallowed."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from dynamiq_async import errors
from tests.support.network import in_flight
from tests.support.wire import (
    CHUNKED,
    LAST_CHUNK,
    Peer,
    chunk,
    final,
    head,
    make_response,
    says,
    sse,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dynamiq_async import AppStream, AsyncApp
    from tests.support.network import MakeApp, Serve
    from tests.support.wire import Wire

INPUT = {"question": "?"}
ONE, TWO, END = sse(says("one")), sse(says("two")), sse(final())


class Phases:
    """A server that stops in a phase of the exchange, and a stream taken to that phase."""

    def __init__(self, serve: Serve, app_for: MakeApp) -> None:
        self._serve = serve
        self._app_for = app_for
        self.wire: Wire
        self.peer: Peer
        self.app: AsyncApp

    async def start(self, *pieces: bytes) -> AppStream:
        async def handler(peer: Peer) -> None:
            self.peer = peer
            await peer.send(*pieces)
            await peer.gone()

        self.wire = await self._serve(handler)
        self.app = self._app_for(self.wire)
        return self.app.stream(INPUT)

    async def unopened(self) -> AppStream:
        return await self.start()

    async def opening(self) -> AppStream:
        """Not a byte has come back."""
        return await self.start()

    async def half_a_head(self) -> AppStream:
        return await self.start(CHUNKED[:-9])

    async def error_body(self) -> AppStream:
        """The status is here, its body is not."""
        return await self.start(head(400, "Content-Length: 99"), b"{")

    async def wrong_type(self) -> AppStream:
        return await self.start(head(200, "Content-Type: text/html", "Content-Length: 99"), b"<")

    async def silent(self) -> AppStream:
        """The head is here, and nothing else."""
        return await self.start(CHUNKED)

    async def mid_event(self) -> AppStream:
        return await self.start(CHUNKED, chunk(ONE[:30]))

    async def mid_batch(self) -> AppStream:
        stream = await self.start(CHUNKED, chunk(ONE + TWO))
        assert (await anext(stream)).text == "one"
        return stream

    async def between(self) -> AppStream:
        stream = await self.start(CHUNKED, chunk(ONE))
        assert (await anext(stream)).text == "one"
        return stream

    async def after_final(self) -> AppStream:
        stream = await self.start(CHUNKED, chunk(END))
        assert (await anext(stream)).is_final
        return stream

    async def after_end(self) -> AppStream:
        stream = await self.start(CHUNKED, chunk(END), LAST_CHUNK)
        assert [event async for event in stream]
        return stream

    async def failed(self) -> AppStream:
        stream = await self.start(CHUNKED, chunk(ONE), b"0\r\n\r\nHTTP/1.1 ")
        assert [event async for event in stream]
        return stream


PENDING = ["opening", "half_a_head", "error_body", "wrong_type", "silent", "mid_event", "between"]
RESTING = ["unopened", "mid_batch", "between", "after_final", "after_end", "failed"]


@pytest.fixture
def phases(serve: Serve, app_for: MakeApp) -> Phases:
    return Phases(serve, app_for)


async def reach(phases: Phases, phase: str) -> AppStream:
    stream: AppStream = await getattr(phases, phase)()
    return stream


async def waiting(phases: Phases, phase: str) -> tuple[AppStream, asyncio.Task[Any]]:
    """A stream and a task that waits in its `__anext__`, as far as the server lets it come."""
    stream = await reach(phases, phase)

    async def read() -> Any:
        return await anext(stream)

    task = asyncio.create_task(read())
    await phases.wire.asked()
    await asyncio.sleep(0.01)
    assert not task.done()
    return stream, task


async def freed(phases: Phases) -> None:
    """The slot is free now, and the server sees the connection closed promptly."""
    assert in_flight(phases.app) == 0
    async with asyncio.timeout(2):
        await phases.wire.all_closed()


# --- from outside --------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", RESTING)
async def test_aclose(phase: str, phases: Phases) -> None:
    stream = await reach(phases, phase)
    await stream.aclose()
    await stream.aclose()
    assert stream.closed
    assert in_flight(phases.app) == 0
    if phase not in ("after_end", "failed"):
        await freed(phases)
        with pytest.raises((errors.StreamClosedError, StopAsyncIteration)):
            await anext(stream)
    if phase == "unopened":
        assert phases.wire.requests == []
        with pytest.raises(errors.StreamClosedError):
            await stream.open()
        with pytest.raises(errors.StreamClosedError):
            async with stream:
                pass


@pytest.mark.parametrize("phase", PENDING)
async def test_aclose_by_another_task(phase: str, phases: Phases) -> None:
    stream, task = await waiting(phases, phase)
    await stream.aclose()
    await freed(phases)
    with pytest.raises(errors.StreamClosedError):
        await task
    assert not task.cancelled()
    await stream.aclose()


@pytest.mark.parametrize("phase", PENDING)
async def test_cancelled(phase: str, phases: Phases) -> None:
    stream, task = await waiting(phases, phase)
    task.cancel("enough")
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()
    await freed(phases)
    assert stream.closed
    with pytest.raises(errors.StreamClosedError):
        await anext(stream)


@pytest.mark.parametrize("phase", PENDING)
async def test_cancelled_and_closed_at_once(phase: str, phases: Phases) -> None:
    stream, task = await waiting(phases, phase)
    task.cancel()
    await stream.aclose()
    with pytest.raises(asyncio.CancelledError):
        await task
    await freed(phases)


@pytest.mark.parametrize("phase", PENDING)
async def test_wait_for(phase: str, phases: Phases) -> None:
    stream = await reach(phases, phase)
    with pytest.raises(TimeoutError) as caught:
        await asyncio.wait_for(anext(stream), 0.02)
    assert not isinstance(caught.value, errors.DynamiqError)
    await freed(phases)


@pytest.mark.parametrize("phase", PENDING)
async def test_move_on_after(phase: str, phases: Phases) -> None:
    stream = await reach(phases, phase)
    with anyio.move_on_after(0.02) as scope:
        async with stream:
            async for _ in stream:
                pass
    assert scope.cancelled_caught
    await freed(phases)


async def test_cancelled_in_the_drain(phases: Phases) -> None:
    """Behind the final event, where only the end of the body is missing."""
    stream = await phases.after_final()
    with anyio.move_on_after(0.02) as scope:
        await anext(stream, None)
    assert scope.cancelled_caught
    await freed(phases)
    assert await anext(stream, None) is None

    stream = await phases.after_final()
    task = asyncio.create_task(stream.aclose())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await freed(phases)


@pytest.mark.parametrize("steps", range(40))
@pytest.mark.parametrize("body", [b"", chunk(ONE)], ids=["head", "event"])
async def test_at_any_step(steps: int, body: bytes, serve: Serve, app_for: MakeApp) -> None:
    """Close after so many turns of the loop: the reader gets what came, or hears of it."""

    async def handler(peer: Peer) -> None:
        await peer.send(CHUNKED, body)
        await peer.gone()

    wire = await serve(handler)
    app = app_for(wire)
    stream = app.stream(INPUT)

    async def read() -> list[str]:
        return [event.text async for event in stream]

    task = asyncio.create_task(read())
    for _ in range(steps):
        await asyncio.sleep(0)
    await stream.aclose()
    assert in_flight(app) == 0
    with pytest.raises(errors.StreamClosedError):
        await task
    await wire.all_closed()


@pytest.mark.parametrize("steps", range(8))
async def test_closed_just_as_something_arrives(steps: int, phases: Phases) -> None:
    """A read that was pending when the stream was closed hears of that, and of nothing else."""
    stream, task = await waiting(phases, "silent")
    phases.peer.writer.write(chunk(ONE))
    for _ in range(steps):
        await asyncio.sleep(0)
    if task.done():
        assert (await task).text == "one"
        await stream.aclose()
    else:
        await stream.aclose()
        with pytest.raises(errors.StreamClosedError):
            await task
    await freed(phases)


@pytest.mark.parametrize("steps", range(40))
async def test_cancelled_at_any_step(steps: int, serve: Serve, app_for: MakeApp) -> None:
    async def handler(peer: Peer) -> None:
        await peer.send(CHUNKED, chunk(ONE))
        await peer.gone()

    wire = await serve(handler)
    app = app_for(wire)

    async def read() -> None:
        async with app.stream(INPUT) as stream:
            async for _ in stream:
                pass

    task = asyncio.create_task(read())
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert in_flight(app) == 0
    await wire.all_closed()


# --- from inside ---------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["stream", "text", "batches"])
@pytest.mark.parametrize("leave", ["break", "raise", "return"])
async def test_out_of_async_with(way: str, leave: str, phases: Phases) -> None:
    stream = await phases.start(CHUNKED, chunk(ONE + TWO))
    other: Any = stream if way == "stream" else getattr(stream, way)()

    async def use() -> None:
        async with other as inside:
            assert inside is other
            async for _ in inside:
                if leave == "raise":
                    raise KeyError("mine")
                if leave == "return":
                    return
                break

    if leave == "raise":
        with pytest.raises(KeyError, match="mine"):
            await use()
    else:
        await use()
    await freed(phases)


@pytest.mark.parametrize("way", ["text", "batches"])
async def test_aclose_of_a_view_closes_the_stream(way: str, phases: Phases) -> None:
    stream = await phases.between()
    await getattr(stream, way)().aclose()
    await freed(phases)
    assert stream.closed


async def test_a_plain_break(phases: Phases) -> None:
    """When the last reference goes, everything goes; there is no garbage to wait for."""
    await phases.start(CHUNKED, chunk(ONE + TWO))
    gc.disable()
    try:
        async for event in phases.app.stream(INPUT):
            assert event.text == "one"
            break
        async for text in phases.app.stream(INPUT).text():
            assert text == "one"
            break
        async for events in phases.app.stream(INPUT).batches():
            assert len(events) == 2
            break
        await freed(phases)
    finally:
        gc.enable()


async def test_dropped_in_a_cycle(phases: Phases) -> None:
    stream = await phases.between()
    cycle: list[Any] = [stream]
    cycle.append(cycle)
    del stream, cycle
    assert in_flight(phases.app) == 1
    gc.collect()
    await freed(phases)


async def test_dropped_unopened(phases: Phases) -> None:
    stream = await phases.unopened()
    del stream
    assert phases.wire.requests == []


@pytest.mark.parametrize("phase", ["between", "mid_batch", "after_final"])
async def test_collected_in_another_thread(phase: str, phases: Phases) -> None:
    holder = [await reach(phases, phase)]
    thread = threading.Thread(target=holder.clear)
    thread.start()
    thread.join()
    async with asyncio.timeout(2):
        await phases.wire.all_closed()
    await freed(phases)


async def test_a_task_that_was_cancelled_before_can_still_tell(phases: Phases) -> None:
    """A task in its last will reads a stream, and another task closes it."""
    stream = await phases.opening()
    caught: list[BaseException] = []

    async def read() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            try:
                await anext(stream)
            except BaseException as error:  # noqa: BLE001 - whatever it is, it is looked at
                caught.append(error)

    task = asyncio.create_task(read())
    await asyncio.sleep(0)
    task.cancel()
    await phases.wire.asked()
    await stream.aclose()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert isinstance(caught[0], errors.StreamClosedError)


# --- one stream, one request, one reader ---------------------------------------------------------


async def test_two_readers_are_told_apart(phases: Phases) -> None:
    stream, task = await waiting(phases, "silent")
    with pytest.raises(errors.StreamError, match="another task is reading"):
        await anext(stream)
    with pytest.raises(errors.StreamError, match="another task is reading"):
        await anext(stream.batches())
    assert not task.done()
    await stream.aclose()
    with pytest.raises(errors.StreamClosedError):
        await task


@pytest.mark.parametrize("second", ["open", "read"])
async def test_two_openers_send_one_request(second: str, phases: Phases) -> None:
    stream = await phases.opening()
    first = asyncio.create_task(stream.open())
    await phases.wire.asked()
    with pytest.raises(errors.StreamError, match="another task"):
        async with asyncio.timeout(1):
            await (stream.open() if second == "open" else anext(stream))
    await stream.aclose()
    with pytest.raises(errors.StreamClosedError):
        await first
    assert len(phases.wire.requests) == 1
    await freed(phases)


async def test_opened_once(phases: Phases) -> None:
    stream = await phases.silent()
    await stream.open()
    await stream.open()
    async with stream:
        assert len(phases.wire.requests) == 1
        assert stream.response is not None
        assert stream.response.status == 200
    await freed(phases)
    assert len(phases.wire.requests) == 1


async def test_a_failed_opening_is_remembered(serve: Serve, app_for: MakeApp) -> None:
    async def handler(peer: Peer) -> None:
        await peer.send(make_response({"error": {"code": "bad_request", "message": "no"}}, 400))

    wire = await serve(handler)
    stream = app_for(wire).stream(INPUT)
    for _ in range(2):
        with pytest.raises(errors.BadRequestError):
            await anext(stream)
    stream = app_for(wire).stream(INPUT)
    with pytest.raises(errors.BadRequestError):
        async with stream:
            pass
    with pytest.raises(errors.BadRequestError):
        await anext(stream)
    assert stream.closed
    assert len(wire.requests) == 2


# --- calls ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200", make_response({"a": 1})[:-2]])
@pytest.mark.parametrize("how", ["cancel", "wait_for", "move_on"])
async def test_a_call_is_cancelled(sent: bytes, how: str, serve: Serve, app_for: MakeApp) -> None:
    async def handler(peer: Peer) -> None:
        await peer.send(sent)
        await peer.gone()

    wire = await serve(handler)
    app = app_for(wire)
    call: Callable[[], Awaitable[Any]] = lambda: app.invoke(INPUT)  # noqa: E731
    if how == "cancel":
        task = asyncio.ensure_future(call())
        await wire.asked()
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    elif how == "wait_for":
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(call(), 0.02)
    else:
        with anyio.move_on_after(0.02) as scope:
            await call()
        assert scope.cancelled_caught
    assert in_flight(app) == 0
    await wire.all_closed()


@pytest.mark.parametrize("waits_for", ["slot", "cooldown", "backoff"])
async def test_cancelled_while_waiting_to_be_sent(
    waits_for: str, serve: Serve, app_for: MakeApp
) -> None:
    async def handler(peer: Peer) -> None:
        if waits_for == "backoff":
            await peer.send(make_response(None, 429, "Retry-After: 30"))
        else:
            await peer.gone()

    wire = await serve(handler)
    app = app_for(wire, max_connections=1)
    first = asyncio.ensure_future(app.invoke(INPUT))
    if waits_for == "cooldown":
        app._api.sender.limiter.cool_down(30)
        first.cancel()
    else:
        await wire.asked()
    second = asyncio.ensure_future(app.invoke(INPUT))
    await asyncio.sleep(0.02)
    for task in (second, first):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert in_flight(app) == 0


async def test_a_client_closed_under_a_call_or_stream_blames_no_server(
    serve: Serve, app_for: MakeApp
) -> None:
    async def handler(peer: Peer) -> None:
        if b'"stream"' in peer.request.body:
            await peer.send(CHUNKED)
        await peer.gone()

    wire = await serve(handler)
    app = app_for(wire)
    call = asyncio.create_task(app.invoke({}))
    stream = app.stream({})
    await stream.open()
    read = asyncio.create_task(stream.__anext__())
    await wire.asked(2)
    await app.aclose()
    for task in (call, read):
        with pytest.raises(errors.ClientClosedError, match="closed meanwhile"):
            await task
