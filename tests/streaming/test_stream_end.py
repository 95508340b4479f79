"""How a root stream may end, byte by byte: properly, or with an error that says so."""

from __future__ import annotations

import asyncio
import gc
import pickle
from typing import TYPE_CHECKING, Any

import pytest

from dynamiq_async import errors
from tests.support.limits import HANG_SECONDS
from tests.support.network import in_flight, turns
from tests.support.wire import (
    CHUNKED,
    LAST_CHUNK,
    UNFRAMED,
    Peer,
    chunk,
    final,
    make_response,
    says,
    script,
    sized,
    sse,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterable

    from tests.support.network import MakeApp, Serve

ONE, TWO, END = sse(says("one")), sse(says("two")), sse(final())
INPUT = {"question": "?"}


async def collect(events: AsyncIterable[Any]) -> tuple[list[str], errors.DynamiqError | None]:
    """The texts handed out (`<final>` for the final event), and what ended it."""
    texts = []
    try:
        async for event in events:
            texts.append("<final>" if event.is_final else event.text)  # noqa: PERF401 - kept on an error
    except errors.DynamiqError as error:
        return texts, error
    return texts, None


WHOLE = {
    "final event, chunk terminator": (CHUNKED + chunk(ONE) + chunk(END) + LAST_CHUNK, True),
    "no final event, chunk terminator": (CHUNKED + chunk(ONE) + LAST_CHUNK, False),
    "final event, all of the length": (sized(len(ONE + END)) + ONE + END, True),
    "no final event, all of the length": (sized(len(ONE)) + ONE, False),
    "final event, unframed": (UNFRAMED + ONE + END, True),
    "final event behind which the length is short": (sized(999999) + ONE + END, True),
    "final event behind which the chunk is cut": (CHUNKED + chunk(ONE) + b"fff\r\n" + END, True),
    "comment cut off at the end": (CHUNKED + chunk(ONE + b": heartb") + LAST_CHUNK, False),
    "with an end marker": (CHUNKED + chunk(ONE + b"data: [DONE]\n\n") + LAST_CHUNK, False),
}


@pytest.mark.parametrize(("response", "has_final"), WHOLE.values(), ids=WHOLE)
async def test_a_whole_stream_ends_without_an_error(
    response: bytes, has_final: bool, serve: Serve, app_for: MakeApp
) -> None:
    async def handler(peer: Peer) -> None:
        await peer.send(response)
        peer.close()

    app = app_for(await serve(handler))
    stream = app.stream(INPUT)
    assert await collect(stream) == (["one"] + ["<final>"] * has_final, None)
    assert (stream.final is not None) is has_final
    assert stream.closed
    assert await collect(stream) == ([], None)


BROKEN = {
    "unframed, no final event": UNFRAMED + ONE,
    "unframed, in mid-event": UNFRAMED + ONE + TWO[:40],
    "unframed, without the blank line": UNFRAMED + ONE + TWO[:-1],
    "length, cut between events": sized(len(ONE + TWO)) + ONE,
    "length, cut in mid-event": sized(len(ONE + TWO)) + ONE + TWO[:40],
    "length met in mid-event": sized(len(ONE) + 40) + ONE + TWO[:40],
    "chunks, no terminator": CHUNKED + chunk(ONE),
    "chunks, half a terminator": CHUNKED + chunk(ONE) + b"0\r\n",
    "chunks, cut in mid-chunk": CHUNKED + chunk(ONE) + chunk(TWO)[:60],
    "chunks, cut in a chunk's size": CHUNKED + chunk(ONE) + b"4",
    "chunks, terminated in mid-event": CHUNKED + chunk(ONE) + chunk(TWO[:40]) + LAST_CHUNK,
    "chunks, event without its blank line": CHUNKED + chunk(ONE + TWO[:-1]) + LAST_CHUNK,
}


@pytest.mark.parametrize("response", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("slow", [False, True], ids=["quick", "slow"])
async def test_a_stream_cut_short_is_an_error_behind_all_whole_events(
    response: bytes, slow: bool, serve: Serve, app_for: MakeApp
) -> None:
    """Never a half event, and what had arrived first comes first, however late it is read."""
    ended = asyncio.Event()

    async def handler(peer: Peer) -> None:
        await peer.send(response)
        peer.close()
        ended.set()

    wire = await serve(handler)
    app = app_for(wire)
    async with app.stream(INPUT) as stream:
        if slow:
            await ended.wait()
            await wire.all_closed()
            await turns()  # so that the client has noticed, too
        texts, error = await collect(stream)
        assert texts == ["one"]
        assert isinstance(error, errors.StreamInterruptedError)
        assert isinstance(error, errors.APIConnectionError)
        assert error.run_id == "wf-1"
        assert error.status == 200
        assert error.attempts == 1
        assert stream.final is None
        with pytest.raises(errors.StreamInterruptedError):
            await anext(stream)  # still, not a quiet end
    assert len(wire.requests) == 1
    assert in_flight(app) == 0


VIOLATIONS = {
    "size is not hexadecimal": b"zz\r\n" + TWO + b"\r\n",
    "data longer than its size": b"5\r\n" + TWO + b"\r\n",
    "broken trailer": b"0\r\nno trailer\r\n\r\n",
}


@pytest.mark.parametrize("violation", VIOLATIONS.values(), ids=VIOLATIONS)
@pytest.mark.parametrize("closes", [False, True])
async def test_violated_framing_is_an_error_at_once(
    violation: bytes, closes: bool, serve: Serve, app_for: MakeApp
) -> None:
    """aiohttp would leave the reader waiting until the idle limit."""
    first_read = asyncio.Event()

    async def handler(peer: Peer) -> None:
        await peer.send(CHUNKED, chunk(ONE))
        await first_read.wait()
        await peer.send(violation)
        if closes:
            peer.close()
        else:
            await peer.gone()

    app = app_for(await serve(handler))
    stream = app.stream(INPUT)
    assert (await anext(stream)).text == "one"
    first_read.set()
    async with asyncio.timeout(2):
        texts, error = await collect(stream)
    assert texts == []
    assert isinstance(error, errors.StreamInterruptedError)


@pytest.mark.parametrize("pause", range(12))
async def test_violated_framing_at_any_moment(pause: int, serve: Serve, app_for: MakeApp) -> None:
    """Also while the response is just being looked at for the first time."""

    async def handler(peer: Peer) -> None:
        await peer.send(CHUNKED, chunk(ONE))
        for _ in range(pause):
            await asyncio.sleep(0)
        await peer.send(b"zz\r\n")
        peer.close()

    app = app_for(await serve(handler))
    async with asyncio.timeout(2):
        texts, error = await collect(app.stream(INPUT))
    assert texts in ([], ["one"])
    assert isinstance(error, errors.StreamInterruptedError | errors.AmbiguousConnectionError)


async def test_a_reset_is_an_error_behind_what_had_arrived(serve: Serve, app_for: MakeApp) -> None:
    read = asyncio.Event()

    async def handler(peer: Peer) -> None:
        await peer.send(CHUNKED, chunk(ONE))
        await read.wait()
        peer.reset()

    app = app_for(await serve(handler))
    async with app.stream(INPUT) as stream:
        assert (await anext(stream)).text == "one"
        read.set()
        texts, error = await collect(stream)
    assert texts == []
    assert isinstance(error, errors.StreamInterruptedError)


async def test_a_slow_consumer_gets_what_came_before_a_reset(
    serve: Serve, app_for: MakeApp
) -> None:
    app = None

    async def handler(peer: Peer) -> None:
        await peer.send(CHUNKED, chunk(ONE), chunk(TWO))
        await arrived.wait()
        peer.reset()

    arrived = asyncio.Event()
    wire = await serve(handler)
    app = app_for(wire)
    async with app.stream(INPUT) as stream:
        assert (await anext(stream)).text == "one"
        arrived.set()
        await wire.all_closed()
        await turns()
        texts, error = await collect(stream)
    assert texts == ["two"]
    assert isinstance(error, errors.StreamInterruptedError)


@pytest.mark.parametrize("size", [1, 7])
async def test_however_the_bytes_are_cut(size: int, serve: Serve, app_for: MakeApp) -> None:
    async def handler(peer: Peer) -> None:
        await peer.send_slowly(CHUNKED + chunk(ONE + TWO[:9]) + chunk(TWO[9:] + END), size)
        await peer.send(LAST_CHUNK)

    app = app_for(await serve(handler))
    assert await collect(app.stream(INPUT)) == (["one", "two", "<final>"], None)


@pytest.mark.parametrize("framing", ["chunked", "length"])
async def test_a_late_end_of_body_is_waited_for_and_the_connection_used_again(
    framing: str, serve: Serve, app_for: MakeApp
) -> None:
    final_read = asyncio.Event()

    async def handler(peer: Peer) -> None:
        if framing == "chunked":
            await peer.send(CHUNKED, chunk(ONE + END))
            await final_read.wait()
            await peer.send(chunk(b": bye\n\n"), LAST_CHUNK)
        else:
            await peer.send(sized(len(END) + 2), END)
            await final_read.wait()
            await peer.send(b":\n")

    wire = await serve(handler)
    app = app_for(wire)
    for _ in range(3):
        final_read.clear()
        async with app.stream(INPUT) as stream:
            async for event in stream:
                if event.is_final:
                    final_read.set()
                    break
    assert len(wire.requests) == 3
    assert wire.connections == 1


async def test_a_connection_keeps_nothing_of_the_streams_before(
    serve: Serve, app_for: MakeApp
) -> None:
    async def handler(peer: Peer) -> None:
        await peer.send(CHUNKED, chunk(ONE))
        await first_read.wait()
        await peer.send(chunk(END), LAST_CHUNK)

    wire = await serve(handler)
    app = app_for(wire)
    for _ in range(5):
        first_read = asyncio.Event()
        async for _ in app.stream(INPUT):
            first_read.set()
    assert wire.connections == 1
    gc.collect()
    assert not [thing for thing in gc.get_objects() if type(thing).__name__ == "AiohttpResponse"]
    (session,) = app._api.sender._transport._sessions.values()  # type: ignore[union-attr]
    ((protocol, _),) = next(iter(session.client.connector._conns.values()))
    assert len(protocol.closed._callbacks) == 1


async def test_output_alone_leaves_the_connection_for_the_next_call(
    serve: Serve, app_for: MakeApp
) -> None:
    async def handler(peer: Peer) -> None:
        await peer.send(CHUNKED, chunk(END))
        await asyncio.sleep(0.01)
        await peer.send(LAST_CHUNK)

    wire = await serve(handler)
    app = app_for(wire)
    for _ in range(2):
        assert await app.stream(INPUT).output("agent-1") == {"content": "hi"}
    assert wire.connections == 1


@pytest.mark.parametrize("noisy", [False, True], ids=["silent", "talking"])
async def test_a_server_that_never_ends_its_body_holds_nobody_up(
    noisy: bool, serve: Serve, app_for: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    if noisy:
        monkeypatch.setattr("dynamiq_async.streaming.event_reader.DRAIN_SECONDS", 3600)

    async def handler(peer: Peer) -> None:
        await peer.send(CHUNKED, chunk(ONE + END))
        if noisy:
            while True:
                await peer.send(chunk(b": on and on\n" * 1000))
        await peer.gone()

    wire = await serve(handler)
    app = app_for(wire)
    async with asyncio.timeout(HANG_SECONDS):
        assert await collect(app.stream(INPUT)) == (["one", "<final>"], None)
    await wire.all_closed()
    assert in_flight(app) == 0


async def test_nothing_is_handed_out_behind_the_final_event(serve: Serve, app_for: MakeApp) -> None:
    body = chunk(ONE + END + TWO) + chunk(TWO) + LAST_CHUNK
    app = app_for(await serve(script(CHUNKED + body)))
    assert await collect(app.stream(INPUT)) == (["one", "<final>"], None)


EMPTY = {
    "chunked": CHUNKED + LAST_CHUNK,
    "of no length": sized(0),
    "comments only": CHUNKED + chunk(b": hello\n\n") + LAST_CHUNK,
    "an end marker only": CHUNKED + chunk(b"data: [DONE]\n\n") + LAST_CHUNK,
}


@pytest.mark.parametrize("option", ["auto", "required", "optional"])
@pytest.mark.parametrize("response", EMPTY.values(), ids=EMPTY)
async def test_a_body_without_any_event_is_never_whole(
    response: bytes, option: Any, serve: Serve, app_for: MakeApp
) -> None:
    app = app_for(await serve(script(response)), final_event=option)
    for use in (app.stream(INPUT), app.stream(INPUT).text()):
        texts, error = await collect(use)
        assert texts == []
        assert isinstance(error, errors.StreamInterruptedError)
        assert "without any event" in error.message


async def test_an_unframed_body_without_any_event_is_not_whole(
    serve: Serve, app_for: MakeApp
) -> None:
    async def handler(peer: Peer) -> None:
        await peer.send(UNFRAMED)
        peer.close()

    texts, error = await collect(app_for(await serve(handler)).stream(INPUT))
    assert texts == []
    assert isinstance(error, errors.StreamInterruptedError)
    assert "final event" in error.message


SHOWS, SHOWS_NOT = CHUNKED + chunk(ONE + END) + LAST_CHUNK, CHUNKED + chunk(ONE) + LAST_CHUNK


def is_about_the_option(error: errors.DynamiqError | None) -> bool:
    return isinstance(error, errors.StreamInterruptedError) and "final_event=" in error.message


async def test_the_final_event_is_required_once_a_stream_has_shown_one(
    serve: Serve, app_for: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    responses = script(SHOWS_NOT, SHOWS_NOT, SHOWS, SHOWS_NOT)
    app = app_for(await serve(responses))
    assert await collect(app.stream(INPUT)) == (["one"], None)
    assert await collect(app.with_options(max_retries=0).stream(INPUT)) == (["one"], None)
    (warning,) = caplog.records
    assert (warning.levelname, warning.name) == ("WARNING", "dynamiq_async")
    assert "final_event=" in warning.getMessage()
    view = app.with_options(headers={"a": "b"})
    assert await collect(view.stream(INPUT)) == (["one", "<final>"], None)
    for client in (app, view, app.with_options(timeout=5)):
        texts, error = await collect(client.stream(INPUT))
        assert texts == ["one"]
        assert is_about_the_option(error)
    with pytest.raises(errors.StreamInterruptedError, match="final_event="):
        assert [text async for text in app.stream(INPUT).text()] == ["one"]
    assert await collect(app.stream(INPUT, final_event="optional")) == (["one"], None)
    (item,) = [i.result async for i in app.stream_many([INPUT]) if i.result]
    assert is_about_the_option(item.error)  # type: ignore[arg-type]
    options: Any = {"final_event": "optional"}
    (item,) = [i.result async for i in app.stream_many([INPUT], **options) if i.result]
    assert item.ok
    assert len(caplog.records) == 1


async def test_what_a_filter_leaves_out_counts_as_events_too(
    serve: Serve, app_for: MakeApp
) -> None:
    app = app_for(await serve(script(SHOWS_NOT)))
    assert await collect(app.stream(INPUT, event="none of this name")) == ([], None)


async def test_an_error_in_place_of_the_final_event_teaches_nothing(
    serve: Serve, app_for: MakeApp
) -> None:
    told = CHUNKED + chunk(sse({"error": "no"})) + LAST_CHUNK
    app = app_for(await serve(script(told, SHOWS_NOT)))
    assert await collect(app.stream(INPUT)) == (["<final>"], None)
    assert await collect(app.stream(INPUT)) == (["one"], None)


async def test_the_final_event_can_be_required_from_the_first_stream_on(
    serve: Serve, app_for: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    wire = await serve(script(SHOWS_NOT))
    app = app_for(wire, final_event="required")
    for one in (app, pickle.loads(pickle.dumps(app))):
        texts, error = await collect(one.stream(INPUT))
        assert texts == ["one"]
        assert is_about_the_option(error)
        await one.aclose()
    app = app_for(wire)
    _, error = await collect(app.stream(INPUT, final_event="required"))
    assert is_about_the_option(error)
    assert caplog.records == []


async def test_the_final_event_can_be_optional_for_good(
    serve: Serve, app_for: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    app = app_for(await serve(script(SHOWS, SHOWS_NOT)), final_event="optional")
    assert await collect(app.stream(INPUT)) == (["one", "<final>"], None)
    assert await collect(app.stream(INPUT)) == (["one"], None)
    with pytest.raises(errors.OutputMissingError):
        await app.stream(INPUT).output()
    texts, error = await collect(app.stream(INPUT, final_event="auto"))
    assert texts == ["one"]
    assert is_about_the_option(error)
    assert caplog.records == []


async def test_the_option_is_one_of_three(serve: Serve, app_for: MakeApp) -> None:
    wire = await serve(script(SHOWS))
    wrong: Any = "never"
    with pytest.raises(errors.InvalidArgumentError, match="'auto' or 'required'") as caught:
        app_for(wire, final_event=wrong)
    assert caught.value.argument == "final_event"
    with pytest.raises(errors.InvalidArgumentError) as caught:
        app_for(wire).stream(INPUT, final_event=wrong)
    assert caught.value.argument == "final_event"


async def test_text_and_output_meet_the_break_too(serve: Serve, app_for: MakeApp) -> None:
    async def handler(peer: Peer) -> None:
        await peer.send(UNFRAMED, ONE)
        peer.close()

    app = app_for(await serve(handler))
    pieces = []
    with pytest.raises(errors.StreamInterruptedError):
        async for piece in app.stream(INPUT).text():
            pieces.append(piece)  # noqa: PERF401 - the pieces before the error count
    assert pieces == ["one"]
    with pytest.raises(errors.StreamInterruptedError):
        await app.stream(INPUT).output()
    with pytest.raises(errors.StreamInterruptedError):
        async for _ in app.stream(INPUT).batches():
            pass


async def test_the_app_is_closed_while_a_stream_waits(serve: Serve, app_for: MakeApp) -> None:
    """Whoever waits hears of it at once, rather than when the idle limit passes."""
    for body in (CHUNKED + chunk(ONE), sized(9999) + ONE, UNFRAMED + ONE):

        async def handler(peer: Peer, body: bytes = body) -> None:
            await peer.send(body)
            await peer.gone()

        app = app_for(await serve(handler))
        stream = app.stream(INPUT)
        await anext(stream)
        reading = asyncio.ensure_future(collect(stream))
        await asyncio.sleep(0.01)
        await app.aclose()
        async with asyncio.timeout(2):
            texts, error = await reading
        assert texts == []
        assert isinstance(error, errors.DynamiqError)
        assert in_flight(app) == 0


async def test_the_app_is_closed_while_a_call_waits(serve: Serve, app_for: MakeApp) -> None:
    async def silent(peer: Peer) -> None:
        await peer.gone()

    async def half(peer: Peer) -> None:
        await peer.send(make_response({"a": 1})[:-3])
        await peer.gone()

    for handler in (silent, half):
        wire = await serve(handler)
        app = app_for(wire)
        call = asyncio.ensure_future(app.invoke(INPUT))
        await wire.asked()
        await asyncio.sleep(0.01)
        await app.aclose()
        async with asyncio.timeout(2):
            with pytest.raises(errors.DynamiqError):
                await call
