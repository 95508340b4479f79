"""What callers get of an App: what its Output node gives, and the map of nodes on request."""

from __future__ import annotations

from typing import Any

import pytest

from dynamiq_async import AsyncApp
from dynamiq_async.emulator import Emulator, RunContext, WorkflowOutput, node_result

NODES = {
    "llm-1": node_result("success", {}, {"content": "hi"}),
    "output-1": node_result("success", {"answer": "hi"}, {"answer": "hi"}),
}


def gives(value: Any) -> Any:
    async def app(input: dict[str, Any], run: RunContext) -> Any:
        return value

    return app


CASES = [
    ({"answer": "hi"}, {"answer": "hi"}),
    ("hi", {"output": "hi"}),
    (None, {"output": None}),
    ([1, 2], {"output": [1, 2]}),
    ({}, {}),
    (NODES, {"answer": "hi"}),
    ({"a": node_result("skip", {}, None)}, {"output": None}),
    (WorkflowOutput(NODES, {"category": "billing"}), {"category": "billing"}),
]


@pytest.mark.parametrize(("value", "expected"), CASES)
async def test_every_way_to_call_gives_the_same_output(value: Any, expected: Any) -> None:
    async with (
        Emulator(gives(value)) as emulator,
        AsyncApp(emulator.url, access_key=emulator.access_key) as app,
    ):
        assert await app.invoke({}) == expected
        run = await app.runs.create({})
        assert run.output == expected
        assert await app.runs.stream({}).output() == expected
        assert emulator.executions[0].output == expected
        nodes = await app.stream({}).output()
        mapped = value.nodes if isinstance(value, WorkflowOutput) else value
        if mapped is NODES or isinstance(value, WorkflowOutput):
            assert nodes == NODES
        elif value and isinstance(value, dict) and "a" in value:
            assert nodes == value
        else:
            assert nodes == {"node-1": node_result("success", {}, value)}


@pytest.mark.parametrize(("value", "expected"), CASES[4:])
async def test_the_map_of_nodes_can_be_asked_for(value: Any, expected: Any) -> None:
    async with (
        Emulator(gives(value), outputs="nodes") as emulator,
        AsyncApp(emulator.url, access_key=emulator.access_key) as app,
    ):
        nodes = await app.stream({}).output()
        assert await app.invoke({}) == {"output": nodes}
        assert (await app.runs.create({})).output == nodes
        last = list(nodes.values())[-1]["output"]
        assert await app.invoke({}, last_node_output=True) == {"output": last}


async def test_a_failed_run_has_its_nodes_only_where_they_are_asked_for() -> None:
    for outputs in ("output_node", "nodes"):
        async with (
            Emulator("failing", outputs=outputs) as emulator,
            AsyncApp(emulator.url, access_key=emulator.access_key) as app,
        ):
            run = await app.runs.create({})
            assert (run.status, run.error) == (
                "failed",
                "Flow execution failed due to node failures: bad",
            )
            assert (run.output is None) == (outputs == "output_node")
            assert list(emulator.executions[0].nodes or {}) == ["llm-ok", "py-bad", "py-after"]


async def test_last_node_output_is_that_of_the_last_node(connect: Any) -> None:
    async with Emulator(gives(WorkflowOutput(NODES, {"category": "billing"}))) as emulator:
        body = {"input": {}, "last_node_output": True}
        assert (await (await connect(emulator)).post("/", body)).json == {"answer": "hi"}


@pytest.mark.parametrize("name", ["llm", "agent", "feedback", "approval"])
async def test_the_built_in_apps_with_a_text_give_it_as_the_widget_reads_it(name: str) -> None:
    async with (
        Emulator(name, access_key=None) as emulator,
        AsyncApp(emulator.url, access_key=False) as app,
    ):
        run = await app.runs.create({"question": "?"}, background=True)
        if name in ("feedback", "approval"):
            await emulator.wait_until(lambda: emulator.runs[run.id].open_questions)
            [question] = emulator.runs[run.id].questions
            if name == "feedback":
                question.reply("green")
            else:
                question.decide(True)
        assert isinstance((await app.runs.wait(run.id)).output["output"], str)
