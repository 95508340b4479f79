"""The views of a root stream's events, against recorded streams and against odd shapes."""

from __future__ import annotations

import json
import pickle
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from dynamiq_async import Question, StreamEvent, ToolCall, Usage, _json
from dynamiq_async.errors import EventDecodeError
from dynamiq_async.events.app_events import (
    ERROR_EVENT,
    WORKFLOW_TYPE,
    BrokenEvent,
    Source,
    stream_event,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    Capture = Callable[[str], list[StreamEvent]]

CAPTURES = ["01", "01b", "02", "04", "05", "06", "06c", "07", "07b", "08", "09", "11", "12"]
VIEWS = [
    name
    for name, value in vars(StreamEvent).items()
    if isinstance(value, property) and name != "data"
]
ANSWER = "Done, the customer is on the pro tier and has two open tickets."


def event(data: Any, **envelope: Any) -> StreamEvent:
    """An event as it is decoded from the wire."""
    message = {"run_id": None, "wf_run_id": "w", "entity_id": "n", "data": data, **envelope}
    return msgspec.json.decode(json.dumps(message), type=StreamEvent)


def final(data: Any) -> StreamEvent:
    return event(data, event="streaming", source={"id": "wf", "type": WORKFLOW_TYPE})


def chunk(content: Any, **delta: Any) -> StreamEvent:
    return event({"choices": [{"delta": {"content": content, **delta}}]}, event="data")


def text(events: list[StreamEvent]) -> str:
    return "".join(e.text for e in events)


# --- recorded streams ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", CAPTURES)
def test_every_recorded_stream_has_one_final_event_and_it_is_the_last(
    capture: Capture, name: str
) -> None:
    events = capture(name)
    assert [e.is_final for e in events] == [False] * (len(events) - 1) + [True]
    assert len({e.wf_run_id for e in events}) == 1
    assert events[-1].event == "streaming"
    assert events[-1].text == ""
    for e in events:
        assert all(isinstance(getattr(e, view), str) for view in ("text", "reasoning"))
        assert not (e.text and e.reasoning)
        assert not (e.reasoning and e.thought)


@pytest.mark.parametrize("name", CAPTURES)
def test_data_is_what_arrived(capture: Capture, name: str) -> None:
    for e in capture(name):
        assert e.data == json.loads(bytes(e.raw_data))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("01", "Hello from the stub. You said: Say hello to Ann"),
        ("01b", "Hello from the stub. You said: Say hello to Ann"),
        ("02", ANSWER),
        ("04", ANSWER),
        ("06", "Hello from the stub. You said: ok"),
        ("06c", ""),
        ("07", ""),
        ("08", ANSWER),
        ("09", ""),
        ("11", "Hello from the stub. You said: hi Ann"),
        ("12", ""),
    ],
)
def test_text_is_the_readers_answer_and_nothing_else(
    capture: Capture, name: str, expected: str
) -> None:
    assert text(capture(name)) == expected


def test_parallel_nodes_are_told_apart_by_their_entity_id(capture: Capture) -> None:
    texts: dict[str | None, str] = defaultdict(str)
    for e in capture("05"):
        texts[e.entity_id] += e.text
    assert texts["llm-left"] == "Hello from the stub. You said: left go"
    assert texts["llm-right"] == "Hello from the stub. You said: right go"
    assert {e.event for e in capture("05")} == {"left", "right", "streaming"}


def test_reasoning_comes_in_pieces_and_the_whole_thought_repeats_them(capture: Capture) -> None:
    events = capture("02")
    thoughts = "I should look the customer up first.\nI now have what I need from the tool.\n"
    assert "".join(e.reasoning for e in events) == thoughts
    (finished,) = [e for e in events if e.thought]
    assert finished.thought == "I should look the customer up first."
    assert (finished.text, finished.reasoning) == ("", "")


def test_a_tool_call_is_told_when_it_is_chosen_and_when_it_ran(capture: Capture) -> None:
    calls = [e.tool_call for e in capture("02") if e.tool_call is not None]
    id, name = "d0353d59-c0da-4e2e-bdd3-9af9fcadc478", "lookup-customer"
    given = {"customer_id": "customer-7421"}
    result = "{'customer_tier': 'pro', 'open_tickets': 2}"
    assert calls == [
        ToolCall(id=id, name=name, input=given, status="called"),
        ToolCall(id=id, name=name, input=given, output=result, status="completed"),
    ]
    content = next(e for e in capture("02") if e.tool_call).data["choices"][0]["delta"]["content"]
    assert content["tool"]["type"] == "dynamiq.nodes.tools.Python"
    assert content["loop_num"] == 1


def test_the_tokens_consumed_are_on_the_one_chunk_that_tells(capture: Capture) -> None:
    usages = [e.usage for e in capture("01b")]
    assert [u for u in usages if u is not None] == [
        Usage(prompt_tokens=11, completion_tokens=7, total_tokens=18, cost=5.85e-6)
    ]
    assert not any(e.usage for e in capture("01"))


@pytest.mark.parametrize("name", ["01", "01b", "11"])
def test_an_llm_says_once_why_it_stopped(capture: Capture, name: str) -> None:
    assert [e.finish_reason for e in capture(name) if e.finish_reason] == ["stop"]


@pytest.mark.parametrize("name", ["07", "07b"])
def test_an_approval_question(capture: Capture, name: str) -> None:
    first, last = capture(name)
    assert first.event == "approval"
    assert first.entity_id == "py-email"
    assert first.question == Question(
        id="",
        kind="approval",
        prompt="Send to ann@example.com?",
        params={"to": "ann@example.com", "text": "hi"},
        editable_params=["to"],
    )
    assert first.notice == ""
    assert last.question is None


def test_a_feedback_question_within_an_agents_stream(capture: Capture) -> None:
    asked = [e for e in capture("08") if e.question is not None]
    assert [(e.event, e.entity_id) for e in asked] == [("hf", "hf-1")]
    assert asked[0].question == Question(kind="feedback", prompt="Which tone do you prefer?")
    assert asked[0].data["questions"] is None


def test_information_for_a_person_is_no_question(capture: Capture) -> None:
    info, ask, _ = capture("12")
    assert (info.question, info.notice, info.text) == (None, "Working on sales", "")
    assert (ask.question, ask.notice) == (Question(kind="feedback", prompt="sales"), "")


@pytest.mark.parametrize("name", ["02", "05", "06", "07b", "09", "11"])
def test_nothing_but_a_question_is_one(capture: Capture, name: str) -> None:
    events = capture(name)[1:] if name == "07b" else capture(name)
    assert [e.question for e in events] == [None] * len(events)


@pytest.mark.parametrize("name", ["01", "02", "05", "07", "07b", "08", "11", "12"])
def test_the_final_event_of_a_success_holds_each_nodes_result(capture: Capture, name: str) -> None:
    last = capture(name)[-1]
    assert (last.error, last.canceled) == (None, False)
    nodes = last.nodes
    assert {k: n.output for k, n in nodes.items()} == {k: n["output"] for k, n in last.data.items()}
    assert {k: n.input for k, n in nodes.items()} == {k: n["input"] for k, n in last.data.items()}
    assert last.node_failures == {}


def test_a_skipped_node_says_why(capture: Capture) -> None:
    node = capture("07b")[-1].nodes["py-email"]
    assert (node.status, node.output) == ("skip", None)
    assert node.error_message == "Execution was canceled by human with feedback not now"


@pytest.mark.parametrize(("name", "culprit"), [("06", "bad"), ("06c", "OpenAI")])
def test_the_final_event_of_a_failure(capture: Capture, name: str, culprit: str) -> None:
    last = capture(name)[-1]
    assert last.error == f"Flow execution failed due to node failures: {culprit}"
    assert not last.canceled
    assert last.nodes == {}


def test_the_final_event_of_a_cancellation(capture: Capture) -> None:
    last = capture("09")[-1]
    assert last.canceled
    assert last.error == "Workflow 'capture' was canceled during execution"
    assert last.data["error"] == {"message": last.error}
    assert last.nodes == {}


def test_views_of_the_end_are_empty_elsewhere(capture: Capture) -> None:
    for e in capture("06")[:-1]:
        assert (e.error, e.canceled, e.nodes, e.node_failures) == (None, False, {}, {})


def test_source_tells_who_spoke(capture: Capture) -> None:
    first, last = capture("02")[0], capture("02")[-1]
    assert first.source == Source(
        "agent-1", "Support Agent", "agents", "dynamiq.nodes.agents.Agent"
    )
    assert last.source == Source("wf-0001", "capture", None, WORKFLOW_TYPE)


# --- shapes that the library documents and no recording holds ------------------------------------


@pytest.mark.parametrize(
    ("step", "content", "expected"),
    [
        (
            "tool_input_start",
            {"action": "search", "tool": {"name": "s"}, "loop_num": 1},
            ToolCall(id="t", name="search", status="started"),
        ),
        (
            "tool_input",
            {"action_input": '{"q": '},
            ToolCall(id="t", input='{"q": ', status="input"),
        ),
        (
            "reasoning",
            {"thought": "x", "action": "s", "action_input": {}, "loop_num": 1},
            ToolCall(id="t", name="s", input={}, status="called"),
        ),
        (
            "tool_input_error",
            {"name": "s", "error": "x", "loop_num": 1},
            ToolCall(id="t", name="s", output="x", status="failed"),
        ),
        (
            "tool",
            {"name": "s", "status": "failure", "result": "x"},
            ToolCall(id="t", name="s", output="x", status="failed"),
        ),
        (
            "tool",
            {"tool": {"name": "s"}, "status": "success", "input": {"q": 1}, "result": ["x"]},
            ToolCall(id="t", name="s", input={"q": 1}, output=["x"], status="completed"),
        ),
    ],
)
def test_the_steps_of_a_tool_call(step: str, content: dict[str, Any], expected: ToolCall) -> None:
    e = chunk({"tool_run_id": "t", **content}, step=step, source="s")
    assert e.tool_call == expected
    assert (e.text, e.reasoning) == ("", "")


def test_a_thought_that_chose_no_tool_is_no_call() -> None:
    for content in (
        {"thought": "x"},
        {"thought": "x", "action": None, "loop_num": 1},
        {"thought": "x", "action": "run_parallel", "action_input": [{}], "loop_num": 1},
    ):
        assert chunk(content, step="reasoning").tool_call is None


def test_a_workflow_can_come_through_with_failed_nodes() -> None:
    last = final(
        {
            "a": {"status": "success", "input": {}, "output": {"x": 1}},
            "b": {"status": "failure", "input": {}, "output": None, "error": {"message": "boom"}},
            "c": {"status": "undefined"},
        }
    )
    assert last.error is None
    assert list(last.node_failures) == ["b"]
    assert last.node_failures["b"].error_message == "boom"
    assert last.nodes["c"].input is None


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (None, ""),
        ("boom", "boom"),
        ({"type": "T"}, "T"),
        ({"type": "T", "message": "boom"}, "boom"),
        ({"x": 1}, "{'x': 1}"),
        (5, "5"),
    ],
)
def test_a_nodes_error_as_a_sentence(error: Any, message: str) -> None:
    assert final({"n": {"status": "failure", "error": error}}).nodes["n"].error_message == message


def test_a_status_added_later_comes_through() -> None:
    assert final({"n": {"status": "paused", "new": 1}}).nodes["n"].status == "paused"


@pytest.mark.parametrize("name", ["error", "canceled"])
def test_a_node_may_bear_the_name_of_a_failures_field(name: str) -> None:
    last = final({name: {"status": "success", "output": 1}})
    assert (last.error, last.canceled) == (None, False)
    assert last.nodes[name].output == 1


def test_one_odd_entry_does_not_cost_the_other_nodes() -> None:
    last = final({"a": {"status": "success"}, "b": {"status": None}, "c": 5, "d": None})
    assert list(last.nodes) == ["a"]
    assert last.error is None


# --- ends that say no in an unforeseen way -------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        {"error": None},
        {"error": ""},
        {"error": {"message": "m"}},
        {"error": ["m"]},
        {"canceled": True},
        {"canceled": True, "error": None},
        {"canceled": True, "error": {"message": "m", "status": "canceled"}},
        {"canceled": False, "error": "m"},
    ],
)
def test_a_failed_end_is_never_taken_for_a_success(data: dict[str, Any]) -> None:
    last = final(data)
    assert last.error
    assert last.canceled is (data.get("canceled") is True)
    assert last.nodes == {}


@pytest.mark.parametrize("data", [None, "text", 5, [], {}])
def test_an_odd_end_reports_no_failure_and_no_nodes(data: Any) -> None:
    last = final(data)
    assert last.is_final
    assert (last.error, last.canceled, last.nodes) == (None, False, {})
    assert last.data == data


@pytest.mark.parametrize(
    "data",
    [
        {"error": {"code": "bad_request", "message": "m"}},
        {"error": {"status": "500", "message": "m"}},
        {"code": "bad_request", "message": "m"},
        {"error": "m"},
        {"message": "m"},
        {},
        "m",
        None,
        [],
        0,
    ],
)
def test_an_error_event_is_final_and_always_an_error(data: Any) -> None:
    last = event(data, event=ERROR_EVENT)
    assert last.is_final
    assert last.error
    assert last.nodes == {}
    assert not last.canceled


def test_a_node_may_call_its_events_error() -> None:
    e = event({"choices": []}, event=ERROR_EVENT, source={"id": "n", "type": "x.Node"})
    assert not e.is_final
    assert e.error is None


# --- text is for the reader ----------------------------------------------------------------------


@pytest.mark.parametrize("content", [{"thought": "x"}, ["x"], None, 5, 1.5, True, {}, []])
@pytest.mark.parametrize("step", ["answer", None, "reasoning", "tool", "new_step"])
def test_text_is_never_an_object(content: Any, step: str | None) -> None:
    assert chunk(content, step=step).text == ""
    assert chunk(content).text == ""


@pytest.mark.parametrize(
    "step", ["reasoning", "tool_input_start", "tool_input", "tool_input_error", "tool", "new", ""]
)
def test_only_an_answer_is_text_where_there_are_steps(step: str) -> None:
    assert chunk("words", step=step).text == ""
    assert chunk("words", step="answer").text == "words"
    assert chunk("words", step=None).text == "words"
    assert chunk("words").text == "words"


@pytest.mark.parametrize(
    "data",
    [
        None,
        "words",
        5,
        [],
        {},
        {"choices": None},
        {"choices": {}},
        {"choices": []},
        {"choices": [None]},
        {"choices": [{}]},
        {"choices": [{"delta": None}]},
        {"choices": [{"delta": "words"}]},
        {"choices": [{"message": {"content": "words"}}]},
        {"content": "words"},
    ],
)
def test_views_are_empty_where_an_event_is_not_of_their_kind(data: Any) -> None:
    e = event(data)
    assert {view: getattr(e, view) for view in VIEWS} == {
        "text": "",
        "reasoning": "",
        "thought": "",
        "tool_call": None,
        "finish_reason": None,
        "usage": None,
        "question": None,
        "notice": "",
        "is_final": False,
        "error": None,
        "canceled": False,
        "nodes": {},
        "node_failures": {},
    }
    assert e.data == data


def test_fields_of_unforeseen_types_do_not_cost_the_text() -> None:
    e = event(
        {
            "id": 5,
            "usage": "none",
            "choices": [
                {"index": "0", "finish_reason": 7, "delta": {"content": "words", "role": []}}
            ],
        }
    )
    assert (e.text, e.usage, e.finish_reason) == ("words", None, None)
    assert chunk("words", step=5).text == ""


@pytest.mark.parametrize("step", [["tool"], {"tool": 1}, 5])
def test_a_step_of_an_unforeseen_type_is_none(step: Any) -> None:
    e = chunk({"thought": "x"}, step=step)
    assert (e.text, e.tool_call, e.thought, e.reasoning) == ("", None, "", "")


def test_fields_of_unforeseen_types_do_not_cost_the_rest_of_a_view() -> None:
    call = chunk(
        {"tool_run_id": "t", "tool": "search", "name": 5, "result": 5}, step="tool"
    ).tool_call
    assert call == ToolCall(id="t", output=5, status="completed")
    e = chunk({"thought": "t", "action": 3, "loop_num": 1.5}, step="reasoning")
    assert (e.thought, e.tool_call) == ("t", None)
    usage = event({"choices": [], "usage": {"total_tokens": 7, "cost": "free"}}).usage
    assert usage == Usage(total_tokens=7)
    node = final({"n": {"status": "success", "output": 1, "extra": {}}}).nodes["n"]
    assert node.output == 1


def test_no_question_is_lost_over_an_odd_field() -> None:
    odd = event({"template": None, "data": 5, "mutable_data_params": None})
    assert odd.question == Question(kind="approval")
    assert odd.data["data"] == 5
    assert event({"prompt": "p", "action": "ask"}).question == Question(kind="feedback", prompt="p")
    feedback = event({"prompt": None, "action": "ask", "questions": {}}).question
    assert feedback == Question(kind="feedback")
    assert event({"prompt": None, "action": "info"}).notice == ""
    many = event({"prompt": "p", "action": "ask", "questions": [{"id": "q"}], "new": 1})
    assert many.question == Question(kind="feedback", prompt="p")
    assert many.data["questions"] == [{"id": "q"}]


@pytest.mark.parametrize(
    "data",
    [
        {"result": {"mutable_data_params": []}},
        {"result": {"prompt": "p", "action": "ask"}},
        {"choices": [{"delta": {"content": '"mutable_data_params"'}}]},
        {"choices": [{"delta": {"content": {"prompt": "p", "action": "ask"}, "step": "tool"}}]},
        {"prompt": "p"},
        ["mutable_data_params"],
        "mutable_data_params",
    ],
)
def test_the_words_of_a_question_elsewhere_do_not_make_one(data: Any) -> None:
    assert event(data).question is None


def test_the_request_id_of_a_question() -> None:
    question = event({"template": "?", "mutable_data_params": [], "request_id": "r"}).question
    assert question is not None
    assert question.id == "r"


def test_a_thought_that_is_no_text_is_empty() -> None:
    assert chunk({"thought": None}, step="reasoning").reasoning == ""
    assert chunk({}, step="reasoning").reasoning == ""
    assert chunk("words", step="reasoning").reasoning == ""


# --- what no server should send ------------------------------------------------------------------


def raw(data: bytes) -> StreamEvent:
    return StreamEvent(raw_data=Raw(data), source=Source(type=WORKFLOW_TYPE))


def test_broken_characters_come_through() -> None:
    e = _json.decode(rb'{"data": {"choices": [{"delta": {"content": "a\ud83d"}}]}}', StreamEvent)
    assert e.text == "a\ufffd"
    assert e.data["choices"][0]["delta"]["content"] == "a\ufffd"
    assert raw(b'{"choices": [{"delta": {"content": "a\xff"}}]}').text == "a\ufffd"
    assert raw(rb'{"n": {"status": "failure", "error": "\ud800"}}').nodes["n"].error == "\ufffd"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"mutable_data_params": ' + b"9" * 5000 + b"}",
        b"[" * 100_000 + b"]" * 100_000,
    ],
)
def test_what_python_cannot_hold_raises_only_where_it_is_asked_for(data: bytes) -> None:
    for e in (raw(data), StreamEvent(raw_data=Raw(data))):
        for view in VIEWS:
            getattr(e, view)
        assert e.text == ""
        repr(e)
        with pytest.raises(EventDecodeError) as caught:
            _ = e.data
        assert caught.value.data == data


names = st.sampled_from(
    [
        *("choices", "delta", "content", "step", "usage", "finish_reason", "error", "canceled"),
        *("message", "status", "prompt", "action", "mutable_data_params", "thought", "loop_num"),
        *("tool", "data", "event", "source", "type", "run_id"),
    ]
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(names, children, max_size=4),
    max_leaves=8,
)
steps = st.sampled_from(["reasoning", "tool", "tool_input", "answer", None, 5, "x"])


@given(json_values, steps, st.sampled_from([WORKFLOW_TYPE, "x", None]), st.sampled_from("ed"))
def test_no_view_raises_whatever_arrives(
    data: Any, step: Any, source: str | None, name: str
) -> None:
    envelope = {
        "event": {"e": ERROR_EVENT, "d": "data"}[name],
        "source": None if source is None else {"type": source},
    }
    shapes = [data, {"choices": [{"delta": {"content": data, "step": step}}]}]
    for e in [event(shape, **envelope) for shape in _finite(shapes)]:
        for view in VIEWS:
            getattr(e, view)
        assert type(e.text) is str
        assert repr(e).startswith("StreamEvent(")


def _finite(value: Any) -> Any:
    return json.loads(json.dumps(value), parse_constant=lambda _: None)


@given(st.dictionaries(names, json_values) | json_values)
def test_any_json_becomes_an_event_and_loses_nothing(message: Any) -> None:
    message = _finite(message)
    e = stream_event(json.dumps(message).encode())
    assert e is not None
    assert e.data == (
        message["data"] if isinstance(message, dict) and "data" in message else message
    )


# --- messages that do not fit the envelope -------------------------------------------------------


@pytest.mark.parametrize("data", [b"[DONE]", b" [DONE]", b"[DONE]\n", b"", b" \n"])
def test_the_end_marker_of_other_vendors_and_an_empty_text_are_no_events(data: bytes) -> None:
    assert stream_event(data) is None


@pytest.mark.parametrize("data", [b"DONE", b"{", b"[DONE", b"[DONE] x", b"<html>", b"\xff"])
def test_what_is_not_json_raises_what_is_promised(data: bytes) -> None:
    with pytest.raises(_json.DECODE_ERRORS):
        stream_event(data)


def test_fields_that_fit_are_kept() -> None:
    message = {
        "run_id": 5,
        "wf_run_id": "w",
        "entity_id": ["n"],
        "event": "data",
        "data": {"choices": [{"delta": {"content": "words"}}]},
        "source": {"id": "s", "name": 5, "type": WORKFLOW_TYPE, "new": "x"},
        "new": 1,
    }
    e = stream_event(json.dumps(message).encode())
    assert e is not None
    assert (e.run_id, e.wf_run_id, e.entity_id, e.event) == (None, "w", None, "data")
    assert e.source == Source(id="s", type=WORKFLOW_TYPE)
    assert e.text == "words"


@pytest.mark.parametrize("message", [{"x": 1}, [1], "text", 5, None, True])
def test_a_message_without_data_is_the_data(message: Any) -> None:
    e = stream_event(json.dumps(message).encode())
    assert e is not None
    assert (e.data, e.is_final, e.error) == (message, False, None)


def test_an_error_in_place_of_an_event_is_the_error_of_the_stream() -> None:
    body = {"error": {"code": "subscription_limit_reached", "message": "m"}, "event": "x"}
    e = stream_event(json.dumps(body).encode())
    assert e is not None
    assert e.is_final
    assert e.event == ERROR_EVENT
    assert e.error == "m"
    assert e.data == body


def test_an_error_that_names_its_source_is_not_the_streams() -> None:
    e = stream_event(b'{"error": "x", "source": {"id": "n", "type": "x.Node"}}')
    assert e is not None
    assert not e.is_final


# --- events as values ----------------------------------------------------------------------------


def test_unknown_fields_of_the_envelope_are_ignored() -> None:
    assert event({"a": 1}, sequence=5, source={"id": "s", "version": 2}).source == Source("s")


def test_all_of_the_envelope_but_data_may_be_missing() -> None:
    e = msgspec.json.decode(b'{"data": null}', type=StreamEvent)
    assert (e.run_id, e.wf_run_id, e.entity_id, e.event, e.source) == (None,) * 5
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"event": "data"}', type=StreamEvent)


def test_events_are_frozen_equal_and_pickle(capture: Capture) -> None:
    for e in capture("02"):
        copy = pickle.loads(pickle.dumps(e))
        assert copy == e
        assert copy.data == e.data
    with pytest.raises(AttributeError):
        e.event = "other"  # type: ignore[misc]


def test_a_repr_is_short_and_shows_the_data() -> None:
    assert repr(event({"a": "b"}, event="data")) == (
        "StreamEvent(event='data', entity_id='n', data={\"a\": \"b\"})"
    )
    assert len(repr(event("x" * 10_000))) < 300
    assert repr(event("x" * 10_000)).endswith("…)")


def test_a_broken_event_holds_what_arrived() -> None:
    e = BrokenEvent(raw_data=Raw(b"<html>\xff"))
    assert isinstance(e, StreamEvent)
    assert e.data == "<html>\ufffd"
    assert (e.text, e.is_final, e.question, e.error) == ("", False, None, None)
    assert repr(e).startswith("BrokenEvent(")
    assert pickle.loads(pickle.dumps(e)) == e
