"""Formats: one of a user's own, made of public names, and what each may know and has to say."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from dynamiq_async import RunEvent, StreamEvent, errors
from dynamiq_async.emulator import Fault, WorkflowCanceledError, WorkflowFailedError
from dynamiq_async.relay import relay
from dynamiq_async.relay.asgi import respond
from dynamiq_async.relay.formats import (
    AGUI,
    FORMATS,
    SSE,
    Context,
    EndKind,
    Format,
    JSONLines,
    Problem,
    Text,
    UIMessageStream,
    as_bytes,
    format_of,
)
from dynamiq_async.relay.formats.base import named
from dynamiq_async.sse import ServerSentEvent, SSEDecoder
from tests.support.backends import BACKENDS, Browser
from tests.support.websocket_peers import BINARY, END, frame, saying
from tests.support.wire import CHUNKED, LAST_CHUNK, Peer, chunk, final, make_response, says, sse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dynamiq_async.relay import Relay
    from tests.support.network import MakeApp, Serve

    from .conftest import Emulate, Relaying

each_backend = pytest.mark.parametrize("kind", BACKENDS)


class Parts(Format):
    """A line of JSON for each part, and one around them."""

    media_type = "application/x-parts; v=1"
    headers = {"X-Parts": "1"}  # noqa: RUF012
    heartbeat = b'{"type":"ping"}\n'
    context: Context

    def opening(self, context: Context) -> bytes:
        self.context = context
        return self.part("start", run=context.run_id, behind=context.position)

    def event(self, event: Any) -> bytes:
        shown = event.text if isinstance(event, StreamEvent | RunEvent) else event
        return self.part("text", text=shown, behind=self.context.position) if shown else b""

    def end(self, kind: EndKind) -> bytes:
        return self.part("end", kind=kind, behind=self.context.position)

    def failure(self, problem: Problem, position: str | None) -> bytes:
        return self.part("error", code=problem.code, behind=position)

    @staticmethod
    def part(type: str, **fields: Any) -> bytes:
        known = {name: value for name, value in fields.items() if value is not None}
        return msgspec.json.encode({"type": type, **known}) + b"\n"


class Mute(Parts):
    """It has no way to say that something is wrong."""

    def end(self, kind: EndKind) -> bytes:
        return super().end(kind) if kind == "completed" else b""

    def failure(self, problem: Problem, position: str | None) -> bytes:
        return b""


async def talk(input: dict[str, Any], run: Any) -> Any:
    for word in ("one ", "two ", "three"):
        await run.text(word)
    if input.get("end") == "failed":
        raise WorkflowFailedError("the node at 10.0.0.7 said no")
    if input.get("end") == "canceled":
        raise WorkflowCanceledError
    return "done"


async def hello(input: dict[str, Any], run: Any) -> Any:
    await run.text("hello")
    await asyncio.get_running_loop().create_future()


async def items(*values: Any) -> AsyncIterator[Any]:
    for value in values:
        yield value


async def whole(body: Relay) -> bytes:
    async with body:
        return b"".join([piece async for piece in body])


def parts_of(data: bytes) -> list[dict[str, Any]]:
    return [msgspec.json.decode(line) for line in data.splitlines()]


async def parts(body: Relay) -> list[dict[str, Any]]:
    return parts_of(await whole(body))


def text(words: str, **fields: Any) -> dict[str, Any]:
    return {"type": "text", "text": words, **fields}


# --- one of your own --------------------------------------------------------------------------


async def test_it_makes_the_bytes_of_any_stream(emulate: Emulate) -> None:
    app, _ = await emulate(talk)
    wanted = [{"type": "start"}, text("one "), text("two "), text("three")]
    for stream in (app.stream({}), app.stream({}).text(), items("one ", "two ", "", "three")):
        body = relay(stream, format=Parts())
        assert body.media_type == "application/x-parts"
        assert body.headers["X-Parts"] == "1"
        assert await parts(body) == [*wanted, {"type": "end", "kind": "completed"}]
        assert body.told


async def test_it_knows_a_runs_id_and_positions(emulate: Emulate) -> None:
    app, _ = await emulate(talk)
    run = await app.runs.create({})
    found = await parts(relay(app.runs.follow(run.id), format=Parts()))
    assert found == [
        {"type": "start", "run": run.id, "behind": f"{run.id}:0"},
        text("one ", behind=f"{run.id}:2"),
        text("two ", behind=f"{run.id}:3"),
        text("three", behind=f"{run.id}:4"),
        {"type": "end", "kind": "completed", "behind": f"{run.id}:5:end"},
    ]
    [start, first, *_] = await parts(
        relay(app.runs.follow(run.id, after_sequence=3), format=Parts())
    )
    assert (start["behind"], first["text"]) == (f"{run.id}:3", "three")
    start, first, *_, end = await parts(relay(app.runs.stream({}), format=Parts()))
    assert start == {"type": "start"}
    assert first["behind"].endswith(":2")
    assert end["behind"].endswith(":5:end")


@pytest.mark.parametrize("kind", ["failed", "canceled"])
async def test_it_is_told_how_a_run_ended(kind: str, emulate: Emulate) -> None:
    app, _ = await emulate(talk)
    for stream in (
        app.stream({"end": kind}),
        app.stream({"end": kind}).text(),
        app.runs.stream({"end": kind}),
    ):
        body = relay(stream, format=Parts())
        *_, last = await parts(body)
        assert (last["type"], last["kind"]) == ("end", kind)
        assert isinstance(body.error, errors.RunError)
        assert body.told


async def test_it_is_told_what_went_wrong_and_where_to_go_on(
    serve: Serve, app_for: MakeApp
) -> None:
    async def handler(peer: Peer) -> None:
        event = {"type": "agent.response.delta", "sequence": 4, "data": {"delta": "hello"}}
        await peer.send(CHUNKED, chunk(sse(event)))
        peer.close()

    app = app_for(await serve(handler))
    stream = app.runs.follow("r-1", after_sequence=3, resume=False)
    *_, last = await parts(relay(stream, format=Parts()))
    assert last == {"type": "error", "code": "interrupted", "behind": "r-1:4"}
    stream = app.runs.follow("r-1", after_sequence=4, resume=False)
    *_, last = await parts(relay(stream, format=Parts()))
    assert last == {"type": "error", "code": "interrupted", "behind": "r-1:4"}
    *_, last = await parts(relay(app.stream({}), format=Parts()))
    assert last == {"type": "error", "code": "interrupted"}


async def test_coming_back_for_the_same_error_is_not_suggested(
    serve: Serve, app_for: MakeApp
) -> None:
    async def handler(peer: Peer) -> None:
        step = {"type": "step", "sequence": 1, "data": {}}
        await peer.send(CHUNKED, chunk(sse(step) + b"data: {\n\n"), LAST_CHUNK)

    app = app_for(await serve(handler))
    *_, last = await parts(relay(app.runs.follow("r-1", max_resumes=1), format=Parts()))
    assert last == {"type": "error", "code": "upstream_error"}


@each_backend
async def test_every_backend_sends_it(kind: str, emulate: Emulate, relaying: Relaying) -> None:
    app, _ = await emulate(talk)
    # A format belongs to one response, so this backend makes the streams, and the test the format.
    port = await relaying(kind, lambda _: app.stream({"end": "failed"}), format=Parts())
    browser = await Browser.ask(port)
    found = parts_of(await browser.body())
    assert [part.get("text") for part in found] == [None, "one ", "two ", "three", None]
    assert found[-1] == {"type": "end", "kind": "failed"}
    assert browser.headers["content-type"] == "application/x-parts; v=1"
    assert browser.headers["x-parts"] == "1"
    assert browser.headers["x-content-type-options"] == "nosniff"


@each_backend
@pytest.mark.parametrize("fault", [None, Fault(after_events=3, drop="close")])
async def test_what_it_cannot_tell_breaks_the_connection(
    kind: str, fault: Fault | None, emulate: Emulate, relaying: Relaying
) -> None:
    app, emulator = await emulate(talk)
    if fault is not None:
        emulator.script(fault)
    port = await relaying(kind, lambda _: app.stream({"end": "failed"}), format=Mute())
    browser = await Browser.ask(port)
    await browser.until(b"three")
    with pytest.raises((EOFError, ConnectionError)):
        await browser.body()


@each_backend
async def test_what_it_tells_ends_the_body_properly(
    kind: str, emulate: Emulate, relaying: Relaying
) -> None:
    app, emulator = await emulate(talk)
    emulator.script(Fault(after_events=2, drop="close"))
    port = await relaying(kind, lambda _: app.stream({}), format=Parts())
    browser = await Browser.ask(port)
    *_, last = parts_of(await browser.body())
    assert last == {"type": "error", "code": "interrupted"}


async def test_bare_asgi_sends_it_too() -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        await asyncio.get_running_loop().create_future()

    async def send(message: Any) -> None:
        sent.append(message)

    async def failing() -> AsyncIterator[str]:
        yield "one"
        raise errors.StreamInterruptedError("cut")

    scope = {"type": "http", "method": "GET", "headers": []}
    await respond(relay(items("one"), format=Parts()), scope, receive, send)
    start, *body = sent
    assert dict(start["headers"])[b"x-parts"] == b"1"
    assert [part["type"] for part in parts_of(b"".join(piece["body"] for piece in body))] == [
        *("start", "text", "end")
    ]
    sent.clear()
    with pytest.raises(errors.StreamInterruptedError):
        await respond(relay(failing(), format=Mute()), scope, receive, send)
    assert sent[-1]["type"] == "http.response.broken_off"


# --- what it may rely on ----------------------------------------------------------------------


async def test_it_opens_before_it_sees_an_event(emulate: Emulate) -> None:
    app, _ = await emulate(talk)
    calls: list[str] = []

    class Noting(Parts):
        def opening(self, context: Context) -> bytes:
            calls.append("opening")
            assert context.event is None
            return super().opening(context)

        def event(self, event: Any) -> bytes:
            calls.append("event")
            return super().event(event)

        def end(self, kind: EndKind) -> bytes:
            calls.append("end")
            return super().end(kind)

    body = relay(app.stream({}), format=Noting())
    await body.open()
    while "event" not in calls:  # the relay reads ahead
        await asyncio.sleep(0.001)
    assert (await anext(body)).startswith(b'{"type":"start"')
    await whole(body)
    assert calls[0] == "opening"
    assert calls[-1] == "end"
    assert set(calls[1:-1]) == {"event"}


async def test_it_is_not_asked_for_what_is_not_sent(emulate: Emulate) -> None:
    app, emulator = await emulate(talk)

    class Unused(Parts):
        def opening(self, context: Context) -> bytes:
            raise AssertionError

    body = relay(app.runs.follow("r-1"), format=Unused())
    await body.open(last_event_id="r-1:5:end")
    assert body.status == 204
    await body.aclose()
    assert not emulator.requests


async def test_with_a_map_it_gets_what_is_shown_and_knows_the_event(emulate: Emulate) -> None:
    app, _ = await emulate(talk)
    run = await app.runs.create({})
    behind: list[tuple[str, Any]] = []

    class Noting(Parts):
        def event(self, event: Any) -> bytes:
            behind.append((event, self.context.event.sequence))
            return super().event(event)

    async def show(event: RunEvent) -> str | None:
        return event.text.strip().upper() or None

    found = await parts(relay(app.runs.follow(run.id), format=Noting(), map=show))
    assert behind == [("ONE", 2), ("TWO", 3), ("THREE", 4)]
    assert [part["text"] for part in found[1:-1]] == ["ONE", "TWO", "THREE"]
    assert found[2]["behind"] == f"{run.id}:3"


async def test_it_knows_whether_coming_back_starts_it_again(emulate: Emulate) -> None:
    app, _ = await emulate(talk)
    run = await app.runs.create({})
    for stream, restarts in (
        (app.stream({}), True),
        (app.stream({}).text(), True),
        (app.runs.stream({}), True),
        (items(), True),
        (app.runs.follow(run.id), False),
    ):
        format = Parts()
        async with relay(stream, format=format, heartbeat=5, retry=1.5) as body:
            context = format.context
            assert context.restarts is restarts
            assert (context.heartbeat, context.retry) == (5, 1.5)
            [_ async for _ in body]
            assert context.ended


async def test_it_knows_the_run_of_every_stream_once_that_is_known(emulate: Emulate) -> None:
    app, emulator = await emulate(talk)
    for make in (app.runs.stream, app.stream, lambda input: app.stream(input).text()):
        format, stream = Parts(), make({})
        async with relay(stream, format=format) as body:
            [_ async for _ in body]
        assert format.context.run_id is not None
    format = Parts()
    await whole(relay(items("a"), format=format))
    assert format.context.run_id is None
    assert emulator.runs


async def test_its_heartbeats_are_sent(emulate: Emulate) -> None:
    app, _ = await emulate(hello)

    class Beatless(Parts):
        heartbeat = b""

    format = Beatless()
    async with relay(app.stream({}), format=Parts(), heartbeat=0.02) as body:
        seen = b""
        async with asyncio.timeout(5):
            while seen.count(b"ping") < 2:
                seen += await anext(body)
    async with relay(app.stream({}), format=format, heartbeat=0.02):
        assert format.context.heartbeat is None


@pytest.mark.parametrize("method", ["opening", "event", "end", "failure"])
async def test_its_mistakes_are_the_backends_own(method: str) -> None:
    def wrong(*_: Any) -> bytes:
        raise KeyError("of the format")

    async def source() -> AsyncIterator[str]:
        yield "one"
        if method == "failure":
            raise errors.StreamInterruptedError("cut")

    format = Parts()
    setattr(format, method, wrong)
    body = relay(source(), format=format)
    with pytest.raises(KeyError, match="of the format"):
        await whole(body)
    await body.aclose()
    assert body.told is (method == "event")  # the others are what would have told


async def test_what_came_before_what_cannot_be_shown_is_sent(
    serve: Serve, app_for: MakeApp
) -> None:
    class Picky(Parts):
        def event(self, event: Any) -> bytes:
            if event.text == "two":
                raise errors.InvalidArgumentError("no two", argument="format")
            return super().event(event)

    blocks = sse(says("one"), says("two"), final())
    wire = await serve(lambda peer: peer.send(CHUNKED, chunk(blocks), LAST_CHUNK))
    body, seen = relay(app_for(wire).stream({}), format=Picky()), b""
    with pytest.raises(errors.InvalidArgumentError, match="no two"):
        async for piece in body:
            seen += piece
    assert [part["type"] for part in parts_of(seen)] == ["start", "text", "error"]


class Least(Format):
    """No more than has to be there."""

    media_type = "text/x-least"

    def event(self, event: Any) -> bytes:
        return as_bytes(event)


async def test_the_least_is_a_type_and_events() -> None:
    body = relay(items("a", b"b", {"c": 1}), format=Least())
    assert await whole(body) == b'ab{"c":1}'
    with pytest.raises(TypeError, match="event"):
        Format()  # type: ignore[abstract]

    async def failing() -> AsyncIterator[str]:
        yield "one"
        raise errors.RunFailedError("no")

    body = relay(failing(), format=Least())
    with pytest.raises(errors.RunFailedError):
        await whole(body)
    assert not body.told


# --- when the server stops --------------------------------------------------------------------


class Aborting(Parts):
    on_shutdown = "abort"


async def heard(body: Relay) -> bytes:
    seen = b""
    while b"hello" not in seen:
        seen += await anext(body)
    return seen


async def test_a_server_that_stops_says_so_and_where_to_go_on(emulate: Emulate) -> None:
    app, emulator = await emulate(hello)
    run = await app.runs.create({}, background=True)
    body = relay(app.runs.follow(run.id), format=Parts(), on_leave="cancel")
    async with body:
        await heard(body)
        body.shut_down()
        body.shut_down()
        rest = b"".join([piece async for piece in body])
    [last] = parts_of(rest)
    assert last == {"type": "error", "code": "unavailable", "behind": f"{run.id}:2"}
    assert body.told
    assert emulator.runs[run.id].status == "canceled"


async def test_or_breaks_the_connection_where_that_makes_readers_come_back(
    emulate: Emulate,
) -> None:
    app, _ = await emulate(hello)
    body = relay(app.stream({}), format=Aborting())
    async with body:
        await heard(body)
        body.shut_down()
        with pytest.raises(errors.StreamClosedError, match="shut down"):
            await anext(body)
    assert not body.told


async def test_what_was_read_is_sent_before(serve: Serve, app_for: MakeApp) -> None:
    framed = asyncio.Event()

    async def handler(peer: Peer) -> None:
        await peer.send(CHUNKED, chunk(sse(says("one"), says("two"))))
        await peer.gone()

    class Noting(Parts):
        def event(self, event: Any) -> bytes:
            if event.text == "two":
                framed.set()
            return super().event(event)

    wire = await serve(handler)
    async with relay(app_for(wire).stream({}), format=Noting()) as body:
        await framed.wait()
        body.shut_down()
        found = parts_of(b"".join([piece async for piece in body]))
    assert [part["type"] for part in found] == ["start", "text", "text", "error"]


async def test_a_relay_that_is_shut_down_before_it_opens_is_an_error_with_a_status(
    emulate: Emulate,
) -> None:
    app, emulator = await emulate(hello)
    for turns in (0, 1):
        body = relay(app.stream({}), format=Parts())
        opening = asyncio.ensure_future(body.open()) if turns else None
        await asyncio.sleep(0)
        body.shut_down()
        await (opening or body.open())
        assert body.status == 503
        await body.aclose()
    assert not emulator.requests


async def test_what_has_ended_or_was_left_is_not_shut_down(emulate: Emulate) -> None:
    app, _ = await emulate(talk)
    body = relay(app.stream({}), format=Parts())
    found = await parts(body)
    body.shut_down()
    assert found[-1]["type"] == "end"
    assert body.error is None
    async with relay(app.stream({}), format=Parts()) as body:
        await anext(body)
    body.shut_down()
    with pytest.raises(errors.StreamClosedError, match="closed"):
        await anext(body)


# --- ours -------------------------------------------------------------------------------------


def test_ours_go_by_their_names() -> None:
    assert dict(FORMATS) == {
        "sse": SSE,
        "jsonl": JSONLines,
        "text": Text,
        "ui-message-stream": UIMessageStream,
        "ag-ui": AGUI,
    }
    for name, kind in FORMATS.items():
        assert type(format_of(name)) is kind  # type: ignore[arg-type]
    mine = Parts()
    assert format_of(mine) is mine


async def test_one_reader_gets_nothing_of_another() -> None:
    """What a format remembers is of one reader: an object for all requests is a mistake."""
    mine = Parts()
    await whole(relay(items("a"), format=mine))
    with pytest.raises(errors.InvalidArgumentError, match="make one for each") as caught:
        relay(items("a"), format=mine)
    assert caught.value.argument == "format"


@pytest.mark.parametrize("given", ["xml", Parts, None, []])
def test_what_is_no_format_is_named(given: Any) -> None:
    with pytest.raises(errors.InvalidArgumentError, match=r"'sse', .*, 'ag-ui' or a Format"):
        relay(items(), format=given)


async def test_a_run_of_a_websocket_comes_out_as_it_came(serve: Serve, app_for: MakeApp) -> None:
    """Its messages may hold line breaks, which a stream of events cannot."""
    messages = [b'{"data":\r1,"new": 1.0e2}', b'{"data":\r\n2}\n', b'{"data": 3}']
    wire = await serve(saying(*(frame(BINARY, message) for message in messages), END))
    async with app_for(wire).connect() as socket:
        found = SSEDecoder().feed(await whole(relay(socket.run({}))))
    assert [event.data for event in found[:3]] == [
        *('{"data":\n1,"new": 1.0e2}', '{"data":\n2}\n', '{"data": 3}')
    ]
    assert found[-1].event == "end"


async def test_a_websocket_that_is_refused_has_its_status(serve: Serve, app_for: MakeApp) -> None:
    wire = await serve(lambda peer: peer.send(make_response({"error": {"message": "no"}}, 402)))
    socket = app_for(wire).connect()
    async with relay(socket.run({})) as body:
        assert body.status == 503
    await socket.aclose()


async def test_an_own_id_is_what_a_reader_goes_on_behind(serve: Serve, app_for: MakeApp) -> None:
    """Until an event's own position is sent again."""

    async def handler(peer: Peer) -> None:
        steps: list[dict[str, Any]] = [{"type": "step", "sequence": n, "data": {}} for n in (1, 2)]
        await peer.send(CHUNKED, chunk(sse(*steps)))
        peer.close()

    app = app_for(await serve(handler))
    for mine, expected in ((1, "r-1:2"), (2, "my-id")):
        stream = app.runs.follow("r-1", resume=False)

        def show(event: RunEvent, mine: int = mine) -> Any:
            return ServerSentEvent(id="my-id") if event.sequence == mine else event

        *_, last = SSEDecoder().feed(await whole(relay(stream, map=show)))
        assert last.json()["error"]["last_event_id"] == expected


async def test_json_lines_of_a_run_begin_with_its_id_also_if_no_event_is_shown(
    emulate: Emulate,
) -> None:
    app, _ = await emulate(talk)
    run = await app.runs.create({}, background=True)
    for stream in (app.runs.follow(run.id), app.runs.follow(run.id).text()):
        first = (await whole(relay(stream, format="jsonl"))).splitlines()[0]
        assert msgspec.json.decode(first) == {"run": run.id}
    made = app.runs.stream({})
    lines = (await whole(relay(made, format="jsonl", map=lambda event: None))).splitlines()
    assert [msgspec.json.decode(line) for line in lines] == [{"run": made.run_id}]


async def test_a_log_line_shows_line_breaks_and_escapes_of_a_server(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def failing() -> AsyncIterator[str]:
        yield "one"
        raise errors.ContentTypeError("got \x1b[2J\r\nERROR forged \u202eend")

    with caplog.at_level("INFO", logger="dynamiq_async"):
        await whole(relay(failing()))
    [line] = [record.getMessage() for record in caplog.records]
    assert line.endswith(r"got \x1b[2J\r\nERROR forged \u202eend")


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b'{"data": [NaN, -Infinity, Infinity]}', b'{"data": [null, null, null]}'),
        (b'{"data": "NaN, \\" NaN", "event": "Infinity\\\\"}', None),
        (
            b'{"data": {"NaN": NaN, "n": 12345678901234567890123}}',
            b'{"data": {"NaN": null, "n": 12345678901234567890123}}',
        ),
    ],
)
def test_numbers_that_json_has_no_name_for_are_null_to_browsers(
    raw: bytes, shown: bytes | None
) -> None:
    assert named(raw) == (shown or raw)
    assert as_bytes(SSEDecoder(StreamEvent).feed(b"data: " + raw + b"\n\n")[0]) == (shown or raw)


@pytest.mark.parametrize("kind", [StreamEvent, RunEvent])
async def test_it_is_so_in_a_relay(kind: Any) -> None:
    odd = b'{"type": "custom", "sequence": 7, "data": {"n": NaN}}'
    events = SSEDecoder(kind).feed(
        b"data: " + odd + b"\n\ndata: " + odd.replace(b"NaN", b"0") + b"\n\ndata: " + odd + b"\n\n"
    )

    async def stream() -> AsyncIterator[Any]:
        for event in events:
            yield event

    sent = await whole(relay(stream()))
    assert sent.count(b'{"type": "custom", "sequence": 7, "data": {"n": null}}') == 2
    assert b"NaN" not in sent


def test_a_text_without_an_end_takes_no_longer_than_others() -> None:
    assert named(b'NaN "' + b'\\"' * 200_000) == b'null "' + b'\\"' * 200_000
