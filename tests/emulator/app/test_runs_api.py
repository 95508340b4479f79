"""The Runs API: runs with state, questions, and streams that can be resumed."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from typing import Any
from uuid import uuid4

import pytest

from dynamiq_async.emulator import Emulator, Fault, RunContext

SESSION = "6f9619ff-8b86-4d11-b42d-00cf4fc964ff"


def has_more(questions: list[Any], number: int) -> bool:
    return len(questions) > number


async def numbers(input: dict[str, Any], run: RunContext) -> Any:
    for number in range(input.get("count", 5)):
        await run.event("custom.number", {"number": number})
    return "done"


async def waits(input: dict[str, Any], run: RunContext) -> Any:
    await asyncio.get_running_loop().create_future()


@pytest.fixture
async def emulator() -> Any:
    async with Emulator(numbers, apps={"waits": waits}) as running:
        yield running


async def background(client: Any, prefix: str = "", **fields: Any) -> Any:
    response = await client.post(f"{prefix}/v1/runs", {"input": {}, "background": True, **fields})
    assert (response.status, response.json["data"]["status"]) == (202, "created")
    return response.json["data"]


async def shown(client: Any, run_id: str, prefix: str = "") -> Any:
    return (await client.get(f"{prefix}/v1/runs/{run_id}")).json["data"]


# --- creating --------------------------------------------------------------------------------


async def test_create_waits_for_the_end(emulator: Emulator, connect: Any) -> None:
    body = {"input": {"count": 1}, "user_id": "ann", "session_id": SESSION}
    response = await (await connect(emulator)).post("/v1/runs", body)
    assert response.status == 200
    run = response.json["data"]
    assert run["status"] == "completed"
    assert run["input"] == {"count": 1}
    assert run["output"] == {"output": "done"}
    assert (run["user_id"], run["session_id"]) == ("ann", SESSION)
    assert run["started_at"] <= run["ended_at"]
    assert run["started_at"].endswith("Z")
    assert "input_requests" not in run
    assert emulator.runs[run["id"]].status == "completed"
    assert emulator.executions[0].id == run["id"]


async def test_a_background_run_goes_on_by_itself(emulator: Emulator, connect: Any) -> None:
    client = await connect(emulator)
    run = await background(client)
    await emulator.wait_until(lambda: emulator.runs[run["id"]].terminal)
    assert (await shown(client, run["id"]))["status"] == "completed"


async def test_a_created_stream_is_framed_as_documented(emulator: Emulator, connect: Any) -> None:
    response = await (await connect(emulator)).stream("/v1/runs")
    assert response.headers["content-type"] == "text/event-stream"
    types = [event["type"] for event in response.events]
    assert types == ["run.started", *["custom.number"] * 5, "run.completed"]
    for block, event in zip(response.blocks, response.events, strict=True):
        head, data = block.split(b"\n")
        assert head == b"event: " + event["type"].encode()
        assert data.startswith(b"data: ")
        assert set(event) == {"id", "type", "sequence", "timestamp", "data"}
    assert response.sequences == list(range(1, 8))
    [run_id] = emulator.runs
    assert response.events[0]["data"] == {"id": run_id, "object": "run", "status": "started"}
    last = response.events[-1]["data"]
    assert (last["object"], last["status"]) == ("run", "completed")
    assert last["output"] == {"output": "done"}


async def test_a_run_outlives_the_client_that_made_it(connect: Any) -> None:
    go = asyncio.Event()

    async def app(input: dict[str, Any], run: RunContext) -> Any:
        await go.wait()

    async with Emulator(app) as emulator:
        bodies: list[dict[str, Any]] = [{"input": {}}, {"input": {}, "stream": True}]
        for body in bodies:
            client = await connect(emulator)
            await client.send("POST", "/v1/runs", body)
            await emulator.wait_for_requests(len(emulator.requests) + 1)
            client.abort()
            await emulator.wait_until(lambda: emulator.requests[-1].disconnected)
        go.set()
        await emulator.wait_for_executions(2)
        assert [run.status for run in emulator.runs.values()] == ["completed"] * 2


@pytest.mark.parametrize(
    ("body", "details"),
    [
        ({}, {"input": "cannot be blank"}),
        (
            {"input": {}, "stream": True, "background": True},
            {"background": "cannot be combined with stream"},
        ),
        ({"input": {}, "session_id": "s-1"}, {"session_id": "must be a valid UUID"}),
        ({"input": {}, "file_ids": ["x"]}, {"file_ids": "there is no file 'x'"}),
        ({"input": {}, "file_ids": [1]}, {"file_ids": "there is no file 1"}),
    ],
)
async def test_bad_fields_are_named(
    emulator: Emulator, connect: Any, body: Any, details: Any
) -> None:
    response = await (await connect(emulator)).post("/v1/runs", body)
    assert (response.status, response.error["details"]) == (400, details)
    assert not emulator.runs


@pytest.mark.parametrize("name", ["failing", "canceled"])
async def test_a_run_ends_as_its_app_does(emulator: Emulator, connect: Any, name: str) -> None:
    response = await (await connect(emulator)).stream(f"/{name}/v1/runs")
    status = {"failing": "failed", "canceled": "canceled"}[name]
    last = response.events[-1]
    assert (last["type"], last["data"]["status"]) == (f"run.{status}", status)
    reasons = {"failing": "Flow execution failed due to node failures: bad", "canceled": None}
    assert (last["data"].get("error"), "output" in last["data"]) == (reasons[name], False)
    shown = next(iter(emulator.runs.values())).public()
    assert (shown.get("error"), "output" in shown) == (reasons[name], False)


async def test_messages_of_the_library_become_events(emulator: Emulator, connect: Any) -> None:
    client = await connect(emulator)
    agent = (await client.stream("/agent/v1/runs")).events
    deltas = [event for event in agent if event["type"] == "agent.reasoning.delta"]
    assert [event["data"]["iteration"] for event in deltas] == [1] * 5 + [2] * 5
    assert deltas[0]["data"]["delta"] == "I s"
    [tool] = [event["data"] for event in agent if event["type"] == "agent.tool_call.completed"]
    assert tool["tool"] == {"name": "lookup-customer", "type": "dynamiq.nodes.tools.Python"}
    assert "customer_tier" in json.loads(tool["result"])
    text = [e["data"]["delta"] for e in agent if e["type"] == "agent.response.delta"]
    assert "".join(text) == agent[-1]["data"]["output"]["output"]
    llm = (await client.stream("/llm/v1/runs")).events
    assert {event["type"] for event in llm[1:-1]} == {"agent.response.delta"}


async def test_other_messages_come_through_under_their_name(connect: Any) -> None:
    async def app(input: dict[str, Any], run: RunContext) -> Any:
        await run.emit({"a": 1}, event="mine")
        await run.send(b'{"sequence": 77}', event="raw")

    async with Emulator(app) as emulator:
        _, mine, raw, _ = (await (await connect(emulator)).stream("/v1/runs")).events
    assert (mine["type"], mine["data"]) == ("mine", {"a": 1})
    assert raw == {"sequence": 77}


# --- looking ---------------------------------------------------------------------------------


async def test_runs_are_listed_filtered_and_paged(emulator: Emulator, connect: Any) -> None:
    client = await connect(emulator)
    ids = [(await background(client, user_id=f"u{i % 2}"))["id"] for i in range(5)]
    waiting = (await background(client, "/waits"))["id"]
    await emulator.wait_for_executions(5)

    async def listed(query: str, prefix: str = "") -> list[str]:
        response = await client.get(f"{prefix}/v1/runs{query}")
        assert response.status == 200
        return [run["id"] for run in response.json["data"]]

    assert await listed("") == ids[::-1]
    assert await listed("?sort=started_at") == ids
    assert await listed("?sort=status,-started_at") == ids[::-1]
    assert await listed("?sort=id") == sorted(ids)
    assert await listed("?sort=-ended_at") == ids[::-1]
    assert await listed("?user_id=u1&sort=started_at") == ids[1::2]
    assert await listed(f"?session_id={SESSION}") == []
    assert await listed("?status=failed&status=completed") == ids[::-1]
    assert await listed("?status=failed") == []
    assert await listed("?status=started", "/waits") == [waiting]
    assert await listed("?page=2&page_size=2") == ids[::-1][2:4]
    assert await listed("?page=9") == []
    page = (await client.get("/v1/runs?page=2&page_size=2")).json["pagination"]
    assert page == {"page": 2, "page_size": 2, "page_count": 3, "total_count": 5}
    capped = (await client.get("/v1/runs?page_size=9999")).json["pagination"]
    assert capped["page_size"] == 500
    for query in ("status=odd", "sort=odd", "page=0", "page_size=x"):
        assert (await client.get(f"/v1/runs?{query}")).status == 400


async def test_an_unknown_run_is_404_also_for_another_app(emulator: Emulator, connect: Any) -> None:
    client = await connect(emulator)
    run_id = (await background(client))["id"]
    for path in (f"/v1/runs/{uuid4()}", "/v1/runs/x/stream", f"/llm/v1/runs/{run_id}"):
        response = await client.get(path)
        assert (response.status, response.error["code"]) == (404, "not_found")


async def test_an_app_of_the_same_name_is_another_app(connect: Any) -> None:
    async with Emulator("llm") as emulator:
        client = await connect(emulator)
        run_id = (await background(client))["id"]
        assert (await client.get(f"/v1/runs/{run_id}")).status == 200
        assert (await client.get(f"/llm/v1/runs/{run_id}")).status == 404
        assert (await client.get("/llm/v1/runs")).json["data"] == []


async def test_stored_events_are_paged(emulator: Emulator, connect: Any) -> None:
    client = await connect(emulator)
    live = await client.stream("/v1/runs")
    [run_id] = emulator.runs
    path = f"/v1/runs/{run_id}/events"
    whole = (await client.get(path)).json
    assert whole["data"] == live.events
    assert whole["pagination"]["total_count"] == 7
    page = (await client.get(f"{path}?page=2&page_size=3")).json["data"]
    assert [event["sequence"] for event in page] == [4, 5, 6]


# --- canceling and answering -----------------------------------------------------------------


async def test_cancel_ends_a_run_and_leaves_an_ended_one_alone(
    emulator: Emulator, connect: Any
) -> None:
    client, watcher = await connect(emulator), await connect(emulator)
    run_id = (await background(client, "/waits"))["id"]
    await watcher.send("GET", f"/waits/v1/runs/{run_id}/stream")
    await emulator.wait_until(lambda: emulator.executions)
    for _ in range(2):
        response = await client.post(f"/waits/v1/runs/{run_id}/cancel", {})
        assert (response.status, response.json) == (200, {"message": "canceled"})
    assert (await shown(client, run_id, "/waits"))["status"] == "canceled"
    assert [event["type"] for event in (await watcher.read()).events] == [
        "run.started",
        "run.canceled",
    ]
    await emulator.wait_for_executions(1)
    assert emulator.executions[0].status == "canceled"
    done = (await background(client))["id"]
    await emulator.wait_for_executions(2)
    await client.post(f"/v1/runs/{done}/cancel", {})
    assert (await shown(client, done))["status"] == "completed"


async def test_an_app_that_goes_on_after_cancel_adds_nothing(connect: Any) -> None:
    async def stubborn(input: dict[str, Any], run: RunContext) -> Any:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await run.event("late", {})

    async with Emulator(stubborn) as emulator:
        client = await connect(emulator)
        run_id = (await background(client))["id"]
        await emulator.wait_until(lambda: emulator.executions)
        await client.post(f"/v1/runs/{run_id}/cancel", {})
        await emulator.wait_for_executions(1)
        assert [event.type for event in emulator.runs[run_id].feed.events] == [
            "run.started",
            "run.canceled",
        ]


async def test_a_killed_run_stays_started(emulator: Emulator, connect: Any) -> None:
    client = await connect(emulator)
    run_id = (await background(client, "/waits"))["id"]
    await emulator.wait_until(lambda: emulator.executions)
    emulator.runs[run_id].kill()
    await emulator.wait_for_executions(1)
    assert (await shown(client, run_id, "/waits"))["status"] == "started"


async def answer_run(client: Any, run_id: str, kind: Any, data: Any, prefix: str = "") -> Any:
    return await client.post(f"{prefix}/v1/runs/{run_id}/input", {"type": kind, "data": data})


async def test_feedback_is_asked_for_and_given(emulator: Emulator, connect: Any) -> None:
    client = await connect(emulator)
    run_id = (await background(client, "/feedback"))["id"]
    await emulator.wait_until(lambda: emulator.runs[run_id].open_questions)
    run = await shown(client, run_id, "/feedback")
    [request] = run["input_requests"]
    assert run["status"] == "awaiting_input"
    assert request == {"id": request["id"], "type": "human_feedback", "prompt": "sales"}
    for status in ("awaiting_input", "started"):
        listed = (await client.get(f"/feedback/v1/runs?status={status}")).json["data"]
        assert [run["id"] for run in listed] == [run_id]
    data = {"request_id": request["id"], "feedback": "Q1 only"}
    given = await answer_run(client, run_id, "human_feedback", data, "/feedback")
    assert (given.status, given.json) == (200, {"message": "ok"})
    stream = await client.get(f"/feedback/v1/runs/{run_id}/stream")
    types = [event["type"] for event in stream.events]
    assert types[1:3] == ["agent.human_feedback.requested", "run.human_feedback.received"]
    output = stream.events[-1]["data"]["output"]
    assert output == {"output": "Q1 only"}
    again = await answer_run(client, run_id, "human_feedback", data, "/feedback")
    assert again.status == 400


@pytest.mark.parametrize("approved", [True, False])
async def test_approval_is_asked_for_and_given(
    emulator: Emulator, connect: Any, approved: bool
) -> None:
    client = await connect(emulator)
    run_id = (await background(client, "/approval"))["id"]
    await emulator.wait_until(lambda: emulator.runs[run_id].open_questions)
    [request] = (await shown(client, run_id, "/approval"))["input_requests"]
    assert request["params"] == {"to": "ann@example.com", "text": "hi"}
    assert request["editable_params"] == ["to"]
    data = {
        "request_id": request["id"],
        "approved": approved,
        "params": {"to": "bob@example.com", "text": "not editable"},
        "feedback": "not now",
    }
    await answer_run(client, run_id, "approval_request", data, "/approval")
    stream = await client.get(f"/approval/v1/runs/{run_id}/stream")
    verdict = "confirmed" if approved else "rejected"
    types = [event["type"] for event in stream.events]
    assert types[1:3] == ["approval_request.created", f"run.approval_request.{verdict}"]
    assert stream.events[-1]["data"]["output"] == (
        {"output": "sent to bob@example.com"} if approved else {}
    )
    node = (emulator.executions[0].nodes or {})["py-email"]
    assert node["status"] == ("success" if approved else "skip")
    sent = {"to": "bob@example.com" if approved else "ann@example.com", "text": "hi"}
    assert node["input"] == sent
    assert approved or node["error"]["message"].endswith("not now")


async def test_a_paused_run_resumes_with_its_answer(connect: Any) -> None:
    async def app(input: dict[str, Any], run: RunContext) -> Any:
        return await run.ask("How?", request_id="same", pause=True)

    async with Emulator(app) as emulator:
        client = await connect(emulator)
        run_id = (await background(client))["id"]
        run = emulator.runs[run_id]
        await emulator.wait_until(lambda: run.status == "paused")
        assert (await shown(client, run_id))["status"] == "awaiting_input"
        await answer_run(client, run_id, "human_feedback", {"request_id": "same", "feedback": "so"})
        events = (await client.get(f"/v1/runs/{run_id}/stream")).events
        assert [event["type"] for event in events[1:-1]] == [
            "agent.human_feedback.requested",
            "run.paused",
            "run.resumed",
            "run.human_feedback.received",
        ]
        assert events[2]["data"]["checkpoint_id"]
        assert run.status == "completed"


async def test_two_questions_may_share_a_request_id(connect: Any) -> None:
    async def app(input: dict[str, Any], run: RunContext) -> Any:
        return [await run.ask(str(number), request_id="same") for number in range(2)]

    async with Emulator(app) as emulator:
        client = await connect(emulator)
        run_id = (await background(client))["id"]
        for number in range(2):
            questions = emulator.runs[run_id].questions
            await emulator.wait_until(partial(has_more, questions, number))
            data = {"request_id": "same", "feedback": str(number)}
            assert (await answer_run(client, run_id, "human_feedback", data)).status == 200
        await emulator.wait_for_executions(1)
        assert emulator.executions[0].output == {"output": ["0", "1"]}


@pytest.mark.parametrize(
    ("kind", "data", "details"),
    [
        (None, None, {"type": "cannot be blank", "data": "cannot be blank"}),
        ("odd", {}, {"type": "must be a valid value"}),
        (
            "human_feedback",
            {},
            {"request_id": "cannot be blank", "feedback": "cannot be blank"},
        ),
        (
            "approval_request",
            {"request_id": "x", "approved": "yes", "params": []},
            {"approved": "must be a boolean", "params": "must be an object"},
        ),
        (
            "human_feedback",
            {"request_id": "x", "feedback": "?"},
            {"request_id": "there is no such open request"},
        ),
    ],
)
async def test_bad_input_is_refused(
    emulator: Emulator, connect: Any, kind: Any, data: Any, details: Any
) -> None:
    client = await connect(emulator)
    run_id = (await background(client, "/approval"))["id"]
    await emulator.wait_until(lambda: emulator.runs[run_id].open_questions)
    response = await answer_run(client, run_id, kind, data, "/approval")
    assert (response.status, response.error["details"]) == (400, details)


# --- following -------------------------------------------------------------------------------


async def finished(client: Any, emulator: Emulator, count: int = 5) -> str:
    run_id: str = (await background(client, input={"count": count}))["id"]
    await emulator.wait_for_executions(1)
    return f"/v1/runs/{run_id}/stream"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", [1, 2, 3, 4, 5, 6, 7]),
        ("?after_sequence=1", [2, 3, 4, 5, 6, 7]),
        ("?after_sequence=6", [7]),
        ("?after_sequence=7", []),
        ("?after_sequence=99", []),
    ],
)
async def test_after_sequence_resumes_behind_an_event(
    emulator: Emulator, connect: Any, query: str, expected: list[int]
) -> None:
    client = await connect(emulator)
    response = await client.get(await finished(client, emulator) + query)
    assert response.sequences == expected
    assert response.end == "whole"


@pytest.mark.parametrize("value", ["0", "-1", "x", "", "1.5"])
async def test_after_sequence_is_at_least_one(emulator: Emulator, connect: Any, value: str) -> None:
    client = await connect(emulator)
    response = await client.get(f"{await finished(client, emulator)}?after_sequence={value}")
    assert (response.status, list(response.error["details"])) == (400, ["after_sequence"])


async def test_a_live_run_is_followed_with_heartbeats(connect: Any) -> None:
    go = asyncio.Event()

    async def app(input: dict[str, Any], run: RunContext) -> Any:
        await go.wait()

    async with Emulator(app, heartbeat=0.01) as emulator:
        client = await connect(emulator)
        run_id = (await background(client))["id"]
        await client.send("GET", f"/v1/runs/{run_id}/stream")
        await client.head()
        assert b"run.started" in await client.reader.readuntil(b"\n\n")
        for _ in range(2):
            assert (await client.reader.readuntil(b"\n\n")).endswith(b": heartbeat\n\n")
        go.set()
        assert b"run.completed" in await client.reader.readuntil(b"0\r\n\r\n")


async def test_each_reconnect_has_its_own_fault(emulator: Emulator, connect: Any) -> None:
    path = await finished(await connect(emulator), emulator, count=8)
    emulator.script(
        Fault(after_events=3, drop="reset"),
        Fault(after_events=2, drop="close", replay=2),
        Fault(after_events=1, drop="truncate", ignore_after_sequence=True),
        match="GET /v1/runs/*/stream",
    )
    seen = []
    for after in (None, 3, 3, 3):
        query = f"?after_sequence={after}" if after else ""
        seen.append((await (await connect(emulator)).get(path + query)).sequences)
    assert seen == [[1, 2, 3], [2, 3], [1], [4, 5, 6, 7, 8, 9, 10]]


async def test_a_gap_in_the_stream_may_be_filled_from_the_stored_events(
    emulator: Emulator, connect: Any
) -> None:
    client = await connect(emulator)
    path = await finished(client, emulator)
    emulator.script(Fault(skip={3, 4}))
    assert (await client.get(path)).sequences == [1, 2, 5, 6, 7]
    stored = path.replace("/stream", "/events")
    emulator.script(Fault(), Fault(skip={3, 4}))
    assert (await client.get(stored)).sequences_stored == [1, 2, 3, 4, 5, 6, 7]
    assert (await client.get(stored)).sequences_stored == [1, 2, 5, 6, 7]


async def test_a_gap_may_be_for_good(connect: Any) -> None:
    async def app(input: dict[str, Any], run: RunContext) -> Any:
        run.skip_sequence(2)
        await run.event("custom", {})

    async with Emulator(app) as emulator:
        client = await connect(emulator)
        assert (await client.stream("/v1/runs")).sequences == [1, 4, 5]
        [run_id] = emulator.runs
        response = await client.get(f"/v1/runs/{run_id}/stream?after_sequence=3")
        assert response.sequences == [4, 5]
        assert (await client.get(f"/v1/runs/{run_id}/events")).sequences_stored == [1, 4, 5]


async def test_with_a_window_the_app_waits_for_its_readers(connect: Any) -> None:
    count = 2000
    async with Emulator(numbers, event_window=16) as emulator:
        client = await connect(emulator)
        body = {"input": {"count": count}, "stream": True}
        emulator.script(Fault(after_events=10, stall=0.02))
        response = await client.post("/v1/runs", body)
        assert response.sequences == list(range(1, count + 3))
        [run] = emulator.runs.values()
        assert len(run.feed.events) <= 17
        kept = (await client.get(f"/v1/runs/{run.id}/stream")).sequences
        assert kept == [event.sequence for event in run.feed.events]
        assert kept[-1] == count + 2


async def test_without_readers_a_window_does_not_hold_the_app_up(connect: Any) -> None:
    async with Emulator(numbers, event_window=4) as emulator:
        client = await connect(emulator)
        run_id = (await background(client, input={"count": 100}))["id"]
        await emulator.wait_for_executions(1)
        assert len(emulator.runs[run_id].feed.events) <= 5


async def test_a_reader_that_leaves_frees_a_waiting_app(connect: Any) -> None:
    async with Emulator(numbers, event_window=4) as emulator:
        client = await connect(emulator)
        emulator.script(Fault(after_events=1, stall=60))
        body = {"input": {"count": 100}, "stream": True}
        await client.send("POST", "/v1/runs", body)
        await emulator.wait_until(lambda: emulator.executions)
        client.abort()
        await emulator.wait_for_executions(1)
        assert emulator.executions[0].status == "success"


@pytest.mark.parametrize("query", ["page", "page_size"])
@pytest.mark.parametrize("number", ["9" * 4400, "9" * 19, "0" * 5000 + "1"])
async def test_a_number_too_long_to_read_is_refused(connect: Any, query: str, number: str) -> None:
    async with Emulator("echo") as emulator:
        refused = await (await connect(emulator)).get(f"/v1/runs?{query}={number}")
        assert refused.status == 400
        assert refused.error["details"] == {query: "must be an integer no less than 1"}
        last = await (await connect(emulator)).get(f"/v1/runs?{query}={'9' * 18}")
        assert (last.status, last.json["data"]) == (200, [])


async def test_a_position_too_long_to_read_is_refused(connect: Any) -> None:
    async with Emulator("echo") as emulator:
        client = await connect(emulator)
        run = (await client.post("/v1/runs")).json["data"]["id"]
        path = f"/v1/runs/{run}/stream?after_sequence={'9' * 4400}"
        assert (await client.get(path)).status == 400
