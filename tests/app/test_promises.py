"""The promises, each shown in one or a few tests; the modules beside this one go into detail.

Promise 7, and what promises 1 and 2 say of runs, belong to other parts of the package.
"""

from __future__ import annotations

import asyncio
import gc
import pickle
from typing import TYPE_CHECKING

import pytest

from dynamiq_async import Timeout, errors
from tests.support.network import KEY, in_flight, turns
from tests.support.wire import (
    CHUNKED,
    LAST_CHUNK,
    UNFRAMED,
    Peer,
    chunk,
    final,
    head,
    make_response,
    says,
    script,
    sized,
    sse,
)

if TYPE_CHECKING:
    from tests.support.network import FakeClock, MakeApp, Serve

INPUT = {"question": "?"}
ONE, TWO, END = sse(says("one")), sse(says("two")), sse(final())


# --- 1. A stream never ends quietly --------------------------------------------------------------

PROPER = {
    "the final event": UNFRAMED + ONE + END,
    "the chunk terminator": CHUNKED + chunk(ONE) + LAST_CHUNK,
    "the whole length": sized(len(ONE)) + ONE,
}
IMPROPER = {
    "no final event and no framing": UNFRAMED + ONE,
    "no chunk terminator": CHUNKED + chunk(ONE),
    "a chunk cut short": CHUNKED + chunk(ONE + TWO)[:-80],
    "a length cut short": sized(len(ONE + TWO)) + ONE,
    "an event cut short in a whole body": sized(len(ONE) + 50) + ONE + TWO[:50],
    "an event without its blank line": CHUNKED + chunk(ONE + TWO[:-1]) + LAST_CHUNK,
}


@pytest.mark.parametrize("response", PROPER.values(), ids=PROPER)
async def test_1_a_stream_ends_properly_with(
    response: bytes, serve: Serve, app_for: MakeApp
) -> None:
    async def handler(peer: Peer) -> None:
        await peer.send(response)
        peer.close()

    app = app_for(await serve(handler))
    assert [text async for text in app.stream(INPUT).text()] == ["one"]


@pytest.mark.parametrize("response", IMPROPER.values(), ids=IMPROPER)
async def test_1_a_stream_never_ends_quietly_with(
    response: bytes, serve: Serve, app_for: MakeApp
) -> None:
    async def handler(peer: Peer) -> None:
        await peer.send(response)
        peer.close()

    wire = await serve(handler)
    app = app_for(wire)
    texts = []
    with pytest.raises(errors.StreamInterruptedError) as caught:
        async with app.stream(INPUT) as stream:
            await wire.all_closed()  # even when all of it is read long after the break
            await turns()
            async for event in stream:
                texts.append(event.text)  # noqa: PERF401 - what came before the error counts
    assert texts == ["one"]
    assert caught.value.run_id == "wf-1"


# --- 2. Nothing is run twice behind the user's back ----------------------------------------------


@pytest.mark.parametrize("got", [b"", b"HTTP/1.1 200", make_response({"a": 1})[:-1]])
async def test_2_a_post_of_unknown_outcome_is_sent_once(
    got: bytes, serve: Serve, app_for: MakeApp
) -> None:
    async def handler(peer: Peer) -> None:
        await peer.send(got)
        peer.close()

    wire = await serve(handler)
    with pytest.raises(errors.AmbiguousOutcomeError):
        await app_for(wire, max_retries=5).invoke(INPUT)
    assert len(wire.requests) == 1


@pytest.mark.parametrize(
    ("status", "lines", "times"),
    [(429, (), 2), (503, ("Retry-After: 1",), 2), (503, (), 1), (502, (), 1), (504, (), 1)],
)
async def test_2_only_what_was_refused_is_sent_again(
    status: int,
    lines: tuple[str, ...],
    times: int,
    serve: Serve,
    app_for: MakeApp,
    clock: FakeClock,
) -> None:
    wire = await serve(script(make_response(None, status, *lines), make_response({"a": 1})))
    call = asyncio.ensure_future(app_for(wire).invoke(INPUT))
    await wire.asked()
    await turns()
    await clock.pass_by(10)
    if times == 2:
        assert await call == {"a": 1}
    else:
        with pytest.raises(errors.AmbiguousOutcomeError):
            await call
    assert len(wire.requests) == times


# --- 3. Whatever the server sends, the user gets our event or our error --------------------------


@pytest.mark.parametrize(
    "response",
    [
        b"",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200\r\nContent-Length: x\r\n\r\n",
        head(200, "Content-Type: text/html") + b"<p>",
        head(200, "Content-Type: text/event-stream", "Content-Encoding: gzip") + b"not gzip",
        CHUNKED + b"-1\r\n",
        CHUNKED + chunk(b"data: {\n\n") + LAST_CHUNK,
        CHUNKED + chunk(b"data: " + b"[" * 9999 + b"\n\n") + LAST_CHUNK,
        CHUNKED + chunk(b"data: " + b"x" * 9999) + LAST_CHUNK,
        make_response({"error": ["odd"]}, 418),
        head(101, "Upgrade: x", "Connection: upgrade"),
    ],
)
async def test_3_whatever_the_server_sends_is_our_error(
    response: bytes, serve: Serve, app_for: MakeApp
) -> None:
    async def handler(peer: Peer) -> None:
        await peer.send(response)
        peer.close()

    app = app_for(await serve(handler), max_event_bytes=5000, max_response_bytes=5000)
    for call in (app.invoke(INPUT), app.stream(INPUT).output()):
        with pytest.raises(errors.DynamiqError):
            await call
    assert in_flight(app) == 0


async def test_3_what_is_unknown_comes_through(serve: Serve, app_for: MakeApp) -> None:
    odd = {"event": "new", "data": {"x": [1]}, "added": True, "source": {"type": "T", "y": 1}}
    wire = await serve(script(CHUNKED + chunk(sse(odd, 5, [1], "x", final())) + LAST_CHUNK))
    events = [event async for event in app_for(wire).stream(INPUT)]
    assert [event.data for event in events[:-1]] == [{"x": [1]}, 5, [1], "x"]
    assert events[0].event == "new"


# --- 4. Walking away is free ---------------------------------------------------------------------


@pytest.mark.parametrize("way", ["break", "aclose", "async with", "exception", "cancel", "drop"])
async def test_4_walking_away_is_free(way: str, serve: Serve, app_for: MakeApp) -> None:
    """The fixture `leaves_nothing` looks for tasks, warnings and reported errors."""

    async def handler(peer: Peer) -> None:
        await peer.send(CHUNKED, chunk(ONE))
        await peer.gone()

    wire = await serve(handler)
    app = app_for(wire)
    stream = app.stream(INPUT)
    if way == "break":
        async for _ in app.stream(INPUT):
            break
    elif way == "aclose":
        await anext(stream)
        await stream.aclose()
    elif way == "async with":
        async with stream:
            await anext(stream)
    elif way == "exception":
        with pytest.raises(KeyError):
            async with stream:
                raise KeyError
    elif way == "cancel":
        await anext(stream)
        reading = asyncio.ensure_future(anext(stream))
        await turns()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
    else:
        await anext(stream)
        del stream
        gc.collect()
    assert in_flight(app) == 0
    async with asyncio.timeout(2):
        await wire.all_closed()


# --- 5. Secrets stay in --------------------------------------------------------------------------


async def test_5_secrets_stay_in(
    serve: Serve, app_for: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(1)
    elsewhere = await serve(script(make_response({})))
    lines = (f"Location: {elsewhere.url}/{KEY}", f"X-Request-Id: {KEY}")
    echo = {"error": {"code": "c", "message": f"Bearer {KEY}", "details": {"a": KEY}}}
    app = app_for(await serve(script(make_response(echo, 307, *lines))))
    with pytest.raises(errors.RedirectError) as caught:
        await app.invoke(INPUT)
    error = caught.value
    for text in (
        f"{error} {error!r} {vars(error)} {error.__cause__!r} {error.__context__!r}",
        pickle.dumps(error).decode("latin-1"),
        pickle.dumps(app).decode("latin-1"),
        f"{app} {app!r} {app.stream(INPUT)!r}",
        caplog.text,
    ):
        assert KEY not in text
    assert elsewhere.connections == 0


# --- 6. One deadline means one deadline ----------------------------------------------------------


async def test_6_one_deadline_holds_over_attempts_and_waits(
    serve: Serve, app_for: MakeApp, clock: FakeClock
) -> None:
    async def handler(peer: Peer) -> None:
        if len(wire.requests) < 3:
            await peer.send(make_response(None, 429, "Retry-After: 30"))
        else:
            await peer.gone()

    wire = await serve(handler)
    call = asyncio.ensure_future(app_for(wire, timeout=100).invoke(INPUT))
    for count in (1, 2):
        await wire.asked(count)
        await turns()
        await clock.pass_by(35)
    await wire.asked(3)
    await clock.pass_by(25)
    assert not call.done()
    await clock.pass_by(10)
    with pytest.raises(errors.APITimeoutError) as caught:
        await call
    assert (caught.value.limit, caught.value.seconds) == ("total", 100)
    assert caught.value.attempts == 3


async def test_6_idle_is_separate_and_a_slow_consumer_is_not_idle(
    serve: Serve, app_for: MakeApp, clock: FakeClock
) -> None:
    peers: list[Peer] = []

    async def handler(peer: Peer) -> None:
        peers.append(peer)
        await peer.send(CHUNKED, chunk(ONE))
        await peer.gone()

    wire = await serve(handler)
    stream = app_for(wire, timeout=Timeout(idle=100)).stream(INPUT)
    assert (await anext(stream)).text == "one"
    await clock.pass_by(10_000)  # the consumer thinks
    reading = asyncio.ensure_future(anext(stream))
    for _ in range(5):
        await turns()
        await clock.pass_by(90)
        assert not reading.done()
        await peers[0].send(chunk(b": heartbeat\n\n"))
    await turns()
    await clock.pass_by(101)
    with pytest.raises(errors.IdleTimeoutError):
        await reading
