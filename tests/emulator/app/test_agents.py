"""Apps that look like agents: what they say of their thoughts, tools and tokens, on every wire."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import pytest

from dynamiq_async import AsyncApp, ToolCall, Usage
from dynamiq_async.emulator import DEFAULT_TOKEN, Emulator, RunContext
from dynamiq_async.relay import relay
from dynamiq_async.relay.formats import AGUI, UIMessageStream
from tests.support.frontends import AGUIReader, UIReader

CAPTURE = Path(__file__).parents[2] / "data" / "captures" / "02_agent_tool_default_all.jsonl"
Wire = Literal["root", "socket", "run"]
each_wire = pytest.mark.parametrize("wire", ["root", "socket", "run"])


async def support(input: dict[str, Any], run: RunContext) -> Any:
    """Looks a customer up, fails to refund, and replies."""
    await run.reasoning("I look ", agent="Support")
    await run.reasoning("her up.")
    await run.tool_call("lookup", {"id": 7}, {"name": "Ann"})
    await run.tool_call("refund", {"id": 7}, "no such order", "failure", type="Refund")
    await run.text("It is ")
    await run.text("Ann.")
    await run.usage(11, 4)
    return {"answer": "It is Ann."}


def events_of(app: AsyncApp, wire: Wire) -> Any:
    return app.runs.stream({}) if wire == "run" else app.stream({})


async def read(emulator: Emulator, wire: Wire) -> list[Any]:
    async with AsyncApp(emulator.url, access_key=emulator.access_key) as app:
        if wire == "socket":
            async with app.connect() as socket, socket.run({}) as run:
                return [event async for event in run]
        async with events_of(app, wire) as stream:
            return [event async for event in stream]


@each_wire
async def test_the_views_of_events_show_it(wire: Wire) -> None:
    async with Emulator(support) as emulator:
        events = await read(emulator, wire)
    assert "".join(event.reasoning for event in events) == "I look her up."
    assert "".join(event.text for event in events) == "It is Ann."
    calls = [event.tool_call for event in events if event.tool_call]
    ended = [call for call in calls if call.status in ("completed", "failed")]
    for call, name, output in zip(
        ended, ("lookup", "refund"), ({"name": "Ann"}, "no such order"), strict=True
    ):
        assert (call.name, call.input, call.output) == (name, {"id": 7}, output)
    assert len({call.id for call in calls}) == 2
    usage = [event.usage for event in events if event.usage]
    if wire == "run":
        assert [call.status for call in calls] == ["completed", "completed"]
        assert usage == []
    else:
        assert [call.status for call in calls] == ["called", "completed", "called", "failed"]
        assert calls[0] == ToolCall(id=calls[1].id, name="lookup", input={"id": 7}, status="called")
        tokens = {"prompt_tokens": 11, "completion_tokens": 4, "total_tokens": 15}
        assert usage == [Usage(**tokens, cost=4.05e-06)]


@each_wire
async def test_a_page_of_the_ai_sdk_shows_it(wire: Wire) -> None:
    reader = UIReader().read(await relayed(wire, UIMessageStream()))
    assert reader.wholly
    thought, lookup, refund, said = reader.parts[1:]
    assert (thought["type"], thought["text"]) == ("reasoning", "I look her up.")
    assert (lookup["name"], lookup["input"]) == ("lookup", {"id": 7})
    assert (lookup["state"], lookup["output"]) == ("output-available", {"name": "Ann"})
    # That a call failed is told by the library's messages, and not by a run's events.
    failed = "output-available" if wire == "run" else "output-error"
    assert (refund["name"], refund["state"]) == ("refund", failed)
    assert (said["type"], said["text"]) == ("text", "It is Ann.")
    finish = reader.chunks[-1]
    tokens = {"inputTokens": 11, "outputTokens": 4, "totalTokens": 15}
    told = None if wire == "run" else {"usage": tokens}
    assert (finish["type"], finish.get("messageMetadata")) == ("finish", told)


@each_wire
async def test_a_page_of_ag_ui_shows_it(wire: Wire) -> None:
    reader = AGUIReader().read(await relayed(wire, AGUI()))
    assert reader.wholly
    started = [e["toolCallName"] for e in reader.events if e["type"] == "TOOL_CALL_START"]
    assert started == ["lookup", "refund"]
    [first, _] = [e["content"] for e in reader.events if e["type"] == "TOOL_CALL_RESULT"]
    assert json.loads(first) == {"name": "Ann"}
    texts = list(reader.texts.values())
    assert (texts[0], texts[-1]) == ("I look her up.", "It is Ann.")


async def relayed(wire: Wire, format: Any) -> bytes:
    async with (
        Emulator(support) as emulator,
        AsyncApp(emulator.url, access_key=emulator.access_key) as app,
    ):
        if wire == "socket":
            async with app.connect() as socket, socket.run({}) as run:
                return b"".join([piece async for piece in relay(run, format=format)])
        return b"".join([piece async for piece in relay(events_of(app, wire), format=format)])


async def test_the_tokens_are_in_the_trace_of_a_run_too(connect: Any) -> None:
    async with Emulator(support) as emulator:
        client = await connect(emulator)
        run = (await client.post("/v1/runs")).json["data"]
        path = f"/~management/v1/apps/{run['app_id']}/traces/{run['id']}"
        trace = (await client.get(path, key=DEFAULT_TOKEN)).json["data"]
    assert trace["usage"]["prompt_tokens"] == 11
    assert trace["usage"]["total_tokens"] == 15


def without_ids(message: dict[str, Any]) -> dict[str, Any]:
    """A message without what differs from run to run."""
    message = {**message, "run_id": None, "wf_run_id": None}
    [choice] = message["data"]["choices"]
    content = choice["delta"]["content"]
    if isinstance(content, dict):
        for name in ("tool_run_id", "timestamp"):
            content.pop(name, None)
    return message


async def test_the_built_in_agent_streams_what_the_librarys_agent_streamed(connect: Any) -> None:
    captured = [json.loads(line) for line in CAPTURE.read_bytes().splitlines()][:-1]
    async with Emulator("agent") as emulator:
        *messages, last = (await (await connect(emulator)).stream()).events
    chosen, ended = (message["data"]["choices"][0]["delta"]["content"] for message in messages[5:7])
    assert chosen["tool_run_id"] == ended["tool_run_id"]
    assert ended["timestamp"].endswith("Z")
    assert list(map(without_ids, messages)) == list(map(without_ids, captured))
    assert last["data"]["agent-1"]["output"]["content"].startswith("Done, the customer")


def delta(message: dict[str, Any]) -> Any:
    return message["data"]["choices"][0]["delta"]


async def test_several_agents_each_have_their_name_rounds_and_thoughts(connect: Any) -> None:
    async def app(input: dict[str, Any], run: RunContext) -> Any:
        await run.reasoning("a", agent="A", entity_id="agent-a")
        await run.reasoning("b", entity_id="agent-b")
        for _ in range(2):
            await run.tool_call("search", "q", 1, "skip", entity_id="agent-a")
        await run.tool_call("search", None, None, entity_id="agent-b", agent="B")
        await run.text("hi", entity_id="agent-b", event="mine")
        await run.text("hi", entity_id="llm-1")

    async with Emulator(app) as emulator:
        messages = (await (await connect(emulator)).stream()).events[:-1]
    thoughts = [
        (m["source"]["name"], c["thought"], c["loop_num"])
        for m in messages
        if isinstance(c := delta(m)["content"], dict) and "action" in c
    ]
    assert thoughts == [("A", "a", 1), ("A", "", 2), ("B", "b", 1)]
    assert [m["source"]["name"] for m in messages[:2]] == ["A", "Agent"]
    ended = [c for m in messages if isinstance(c := delta(m)["content"], dict) and "result" in c]
    assert [(c["status"], c["result"]) for c in ended] == [
        ("skip", 1),
        ("skip", 1),
        ("success", None),
    ]
    reply, text = messages[-2:]
    assert delta(reply) == {"content": "hi", "source": "B", "step": "answer"}
    assert (reply["event"], reply["source"]["group"]) == ("mine", "agents")
    assert "step" not in delta(text)
    assert text["source"]["group"] == "llms"


async def test_a_model_tells_of_tokens_at_its_own_node(connect: Any) -> None:
    async def app(input: dict[str, Any], run: RunContext) -> Any:
        await run.text("hi")
        await run.usage(1, 2)
        await run.usage(1, 2, entity_id="llm-2", event="mine")
        await run.thought("hm")
        await run.usage(1, 2)

    async with Emulator(app) as emulator:
        messages = (await (await connect(emulator)).stream()).events[:-1]
        told = [message for message in messages if "usage" in message["data"]]
        assert [message["entity_id"] for message in told] == ["node-1", "llm-2", "llm-1"]
        assert {message["source"]["group"] for message in told} == {"llms"}
        assert [message["event"] for message in told] == ["data", "mine", "data"]
        assert {m["data"]["id"] for m in messages[:2]} == {told[0]["data"]["id"]}
        assert emulator.executions[0].usage["total_tokens"] == 9


async def test_a_status_that_the_library_does_not_have_is_refused(connect: Any) -> None:
    async def app(input: dict[str, Any], run: RunContext) -> Any:
        await run.tool_call("search", status="done")  # type: ignore[arg-type]

    async with Emulator(app) as emulator:
        body = (await (await connect(emulator)).post()).json
    [said] = body["output"].values()
    assert said["error"]["message"] == ("a tool call is one of success, failure, skip, not 'done'")
