"""The root endpoint responds as the contract says."""

from __future__ import annotations

from typing import Any

import pytest

from dynamiq_async.emulator import Emulator, RunContext


async def test_sync_responds_with_the_nodes_under_output(emulator: Emulator, connect: Any) -> None:
    response = await (await connect(emulator)).post("/", {"input": {"say": "ho"}})
    assert response.status == 200
    assert response.headers["content-type"] == "application/json"
    assert response.json == {
        "output": {"node-1": {"status": "success", "input": {"say": "ho"}, "output": "HO"}}
    }


async def test_last_node_output_responds_with_that_alone(emulator: Emulator, connect: Any) -> None:
    body = {"input": {"say": "ho"}, "last_node_output": True}
    response = await (await connect(emulator)).post("/", body)
    assert response.json == {"output": "HO"}


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
        assert response.json["output"]["node-1"]["output"] == ["one\r\n--two", ""]
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
