"""The live view: what it makes of every kind of event, and in what order."""

from __future__ import annotations

import io
from typing import Any

import msgspec
import pytest
from rich.console import Console

from dynamiq_async.cli.live import MAX_SILENCE, Floor, LiveView
from dynamiq_async.emulator import agent_chunk, node_error, node_result, node_source
from dynamiq_async.events.app_events import StreamEvent


def event(
    data: Any, entity: str | None = "n-1", name: str | None = None, group: str = "llms"
) -> StreamEvent:
    source = node_source(entity or "", name or "", group, "dynamiq.nodes") if name else None
    message = {"entity_id": entity, "data": data, "event": "data", "source": source}
    return msgspec.json.decode(msgspec.json.encode(message), type=StreamEvent)


def text(content: str, entity: str | None = "n-1", **more: Any) -> StreamEvent:
    return event({"choices": [{"delta": {"content": content}, **more}]}, entity)


def step(name: str, content: Any, **more: Any) -> StreamEvent:
    return event(agent_chunk(content, source="Ann", step=name), name="Ann", **more)


def final(data: Any) -> StreamEvent:
    source = {"id": "wf", "name": "wf", "group": None, "type": "dynamiq.workflows.Workflow"}
    return msgspec.json.decode(
        msgspec.json.encode({"entity_id": "wf", "data": data, "source": source}), type=StreamEvent
    )


def shown(*events: StreamEvent, encoding: str = "utf-8") -> str:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    view = LiveView(Console(file=file, force_terminal=True, no_color=True, color_system=None))
    for one in events:
        view.show(one)
    view.end()
    file.seek(0)
    return file.read()


def test_blocks_are_set_apart() -> None:
    assert shown(
        step("reasoning", {"thought": "Let me "}),
        step("reasoning", {"thought": "see.\n"}),
        step("answer", "Yes"),
        step("answer", "!"),
    ) == ("Ann\nLet me see.\n\nYes!\n")


CALL = {"tool_run_id": "t-1", "tool": {"name": "look-up"}, "loop_num": 1}


def test_a_tool_call_is_announced_once() -> None:
    assert shown(
        step("reasoning", {"thought": "Hm"}),
        step("tool_input_start", {**CALL, "action": "look-up"}),
        step("tool_input", {"tool_run_id": "t-1", "action_input": '{"id"'}),
        step("reasoning", {**CALL, "thought": "Hm", "action": "look-up", "action_input": {}}),
        step("tool", {**CALL, "input": {"id": 7}, "result": {"tier": "pro"}, "status": "success"}),
    ) == ('Ann\nHm\n▸ look-up\n✓ {"tier":"pro"}\n')


def test_a_thought_that_came_whole_is_shown() -> None:
    decision = {**CALL, "thought": "I know.", "action": None, "action_input": None}
    assert shown(step("reasoning", decision)) == "Ann\nI know.\n"


def test_a_tool_that_failed() -> None:
    assert shown(
        step("tool", {**CALL, "input": "x", "result": "no such\ncustomer", "status": "failure"}),
        step("tool_input_error", {"tool_run_id": "t-2", "name": "look-up", "error": "not JSON"}),
    ) == ("Ann\n▸ look-up x\n✗ no such customer\n▸ look-up\n✗ not JSON\n")


def test_what_is_not_utf8_gets_other_marks() -> None:
    output = shown(
        step("tool", {"result": "x", "status": "failure"}),
        step("tool", {"result": "y"}),
        final({"bad": node_result("failure", {}, None, node_error("Error", "boom"))}),
        encoding="ascii",
    )
    assert output.splitlines()[1:5] == ["> a tool", "failed x", "> a tool", "ok y"]
    assert "x bad: boom" in output


def test_a_long_result_is_cut() -> None:
    assert len(shown(step("tool", {**CALL, "result": "x" * 5000}))) < 500


def test_what_was_held_back_is_shown_when_the_stream_breaks_off() -> None:
    assert shown(text("a", "a"), text("b", "b")) == "a\na\n\nb\nb\n"


def test_questions_say_that_they_cannot_be_answered_here() -> None:
    ask = {"prompt": "Which tone?", "action": "ask", "questions": None}
    approve = {"template": "Send it?", "data": {}, "mutable_data_params": []}
    for question in (ask, approve):
        first, second = shown(event(question)).splitlines()
        assert first in ("? Which tone?", "? Send it?")
        assert "cannot be answered over HTTP" in second
    assert shown(event({**ask, "action": "info", "prompt": "Working"})) == "? Working\n"


def test_failed_nodes_of_a_run_that_came_through_are_named() -> None:
    failed = node_result("failure", {}, None, node_error("Error", "boom"))
    assert shown(text("Hi"), final({"bad": failed})) == "n-1\nHi\n✗ bad: boom\n"


def test_events_without_anything_to_show() -> None:
    usage = event({"choices": [], "usage": {"total_tokens": 7}})
    stop = text("", finish_reason="stop")
    assert shown(usage, stop, event({"progress": 0.5}), step("later", {"a": 1}), final({})) == ""
    assert shown(text("Hi", entity=None)) == "Hi\n"


# --- the order of parallel nodes ---------------------------------------------------------------


def order(*events: StreamEvent) -> list[str]:
    floor = Floor()
    passed = [one for event in events for one in floor.take(event)]
    return [one.text for one in (*passed, *floor.rest())]


def test_a_speaker_is_not_interrupted() -> None:
    assert order(
        text("a1", "a"), text("b1", "b"), text("a2", "a"), text("b2", "b"), text("a3", "a")
    ) == ["a1", "a2", "a3", "b1", "b2"]


def test_the_floor_passes_when_a_speaker_has_finished() -> None:
    floor = Floor()
    floor.take(text("a1", "a"))
    floor.take(text("b1", "b"))
    passed = floor.take(text("a2", "a", finish_reason="stop"))
    assert [one.text for one in passed] == ["a2", "b1"]
    assert [one.text for one in floor.take(text("b2", "b"))] == ["b2"]


def test_the_floor_passes_over_those_who_have_finished_while_waiting() -> None:
    floor = Floor()
    floor.take(text("a1", "a"))
    floor.take(text("b1", "b", finish_reason="stop"))
    floor.take(text("c1", "c"))
    passed = floor.take(text("", "a", finish_reason="stop"))
    assert [one.text for one in passed] == ["", "b1", "c1"]
    assert [one.text for one in floor.take(text("c2", "c"))] == ["c2"]


def test_a_silent_speaker_loses_the_floor() -> None:
    floor = Floor()
    floor.take(text("a", "a"))
    passed = [floor.take(text(f"b{count}", "b")) for count in range(MAX_SILENCE)]
    assert passed[:-1] == [[]] * (MAX_SILENCE - 1)
    assert len(passed[-1]) == MAX_SILENCE


@pytest.mark.parametrize("last", [final({}), event({"prompt": "?", "action": "ask"}, "q")])
def test_nothing_is_held_back_from_what_everyone_waits_for(last: StreamEvent) -> None:
    assert order(text("a", "a"), text("b", "b"), last) == ["a", "b", ""]
