"""The root endpoint responds as the contract says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dynamiq_async import AsyncApp, errors
from dynamiq_async.emulator import Emulator, RunContext, WorkflowFailedError

CAPTURES = Path(__file__).parents[2] / "data" / "captures"


async def test_sync_responds_with_what_the_app_gives(emulator: Emulator, connect: Any) -> None:
    response = await (await connect(emulator)).post("/", {"input": {"say": "ho"}})
    assert response.status == 200
    assert response.headers["content-type"] == "application/json"
    assert response.json == {"output": "HO"}


async def test_last_node_output_responds_with_that_alone(emulator: Emulator, connect: Any) -> None:
    body = {"input": {"say": "ho"}, "last_node_output": True}
    response = await (await connect(emulator)).post("/", body)
    assert response.json == {"output": "HO"}


@pytest.mark.parametrize("last_node_output", [False, True])
@pytest.mark.parametrize(
    ("app", "capture"), [("failing", "06_node_error_raise"), ("canceled", "09_cancel_token")]
)
async def test_a_failed_workflow_is_answered_with_the_librarys_result(
    connect: Any, app: str, capture: str, last_node_output: bool
) -> None:
    captured = json.loads((CAPTURES / f"{capture}.result.json").read_bytes())
    body = {"input": {}, "last_node_output": last_node_output}
    async with Emulator(app) as emulator:
        response = await (await connect(emulator)).post("/", body)
    result = response.json
    assert response.status == 200
    assert list(result) == list(captured)
    assert (result["status"], result["input"]) == (captured["status"], captured["input"])
    assert result["error"].keys() == captured["error"].keys()
    assert result["error"]["type"] == captured["error"]["type"]
    if app == "canceled":
        assert result["output"] is None
        return
    assert result["error"]["message"] == captured["error"]["message"]
    assert result["error"]["failed_nodes"] == [
        {**captured["error"]["failed_nodes"][0], "name": "py-bad"}
    ]
    assert {node: entry["status"] for node, entry in result["output"].items()} == {
        node: entry["status"] for node, entry in captured["output"].items()
    }


async def gives_up(input: dict[str, Any], run: RunContext) -> Any:
    raise WorkflowFailedError("out of memory")


async def breaks(input: dict[str, Any], run: RunContext) -> Any:
    raise KeyError("tier")


@pytest.mark.parametrize(
    ("app", "kind", "said"),
    [
        ("failing", errors.RunFailedError, "node failures: bad"),
        ("canceled", errors.RunCanceledError, "was canceled"),
        (gives_up, errors.RunFailedError, "out of memory"),
        (breaks, errors.RunFailedError, "node failures: breaks"),
    ],
)
async def test_a_failed_workflow_raises_from_invoke_as_from_the_other_ways(
    app: Any, kind: type[errors.DynamiqError], said: str
) -> None:
    async with (
        Emulator(app) as emulator,
        AsyncApp(emulator.url, access_key=emulator.access_key) as client,
    ):
        with pytest.raises(kind, match=said):
            await client.invoke({})
        async with client.stream({}) as stream:
            with pytest.raises(kind, match=said):
                await stream.output()
        [result] = await client.batch([{}])
        with pytest.raises(kind, match=said):
            result.unwrap()
        run = await client.runs.create({})
        with pytest.raises(kind):
            run.unwrap()


async def test_multipart_as_the_widget_sends_it(connect: Any) -> None:
    seen: list[RunContext] = []

    async def app(input: dict[str, Any], run: RunContext) -> Any:
        seen.append(run)
        return [file.read().decode() for file in run.files]

    async with Emulator(app) as emulator:
        client = await connect(emulator)
        response = await client.form(
            "/",
            ('name="input"', b'{"a": 1}'),
            ('name="stream"', b"false"),
            ('name="user_id"', b"ann"),
            ('name="session_id"', b"s-1"),
            ('name="chat_history"', b'[{"role": "user"}]'),
            ('name="files"; filename="a%22b.txt"', b"one\r\n--two"),
            ('name=files; filename="c\\"d.txt"', b""),
        )
        assert response.json["output"] == ["one\r\n--two", ""]
        [run] = seen
        assert (run.user_id, run.session_id) == ("ann", "s-1")
        assert run.chat_history == [{"role": "user"}]
        assert [(file.name, file.size) for file in run.files] == [('a"b.txt', 10), ('c"d.txt', 0)]
        assert emulator.executions[0].input == {"a": 1}
        assert emulator.requests[0].form[0].content == b'{"a": 1}'
        streamed = await client.form("/", ('name="input"', b"{}"), ('name="stream"', b"true"))
        assert streamed.headers["content-type"] == "text/event-stream"


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
    response = await (await connect(emulator)).post("/", body)
    assert response.status == 400
    assert response.error["code"] == "bad_request"
    assert response.error["details"] == details
    assert not emulator.executions


async def test_bad_fields_in_a_form_are_named(emulator: Emulator, connect: Any) -> None:
    client = await connect(emulator)
    response = await client.form("/", ('name="input"', b"{"), ('name="stream"', b"yes"))
    details = {"input": "must be valid JSON", "stream": "must be true or false"}
    assert response.error["details"] == details
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


async def test_the_quota_is_used_up_by_runs(connect: Any) -> None:
    async with Emulator("echo", quota=1) as emulator:
        client = await connect(emulator)
        assert (await client.post("/", {})).status == 400  # costs nothing
        assert (await client.post()).status == 200
        refused = await client.post("/v1/runs")
        assert (refused.status, refused.error["code"]) == (403, "subscription_limit_reached")
        emulator.reset()
        assert (await client.post()).status == 200


async def test_the_log_keeps_no_task_of_an_execution_that_is_over(
    emulator: Emulator, connect: Any
) -> None:
    await (await connect(emulator)).post("/", {"input": {"say": "ho"}})
    [execution] = emulator.executions
    assert (execution.status, execution.task) == ("success", None)
    [record] = emulator.requests
    assert repr(record) == "<RequestRecord POST /: 200>"
