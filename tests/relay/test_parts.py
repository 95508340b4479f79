"""The formats of frontends: what each event becomes, and that every way to end is accepted."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamiq_async import RunEvent, StreamEvent, errors
from dynamiq_async.relay.formats import AGUI, Context, Problem, UIMessageStream
from dynamiq_async.relay.problems import ENDS
from tests.support.frontends import AGUIReader, UIReader, data_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from dynamiq_async.relay.formats.parts import PartsFormat

LOST = Problem(502, "interrupted", "The connection broke before the end.")
RUN = "run-1"
each_wire = pytest.mark.parametrize("make", [UIMessageStream, AGUI], ids=["ui", "ag-ui"])


def context(*, of_run: bool = True, run_id: str | None = RUN) -> Context:
    upstream = SimpleNamespace(
        start=None,
        restarts=not of_run,
        of_run=of_run,
        run_id=run_id,
        end=None,
        position_of=lambda event: f"{run_id}:{event.sequence}",
    )
    return Context(cast("Any", upstream), heartbeat=None, retry=None)


class Driven:
    """A format that is given events as a relay does it."""

    def __init__(self, format: PartsFormat, known: Context | None = None) -> None:
        self.format = format
        self.context = known or context()
        self.body = format.opening(self.context)

    def take(self, *events: Any) -> Driven:
        self.body += self.format.run_known()
        for event in events:
            self.context.event = event
            self.body += self.format.event(event)
        return self

    def end(self, how: Any) -> bytes:
        if self.format.complete:
            return self.body
        if isinstance(how, Problem):
            return self.body + self.format.failure(how, None)
        self.context.ended = True
        return self.body + self.format.end(how)


def run_event(sequence: int, type: str, **data: Any) -> RunEvent:
    raw = msgspec.Raw(msgspec.json.encode(data))
    return RunEvent(type=type, sequence=sequence, raw_data=raw)


def said(sequence: int, text: str, node: str | None = None) -> RunEvent:
    more = {} if node is None else {"entity_id": node}
    return run_event(sequence, "agent.response.delta", delta=text, **more)


def thought(sequence: int, text: str) -> RunEvent:
    return run_event(sequence, "agent.reasoning.delta", delta=text)


def asks(sequence: int, id: str = "q", editable: tuple[str, ...] = ()) -> RunEvent:
    return run_event(
        sequence,
        "approval_request.created",
        id=id,
        prompt="Send?",
        params={"to": "ann"},
        editable_params=list(editable),
    )


def asks_text(sequence: int, id: str = "q") -> RunEvent:
    return run_event(sequence, "agent.human_feedback.requested", id=id, prompt="Who?")


def stream_event(node: str, data: Any) -> StreamEvent:
    return StreamEvent(entity_id=node, raw_data=msgspec.Raw(msgspec.json.encode(data)))


def step(node: str, step: str | None, content: Any, **more: Any) -> StreamEvent:
    delta = {"content": content} | ({} if step is None else {"step": step})
    return stream_event(node, {"choices": [{"delta": delta}], **more})


def ui(body: bytes, version: int = 6) -> list[Any]:
    return UIReader(version).read(body).chunks


def kinds(body: bytes) -> list[str]:
    return [msgspec.json.decode(data)["type"] for data in data_of(body) if data != b"[DONE]"]


# --- every prefix ------------------------------------------------------------------------------

SHORT = st.sampled_from(["a", "b\n", "ü\u2028", '"'])
NODES = st.sampled_from(["n1", "n2"])
TOOLS = st.sampled_from(["", "t1", "t2"])


@st.composite
def root_events(draw: st.DrawFn) -> StreamEvent:
    node, text, id = draw(NODES), draw(SHORT), draw(TOOLS)
    tool = {"tool_run_id": id, "name": "find"}
    whole = {"thought": text, "loop_num": 1, "action": "find", "tool_run_id": id}
    usage = {"prompt_tokens": 1, "completion_tokens": 2}
    data: list[tuple[str | None, Any]] = [
        (None, text),
        ("answer", text),
        ("reasoning", {"thought": text}),
        ("reasoning", whole),
        ("tool_input_start", {**tool, "action": "find"}),
        ("tool_input", {**tool, "action_input": text}),
        ("tool", {**tool, "input": {"a": 1}, "result": text, "status": "success"}),
        ("tool", {**tool, "result": text, "status": "failure"}),
        ("tool_input_error", {**tool, "error": text}),
        ("unknown", {}),
    ]
    asked = {"template": text, "data": {}, "mutable_data_params": []}
    if draw(st.integers(0, 12)) == 0:
        return stream_event(node, asked)
    kind, content = draw(st.sampled_from(data))
    return step(node, kind, content, usage=draw(st.sampled_from([None, usage])))


@st.composite
def run_events(draw: st.DrawFn) -> list[RunEvent]:
    events = [run_event(1, "run.started", id=RUN, status="started")]
    for sequence in range(2, draw(st.integers(2, 14))):
        text, id, node = draw(SHORT), draw(TOOLS), draw(st.sampled_from([None, "n1", "n2"]))
        tool = {"id": id, "input": {"a": 1}, "result": "1", "tool": {"name": "find"}}
        usage = {"input_tokens": 1}
        events.append(
            draw(
                st.sampled_from(
                    [
                        said(sequence, text, node),
                        thought(sequence, text),
                        run_event(sequence, "agent.tool_call.completed", usage=usage, **tool),
                        asks(sequence, id),
                        asks_text(sequence, id),
                        run_event(sequence, "run.approval_request.confirmed", request_id=id),
                        run_event(sequence, "run.approval_request.rejected", request_id=id),
                        run_event(
                            sequence, "run.human_feedback.received", request_id=id, feedback="x"
                        ),
                        run_event(sequence, "custom", x=1),
                    ]
                )
            )
        )
    return events


ENDINGS = st.sampled_from(["completed", "failed", "canceled", LOST])


def read_ui(version: int, events: list[Any], how: Any, known: Context, **options: Any) -> None:
    for count in range(len(events) + 1):
        format = UIMessageStream(sdk_version=cast("Any", version), **options)
        body = Driven(format, known_like(known)).take(*events[:count]).end(how)
        behind = options.get("behind")
        earlier = waiting(events[:count], behind) if behind is not None else []
        assert UIReader(version, earlier).read(body).wholly


def waiting(events: list[RunEvent], behind: int) -> list[dict[str, Any]]:
    """The tool parts that the page has of what was sent before."""
    asked = [e.sequence for e in events if e.question is not None and e.sequence <= behind]
    return [{"type": "dynamic-tool", "id": f"{RUN}:{n}", "state": "waits"} for n in asked]


def known_like(known: Context) -> Context:
    again = context(of_run=known.of_run, run_id=known.run_id)
    again.answered = known.answered
    return again


@given(st.lists(root_events(), max_size=12), ENDINGS, st.sampled_from([5, 6, 7]), st.booleans())
@settings(max_examples=60, deadline=None)
def test_every_prefix_of_a_root_stream_ends_well_for_usechat(
    events: list[StreamEvent], how: Any, version: int, unknown: bool
) -> None:
    known = context(of_run=False, run_id=None)
    read_ui(version, events, how, known, unknown_events=unknown)


@given(run_events(), st.sets(st.integers(2, 14)), ENDINGS, st.sampled_from([5, 6, 7]), st.data())
@settings(max_examples=80, deadline=None)
def test_every_prefix_of_a_runs_stream_ends_well_for_usechat(
    events: list[RunEvent], answered: set[int], how: Any, version: int, data: st.DataObject
) -> None:
    known = context()
    known.answered = answered
    behind = data.draw(st.sampled_from([None, *range(2, len(events) + 1)]))
    read_ui(version, events, how, known, behind=behind)


def read_ag_ui(is_new: bool, events: list[Any], how: Any, known: Context, **options: Any) -> None:
    for count in range(len(events) + 1):
        format = AGUI(protocol_version="1.0" if is_new else None, **options)
        body = Driven(format, known_like(known)).take(*events[:count]).end(how)
        assert AGUIReader(is_new=is_new).read(body).wholly


@given(st.lists(root_events(), max_size=12), ENDINGS, st.booleans(), st.booleans())
@settings(max_examples=60, deadline=None)
def test_every_prefix_of_a_root_stream_ends_well_for_ag_ui(
    events: list[StreamEvent], how: Any, is_new: bool, unknown: bool
) -> None:
    read_ag_ui(is_new, events, how, context(of_run=False), unknown_events=unknown)


@given(run_events(), st.sets(st.integers(2, 14)), ENDINGS, st.booleans(), st.data())
@settings(max_examples=80, deadline=None)
def test_every_prefix_of_a_runs_stream_ends_well_for_ag_ui(
    events: list[RunEvent], answered: set[int], how: Any, is_new: bool, data: st.DataObject
) -> None:
    known = context()
    known.answered = answered
    behind = data.draw(st.sampled_from([None, *range(2, len(events) + 1)]))
    read_ag_ui(is_new, events, how, known, behind=behind)


@given(run_events())
@settings(max_examples=40, deadline=None)
def test_a_message_in_two_responses_equals_its_replay(events: list[RunEvent]) -> None:
    """The first response ends at a question, the second continues behind it; a replay that knows
    that it was answered has the same parts, and so has the page."""
    asked = next((e.sequence for e in events if e.question is not None), None)
    if asked is None:
        return
    everything = set(range(asked, len(events) + 1))
    known = context()
    first = Driven(UIMessageStream(sdk_version=7), known).take(*events).end("completed")
    known = context()
    known.answered = everything
    second = Driven(UIMessageStream(sdk_version=7, behind=asked), known)
    both = UIReader(7).read(first)
    again = UIReader(7, both.parts).read(second.take(*events).end("completed"))
    known = context()
    known.answered = everything
    replay = Driven(UIMessageStream(sdk_version=7), known).take(*events).end("completed")
    assert UIReader(7).read(replay).parts == again.parts


# --- the table ---------------------------------------------------------------------------------


def test_parts_of_parallel_nodes_are_kept_apart_and_keep_their_ids() -> None:
    events = [
        said(2, "l1", "left"),
        said(3, "r1", "right"),
        said(4, "l2", "left"),
        said(5, "r2", "right"),
    ]
    one = Driven(UIMessageStream()).take(*events).end("completed")
    assert one == Driven(UIMessageStream()).take(*events).end("completed")
    texts = [part["text"] for part in UIReader().read(one).parts if part["type"] == "text"]
    assert texts == ["l1l2", "r1r2"]
    other = AGUIReader().read(Driven(AGUI()).take(*events).end("completed"))
    assert sorted(other.texts.values()) == ["l1l2", "r1r2"]
    assert all(id.startswith(f"run-{RUN}-") for id in other.texts)


def test_a_thought_a_tool_and_an_answer_follow_each_other() -> None:
    tool = {"tool_run_id": "t", "name": "find"}
    events = [
        step("a", "reasoning", {"thought": "I look "}),
        step("a", "reasoning", {"thought": "it up."}),
        step("a", "tool_input_start", {"tool_run_id": "t", "action": "find"}),
        step("a", "tool_input", {"tool_run_id": "t", "action_input": '{"id":'}),
        step("a", "tool_input", {"tool_run_id": "t", "action_input": "7}"}),
        step(
            "a",
            "reasoning",
            {
                "thought": "I look it up.",
                "loop_num": 1,
                **tool,
                "action": "find",
                "action_input": {"id": 7},
            },
        ),
        step("a", "tool", {**tool, "input": {"id": 7}, "result": {"x": 1}, "status": "success"}),
        step("a", "answer", "Here."),
    ]
    body = Driven(UIMessageStream(), context(of_run=False)).take(*events).end("completed")
    parts = UIReader().read(body).parts
    assert parts == [
        {"type": "step-start"},
        {"type": "reasoning", "text": "I look it up.", "state": "done"},
        {
            "type": "dynamic-tool",
            "id": "t",
            "name": "find",
            "own": True,
            "input": {"id": 7},
            "output": {"x": 1},
            "state": "output-available",
        },
        {"type": "text", "text": "Here.", "state": "done"},
    ]
    known = context(of_run=False)
    read = AGUIReader().read(
        Driven(AGUI(run_id="r", thread_id="t"), known).take(*events).end("completed")
    )
    assert read.texts == {
        "run-r-reasoning-1": "I look it up.",
        "run-r-t": '{"id":7}',
        "run-r-text-3": "Here.",
    }
    [result] = [event for event in read.events if event["type"] == "TOOL_CALL_RESULT"]
    assert result["content"] == '{"x":1}'


def test_a_thought_that_came_only_whole_is_told() -> None:
    whole = step("a", "reasoning", {"thought": "Hm.", "loop_num": 1})
    body = Driven(UIMessageStream(), context(of_run=False)).take(whole, whole).end("completed")
    parts = UIReader().read(body).parts[1:]
    assert [part["text"] for part in parts] == ["Hm.", "Hm."]


@each_wire
def test_what_a_tool_says_of_its_failure_stays_here(make: Callable[..., PartsFormat]) -> None:
    tool = {"tool_run_id": "t", "name": "find", "error": "no route to 10.0.0.7"}
    events = [
        step("a", "tool_input_error", tool),
        step("a", "tool", {**tool, "result": "10.0.0.7", "status": "failure"}),
    ]
    body = Driven(make(), context(of_run=False)).take(*events).end("completed")
    assert b"10.0.0.7" not in body
    assert body.count(b"The tool failed.") == 2


def test_calls_without_ids_or_with_one_that_came_before_are_calls_of_their_own() -> None:
    def done(sequence: int, id: str, result: int) -> RunEvent:
        tool = {"name": "find"}
        return run_event(
            sequence, "agent.tool_call.completed", id=id, result=str(result), tool=tool
        )

    events = [done(2, "", 1), done(3, "", 2), done(4, "t", 3), done(5, "t", 4)]
    parts = UIReader().read(Driven(UIMessageStream()).take(*events).end("completed")).parts[1:]
    assert [(part["id"], part["output"]) for part in parts] == [
        ("call-1", 1),
        ("call-2", 2),
        ("t", 3),
        ("t-4", 4),
    ]
    assert [part["input"] for part in parts] == [{}] * 4


@each_wire
def test_a_call_that_does_not_end_is_closed(make: Callable[..., PartsFormat]) -> None:
    started = step("a", "tool_input_start", {"tool_run_id": "t", "action": "find"})
    body = Driven(make(), context(of_run=False)).take(started).end("completed")
    assert b"The tool's end was not told." in body


def test_usage_is_added_up() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    events = [step("a", None, "x", usage=usage), step("b", None, None, usage=usage)]
    body = Driven(UIMessageStream(), context(of_run=False)).take(*events).end("completed")
    told = {"inputTokens": 6, "outputTokens": 8, "totalTokens": 14}
    assert ui(body)[-1]["messageMetadata"] == {"usage": told}
    body = Driven(AGUI(), context(of_run=False)).take(*events).end("completed")
    assert AGUIReader().read(body).events[-1]["usage"] == [told]


def test_how_a_run_ended_is_told() -> None:
    def last(version: int, how: Any) -> dict[str, Any]:
        format = UIMessageStream(sdk_version=cast("Any", version))
        chunk: dict[str, Any] = ui(Driven(format).take(said(2, "x")).end(how), version)[-1]
        return chunk

    assert last(6, "completed") == {"type": "finish", "finishReason": "stop"}
    assert last(5, "completed") == {"type": "finish"}
    assert last(6, "canceled") == {"type": "abort", "reason": "The run was canceled."}
    assert last(5, "canceled") == {"type": "abort"}
    assert last(6, "failed") == {"type": "error", "errorText": "The run failed."}
    assert last(6, LOST) == {"type": "error", "errorText": LOST.message}


@pytest.mark.parametrize("version", [None, "0.0.59", "1.0"])
def test_how_a_run_ended_is_told_to_each_version_of_ag_ui(version: str | None) -> None:
    is_new = version == "1.0"

    def last(how: Any, *, stopping: bool = False) -> dict[str, Any]:
        format = AGUI(thread_id="t", run_id="r", protocol_version=version)
        driven = Driven(format).take(said(2, "x"))
        driven.context.stopping = stopping
        read = AGUIReader(is_new=is_new).read(driven.end(how))
        assert read.events[0]["threadId"] == "t"
        return read.events[-1]

    ends = {"type": "RUN_FINISHED", "threadId": "t", "runId": "r"}
    assert last("completed") == {**ends, "outcome": {"type": "success"}}
    if is_new:
        assert last("canceled") == {**ends, "outcome": {"type": "cancelled"}}
    else:
        message = ENDS["canceled"].message
        assert last("canceled") == {"type": "RUN_ERROR", "message": message, "code": "cancelled"}
    assert last("failed")["code"] == "run_failed"
    assert last(LOST)["code"] == "interrupted"
    assert last(LOST, stopping=True)["code"] == "restart"


def test_the_result_has_what_came_out_of_the_nodes_and_nothing_else() -> None:
    def result(output: Any) -> Any:
        end = run_event(3, "run.completed", id=RUN, status="completed", output=output)
        body = Driven(AGUI()).take(said(2, "x"), end).end("completed")
        return AGUIReader().read(body).events[-1].get("result")

    ok = {"status": "success", "input": {"secret": 1}, "output": {"content": "x"}}
    bad = {"status": "failure", "error": {"message": "10.0.0.7"}}
    assert result({"a": ok, "b": bad}) == {"a": {"content": "x"}}
    assert result("plain") == "plain"
    assert result(None) is None
    source = {"id": "w", "type": "dynamiq.workflows.Workflow"}
    message = {"data": {"answer": 1}, "source": source}
    final = msgspec.json.decode(msgspec.json.encode(message), type=StreamEvent)
    body = Driven(AGUI(), context(of_run=False)).take(final).end("completed")
    assert AGUIReader().read(body).events[-1]["result"] == {"answer": 1}


def test_the_runs_final_event_without_a_state_has_no_result() -> None:
    end = RunEvent(type="run.completed", sequence=2, raw_data=msgspec.Raw(b"7"))
    body = Driven(AGUI()).take(end).end("completed")
    assert "result" not in AGUIReader().read(body).events[-1]


# --- questions ---------------------------------------------------------------------------------


def test_an_approval_completes_the_response() -> None:
    driven = Driven(UIMessageStream()).take(said(2, "x"), asks(3, editable=("to",)), said(4, "y"))
    assert driven.format.complete
    chunks = ui(driven.body)
    shown = {"prompt": "Send?", "params": {"to": "ann"}, "editable_params": ["to"]}
    assert chunks[-4:] == [
        {
            "type": "tool-input-available",
            "toolCallId": "run-1:3",
            "toolName": "ask_approval",
            "input": shown,
            "dynamic": True,
        },
        {"type": "tool-approval-request", "approvalId": "run-1:3", "toolCallId": "run-1:3"},
        {"type": "finish-step"},
        {"type": "finish", "finishReason": "tool-calls"},
    ]
    driven = Driven(UIMessageStream(sdk_version=5)).take(asks(3))
    assert kinds(driven.body)[-3:] == ["tool-input-available", "finish-step", "finish"]


def test_a_question_for_a_text_is_a_tool_of_the_page() -> None:
    driven = Driven(UIMessageStream()).take(asks_text(2))
    assert driven.format.complete
    [tool] = [chunk for chunk in ui(driven.body) if chunk["type"] == "tool-input-available"]
    assert tool["toolName"] == "ask_person"
    assert tool["input"] == {"prompt": "Who?"}
    assert "providerExecuted" not in tool


def test_questions_interrupt_an_ag_ui_run() -> None:
    def interrupt(event: RunEvent) -> dict[str, Any]:
        driven = Driven(AGUI(run_id="r")).take(event)
        assert driven.format.complete
        outcome = AGUIReader().read(driven.body).events[-1]["outcome"]
        assert outcome["type"] == "interrupt"
        [interrupt] = outcome["interrupts"]
        return dict(interrupt)

    asked = interrupt(asks(2))
    assert asked["id"] == "run-1:2"
    assert asked["reason"] == "tool_call"
    assert asked["message"] == "Send?"
    assert asked["toolCallId"] == "run-run-1-question-2"
    assert "editedArgs" not in asked["responseSchema"]["properties"]
    assert "editedArgs" in interrupt(asks(2, editable=("to",)))["responseSchema"]["properties"]
    asked = interrupt(asks_text(2))
    assert asked["reason"] == "input_required"
    assert asked["responseSchema"]["required"] == ["feedback"]
    assert "toolCallId" not in asked


@pytest.mark.parametrize("version", [5, 6, 7])
def test_an_answer_is_told_as_the_version_reads_it(version: Any) -> None:
    def told(end: RunEvent, asked: RunEvent) -> list[Any]:
        known = context()
        known.answered = {2}
        format = UIMessageStream(sdk_version=version)
        chunks = ui(Driven(format, known).take(asked, end).end("completed"), version)
        return [c for c in chunks if c["type"].startswith("tool-")][1 + (version > 5) :]

    yes = run_event(3, "run.approval_request.confirmed", request_id="q")
    no = run_event(3, "run.approval_request.rejected", request_id="q", feedback="too late")
    output: dict[str, Any] = {
        "type": "tool-output-available",
        "toolCallId": "run-1:2",
        "dynamic": True,
    }
    verdict: dict[str, Any] = {"type": "tool-approval-response", "approvalId": "run-1:2"}
    accepted = [{**output, "output": {"approved": True}}]
    denied: list[dict[str, Any]] = [{"type": "tool-output-denied", "toolCallId": "run-1:2"}]
    if version == 5:
        denied = [{**output, "output": {"approved": False}}]
    if version == 7:
        accepted.insert(0, {**verdict, "approved": True})
        denied.insert(0, {**verdict, "approved": False, "reason": "too late"})
    assert told(yes, asks(2)) == accepted
    assert told(no, asks(2)) == denied
    assert told(said(3, "x"), asks(2)) == [{**output, "output": {"approved": None}}]


def test_a_text_answer_is_told() -> None:
    known = context()
    known.answered = {2}
    answer = run_event(3, "run.human_feedback.received", request_id="q", feedback="Bea")
    other = run_event(4, "run.human_feedback.received", request_id="?", feedback="Bea")
    odd = run_event(5, "run.human_feedback.received")
    odd = RunEvent(type=odd.type, sequence=5, raw_data=msgspec.Raw(b"[]"))
    events = (asks_text(2), answer, other, odd)
    body = Driven(UIMessageStream(), known).take(*events).end("completed")
    [output] = [c["output"] for c in ui(body) if c["type"] == "tool-output-available"]
    assert output == "Bea"


@each_wire
def test_questions_that_cannot_be_answered_here_are_shown(
    make: Callable[..., PartsFormat],
) -> None:
    asked = {"template": "Send?", "data": {}, "mutable_data_params": [], "request_id": "q"}
    driven = Driven(make(), context(of_run=False)).take(stream_event("a", asked))
    assert not driven.format.complete
    assert b"ask_approval" in driven.end("completed")
    for run_id in (None, "run 1"):  # not known, or not to be told in an id
        driven = Driven(make(), context(run_id=run_id)).take(asks(2))
        assert not driven.format.complete
        assert b"ask_approval" in driven.end("completed")


def test_a_response_behind_an_answer_begins_there() -> None:
    events = [
        run_event(1, "run.started", id=RUN),
        said(2, "before"),
        asks(3),
        run_event(4, "run.approval_request.confirmed", request_id="q"),
        said(5, "after"),
    ]
    body = Driven(UIMessageStream(behind=3)).take(*events).end("completed")
    assert b"before" not in body
    assert kinds(body) == [
        "start",
        "start-step",
        "tool-output-available",
        "text-start",
        "text-delta",
        "text-end",
        "finish-step",
        "finish",
    ]
    body = Driven(AGUI(behind=3)).take(*events).end("completed")
    assert kinds(body)[:4] == ["RUN_STARTED", "CUSTOM", "TOOL_CALL_RESULT", "TEXT_MESSAGE_START"]
    assert b"before" not in body


# --- what else may be shown ----------------------------------------------------------------------


def test_the_run_is_told_as_soon_as_it_is_known() -> None:
    known = context(run_id=None)
    driven = Driven(UIMessageStream(), known)
    assert driven.body == b""
    cast("Any", known._upstream).run_id = RUN
    assert ui(driven.take().body)[0] == {"type": "start", "messageId": "run-run-1"}
    driven = Driven(AGUI())
    assert b'"name":"dynamiq.run","value":{"run":"run-1"}' in driven.take(said(2, "x")).body


@each_wire
def test_texts_and_parts_of_ones_own_may_be_shown(make: Callable[..., PartsFormat]) -> None:
    own: dict[str, Any] = {"type": "data-place", "data": {"x": 1}}
    if make is AGUI:
        own = {"type": "CUSTOM", "name": "place", "value": {"x": 1}}
    driven = Driven(make(), context(of_run=False)).take("", "a\ud83d", own)
    assert msgspec.json.encode(own) in driven.body
    assert b'"a?"' in driven.body
    for wrong in ({"type": "start"}, {"type": "RUN_FINISHED"}, {}, 7, b"x"):
        with pytest.raises(errors.InvalidArgumentError, match="stand alone") as caught:
            driven.take(wrong)
        assert caught.value.argument == "map"


@each_wire
def test_unknown_events_are_told_if_that_is_asked_for(make: Callable[..., PartsFormat]) -> None:
    events = [run_event(2, "custom", x=1), step("a", "new", {"y": 2})]
    body = Driven(make(unknown_events=True)).take(*events).end("completed")
    assert b'{"x":1}' in body
    assert b'{"y":2}' in body
    body = Driven(make()).take(*events).end("completed")
    assert b'{"x":1}' not in body


def test_there_is_no_other_version() -> None:
    with pytest.raises(errors.InvalidArgumentError, match="5, 6 or 7"):
        UIMessageStream(sdk_version=cast("Any", 4))
