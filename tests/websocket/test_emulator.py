"""Runs over the emulator's WebSocket, as a user has them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import aiohttp
import msgspec
import pytest
import pytest_asyncio

from dynamiq_async import AsyncApp, errors
from dynamiq_async.emulator import Emulator, Fault, Feedback, Question, RunContext
from dynamiq_async.websocket.protocol import SocketProtocol
from tests.support.websocket_peers import goodbye

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

INPUT = {"question": "What can you do?"}


async def worker(input: dict[str, Any], run: RunContext) -> Any:
    """An App that does what its input says."""
    if "ask" in input:
        return {"answered": await run.ask(input["ask"], entity_id="hf-1", event="hf")}
    if "parts" in input:
        said = await run.ask("Which?", questions=input["parts"])
        assert isinstance(said, Feedback)
        return {"answered": said, "parts": said.answers}
    if "approve" in input:
        params = {"to": "ann@example.com", "text": "hi"}
        verdict = await run.approve("Send?", params, editable=["to"], request_id="r1")
        return {"approved": verdict.approved, "params": verdict.params, "said": verdict.feedback}
    if "inform" in input:
        await run.inform(input["inform"])
    for piece in input.get("pieces", ["It is ", "on its way."]):
        await run.text(piece, entity_id="llm-1")
    if "fail" in input:
        raise ValueError(input["fail"])
    return {"user": run.user_id, "session": run.session_id, "input": input}


@pytest_asyncio.fixture
async def emulator() -> AsyncIterator[Emulator]:
    async with Emulator(worker) as emulator:
        yield emulator


@pytest_asyncio.fixture
async def app(emulator: Emulator) -> AsyncIterator[AsyncApp]:
    async with AsyncApp(emulator.url, access_key=emulator.access_key) as app:
        yield app
        assert app._api.sender.limiter.in_flight == 0


async def test_a_run_streams_the_events_it_streams_over_http(app: AsyncApp) -> None:
    over_http = [event async for event in app.stream(INPUT)]
    async with app.connect() as socket:
        assert socket.response is not None
        assert socket.response.status == 101
        events = [event async for event in socket.run(INPUT)]
    assert [type(event) for event in events] == [type(event) for event in over_http]
    assert [event.text for event in events] == [event.text for event in over_http]
    assert [event.source for event in events] == [event.source for event in over_http]
    assert events[-1].is_final


async def test_runs_follow_one_another_on_one_connection(app: AsyncApp, emulator: Emulator) -> None:
    async with app.connect() as socket:
        ids = []
        for number in range(5):
            run = socket.run({"number": number})
            assert [piece async for piece in run.text()] == ["It is ", "on its way."]
            output = await run.output(node="node-1")
            assert output["input"] == {"number": number}
            ids.append(run.run_id)
        assert not socket.closed
    assert len(set(ids)) == 5
    assert [execution.id for execution in emulator.executions] == ids
    assert emulator.connections == 1


async def test_large_events_come_through(app: AsyncApp) -> None:
    pieces = ["x" * size for size in (100, 1000, 70_000, 1_000_000)]
    async with app.connect() as socket:
        run = socket.run({"pieces": pieces})
        assert [piece async for piece in run.text()] == pieces


async def test_output_needs_no_reading_before(app: AsyncApp) -> None:
    class Output(msgspec.Struct):
        user: str | None
        session: str | None

    async with app.connect() as socket:
        run = socket.run(INPUT, user_id="u", session_id="s")
        assert await run.output(node="node-1", output_type=Output) == Output("u", "s")


async def test_a_question_is_answered_on_the_same_socket(app: AsyncApp) -> None:
    async with app.connect() as socket:
        run = socket.run({"ask": "Which tone?"})
        async for event in run:
            if event.question:
                assert event.question.prompt == "Which tone?"
                await socket.answer(event, "friendly")
        assert await run.output(node="node-1") == {"answered": "friendly"}
        assert await socket.run(INPUT).output()


async def test_an_approval_is_given_with_changes_or_refused_with_a_remark(app: AsyncApp) -> None:
    async with app.connect() as socket:
        run = socket.run({"approve": True})
        async for event in run:
            if event.question:
                await socket.approve(event, {"to": "bob@example.com"})
        changed = {"to": "bob@example.com", "text": "hi"}
        said = {"approved": True, "params": changed, "said": None}
        assert await run.output(node="node-1") == said
        run = socket.run({"approve": True})
        async for event in run:
            if event.question:
                await socket.reject(event, "not now")
        assert (await run.output(node="node-1"))["said"] == "not now"


async def test_what_cannot_be_an_answer_is_not_sent(app: AsyncApp) -> None:
    async with app.connect() as socket:
        async for event in socket.run({"approve": True}):
            if event.question:
                with pytest.raises(errors.InvalidArgumentError, match="only to can"):
                    await socket.approve(event, {"text": "rude"})
                with pytest.raises(errors.InvalidArgumentError, match=r"approve\(\)"):
                    await socket.answer(event, "yes")
                await socket.approve(event)
            else:
                with pytest.raises(errors.InvalidArgumentError, match="question"):
                    await socket.answer(event, "yes")
        questions = []
        async for event in socket.run({"ask": "?"}):
            if event.question:
                with pytest.raises(errors.InvalidArgumentError, match=r"answer\(\)"):
                    await socket.approve(event)
                with pytest.raises(errors.InvalidArgumentError, match="content"):
                    await socket.answer(event, 5)  # type: ignore[arg-type]
                await socket.answer(event, "!")
                questions.append(event)
        [asked] = questions
        with pytest.raises(errors.QuestionError, match="not under way") as caught:
            await socket.answer(asked, "again")
        assert caught.value.run_id == asked.wf_run_id


async def test_who_only_informs_wants_no_answer(app: AsyncApp) -> None:
    async with app.connect() as socket:
        told = []
        async for event in socket.run({"inform": "halfway"}):
            if event.notice:
                told.append((event.notice, event.question))
                with pytest.raises(errors.QuestionError, match="wants no answer"):
                    await socket.answer(event, "thanks")
        assert told == [("halfway", None)]


async def test_a_failure_is_the_final_event_and_leaves_the_socket(app: AsyncApp) -> None:
    async with app.connect() as socket:
        run = socket.run({"fail": "no luck"})
        events = [event async for event in run]
        assert events[-1].error
        with pytest.raises(errors.RunFailedError) as caught:
            await run.output()
        assert caught.value.run_id == run.run_id
        assert await socket.run(INPUT).output()


async def test_what_the_app_refuses_is_the_error_it_is_over_http(app: AsyncApp) -> None:
    async with app.connect(protocol=Raw()) as socket:
        run = socket.run({"message": {"data": {"input": {}, "stream": True, "user_id": 5}}})
        with pytest.raises(errors.BadRequestError) as caught:
            await run.output()
        assert caught.value.details == {"user_id": "must be a string"}
        messages: tuple[Any, ...] = ({"data": 5}, [], "text")
        for message in messages:
            with pytest.raises(errors.BadRequestError, match="object with data"):
                await socket.run({"message": message}).output()


class Raw(SocketProtocol):
    def start(self, request: dict[str, Any]) -> Any:
        return request["input"]["message"]


async def test_the_input_alone_starts_a_run_too(app: AsyncApp, emulator: Emulator) -> None:
    protocol = SocketProtocol(data="input", entity_id="wf-7")
    async with app.connect(protocol=protocol) as socket:
        assert await socket.run(INPUT).output()
        with pytest.raises(errors.InvalidArgumentError, match="user_id"):
            socket.run(INPUT, user_id="u")
    assert emulator.executions[0].input == INPUT


async def test_a_run_may_open_the_socket_itself(app: AsyncApp, emulator: Emulator) -> None:
    socket = app.connect()
    assert emulator.connections == 0
    assert [event.text async for event in socket.run(INPUT)][:2] == ["It is ", "on its way."]
    await socket.open()  # it is
    await socket.aclose()
    await socket.aclose()
    assert socket.closed
    with pytest.raises(errors.StreamClosedError):
        await socket.run(INPUT).output()
    with pytest.raises(errors.StreamClosedError):
        await socket.open()


async def test_your_own_session_does(emulator: Emulator) -> None:
    async with aiohttp.ClientSession(headers={"X-Mine": "yes"}) as session:
        app = AsyncApp(emulator.url, access_key=emulator.access_key, session=session)
        async with app, app.connect(extra_query={"v": 2}) as socket:
            assert await socket.run(INPUT).output()
        assert not session.closed
    record = emulator.requests[0]
    assert record.headers["X-Mine"] == "yes"
    assert record.query["v"] == "2"


async def test_text_of_one_node_and_events_of_one_name(app: AsyncApp, emulator: Emulator) -> None:
    app = AsyncApp(emulator.url_for("parallel"), access_key=emulator.access_key)
    async with app, app.connect() as socket:
        events = [event async for event in socket.run(INPUT)]
        nodes = {event.entity_id for event in events if event.text}
        assert len(nodes) > 1
        node = min(node for node in nodes if node)
        expected = "".join(event.text for event in events if event.entity_id == node)
        run = socket.run(INPUT)
        assert "".join([piece async for piece in run.text(entity_id=node)]) == expected
        named = [event.event async for event in socket.run(INPUT, event="nothing")]
        assert named == ["streaming"]


@pytest.mark.parametrize("app_name", ["agent", "llm", "failing", "canceled", "echo"])
async def test_the_built_in_apps_say_the_same_as_over_http(
    emulator: Emulator, app_name: str
) -> None:
    app = AsyncApp(emulator.url_for(app_name), access_key=emulator.access_key)
    async with app, app.connect() as socket:
        over_http = [event.text async for event in app.stream(INPUT)]
        assert [event.text async for event in socket.run(INPUT)] == over_http


# --- faults --------------------------------------------------------------------------------------


async def test_faults_happen_to_the_handshake(app: AsyncApp, emulator: Emulator) -> None:
    emulator.script(Fault(status=403, executes=True), Fault(headers={"X-Odd": "1"}), Fault())
    with pytest.raises(errors.PermissionDeniedError) as caught:
        await app.connect().open()
    assert caught.value.code == "forbidden"
    async with app.connect() as socket:
        assert socket.response is not None
        assert socket.response.headers["x-odd"] == "1"
        assert socket.response.request_id == emulator.requests[1].request_id
    assert len(emulator.executions) == 0


@pytest.mark.parametrize("drop", ["close", "reset", "truncate"])
async def test_a_dropped_socket_is_an_interrupted_run(
    app: AsyncApp, emulator: Emulator, drop: Any
) -> None:
    emulator.script(Fault(after_events=1, drop=drop))
    async with app.connect() as socket:
        run = socket.run(INPUT)
        assert (await anext(run)).text == "It is "
        with pytest.raises(errors.StreamInterruptedError) as caught:
            await anext(run)
        assert caught.value.run_id == run.run_id == emulator.executions[0].id
        assert socket.closed
        with pytest.raises(errors.StreamClosedError, match="connect again"):
            await socket.run(INPUT).output()


async def test_a_fault_is_anywhere_on_the_socket(app: AsyncApp, emulator: Emulator) -> None:
    emulator.script(Fault(at_byte=0, stall=0.01, send=b"\x89\x00", write_size=7))
    async with app.connect() as socket:
        assert await socket.run(INPUT).output()
    emulator.script(Fault(after_events=4, send=goodbye(1011, "it broke"), drop="close"))
    async with app.connect() as socket:
        assert await socket.run(INPUT).output()
        run = socket.run(INPUT)
        with pytest.raises(errors.StreamInterruptedError, match=r"1011.*it broke"):
            await run.output()


async def test_events_can_be_left_out_doubled_and_swapped(
    app: AsyncApp, emulator: Emulator
) -> None:
    emulator.script(Fault(skip=[1], duplicate=[2], swap=[3]))
    async with app.connect() as socket:
        run = socket.run({"pieces": ["a", "b", "c", "d"]})
        assert [event.text async for event in run] == ["b", "b", "d", "c", ""]
    emulator.script(Fault(swap=[5]))
    async with app.connect() as socket:
        run = socket.run({"pieces": ["a", "b", "c", "d"]})
        assert [event.text async for event in run] == ["a", "b", "c", "d", ""]


# --- the emulator's own end ----------------------------------------------------------------------


async def test_who_leaves_ends_the_run(app: AsyncApp, emulator: Emulator) -> None:
    async with app.connect() as socket:
        run = socket.run({"ask": "are you there?"})
        assert (await anext(run)).question
    await emulator.wait_for_executions(1)
    assert emulator.executions[0].status == "canceled"
    await emulator.wait_until(lambda: emulator.requests[0].finished)
    assert emulator.requests[0].disconnected


async def test_who_leaves_between_runs_ends_nothing(app: AsyncApp, emulator: Emulator) -> None:
    async with app.connect() as socket:
        assert await socket.run(INPUT).output()
    await emulator.wait_until(lambda: emulator.requests[0].finished)
    assert not emulator.requests[0].disconnected
    assert emulator.requests[0].status == 101


async def test_a_get_without_an_upgrade_is_none(emulator: Emulator) -> None:
    async with aiohttp.ClientSession() as session:
        headers = {"Authorization": f"Bearer {emulator.access_key}"}
        async with session.get(emulator.url, headers=headers) as response:
            assert response.status == 405


async def test_the_quota_counts_runs_and_not_sockets() -> None:
    async with (
        Emulator(worker, quota=1) as emulator,
        AsyncApp(emulator.url, access_key=emulator.access_key) as app,
        app.connect() as socket,
    ):
        assert await socket.run(INPUT).output()
        with pytest.raises(errors.QuotaExceededError):
            await socket.run(INPUT).output()


async def test_odd_answers_are_passed_over(app: AsyncApp, emulator: Emulator) -> None:
    async with app.connect() as socket:
        async for event in socket.run({"approve": True}):
            if event.question:
                asked = {"wf_run_id": event.wf_run_id, "entity_id": event.entity_id}
                await socket.send({"wf_run_id": "another", "data": {}})
                await socket.send({**asked, "event": "other", "data": {"is_approved": True}})
                await socket.send({**asked, "event": "approval", "data": 5})
                silent = {"is_approved": True, "feedback": None}
                await socket.send({**asked, "event": "approval", "data": silent})
                question = emulator.executions[0].questions[0]
                await asyncio.sleep(0.01)
                assert question.open
                await socket.approve(event)
        async for event in socket.run({"ask": "?"}):
            if event.question:
                asked = {"wf_run_id": event.wf_run_id, "entity_id": "hf-1", "event": "hf"}
                await socket.send({**asked, "data": {"content": 5}})
                await socket.answer(event, "!")


async def test_the_librarys_own_messages_start_runs_and_answer_them(emulator: Emulator) -> None:
    """It writes all of its fields, and makes up a `wf_run_id` also for a first message."""

    def message(data: Any, **more: Any) -> dict[str, Any]:
        empty = {"run_id": None, "entity_id": None, "event": "streaming", "source": None}
        return {"wf_run_id": str(uuid4()), **empty, **more, "data": data}

    headers = {"Authorization": f"Bearer {emulator.access_key}"}
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(emulator.url, headers=headers) as socket,
    ):
        for _ in range(3):
            await socket.send_json(message({"stream": True, "input": {"ask": "?"}}))
            asked = await socket.receive_json()
            late = message({"content": "nobody"}, wf_run_id=str(uuid4()), entity_id="hf-1")
            await socket.send_json({**late, "event": "hf"})  # while a run is under way: no start
            await socket.send_json({**asked, "data": {"content": "yes"}})
            last = await socket.receive_json()
            assert last["data"]["node-1"]["output"] == {"answered": "yes"}
            await socket.send_json({**asked, "data": {"content": "too late"}})
        await socket.send_json(message(INPUT, wf_run_id=5))
        assert (await socket.receive_json())["event"] == "data"
    assert [execution.input for execution in emulator.executions] == [{"ask": "?"}] * 3 + [INPUT]


async def test_an_answer_may_name_the_run_that_the_question_named(emulator: Emulator) -> None:
    async def app(input: dict[str, Any], run: RunContext) -> Any:
        data = {"prompt": "?", "action": "ask", "questions": None}
        asked = {"wf_run_id": "their-own", "entity_id": "hf", "event": "streaming", "data": data}
        return await run.question(Question(message={**asked, "run_id": None, "source": None}))

    async with Emulator(app) as other, aiohttp.ClientSession() as session:
        headers = {"Authorization": f"Bearer {other.access_key}"}
        async with session.ws_connect(other.url, headers=headers) as socket:
            await socket.send_json({"data": {"input": {}}})
            asked = await socket.receive_json()
            reply = {"wf_run_id": asked["wf_run_id"], "entity_id": "hf"}
            await socket.send_json({**reply, "data": {"content": "!"}})  # the event has a default
            assert (await socket.receive_json())["data"]["node-1"]["output"] == "!"
            await socket.send_json({**reply, "data": {"content": "late"}})
            await socket.send_json({"data": {"input": {}}})
            assert (await socket.receive_json())["data"] == asked["data"]
    assert len(other.executions) == 2


async def test_answers_to_the_parts_of_a_question_reach_the_app(app: AsyncApp) -> None:
    async with app.connect() as socket:
        run = socket.run({"parts": [{"question": "Scope?", "options": []}]})
        answers = [{"question_id": "0", "selected": ["Q1"], "custom_text": None}]
        async for event in run:
            if event.question:
                assert event.data["questions"] == [{"question": "Scope?", "options": []}]
                await socket.answer(event, "", answers=answers)
        assert await run.output(node="node-1") == {"answered": "", "parts": answers}


async def test_a_request_id_is_as_strict_as_the_librarys(app: AsyncApp, emulator: Emulator) -> None:
    async with app.connect() as socket:
        async for event in socket.run({"approve": True}):
            if event.question:
                assert event.data["request_id"] == "r1"
                asked = {"wf_run_id": event.wf_run_id, "entity_id": event.entity_id}
                for data in ({"is_approved": True}, {"is_approved": True, "request_id": "r2"}):
                    await socket.send({**asked, "event": "approval", "data": data})
                await asyncio.sleep(0.01)
                assert emulator.executions[0].questions[0].open
                await socket.approve(event)


async def test_messages_that_are_no_json_are_refused(emulator: Emulator) -> None:
    async with aiohttp.ClientSession() as session:
        headers = {"Authorization": f"Bearer {emulator.access_key}"}
        async with session.ws_connect(emulator.url, headers=headers) as socket:
            await socket.send_str("{")
            assert "malformed JSON" in (await socket.receive_json())["error"]["message"]
            await socket.send_bytes(b'{"data": {"question": "hi"}}')
            assert (await socket.receive_json())["event"] == "data"
