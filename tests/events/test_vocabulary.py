"""One function over events is written once: it works on both wires, and over recorded streams."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from dynamiq_async import Event, Question, RunEvent, StreamEvent, ToolCall, Usage
from dynamiq_async.emulator.app.run_events import Translator
from dynamiq_async.errors import InvalidArgumentError
from dynamiq_async.events.run_events import DATA_TYPES, TERMINAL_EVENTS
from dynamiq_async.events.vocabulary import usage_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Capture = Callable[[str], list[StreamEvent]]

CAPTURES = ["01", "01b", "02", "04", "05", "06", "06c", "07", "07b", "08", "09", "11", "12"]

EMPTY: dict[str, Any] = {
    "text": "",
    "reasoning": "",
    "tool_call": None,
    "question": None,
    "usage": None,
    "error": None,
    "canceled": False,
    "is_final": False,
    "nodes": {},
    "node_failures": {},
    "entity_id": None,
}


class Story(NamedTuple):
    """What a reader makes of a stream."""

    text: str
    reasoning: str
    calls: list[ToolCall]
    questions: list[Question]
    error: str | None
    canceled: bool
    nodes: list[str]
    finals: int


def story(events: Iterable[Event]) -> Story:
    """The function that is written once."""
    text, reasoning, finals = "", "", 0
    calls: list[ToolCall] = []
    questions: list[Question] = []
    error: str | None = None
    canceled, nodes = False, list[str]()
    for event in events:
        text += event.text
        reasoning += event.reasoning
        if (call := event.tool_call) is not None and call.status in ("completed", "failed"):
            calls.append(call)
        if (question := event.question) is not None:
            questions.append(question)
        if event.is_final:
            finals += 1
            error, canceled, nodes = event.error, event.canceled, list(event.nodes)
    return Story(text, reasoning, calls, questions, error, canceled, nodes, finals)


def run_event(type: str, data: Any) -> RunEvent:
    return RunEvent(type=type, sequence=1, raw_data=Raw(msgspec.json.encode(data)))


def app_event(data: Any, **envelope: Any) -> StreamEvent:
    return msgspec.json.decode(json.dumps({"data": data, **envelope}), type=StreamEvent)


def as_run_event(event: StreamEvent, translator: Translator) -> RunEvent | None:
    """The same told by a run, the way the emulator has it."""
    data = event.data
    if event.is_final:
        status = "canceled" if event.canceled else "failed" if event.error else "completed"
        return run_event(f"run.{status}", {"id": "r", "status": status, "output": data})
    if question := event.question:
        request: dict[str, Any] = {"id": question.id, "prompt": question.prompt}
        if question.kind == "feedback":
            return run_event("agent.human_feedback.requested", request)
        request |= {"params": question.params, "editable_params": question.editable_params}
        return run_event("approval_request.created", request)
    translated = translator.translate({"event": event.event, "data": data})
    return None if translated is None else run_event(*translated)


# --- one function, two wires ---------------------------------------------------------------------


@pytest.mark.parametrize("name", CAPTURES)
def test_one_function_reads_the_same_from_both_wires(capture: Capture, name: str) -> None:
    translator, events = Translator(), capture(name)
    told = [one for event in events if (one := as_run_event(event, translator)) is not None]
    assert story(told) == story(events)
    assert story(events).finals == 1


def test_what_the_function_makes_of_an_agents_stream(capture: Capture) -> None:
    read = story(capture("02"))
    assert read.text == "Done, the customer is on the pro tier and has two open tickets."
    assert read.reasoning.startswith("I should look the customer up first.")
    assert [(call.name, call.input, call.status) for call in read.calls] == [
        ("lookup-customer", {"customer_id": "customer-7421"}, "completed")
    ]
    assert (read.error, read.canceled, read.nodes) == (None, False, ["agent-1"])


def test_what_the_function_makes_of_questions_and_of_bad_ends(capture: Capture) -> None:
    [approval] = story(capture("07")).questions
    assert (approval.kind, approval.editable_params) == ("approval", ["to"])
    [feedback] = story(capture("12")).questions
    assert (feedback.kind, feedback.prompt) == ("feedback", "sales")
    assert story(capture("06")).error == "Flow execution failed due to node failures: bad"
    ended = story(capture("09"))
    assert (ended.canceled, ended.error) == (
        True,
        "Workflow 'capture' was canceled during execution",
    )


# --- what is not there ---------------------------------------------------------------------------


def test_the_table_has_every_view() -> None:
    assert {name for name in vars(Event) if not name.startswith("_")} == {
        *EMPTY,
        "data",
        "raw",
        "raw_data",
    }


NOTHING: list[Any] = [None, {}, [], "text"]


@pytest.mark.parametrize(
    "event",
    [
        *(app_event(data) for data in NOTHING),
        *(run_event("brand.new", data) for data in NOTHING),
        *(run_event(type, "odd") for type in sorted({*DATA_TYPES} - TERMINAL_EVENTS)),
    ],
    ids=repr,
)
def test_an_absent_view_is_empty_in_the_same_way(event: Event) -> None:
    assert {view: getattr(event, view) for view in EMPTY} == EMPTY


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda children: (
        st.lists(children, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    *("delta", "id", "request_id", "type", "prompt", "params", "editable_params"),
                    *("output", "error", "message", "status", "result", "input", "tool", "name"),
                    *("usage", "entity_id", "prompt_tokens", "output_tokens", "total_tokens"),
                ]
            ),
            children,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@given(st.sampled_from([*DATA_TYPES, "brand.new"]), json_values)
def test_no_view_of_a_runs_event_raises_whatever_arrives(type: str, data: Any) -> None:
    event = run_event(type, json.loads(json.dumps(data), parse_constant=lambda _: None))
    for view in EMPTY:
        getattr(event, view)
    assert isinstance(event.text, str)
    assert event.error is None or event.is_final


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"1" * 5000, b'{"usage": ' + b"[" * 100_000])
@pytest.mark.parametrize("type", [*DATA_TYPES, "brand.new"])
def test_what_python_cannot_hold_is_empty_too(type: str, data: bytes) -> None:
    event = RunEvent(type=type, sequence=1, raw_data=Raw(data))
    shown = {view: getattr(event, view) for view in EMPTY}
    assert shown.pop("is_final") is (type in TERMINAL_EVENTS)
    assert shown.pop("canceled") is (type == "run.canceled")
    error = shown.pop("error")
    assert (error is None) is (type not in ("run.failed", "run.canceled"))
    assert shown == {view: EMPTY[view] for view in shown}


# --- the parts -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (
            {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 6, "cost": 0.5},
            Usage(prompt_tokens=2, completion_tokens=3, total_tokens=6, cost=0.5),
        ),
        (
            {"input_tokens": 2, "output_tokens": 3},
            Usage(prompt_tokens=2, completion_tokens=3, total_tokens=5),
        ),
        (
            {"input_tokens": 2, "prompt_tokens": 4, "output_tokens": "x"},
            Usage(prompt_tokens=4),
        ),
        ({"total_tokens": 0}, Usage(total_tokens=0)),
        ({}, Usage()),
        (None, None),
        ([1], None),
        (5, None),
    ],
)
def test_usage_under_either_name(told: Any, expected: Usage | None) -> None:
    assert usage_of(told) == expected
    assert app_event({"choices": [], "usage": told}).usage == expected
    assert run_event("brand.new", {"usage": told}).usage == expected


def test_usage_adds_up_and_what_nobody_told_stays_unknown() -> None:
    one, other = Usage(prompt_tokens=1, total_tokens=3), Usage(prompt_tokens=2, cost=0.5)
    assert one + other == Usage(prompt_tokens=3, total_tokens=3, cost=0.5)
    assert Usage() + Usage() == Usage()


def test_a_question_says_which_answer_it_takes() -> None:
    approval, feedback = (
        Question(kind="approval", editable_params=["to"]),
        Question(kind="feedback"),
    )
    approval.check_kind("approval", "request")
    feedback.check_kind("feedback", "request")
    for unknown in (Question(kind="brand_new"), Question()):
        unknown.check_kind("approval", "request")
        unknown.check_kind("feedback", "request")
    with pytest.raises(InvalidArgumentError, match=r"use approve\(\)") as caught:
        approval.check_kind("feedback", "event")
    assert caught.value.argument == "event"
    with pytest.raises(InvalidArgumentError, match=r"use answer\(\)"):
        feedback.check_kind("approval", "event")
    approval.check_params({})
    approval.check_params({"to": 1})
    with pytest.raises(InvalidArgumentError, match="a, b cannot be edited; only to can") as caught:
        approval.check_params({"b": 1, "a": 1, "to": 1})
    assert caught.value.argument == "params"
    with pytest.raises(InvalidArgumentError, match="nothing can be"):
        feedback.check_params({"a": 1})
