"""The library's messages as an App passes them on: whole on the root endpoint, and as the events of
a run. Its captured streams are what is passed on."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from dynamiq_async.emulator import Emulator, RunContext, node_result

CAPTURES = Path(__file__).parents[2] / "data" / "captures"


def captured(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (CAPTURES / f"{name}.jsonl").read_bytes().splitlines()]


def passes_on(messages: list[dict[str, Any]], value: Any = None) -> Any:
    async def app(input: dict[str, Any], run: RunContext) -> Any:
        for message in messages:
            await run.message(message)
        return value

    return app


RESPONSE, REASONING = "agent.response.delta", "agent.reasoning.delta"
TOOL, ASKED = "agent.tool_call.completed", "agent.human_feedback.requested"
APPROVE = "approval_request.created"

EVENTS = {
    "01_llm_plain_streaming": [RESPONSE, "run.completed"],
    "01b_llm_streaming_include_usage": [RESPONSE, "run.completed"],
    "02_agent_tool_default_all": [REASONING, TOOL, REASONING, RESPONSE, "run.completed"],
    "04_agent_tool_default_final": [RESPONSE, "run.completed"],
    "05_parallel_nodes": [RESPONSE, "run.completed"],
    "06_node_error_raise": [RESPONSE, "run.failed"],
    "06c_llm_http_500": ["run.failed"],
    "07_approval_approved": [APPROVE, "run.completed"],
    "07b_approval_rejected": [APPROVE, "run.completed"],
    "08_agent_human_feedback": [REASONING, ASKED, TOOL, REASONING, RESPONSE, "run.completed"],
    "09_cancel_token": ["run.canceled"],
    "11_input_llm_output_nodes": [RESPONSE, "run.completed"],
    "12_human_feedback_info_then_ask": [ASKED, "run.completed"],
}


def test_every_capture_is_here() -> None:
    assert sorted(EVENTS) == sorted(path.stem for path in CAPTURES.glob("*.jsonl"))


@pytest.mark.parametrize("name", EVENTS)
async def test_a_captured_stream_goes_through_as_it_is(connect: Any, name: str) -> None:
    messages = captured(name)
    async with Emulator(passes_on(messages)) as emulator:
        assert (await (await connect(emulator)).stream()).events == messages


@pytest.mark.parametrize("name", EVENTS)
async def test_a_captured_stream_becomes_the_events_of_a_run(connect: Any, name: str) -> None:
    messages = captured(name)
    async with Emulator(passes_on(messages)) as emulator:
        started, *events = (await (await connect(emulator)).stream("/v1/runs")).events
    assert started["type"] == "run.started"
    assert [type for type, _ in groupby(event["type"] for event in events)] == EVENTS[name]
    text = "".join(event["data"]["delta"] for event in events if event["type"] == RESPONSE)
    choices = [message["data"].get("choices") for message in messages]
    said = [some[0]["delta"] for some in choices if some]
    read = (delta["content"] for delta in said if delta.get("step") in (None, "answer"))
    assert text == "".join(content or "" for content in read)
    thoughts = "".join(event["data"]["delta"] for event in events if event["type"] == REASONING)
    partial = [d["content"] for d in said if d.get("step") == "reasoning"]
    assert thoughts == "".join(c["thought"] for c in partial if "action" not in c)
    for event in events:
        if event["type"] in (RESPONSE, REASONING):
            assert event["data"]["object"] == event["type"]


@pytest.mark.parametrize("name", EVENTS)
async def test_the_run_ends_as_the_captured_result_says(connect: Any, name: str) -> None:
    result = json.loads((CAPTURES / f"{name}.result.json").read_bytes())
    statuses = {"success": "completed", "failure": "failed", "canceled": "canceled"}
    async with Emulator(passes_on(captured(name))) as emulator:
        run = (await (await connect(emulator)).post("/v1/runs")).json["data"]
        assert run["status"] == statuses[result["status"]]
        execution = emulator.executions[0]
        assert execution.status == result["status"]
        if result["status"] == "success":
            assert execution.nodes == result["output"]
            last = list(result["output"].values())[-1]["output"]
            assert run["output"] == (last if isinstance(last, dict) else {"output": last})
        else:
            said = captured(name)[-1]["data"]["error"]
            assert execution.error == (said if isinstance(said, str) else said["message"])


async def test_a_tool_call_has_its_round_and_its_result_as_text(connect: Any) -> None:
    async with Emulator(passes_on(captured("02_agent_tool_default_all"))) as emulator:
        events = (await (await connect(emulator)).stream("/v1/runs")).events
    [tool] = [event["data"] for event in events if event["type"] == TOOL]
    assert tool["object"] == "agent.tool_call"
    assert isinstance(json.loads(tool["result"]), str | dict)
    assert set(tool) == {"id", "object", "result", "input", "iteration", "tool"}
    assert set(tool["tool"]) == {"name", "type"}
    rounds = [e["data"]["iteration"] for e in events if e["type"] == REASONING]
    assert sorted(set(rounds)) == [tool["iteration"], tool["iteration"] + 1]


def chunk(step: str, content: Any) -> dict[str, Any]:
    delta = {"content": content, "source": "Agent", "step": step}
    data = {"choices": [{"delta": delta}]}
    source = {"id": "a", "name": "Agent", "group": "agents", "type": "dynamiq.nodes.agents.Agent"}
    ids = {"run_id": "r", "wf_run_id": "w", "entity_id": "a"}
    return {**ids, "data": data, "event": "streaming", "source": source}


@pytest.mark.parametrize(
    "message",
    [
        chunk("hook", {"hook": "h", "point": "p", "decision": "d", "outcome": "o"}),
        chunk("tool_input_start", {"tool_run_id": "t", "action": "a"}),
        chunk("tool_input", {"tool_run_id": "t", "action_input": "{"}),
        chunk("tool_input_error", {"tool_run_id": "t", "error": "e"}),
        chunk("manager_planning", {"tasks": []}),
        chunk("manager_final_output", "done"),
        chunk("reasoning", "a text"),
        chunk("answer", ""),
        {**chunk("", ""), "data": {"choices": [], "usage": {"total_tokens": 3}}},
        {**chunk("", ""), "data": {"prompt": "Working", "action": "info"}},
    ],
)
async def test_what_has_no_event_has_none(connect: Any, message: Any) -> None:
    async with Emulator(passes_on([message])) as emulator:
        client = await connect(emulator)
        events = (await client.stream("/v1/runs")).events
        assert [event["type"] for event in events] == ["run.started", "run.completed"]
        assert (await client.stream()).events[0] == message


async def test_other_data_is_an_event_of_its_own_name(connect: Any) -> None:
    message = {**chunk("", ""), "event": "mine", "data": {"n": 1}}
    async with Emulator(passes_on([message])) as emulator:
        events = (await (await connect(emulator)).stream("/v1/runs")).events
    assert (events[1]["type"], events[1]["data"]) == ("mine", {"n": 1})


# --- the workflow's own message -----------------------------------------------------------------


def own(data: Any) -> dict[str, Any]:
    source = {"id": "wf", "name": "W", "group": None, "type": "dynamiq.workflows.Workflow"}
    ids = {"run_id": "r", "wf_run_id": "w", "entity_id": "wf"}
    return {**ids, "data": data, "event": "streaming", "source": source}


MAP = {"error": node_result("success", {}, {"content": "hi"})}  # a node of that name


@pytest.mark.parametrize(
    ("data", "status", "error"),
    [
        (MAP, "success", None),
        ({"error": "no luck"}, "failure", "no luck"),
        ({"error": {"message": "no luck"}}, "failure", "no luck"),
        ({"canceled": True, "error": {"message": "stopped"}}, "canceled", "stopped"),
        ({"canceled": True}, "canceled", "Workflow 'app' was canceled during execution"),
        ("odd", "success", None),
    ],
)
async def test_what_the_app_says_of_its_end_wins(
    connect: Any, data: Any, status: str, error: str | None
) -> None:
    async with Emulator(passes_on([own(data), chunk("answer", "late")], {"answer": 1})) as emulator:
        client = await connect(emulator)
        late, last = (await client.stream()).events
        assert late["data"]["choices"]
        assert last == own(data)
        assert (await client.stream("/v1/runs")).events[-1]["type"] == {
            "success": "run.completed",
            "failure": "run.failed",
            "canceled": "run.canceled",
        }[status]
        for execution in emulator.executions:
            assert (execution.status, execution.error) == (status, error)
            assert execution.output == ({"answer": 1} if status == "success" else None)


async def test_it_wins_over_an_exception_too(connect: Any) -> None:
    async def app(input: dict[str, Any], run: RunContext) -> Any:
        await run.message(own(MAP))
        raise ValueError("cleaning up")

    async with Emulator(app) as emulator:
        assert (await (await connect(emulator)).stream()).events == [own(MAP)]
        assert emulator.executions[0].status == "success"
        assert emulator.executions[0].output == {"content": "hi"}
