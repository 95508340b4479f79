"""The root endpoint's streams: their messages, line ends and heartbeats."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dynamiq_async.emulator import Emulator, RunContext


async def test_stream_is_the_librarys_messages_with_the_workflows_last(
    emulator: Emulator, connect: Any
) -> None:
    response = await (await connect(emulator)).post("/", {"input": {"say": "ho"}, "stream": True})
    assert response.headers["content-type"] == "text/event-stream"
    assert response.headers["cache-control"] == "no-cache"
    names = [block.split(b"\n")[0] for block in response.blocks]
    assert names == [b"event: data", b"event: data", b"event: streaming"]
    assert all(b"\ndata: {" in block for block in response.blocks)
    *chunks, last = response.events
    assert [chunk["data"]["choices"][0]["delta"]["content"] for chunk in chunks] == ["HO", "HO"]
    assert {tuple(event) for event in response.events} == {
        ("run_id", "wf_run_id", "entity_id", "data", "event", "source")
    }
    assert chunks[0]["event"] == "data"
    assert chunks[0]["entity_id"] == chunks[0]["source"]["id"] == "llm-1"
    assert last["source"]["type"] == "dynamiq.workflows.Workflow"
    assert last["source"]["group"] is None
    assert last["event"] == "streaming"
    assert last["data"]["node-1"]["output"] == "HO"
    assert len({event["wf_run_id"] for event in response.events}) == 1
    assert chunks[0]["run_id"] == chunks[1]["run_id"] != last["run_id"]


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("event_line", [True, False])
async def test_line_ends_and_event_lines_are_settings(
    connect: Any, newline: Any, event_line: bool
) -> None:
    async with Emulator("echo", newline=newline, event_line=event_line) as emulator:
        body = (await (await connect(emulator)).stream()).body.decode()
    *head, data, end, rest = body.split(newline)
    assert head == ["event: streaming"] * event_line
    assert data.startswith("data: {")
    assert (end, rest) == ("", "")


async def test_data_with_line_breaks_takes_several_data_lines(connect: Any) -> None:
    async def app(input: dict[str, Any], run: RunContext) -> Any:
        await run.send(b'{"a":\n1}', event="odd")

    async with Emulator(app) as emulator:
        response = await (await connect(emulator)).stream()
    assert response.blocks[0] == b'event: odd\ndata: {"a":\ndata: 1}'


async def test_silence_is_broken_by_heartbeats(connect: Any) -> None:
    go = asyncio.Event()

    async def app(input: dict[str, Any], run: RunContext) -> Any:
        await go.wait()

    async with Emulator(app, root_heartbeat=0.01) as emulator:
        client = await connect(emulator)
        await client.send("POST", "/", {"input": {}, "stream": True})
        await client.head()
        for _ in range(2):
            assert (await client.reader.readuntil(b"\n\n")).endswith(b": heartbeat\n\n")
        go.set()
        assert b"data: " in await client.reader.readuntil(b"0\r\n\r\n")
