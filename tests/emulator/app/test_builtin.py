"""The built-in Apps stream what real workflows of the library streamed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dynamiq_async.emulator import Emulator

CAPTURES = Path(__file__).parents[2] / "data" / "captures"


def shape(value: Any) -> Any:
    """The keys of a message, without its values."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [shape(inner) for inner in value]
    return None


@pytest.mark.parametrize(
    ("app", "capture"),
    [
        ("llm", "01b_llm_streaming_include_usage"),
        ("agent", "02_agent_tool_default_all"),
        ("parallel", "05_parallel_nodes"),
        ("failing", "06_node_error_raise"),
        ("canceled", "09_cancel_token"),
    ],
)
async def test_messages_have_the_shapes_of_captured_ones(
    connect: Any, app: str, capture: str
) -> None:
    lines = (CAPTURES / f"{capture}.jsonl").read_text().splitlines()
    captured = [shape(json.loads(line)) for line in lines]
    async with Emulator(app) as emulator:
        events = (await (await connect(emulator)).stream()).events
    *chunks, last = events
    assert all(shape(chunk) in captured for chunk in chunks)
    assert set(last) == set(captured[-1])
    assert set(last["data"]) == set(captured[-1]["data"])


async def test_builtin_apps_stream_what_the_library_does(connect: Any) -> None:
    async with Emulator("llm") as emulator:
        client = await connect(emulator)
        body = {"input": {"name": "Ann"}, "stream": True}
        llm = (await client.post("/llm/", body)).events
        assert llm[-2]["data"]["usage"]["total_tokens"] > 0
        assert "Ann" in llm[-1]["data"]["llm-1"]["output"]["content"]
        text = "".join(e["data"]["choices"][0]["delta"]["content"] or "" for e in llm[:-1])
        assert text == llm[-1]["data"]["llm-1"]["output"]["content"]
        agent = (await client.post("/agent/", body)).events
        steps = [event["data"]["choices"][0]["delta"]["step"] for event in agent[:-1]]
        assert list(dict.fromkeys(steps)) == ["reasoning", "tool", "answer"]
        for length in range(7):  # the two texts have one piece more, or as many
            body["input"] = {"name": "x" * length}
            parallel = (await client.post("/parallel/", body)).events
            nodes = [event["entity_id"] for event in parallel[:-1]]
            assert nodes[:4] == ["llm-left", "llm-right"] * 2
            for node, result in parallel[-1]["data"].items():
                chunks = [e["data"]["choices"][0] for e in parallel if e["entity_id"] == node]
                text = "".join(chunk["delta"]["content"] or "" for chunk in chunks)
                assert text == result["output"]["content"]
        failing = (await client.post("/failing/", body)).events
        assert failing[-1]["data"] == {"error": "Flow execution failed due to node failures: bad"}
        canceled = (await client.post("/canceled/", body)).events
        assert canceled[-1]["data"]["canceled"] is True
