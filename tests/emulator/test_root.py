"""The root endpoint answers as the contract says."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from dynamiq_async.emulator import (
    DEFAULT_KEY,
    Emulator,
    RunContext,
    WorkflowCanceledError,
    WorkflowFailedError,
    node_result,
)
from dynamiq_async.emulator.app import root_endpoint


async def shout(input: dict[str, Any], run: RunContext) -> Any:
    await run.text("HO", entity_id="llm-1")
    await run.text("HO", entity_id="llm-1")
    return input["say"].upper()


@pytest.fixture
async def emulator() -> Any:
    async with Emulator(shout) as running:
        yield running


async def test_sync_answers_the_nodes_under_output(emulator: Emulator, connect: Any) -> None:
    answer = await (await connect(emulator)).post("/", {"input": {"say": "ho"}})
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json == {
        "output": {"node-1": {"status": "success", "input": {"say": "ho"}, "output": "HO"}}
    }


async def test_last_node_output_answers_that_alone(emulator: Emulator, connect: Any) -> None:
    body = {"input": {"say": "ho"}, "last_node_output": True}
    answer = await (await connect(emulator)).post("/", body)
    assert answer.json == {"output": "HO"}


async def test_stream_is_the_librarys_messages_with_the_workflows_last(
    emulator: Emulator, connect: Any
) -> None:
    answer = await (await connect(emulator)).post("/", {"input": {"say": "ho"}, "stream": True})
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.headers["cache-control"] == "no-cache"
    assert all(block.startswith(b"data: {") for block in answer.blocks)
    *chunks, last = answer.events
    assert [chunk["data"]["choices"][0]["delta"]["content"] for chunk in chunks] == ["HO", "HO"]
    assert {tuple(event) for event in answer.events} == {
        ("run_id", "wf_run_id", "entity_id", "data", "event", "source")
    }
    assert chunks[0]["event"] == "data"
    assert chunks[0]["entity_id"] == chunks[0]["source"]["id"] == "llm-1"
    assert last["source"]["type"] == "dynamiq.workflows.Workflow"
    assert last["source"]["group"] is None
    assert last["event"] == "streaming"
    assert last["data"]["node-1"]["output"] == "HO"
    assert len({event["wf_run_id"] for event in answer.events}) == 1
    assert chunks[0]["run_id"] == chunks[1]["run_id"] != last["run_id"]


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
async def test_line_ends_and_event_lines_are_settings(connect: Any, newline: Any) -> None:
    async with Emulator("echo", newline=newline, event_line=True) as emulator:
        body = (await (await connect(emulator)).stream()).body.decode()
    head, data, *rest = body.split(newline)
    assert head == "event: streaming"
    assert data.startswith("data: {")
    assert rest == ["", ""]


async def test_data_with_line_breaks_takes_several_data_lines(connect: Any) -> None:
    async def app(input: dict[str, Any], run: RunContext) -> Any:
        await run.send(b'{"a":\n1}', event="odd")

    async with Emulator(app, event_line=True) as emulator:
        answer = await (await connect(emulator)).stream()
    assert answer.blocks[0] == b'event: odd\ndata: {"a":\ndata: 1}'


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


async def test_multipart_as_the_widget_sends_it(connect: Any) -> None:
    seen: list[RunContext] = []

    async def app(input: dict[str, Any], run: RunContext) -> Any:
        seen.append(run)
        return [file.read().decode() for file in run.files]

    async with Emulator(app) as emulator:
        client = await connect(emulator)
        answer = await client.form(
            "/",
            ('name="input"', b'{"a": 1}'),
            ('name="stream"', b"false"),
            ('name="user_id"', b"ann"),
            ('name="session_id"', b"s-1"),
            ('name="chat_history"', b'[{"role": "user"}]'),
            ('name="files"; filename="a%22b.txt"', b"one\r\n--two"),
            ('name=files; filename="c\\"d.txt"', b""),
        )
        assert answer.json["output"]["node-1"]["output"] == ["one\r\n--two", ""]
        [run] = seen
        assert (run.user_id, run.session_id) == ("ann", "s-1")
        assert run.chat_history == [{"role": "user"}]
        assert [(file.name, file.size) for file in run.files] == [('a"b.txt', 10), ('c"d.txt', 0)]
        assert emulator.executions[0].input == {"a": 1}
        assert emulator.requests[0].form[0].content == b'{"a": 1}'
        streamed = await client.form("/", ('name="input"', b"{}"), ('name="stream"', b"true"))
        assert streamed.headers["content-type"] == "text/event-stream"


async def test_odd_forms_are_read_as_far_as_they_go(connect: Any) -> None:
    async with Emulator("echo") as emulator:
        client = await connect(emulator)
        kind = "multipart/form-data; boundary=B"
        named = b'Content-Disposition: form-data; name="input"\r\n\r\n'
        for body in (
            b"preamble\r\n--B\r\n" + named + b'{"a": 1}\r\n--B--\r\nepilogue',
            b"--B\r\n" + named + b'{"a": 1}\r\n--B\r\nno blank line\r\n--B--',
            b"--B\r\n" + named + b'{"a": 1}\r\n--B\r\n' + named + b"not the end",
        ):
            answer = await client.post("/", body, content_type=kind)
            assert answer.json["output"]["output-1"]["output"] == {"a": 1}
        headless = await client.post("/", b"--B\r\n\r\nx\r\n--B--", content_type=kind)
        assert headless.status == 400
        assert emulator.requests[-1].form[0].content == b"x"


async def test_a_body_over_a_mebibyte_is_read_whole(connect: Any) -> None:
    async def app(input: dict[str, Any], run: RunContext) -> Any:
        return [len(input.get("text", "")), *(len(file.read()) for file in run.files)]

    size = 2_500_000
    async with Emulator(app) as emulator:
        client = await connect(emulator)
        answer = await client.post("/", {"input": {"text": "x" * size}})
        assert answer.json["output"]["node-1"]["output"] == [size]
        form = await client.form(
            "/", ('name="input"', b"{}"), ('name="files"; filename="f"', b"\r\n" * size)
        )
        assert form.json["output"]["node-1"]["output"] == [0, 2 * size]
        assert emulator.requests[0].size > size > len(emulator.requests[0].body) == 2**20
        assert emulator.requests[1].form[1].size == 2 * size


BAD_FIELDS: list[tuple[dict[str, Any], dict[str, str]]] = [
    ({}, {"input": "cannot be blank"}),
    ({"input": None}, {"input": "cannot be blank"}),
    ({"input": "text"}, {"input": "must be an object"}),
    ({"input": {}, "stream": "true"}, {"stream": "must be a boolean"}),
    (
        {"input": {}, "user_id": 1, "session_id": []},
        {"user_id": "must be a string", "session_id": "must be a string"},
    ),
    ({"input": {}, "execution_mode": "later"}, {"execution_mode": "must be a valid value"}),
    ({"input": {}, "callbacks": {}}, {"callbacks": "must be an array"}),
    (
        {"input": {}, "callbacks": [{"url": "https://a.example"}]},
        {"callbacks": 'only with "execution_mode": "async"'},
    ),
]


@pytest.mark.parametrize(("body", "details"), BAD_FIELDS)
async def test_bad_fields_are_named(
    emulator: Emulator, connect: Any, body: Any, details: Any
) -> None:
    answer = await (await connect(emulator)).post("/", body)
    assert answer.status == 400
    assert answer.error["code"] == "bad_request"
    assert answer.error["details"] == details
    assert not emulator.executions


async def test_bad_fields_in_a_form_are_named(emulator: Emulator, connect: Any) -> None:
    client = await connect(emulator)
    answer = await client.form("/", ('name="input"', b"{"), ('name="stream"', b"yes"))
    details = {"input": "must be valid JSON", "stream": "must be true or false"}
    assert answer.error["details"] == details
    empty = await client.form("/", ("nothing", b""))
    assert empty.error["details"] == {"input": "cannot be blank"}


async def test_what_is_not_json_is_400_and_other_types_are_415(
    emulator: Emulator, connect: Any
) -> None:
    client = await connect(emulator)
    malformed = await client.post("/", b"{", content_type="application/json")
    assert (malformed.status, malformed.error["code"]) == (400, "bad_request")
    assert (await client.post("/", [])).status == 400
    for more in ({}, {"content_type": "text/plain"}):
        refused = await client.post("/", b"{}", **more)
        assert (refused.status, refused.error["code"]) == (415, "unsupported_media_type")
    bare = await client.post("/", b"x", content_type="multipart/form-data")
    assert bare.error["details"] == {"input": "cannot be blank"}


@pytest.mark.parametrize(
    ("key", "status", "code"),
    [
        (None, 401, "unauthorized"),
        ("dynamiq_acc_wrong", 401, "unauthorized"),
        ("dyn_pat_valid", 403, "forbidden"),
        ("uak_old", 403, "forbidden"),
        (DEFAULT_KEY, 200, None),
    ],
)
async def test_access_keys(connect: Any, key: str | None, status: int, code: str | None) -> None:
    async with Emulator("echo") as emulator:
        answer = await (await connect(emulator)).post(key=key)
    assert answer.status == status
    assert answer.json.get("error", {}).get("code") == code


async def test_a_public_app_asks_for_no_key(connect: Any) -> None:
    async with Emulator("echo", access_key=None) as emulator:
        assert (await (await connect(emulator)).post(key=None)).status == 200


async def test_the_quota_is_used_up_by_runs(connect: Any) -> None:
    async with Emulator("echo", quota=1) as emulator:
        client = await connect(emulator)
        assert (await client.post("/", {})).status == 400  # costs nothing
        assert (await client.post()).status == 200
        refused = await client.post("/v1/runs")
        assert (refused.status, refused.error["code"]) == (403, "subscription_limit_reached")
        emulator.reset()
        assert (await client.post()).status == 200


async def test_unknown_paths_and_methods(emulator: Emulator, connect: Any) -> None:
    client = await connect(emulator)
    for method, path, status, code in (
        ("GET", "/", 405, "method_not_allowed"),
        ("GET", "/nowhere", 404, "not_found"),
        ("POST", "/v1/runs/x/y", 404, "not_found"),
    ):
        answer = await client.call(method, path)
        assert (answer.status, answer.error["code"]) == (status, code)


async def test_every_answer_has_a_request_id_of_its_own(emulator: Emulator, connect: Any) -> None:
    client = await connect(emulator)
    answers = [await client.post("/", {}), await client.stream(), await client.get("/x")]
    ids = [answer.headers["x-request-id"] for answer in answers]
    assert len(set(ids)) == 3
    assert ids == [record.request_id for record in emulator.requests]


async def test_several_apps_share_a_port(connect: Any) -> None:
    async with Emulator("llm", apps={"shout": shout, "mirror": "echo"}) as emulator:
        assert emulator.url_for("shout") == f"{emulator.url}/shout"
        client = await connect(emulator)
        answer = await client.post("/shout/", {"input": {"say": "a"}})
        assert answer.json["output"]["node-1"]["output"] == "A"
        assert (await client.post("/shout", {"input": {"say": "a"}})).status == 200
        assert "output-1" in (await client.post("/mirror/")).json["output"]
        assert "llm-1" in (await client.post("/")).json["output"]
        assert [request.app for request in emulator.requests] == ["shout", "shout", "mirror", "llm"]
        with pytest.raises(KeyError):
            emulator.url_for("nobody")
    with pytest.raises(ValueError, match="no such App"):
        Emulator("nobody")


# --- how Apps end ----------------------------------------------------------------------------


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
        answer = await (await connect(emulator)).stream()
        assert answer.events[-1]["data"] == terminal
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
        assert lenient.json["output"][node]["status"] == "failure"
        strict = await client.post("/", {"input": {}, "error_on_node_failure": True})
        assert strict.status == root_endpoint.NODE_FAILURE_STATUS
        assert strict.error["details"] == details


CAPTURES = Path(__file__).parents[1] / "data" / "captures"


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


async def test_questions_on_a_stream_have_the_librarys_shape(connect: Any) -> None:
    async with Emulator("approval") as emulator:
        client = await connect(emulator)
        await client.send("POST", "/", {"input": {}, "stream": True})
        await emulator.wait_until(lambda: emulator.executions and emulator.executions[0].questions)
        [question] = emulator.executions[0].questions
        question.decide(True, {"to": "bob@example.com", "text": "not editable"})
        answer = await client.read()
        asked, last = answer.events
        assert asked["run_id"] is None
        assert (asked["event"], asked["entity_id"]) == ("approval", "py-email")
        assert asked["data"] == {
            "template": "Send to ann@example.com?",
            "data": {"to": "ann@example.com", "text": "hi"},
            "mutable_data_params": ["to"],
            "request_id": question.id,
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
