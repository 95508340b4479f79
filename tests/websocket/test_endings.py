"""How a socket and its runs end, on a server that does as it likes."""

from __future__ import annotations

import asyncio
import pickle
from typing import TYPE_CHECKING, Any

import pytest

from dynamiq_async import StreamEvent, errors
from dynamiq_async.events.app_events import BrokenEvent
from dynamiq_async.websocket.protocol import SocketProtocol
from tests.support.log_records import fields
from tests.support.network import KEY, in_flight, turns
from tests.support.websocket_peers import (
    BINARY,
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
    frame,
    goodbye,
    saying,
    talking,
    text,
)
from tests.support.wire import Peer, final, says

if TYPE_CHECKING:
    from tests.support.network import MakeApp, Serve


def of(run_id: str | None, event: dict[str, Any]) -> bytes:
    return text({**event, "wf_run_id": run_id})


# --- the server closes ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "kind", "status"),
    [
        (1001, errors.StreamInterruptedError, None),
        (1002, errors.BadRequestError, 400),
        (1003, errors.BadRequestError, 400),
        (None, errors.StreamInterruptedError, None),
        (1006, errors.StreamInterruptedError, None),
        (1007, errors.BadRequestError, 400),
        (1008, errors.PermissionDeniedError, 403),
        (1009, errors.PayloadTooLargeError, 413),
        (1011, errors.StreamInterruptedError, None),
        (1012, errors.StreamInterruptedError, None),
        (1013, errors.InternalServerError, 503),
        (3000, errors.AuthenticationError, 401),
        (3001, errors.StreamInterruptedError, None),
        (4000, errors.StreamInterruptedError, None),
        (4401, errors.AuthenticationError, 401),
        (4404, errors.NotFoundError, 404),
        (4429, errors.RateLimitError, 429),
        (4999, errors.StreamInterruptedError, None),
    ],
)
async def test_a_close_before_the_end_is_an_error_with_code_and_reason(
    serve: Serve, app_for: MakeApp, code: int | None, kind: type[Exception], status: int | None
) -> None:
    wire = await serve(saying(ONE, goodbye(code, f"not with {KEY}" if code else "")))
    async with app_for(wire).connect() as socket:
        run = socket.run(INPUT)
        assert (await anext(run)).text == "one"
        with pytest.raises(kind) as caught:
            await anext(run)
        error = caught.value
        assert isinstance(error, errors.DynamiqError)
        assert (error.code, error.status) == (str(code or 1005), status)
        assert error.run_id == "wf-1"
        assert error.body == ("not with ***" if code else "")
        assert KEY not in str(error)
        assert str(pickle.loads(pickle.dumps(error))) == str(error)
        with pytest.raises(kind):
            await run.output()


async def test_a_normal_close_completes_a_run_that_has_said_something(
    serve: Serve, app_for: MakeApp
) -> None:
    """The vendor does not promise the workflow's final event."""
    wire = await serve(saying(ONE, TWO, goodbye(1000)))
    app = app_for(wire)
    async with app.connect() as socket:
        run = socket.run(INPUT)
        assert [event.text async for event in run] == ["one", "two"]
        with pytest.raises(errors.OutputMissingError):
            await run.output()
        assert in_flight(app) == 0
        with pytest.raises(errors.StreamClosedError, match="connect again"):
            await socket.run(INPUT).output()


@pytest.mark.parametrize("pieces", [b"", QUESTION, ONE + QUESTION + TWO])
async def test_a_normal_close_completes_nothing_that_is_still_to_come(
    serve: Serve, app_for: MakeApp, pieces: bytes
) -> None:
    wire = await serve(saying(pieces, goodbye(1000)))
    async with app_for(wire).connect() as socket:
        with pytest.raises(errors.StreamInterruptedError, match="1000"):
            [event async for event in socket.run(INPUT)]


@pytest.mark.parametrize("rest", [b"", ONE[:1], ONE[:40], frame(TEXT, b"{", final=False)])
async def test_a_connection_that_just_ends_is_an_interruption(
    serve: Serve, app_for: MakeApp, rest: bytes
) -> None:
    wire = await serve(saying(ONE, rest, stay=False))
    async with app_for(wire).connect() as socket:
        run = socket.run(INPUT)
        assert (await anext(run)).text == "one"
        middle = "in the middle" if rest else "broke"
        with pytest.raises(errors.StreamInterruptedError, match=middle) as caught:
            await anext(run)
        assert caught.value.run_id == "wf-1"


async def test_a_reset_is_one_too(serve: Serve, app_for: MakeApp) -> None:
    async def conversation(socket: SocketPeer) -> None:
        await socket.message()
        socket.peer.reset()

    app = app_for(await serve(talking(conversation)))
    async with app.connect() as socket:
        with pytest.raises(errors.StreamInterruptedError):
            await socket.run(INPUT).output()


@pytest.mark.parametrize(
    "garbage",
    [
        b"HTTP/1.1 500 Oops\r\n\r\n",
        frame(0x3),
        bytes((0x81, 0x85)) + b"masked...",
        frame(CONTINUATION, b"x"),
        frame(CLOSE, b"x"),
        frame(PING, b"x" * 126),
    ],
)
async def test_garbage_is_an_interruption_behind_what_was_good(
    serve: Serve, app_for: MakeApp, garbage: bytes
) -> None:
    closes: list[tuple[int, bytes]] = []

    async def conversation(socket: SocketPeer) -> None:
        await socket.message()
        await socket.send(ONE, garbage, TWO)
        closes.append(await socket.frame())

    wire = await serve(talking(conversation))
    async with app_for(wire).connect() as socket:
        run = socket.run(INPUT)
        assert (await anext(run)).text == "one"
        with pytest.raises(errors.StreamInterruptedError, match="not a WebSocket's"):
            await anext(run)
    await wire.all_closed()
    assert closes == [(CLOSE, (1002).to_bytes(2))]


@pytest.mark.parametrize(
    "large",
    [
        frame(TEXT, announced=2**62),
        frame(TEXT, b"x" * 600, final=False) + frame(CONTINUATION, b"x" * 600),
    ],
)
async def test_a_message_over_the_limit_is_refused_when_it_announces_itself(
    serve: Serve, app_for: MakeApp, large: bytes
) -> None:
    wire = await serve(saying(ONE, large))
    app = app_for(wire, max_event_bytes=1000)
    async with app.connect() as socket:
        run = socket.run(INPUT)
        assert (await anext(run)).text == "one"
        with pytest.raises(errors.EventTooLargeError) as caught:
            await anext(run)
        assert caught.value.limit == 1000
        assert caught.value.run_id == "wf-1"


@pytest.mark.parametrize(
    ("code", "answered"),
    [(None, b""), (1000, b"\x03\xe8"), (4999, b"\x13\x87"), (3000, b"\x0b\xb8")]
    + [(code, b"\x03\xea") for code in (0, 999, 1004, 1005, 1006, 1015, 2999, 5000)],
)
async def test_a_close_is_answered_with_its_code_if_that_may_be_sent(
    serve: Serve, app_for: MakeApp, code: int | None, answered: bytes
) -> None:
    closes: list[tuple[int, bytes]] = []

    async def conversation(socket: SocketPeer) -> None:
        await socket.message()
        await socket.send(goodbye(code))
        closes.append(await socket.frame())

    wire = await serve(talking(conversation))
    async with app_for(wire).connect() as socket:
        with pytest.raises(errors.DynamiqError):
            await socket.run(INPUT).output()
    await wire.all_closed()
    assert closes == [(CLOSE, answered)]


async def test_what_comes_behind_a_close_means_nothing(serve: Serve, app_for: MakeApp) -> None:
    async def conversation(socket: SocketPeer) -> None:
        await socket.message()
        await socket.send(ONE, goodbye(1001) + TWO)
        assert (await socket.frame())[0] == CLOSE
        await socket.send(TWO, b"\x00")
        await socket.gone()

    app = app_for(await serve(talking(conversation)))
    async with app.connect() as socket:
        run = socket.run(INPUT)
        assert (await anext(run)).text == "one"
        await turns()
        with pytest.raises(errors.StreamInterruptedError, match="1001"):
            await anext(run)


# --- before a run --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pieces", "kind", "said"),
    [
        (
            (goodbye(1001, "restart"),),
            errors.ConnectError,
            "1001 .restart. before the run was sent",
        ),
        ((goodbye(4401),), errors.AuthenticationError, "4401"),
        ((text({"error": "no " + KEY}), goodbye(1008)), errors.PermissionDeniedError, "no ..."),
        ((b"\x00",), errors.ConnectError, "not sent"),
        ((), errors.ConnectError, "not sent; connect again"),
    ],
)
async def test_a_socket_that_ended_before_says_that_nothing_was_sent(
    serve: Serve, app_for: MakeApp, pieces: tuple[bytes, ...], kind: type[Exception], said: str
) -> None:
    async def conversation(socket: SocketPeer) -> None:
        await socket.send(*pieces)

    wire = await serve(talking(conversation))
    async with app_for(wire).connect() as socket:
        async with asyncio.timeout(5):
            while not socket.closed:
                await asyncio.sleep(0.001)
        with pytest.raises(kind, match=said) as caught:
            await socket.run(INPUT).output()
        assert KEY not in str(caught.value)
    assert len(wire.requests) == 1


async def test_what_comes_before_the_first_run_is_its_beginning(
    serve: Serve, app_for: MakeApp
) -> None:
    async def conversation(socket: SocketPeer) -> None:
        await socket.send(text({"hello": "there"}))
        await socket.message()
        await socket.send(ONE, END)
        await socket.gone()

    app = app_for(await serve(talking(conversation)))
    async with app.connect() as socket:
        events = [event async for event in socket.run(INPUT)]
    assert [event.data for event in events][:1] == [{"hello": "there"}]
    assert events[1].text == "one"


async def test_late_events_of_one_run_are_none_of_the_next(
    serve: Serve, app_for: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "dynamiq_async")
    late = of("wf-1", says("late")), of("wf-1", final())

    async def conversation(socket: SocketPeer) -> None:
        await socket.message()
        await socket.send(ONE, END, *late, text(says("nameless")))
        opcode, fence = await socket.frame()
        assert opcode == PING
        await socket.send(
            *late, frame(PONG), frame(PONG, b"unasked"), *late, *(3 * [frame(PONG, fence)])
        )
        await socket.message()
        await socket.send(of("wf-2", says("two")), *late, of(None, says("no id")))
        await socket.send(of("wf-9", says("a stranger's")), of("wf-2", final()))
        await socket.gone()

    app = app_for(await serve(talking(conversation)))
    async with app.connect() as socket:
        assert [event.text async for event in socket.run(INPUT)] == ["one", ""]
        await turns()
        run = socket.run(INPUT)
        assert [event.text async for event in run] == ["two", "no id", ""]
        assert run.run_id == "wf-2"
    told = [r for r in caplog.records if "passed over" in r.getMessage()]
    assert {fields(record)["run_id"] for record in told} == {"wf-1", "wf-9"}


async def test_a_server_may_use_one_id_for_all_its_runs(serve: Serve, app_for: MakeApp) -> None:
    async def conversation(socket: SocketPeer) -> None:
        for _ in range(3):
            await socket.message()
            await socket.send(ONE, TWO, END)
        await socket.gone()

    app = app_for(await serve(talking(conversation)))
    async with app.connect() as socket:
        for _ in range(3):
            assert [event.text async for event in socket.run(INPUT)] == ["one", "two", ""]


# --- one run at a time ---------------------------------------------------------------------------


async def test_one_run_at_a_time(serve: Serve, app_for: MakeApp) -> None:
    wire = await serve(saying(ONE))
    async with app_for(wire).connect() as socket:
        first = socket.run(INPUT)
        assert (await anext(first)).text == "one"
        with pytest.raises(errors.StreamError, match="read it to its end first"):
            await socket.run(INPUT).output()
        assert not socket.closed
        assert not first.closed
        waiting = asyncio.ensure_future(anext(first))
        await turns()
        with pytest.raises(errors.StreamError, match="another task"):
            await anext(first)
        await first.aclose()
        with pytest.raises(errors.StreamClosedError):
            await waiting


async def test_one_task_opens(serve: Serve, app_for: MakeApp) -> None:
    async def silent(peer: Peer) -> None:
        await peer.gone()

    wire = await serve(silent)
    socket = app_for(wire).connect()
    opening = asyncio.ensure_future(socket.open())
    await wire.asked()
    with pytest.raises(errors.StreamError, match="another task is opening"):
        await socket.open()
    await socket.aclose()
    with pytest.raises(errors.StreamClosedError):
        await opening


# --- messages ------------------------------------------------------------------------------------


async def test_whatever_is_json_comes_through(serve: Serve, app_for: MakeApp) -> None:
    odd = says("x")
    odd["wf_run_id"] = None
    lone = text(odd).replace(b'"x"', b'"\\ud83d!"')[2:]
    pieces = [
        frame(BINARY, text(says("binary"))[4:]),
        frame(TEXT, lone[2:]),
        frame(TEXT, text(says("\N{BLACK CIRCLE}"))[4:].replace(b"\xe2\x97\x8f", b"\xe2\x97")),
        text({"type": "unknown", "n": 1}),
        text([1, 2]),
        text(b""),
        text({**says("more"), "new": {"field": 1}}),
    ]
    wire = await serve(saying(*pieces, END))
    async with app_for(wire).connect() as socket:
        events = [event async for event in socket.run(INPUT)]
    texts = [event.text for event in events]
    assert texts == ["binary", "\ufffd!", "\ufffd", "", "", "more", ""]
    assert events[3].data == {"type": "unknown", "n": 1}
    assert events[4].data == [1, 2]


async def test_a_broken_message_raises_behind_what_was_good(serve: Serve, app_for: MakeApp) -> None:
    wire = await serve(saying(ONE, text(b"{" + KEY.encode()), TWO, END))
    async with app_for(wire).connect() as socket:
        run = socket.run(INPUT)
        assert (await anext(run)).text == "one"
        with pytest.raises(errors.EventDecodeError) as caught:
            await anext(run)
        assert KEY.encode() not in caught.value.data
        assert caught.value.run_id == "wf-1"
    wire = await serve(saying(text(b"{")))
    async with app_for(wire).connect() as socket:
        with pytest.raises(errors.EventDecodeError):
            await anext(socket.run(INPUT))


async def test_a_broken_message_can_be_passed_on(serve: Serve, app_for: MakeApp) -> None:
    wire = await serve(saying(ONE, text(b"{"), TWO, END))
    async with app_for(wire).connect() as socket:
        events = [event async for event in socket.run(INPUT, on_bad_event="pass")]
    assert [type(event) for event in events].count(BrokenEvent) == 1
    assert events[1].data == "{"


@pytest.mark.parametrize(
    ("arguments", "argument"),
    [
        ({"input": 5}, "input"),
        ({"input": {"x": float("nan")}}, "input"),
        ({"input": {}, "on_bad_event": "ignore"}, "on_bad_event"),
        ({"input": {}, "extra_body": 5}, "extra_body"),
        ({"input": {}, "extra_body": {"x": object()}}, "extra_body"),
        ({"input": {}, "timeout": -1}, "timeout"),
    ],
)
async def test_bad_arguments_are_found_before_anything_is_sent(
    app_for: MakeApp, arguments: dict[str, Any], argument: str
) -> None:
    with pytest.raises(errors.InvalidArgumentError) as caught:
        app_for("http://127.0.0.1:9").connect().run(**arguments)
    assert caught.value.argument == argument


def test_so_are_those_of_connect_and_of_the_protocol(app_for: MakeApp) -> None:
    with pytest.raises(errors.InvalidArgumentError):
        app_for("http://127.0.0.1:9").connect(heartbeat=0)
    with pytest.raises(errors.InvalidArgumentError):
        SocketProtocol(data="all")  # type: ignore[arg-type]


async def test_a_protocol_of_one_s_own_decides_everything(serve: Serve, app_for: MakeApp) -> None:
    heard: list[Any] = []

    class Mine(SocketProtocol):
        def start(self, request: dict[str, Any]) -> Any:
            return {"go": request["input"]}

        def answer(self, asked: StreamEvent, content: str, answers: Any) -> Any:
            return {"said": content, "more": answers}

        def read(self, message: bytes) -> StreamEvent | None:
            return None if message == b"tick" else super().read(message)

        def ends_run(self, event: StreamEvent) -> bool:
            return event.event == "done"

    async def conversation(socket: SocketPeer) -> None:
        heard.append(await socket.message())
        await socket.send(text(b"tick"), END, QUESTION)
        heard.append(await socket.message())
        await socket.send(text({**says(""), "event": "done", "data": {"result": 7}}))
        await socket.gone()

    app = app_for(await serve(talking(conversation)))
    async with app.connect(protocol=Mine()) as socket:
        run = socket.run(INPUT)
        async for event in run:
            if event.question:
                await socket.answer(event, "yes", answers=[{"question_id": "1"}])
        assert await run.output() == {"result": 7}
    assert heard == [{"go": INPUT}, {"said": "yes", "more": [{"question_id": "1"}]}]


async def test_answers_are_what_the_library_takes(serve: Serve, app_for: MakeApp) -> None:
    heard: list[Any] = []
    approval = {"template": "?", "data": {"to": "ann"}, "mutable_data_params": ["to"]}

    async def conversation(socket: SocketPeer) -> None:
        heard.append(await socket.message())
        for asked in ({"request_id": None}, {"request_id": "r1"}):
            await socket.send(
                text({**says(""), "event": "approval", "data": {**approval, **asked}})
            )
            heard.append(await socket.message())
        await socket.send(QUESTION)
        heard.append(await socket.message())
        await socket.send(END)
        await socket.gone()

    app = app_for(await serve(talking(conversation)))
    async with app.connect() as socket:
        async for event in socket.run(INPUT, user_id="u", extra_body={"more": 1}):
            if event.question and event.event == "data":
                await socket.answer(event, "fine", answers=[{"question_id": "1"}])
            elif event.question and event.data["request_id"] is None:
                await socket.approve(event, {"to": "bob"})
            elif event.question:
                await socket.reject(event, "no")
    where = {"wf_run_id": "wf-1", "entity_id": "agent-1", "event": "approval"}
    assert heard == [
        {
            "entity_id": None,
            "data": {"input": INPUT, "stream": True, "user_id": "u", "more": 1},
        },
        {**where, "data": {"is_approved": True, "data": {"to": "bob"}}},
        {**where, "data": {"is_approved": False, "feedback": "no", "request_id": "r1"}},
        {
            **where,
            "event": "data",
            "data": {"content": "fine", "answers": [{"question_id": "1"}]},
        },
    ]


async def test_a_question_without_a_run_s_id_is_answered_as_it_was_asked(
    serve: Serve, app_for: MakeApp
) -> None:
    heard: list[Any] = []

    async def conversation(socket: SocketPeer) -> None:
        await socket.message()
        await socket.send(ONE, of(None, {**says(""), "data": {"prompt": "?", "action": "ask"}}))
        heard.append(await socket.message())
        await socket.send(END)
        await socket.gone()

    app = app_for(await serve(talking(conversation)))
    async with app.connect() as socket:
        async for event in socket.run(INPUT):
            if event.question:
                await socket.answer(event, "yes")
    assert heard[0]["wf_run_id"] is None


async def test_an_answer_that_nobody_takes_is_an_error(serve: Serve, app_for: MakeApp) -> None:
    async def conversation(socket: SocketPeer) -> None:
        await socket.message()
        await socket.send(QUESTION, goodbye(1001))
        await socket.gone()

    app = app_for(await serve(talking(conversation)))
    async with app.connect() as socket:
        run = socket.run(INPUT)
        event = await anext(run)
        while not socket.closed:
            await asyncio.sleep(0)
        with pytest.raises(errors.StreamInterruptedError):
            await socket.answer(event, "too late")
        await run.aclose()
        with pytest.raises(errors.StreamClosedError):
            await socket.answer(event, "much too late")
        with pytest.raises(errors.StreamClosedError):
            await socket.send({})


async def test_an_answer_on_a_broken_connection_is_one_too(serve: Serve, app_for: MakeApp) -> None:
    wire = await serve(saying(QUESTION, stay=False))
    async with app_for(wire).connect() as socket:
        run = socket.run(INPUT)
        event = await anext(run)
        while not socket.closed:
            await asyncio.sleep(0)
        with pytest.raises(errors.APIConnectionError):
            await socket.answer(event, "too late")
