"""Runs, events and pages as data: what is not foreseen comes through, and everything pickles."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from dynamiq_async import (
    File,
    Page,
    Question,
    QuestionEvent,
    Run,
    RunEvent,
    ToolCall,
    Usage,
    errors,
)
from dynamiq_async._http.paging import Pagination
from dynamiq_async.emulator import Fault
from dynamiq_async.events.run_events import (
    DATA_TYPES,
    Delta,
    InputRequest,
    RunPaused,
    RunState,
    RunTool,
    ToolCallCompleted,
    run_event,
)
from tests.support.run_apps import numbers

if TYPE_CHECKING:
    from dynamiq_async.emulator import RunContext

    from .conftest import Serve


def event(type: str, data: Any = None, **more: Any) -> RunEvent:
    encoded = msgspec.json.encode({"type": type, "sequence": 1, "data": data, **more})
    return msgspec.json.decode(encoded, type=RunEvent)


@pytest.mark.parametrize(
    ("type", "data", "expected"),
    [
        ("run.started", {"id": "r", "object": "run", "status": "started", "new": 1}, RunState),
        ("run.completed", {"id": "r", "status": "completed", "output": [1]}, RunState),
        ("run.failed", {"id": "r", "status": "failed", "error": {"x": 1}}, RunState),
        ("run.canceled", {}, RunState),
        ("run.paused", {"checkpoint_id": "c"}, RunPaused),
        ("agent.reasoning.delta", {"object": "o", "delta": "hm", "iteration": 1}, Delta),
        ("agent.response.delta", {"delta": "Hi"}, Delta),
        ("agent.tool_call.completed", {"id": "t", "tool": {"name": "n"}}, ToolCallCompleted),
        ("agent.human_feedback.requested", {"id": "q", "prompt": "?"}, InputRequest),
        ("approval_request.created", {"id": "q", "params": {}}, InputRequest),
    ],
)
def test_the_data_of_a_known_type_is_its_struct(type: str, data: Any, expected: Any) -> None:
    assert DATA_TYPES[type] is expected
    decoded = event(type, data).data
    assert isinstance(decoded, expected)
    for name in set(data) & set(expected.__struct_fields__):
        if name != "tool":
            assert getattr(decoded, name) == data[name]


@pytest.mark.parametrize(
    ("type", "data"),
    [
        ("agent.brand.new", {"a": [1, None]}),
        ("agent.brand.new", None),
        ("agent.reasoning.delta", "of another shape"),
        ("agent.tool_call.completed", {"tool": "of another shape"}),
        ("run.completed", [1]),
        ("approval_request.created", {"params": "of another shape"}),
    ],
)
def test_what_is_not_foreseen_comes_through_as_it_is(type: str, data: Any) -> None:
    odd = event(type, data, new_field={"x": 1})
    assert odd.data == data
    assert (odd.text, odd.reasoning, odd.tool_call, odd.state, odd.question) == (
        "",
        "",
        None,
        None,
        None,
    )


def test_data_that_python_cannot_hold_is_an_error_only_where_it_is_looked_at() -> None:
    huge = RunEvent(type="x", sequence=1, raw_data=msgspec.Raw(b"1" * 5000))
    assert huge.text == ""
    with pytest.raises(errors.EventDecodeError) as caught:
        _ = huge.data
    assert caught.value.data == b"1" * 5000
    deep = RunEvent(type="run.started", sequence=1, raw_data=msgspec.Raw(b"[" * 5000))
    assert deep.state is None


def test_the_views() -> None:
    assert event("agent.response.delta", {"delta": "Hi"}).text == "Hi"
    assert event("agent.reasoning.delta", {"delta": "hm"}).reasoning == "hm"
    assert event("agent.reasoning.delta", {"delta": "hm"}).text == ""
    call = event(
        "agent.tool_call.completed",
        {"id": "t", "result": '{"a": 1}', "input": {}, "tool": {"name": "n", "type": "t"}},
    )
    assert call.tool_call == ToolCall(
        id="t", name="n", input={}, output={"a": 1}, status="completed"
    )
    assert call.data.tool == RunTool(name="n", type="t")
    for result in ("not JSON", [1], None):
        bare = event("agent.tool_call.completed", {"result": result}).tool_call
        assert bare == ToolCall(output=result, status="completed")
    assert event("run.failed", {"status": "failed"}).is_final
    assert not event("run.paused", {}).is_final


@pytest.mark.parametrize(
    ("type", "data", "expected"),
    [
        ("run.failed", {"error": {"message": "m"}}, "m"),
        ("run.failed", {"output": {"error": "m"}}, "m"),
        ("run.failed", {}, "no reason given"),
        ("run.failed", [], "no reason given"),
        ("run.canceled", {}, "no reason given"),
        ("run.completed", {"error": "m"}, None),
        ("run.paused", {"error": "m"}, None),
        ("new", {"error": "m"}, None),
    ],
)
def test_only_a_run_that_did_not_come_through_has_an_error(
    type: str, data: Any, expected: str | None
) -> None:
    assert event(type, data).error == expected
    assert event(type, data).canceled is (type == "run.canceled")


def test_the_nodes_of_a_run_whose_output_tells_of_them() -> None:
    nodes = {"a": {"status": "success", "output": 1}, "b": {"status": "failure", "error": "e"}}
    for type in ("run.completed", "run.failed"):
        last = event(type, {"output": nodes})
        assert {id: node.status for id, node in last.nodes.items()} == {
            "a": "success",
            "b": "failure",
        }
        assert [node.error_message for node in last.node_failures.values()] == ["e"]
    for output in ({"a": 1}, {"a": {"status": "success"}, "b": "x"}, "text", None):
        assert event("run.completed", {"output": output}).nodes == {}
    assert event("run.started", {"output": nodes}).nodes == {}


def test_any_event_may_tell_of_its_node_and_of_what_was_consumed() -> None:
    told = event("new", {"entity_id": "n", "usage": {"input_tokens": 2, "output_tokens": 3}})
    assert (told.entity_id, told.usage) == (
        "n",
        Usage(prompt_tokens=2, completion_tokens=3, total_tokens=5),
    )
    odd: list[Any] = [{}, {"entity_id": 5, "usage": 5}, [], None]
    for data in odd:
        assert (event("new", data).entity_id, event("new", data).usage) == (None, None)


@pytest.mark.parametrize(
    ("type", "data", "expected"),
    [
        ("approval_request.created", {"id": "a"}, ("a", "approval")),
        ("approval_request.created", {"request_id": "b", "type": "odd"}, ("b", "approval")),
        ("agent.human_feedback.requested", {"id": "c"}, ("c", "feedback")),
        ("agent.human_feedback.requested", {"id": "d", "type": "new"}, ("d", "new")),
        ("agent.human_feedback.requested", {}, ("", "feedback")),
    ],
)
def test_a_question_has_an_id_and_a_kind(type: str, data: Any, expected: Any) -> None:
    question = event(type, data).question
    assert question is not None
    assert (question.id, question.kind) == expected


def test_a_long_event_is_shown_shortened() -> None:
    short = event("x", {"a": 1})
    assert repr(short) == """RunEvent(sequence=1, type='x', data={"a":1})"""
    long = repr(event("x", "a" * 1000))
    assert long.endswith("…)")
    assert len(long) < 300


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'{"type": "x", "sequence": "5", "data": {"a": 1}}', (5, {"a": 1})),
        (b'{"type": "x", "sequence": 5.0, "id": null, "timestamp": null}', (5, None)),
        (b'{"type": "x", "sequence": 5, "data": "\\ud83d"}', (5, "\ufffd")),
    ],
)
def test_an_event_that_does_not_fit_to_the_letter(data: bytes, expected: Any) -> None:
    odd = run_event(data)
    assert odd is not None
    assert (odd.sequence, odd.data) == expected


@pytest.mark.parametrize(
    "data",
    [b"", b"  ", b"[DONE]", b"{}", b'{"type": "ping"}', b'{"type": "heartbeat", "data": {"t": 1}}'],
)
def test_data_that_holds_no_event(data: bytes) -> None:
    assert run_event(data) is None


@pytest.mark.parametrize(
    "data", [b"5", b'{"type": "x"}', b'{"sequence": 1}', b'{"error": 1}', b"{"]
)
def test_what_has_no_place_or_type_is_no_event(data: bytes) -> None:
    with pytest.raises((msgspec.MsgspecError, ValueError)):
        run_event(data)


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (Run(id="r", status="failed", error={"message": "why"}), "run r failed: why"),
        (Run(id="r", status="failed", output={"error": {"error": "why"}}), "run r failed: why"),
        (Run(id="r", status="failed", error="why"), "run r failed: why"),
        (Run(id="r", status="failed", error={}), "run r failed: no reason given"),
        (Run(id="r", status="failed", error=5), "run r failed: no reason given"),
        (Run(id="r", status="canceled"), "run r was canceled"),
        (Run(id="r", status="awaiting_input"), "run r is not over, it is awaiting_input"),
    ],
)
def test_a_run_says_why_it_has_no_output(run: Run, message: str) -> None:
    with pytest.raises(errors.RunError) as caught:
        run.unwrap()
    assert str(caught.value) == message
    assert caught.value.run == run
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.run, again.run_id) == (message, run, "r")


def test_an_output_is_what_was_asked_for() -> None:
    run = Run(id="r", status="completed", output={"a": "1"})
    assert run.unwrap() == {"a": "1"}
    assert run.unwrap(dict[str, str]) == {"a": "1"}
    with pytest.raises(errors.ResponseDecodeError, match="does not fit int") as caught:
        run.unwrap(int)
    assert caught.value.run_id == "r"


def test_models_are_plain_data_and_pickle() -> None:
    request = InputRequest(id="q", type="approval_request", params={"a": 1}, editable_params=["a"])
    run = Run(id="r", status="paused", input_requests=[request])
    for value in (
        request,
        run,
        File(id="f", name="a.txt", size=1),
        Page(data=[run]),
        RunState(id="r", output={"a": 1}),
        Delta(delta="x"),
        ToolCallCompleted(id="t", tool=RunTool(name="n")),
    ):
        assert pickle.loads(pickle.dumps(value)) == value
        with pytest.raises(AttributeError):
            setattr(value, "id", "other")  # noqa: B010 - which is an error to type checkers too
    one = event("agent.response.delta", {"delta": "x"}, id="e", timestamp="t")
    again = pickle.loads(pickle.dumps(one))
    assert msgspec.json.encode(again) == msgspec.json.encode(one)


async def test_a_question_event_pickles_as_the_plain_event(serve: Serve) -> None:
    served = await serve("approval")
    stream = served.app.runs.stream({})
    async for asked in stream:
        if isinstance(asked, QuestionEvent):
            again = pickle.loads(pickle.dumps(asked))
            assert type(again) is RunEvent
            assert (again.question, again.sequence) == (asked.question, asked.sequence)
            plain = pickle.loads(pickle.dumps(asked.question))
            assert type(plain) is type(again.question) is Question
            assert asked.question == plain == asked.question
            assert asked.question != 5
            assert msgspec.json.encode(asked.question) == msgspec.json.encode(plain)
            await asked.reject()


def test_a_page_goes_on_as_its_position_says() -> None:
    assert not Page(data=[1]).has_next  # without a position, it is the whole list
    assert Page(data=[1], pagination=Pagination()).has_next
    assert not Page(data=[], pagination=Pagination()).has_next


# --- from the service ----------------------------------------------------------------------------

ODD_RUN = {
    "id": "r",
    "status": "resting",
    "new": {"x": 1},
    "input": [1],
    "output": None,
    "input_requests": [{"id": "q", "type": "new_type", "new": 1}],
}


async def test_an_unknown_status_and_unknown_fields_come_through(serve: Serve) -> None:
    served = await serve()
    served.emulator.script(Fault(body={"data": ODD_RUN, "new": 1}), Fault(body={"data": [ODD_RUN]}))
    run = await served.app.runs.get("r")
    assert (run.status, run.is_terminal, run.input) == ("resting", False, [1])
    assert run.questions == [Question(id="q", kind="new_type")]
    [listed] = await served.app.runs.list()
    assert listed == run


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"data": None},
        {"data": [], "pagination": None},
        {"data": [], "pagination": []},
        {"pagination": {"page": None, "page_count": "none"}},
    ],
)
async def test_an_empty_list_may_be_written_in_many_ways(serve: Serve, body: Any) -> None:
    served = await serve()
    served.emulator.script(Fault(body=body), times=3)
    page = await served.app.runs.list()
    assert (page.data, page.has_next) == ([], False)
    assert [run async for run in served.app.runs.list()] == []
    assert [event async for event in served.app.runs.events("r")] == []


async def test_pages_without_a_count_are_read_to_the_first_empty_one(serve: Serve) -> None:
    served = await serve()
    bodies: Any = ([{"id": "a"}, {"id": "b"}], [{"id": "b"}, {"id": "c"}], [])
    served.emulator.script(*(Fault(body={"data": data, "pagination": {}}) for data in bodies))
    assert [run.id async for run in served.app.runs.list()] == ["a", "b", "c"]


async def test_stored_events_are_read_as_tolerantly_as_streamed_ones(serve: Serve) -> None:
    served = await serve()
    odd = {"type": "x", "sequence": "5", "id": None, "data": [1], "new": 1}
    served.emulator.script(Fault(body={"data": [odd]}), Fault(body={"data": [{"type": "x"}]}))
    [one] = await served.app.runs.events("r")
    assert (one.sequence, one.data) == (5, [1])
    with pytest.raises(errors.ResponseDecodeError, match="a stored event of run r is broken"):
        await served.app.runs.events("r")


async def test_a_list_of_no_events_is_refused(serve: Serve) -> None:
    served = await serve()
    served.emulator.script(Fault(body={"data": [""]}))
    with pytest.raises(errors.ResponseDecodeError):
        await served.app.runs.events("r")


async def test_unknown_events_come_through_a_stream(serve: Serve) -> None:
    async def app(input: dict[str, Any], run: RunContext) -> Any:
        await run.event("brand.new", {"deep": [{"x": None}]})
        await run.send(b'{"type": "lax", "sequence": "3", "new": 1, "data": "\\ud83d"}')
        await run.send(b"[DONE]")
        await run.send(b"{}")
        run.skip_sequence(-1)
        run.skip_sequence(-1)
        await run.event("run.completed.soon", "odd data")

    served = await serve(app)
    events = [one async for one in served.app.runs.stream({})]
    assert [(one.type, one.data) for one in events[1:-1]] == [
        ("brand.new", {"deep": [{"x": None}]}),
        ("lax", "\ufffd"),
        ("run.completed.soon", "odd data"),
    ]


async def test_the_agents_events_are_typed(serve: Serve) -> None:
    served = await serve("agent")
    stream = served.app.runs.stream({"question": "?"})
    text, thought, tools = "", "", []
    async for one in stream:
        text += one.text
        thought += one.reasoning
        if one.tool_call is not None:
            tools.append(one.tool_call)
    assert thought.startswith("I s")
    assert tools[0].name == "lookup-customer"
    assert "customer_tier" in tools[0].output
    output = await stream.output(output_type=dict[str, str])
    assert output == {"output": text}


async def test_the_events_know_better_than_a_state_that_lags(serve: Serve) -> None:
    served = await serve(numbers)
    stream = served.app.runs.stream({"end": "failed"})
    async for _ in stream:
        pass
    body = {"data": {"id": stream.run_id, "status": "started", "user_id": "ann"}}
    served.emulator.script(Fault(body=body), times=2)
    run = await stream.run()
    assert (run.status, run.user_id) == ("failed", "ann")
    with pytest.raises(errors.RunFailedError):
        await stream.output()
