"""What an App can stream, ask and return, seen on the root endpoint."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dynamiq_async.emulator import (
    Emulator,
    RunContext,
    WorkflowCanceledError,
    WorkflowFailedError,
    node_result,
)
from dynamiq_async.emulator.app import root_endpoint


async def fails(input: dict[str, Any], run: RunContext) -> Any:
    raise ZeroDivisionError("by nothing")


async def gives_up(input: dict[str, Any], run: RunContext) -> Any:
    raise WorkflowFailedError("no more", {"n-1": node_result("failure", {}, None)})


async def stops(input: dict[str, Any], run: RunContext) -> Any:
    raise WorkflowCanceledError


async def half(input: dict[str, Any], run: RunContext) -> Any:
    return {"a": node_result("success", {}, 1), "b": node_result("failure", {}, None)}


async def unspeakable(input: dict[str, Any], run: RunContext) -> Any:
    return "\ud83d"  # half a character: there is no such JSON


def plain(input: dict[str, Any], run: RunContext) -> Any:
    return 7


@pytest.mark.parametrize(
    ("app", "status", "terminal"),
    [
        (fails, "failure", {"error": "Flow execution failed due to node failures: fails"}),
        (gives_up, "failure", {"error": "no more"}),
        (
            stops,
            "canceled",
            {
                "canceled": True,
                "error": {"message": "Workflow 'stops' was canceled during execution"},
            },
        ),
        (plain, "success", {"node-1": {"status": "success", "input": {}, "output": 7}}),
        (
            unspeakable,
            "failure",
            {"error": "Flow execution failed due to node failures: unspeakable"},
        ),
    ],
)
async def test_the_last_message_says_how_it_ended(
    connect: Any, app: Any, status: str, terminal: Any
) -> None:
    async with Emulator(app) as emulator:
        response = await (await connect(emulator)).stream()
        assert response.events[-1]["data"] == terminal
        assert emulator.executions[0].status == status


@pytest.mark.parametrize(
    ("app", "details"),
    [(fails, {"node-1": "by nothing"}), (gives_up, {"n-1": "failed"}), (half, {"b": "failed"})],
)
async def test_a_failed_node_fails_the_request_only_when_asked_to(
    connect: Any, app: Any, details: Any
) -> None:
    async with Emulator(app) as emulator:
        client = await connect(emulator)
        lenient = await client.post()
        assert lenient.status == 200
        [node] = details
        nodes: Any = lenient.json["output"] if app is not half else emulator.executions[0].nodes
        assert nodes[node]["status"] == "failure"
        strict = await client.post("/", {"input": {}, "error_on_node_failure": True})
        assert strict.status == root_endpoint.NODE_FAILURE_STATUS
        assert strict.error["details"] == details


async def test_questions_on_a_stream_have_the_librarys_shape(connect: Any) -> None:
    async with Emulator("approval") as emulator:
        client = await connect(emulator)
        await client.send("POST", "/", {"input": {}, "stream": True})
        await emulator.wait_until(lambda: emulator.executions and emulator.executions[0].questions)
        [question] = emulator.executions[0].questions
        question.decide(True, {"to": "bob@example.com", "text": "not editable"})
        response = await client.read()
        asked, last = response.events
        assert asked["run_id"] is None
        assert (asked["event"], asked["entity_id"]) == ("approval", "py-email")
        assert asked["data"] == {
            "template": "Send to ann@example.com?",
            "data": {"to": "ann@example.com", "text": "hi"},
            "mutable_data_params": ["to"],
            "request_id": None,
        }
        assert last["data"]["py-email"]["input"] == {"to": "bob@example.com", "text": "hi"}
        await client.send("POST", "/feedback/", {"input": {"topic": "tea"}, "stream": True})
        await emulator.wait_until(
            lambda: emulator.executions.total == 2 and emulator.executions[-1].questions
        )
        emulator.executions[-1].questions[0].reply("green")
        info, ask, last = (await client.read()).events
        assert (info["data"]["action"], ask["data"]["action"]) == ("info", "ask")
        assert ask["data"]["prompt"] == "tea"
        assert last["data"]["hf-ask"]["output"] == {"content": "green"}


async def test_run_context_reaches_every_shape(connect: Any) -> None:
    async def app(input: dict[str, Any], run: RunContext) -> Any:
        await run.thought("hm", entity_id="agent-1")
        await run.event("run.custom", {})  # nothing on this endpoint
        run.skip_sequence()
        await run.emit({"n": 1}, event="mine", source={"id": "x"})
        return json.loads("{}")

    async with Emulator(app) as emulator:
        thought, mine, last = (await (await connect(emulator)).stream()).events
    assert thought["data"]["choices"][0]["delta"] == {
        "content": {"thought": "hm"},
        "source": "Agent",
        "step": "reasoning",
    }
    assert (mine["event"], mine["data"], mine["source"]) == ("mine", {"n": 1}, {"id": "x"})
    assert last["data"]["node-1"]["output"] == {}


@pytest.mark.parametrize("kind", [WorkflowFailedError, WorkflowCanceledError])
async def test_an_app_may_give_the_librarys_whole_result(connect: Any, kind: Any) -> None:
    result = {"status": "failure", "input": {}, "output": None, "error": {"message": "no luck"}}

    async def app(input: dict[str, Any], run: RunContext) -> Any:
        raise kind("no luck", result=result)

    async with Emulator(app) as emulator:
        assert (await (await connect(emulator)).post()).json == result
        assert emulator.executions[0].error == "no luck"


async def test_a_run_says_what_it_is(connect: Any) -> None:
    seen: list[RunContext] = []

    def app(input: dict[str, Any], run: RunContext) -> None:
        seen.append(run)

    async with Emulator(app) as emulator:
        await (await connect(emulator)).post("/", {"input": {}})
    [run] = seen
    assert repr(run) == f"<RunContext {run.id} of app>"


async def test_more_sequence_numbers_than_a_file_can_hold_are_not_left_out(connect: Any) -> None:
    async def app(input: dict[str, Any], run: RunContext) -> None:
        run.skip_sequence(2**63)

    async with Emulator(app) as emulator:
        failed = await (await connect(emulator)).post("/", {"input": {}})
    assert failed.json["status"] == "failure"
    assert "count must be at most 1,000,000" in json.dumps(failed.json)
