"""Which App a path leads to, and who may call it."""

from __future__ import annotations

from typing import Any

import pytest

from dynamiq_async.emulator import DEFAULT_KEY, Emulator
from tests.support.emulator_apps import shout


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
        response = await (await connect(emulator)).post(key=key)
    assert response.status == status
    assert response.json.get("error", {}).get("code") == code


async def test_a_public_app_asks_for_no_key(connect: Any) -> None:
    async with Emulator("echo", access_key=None) as emulator:
        assert (await (await connect(emulator)).post(key=None)).status == 200


async def test_unknown_paths_and_methods(emulator: Emulator, connect: Any) -> None:
    client = await connect(emulator)
    for method, path, status, code in (
        ("GET", "/", 405, "method_not_allowed"),
        ("GET", "/nowhere", 404, "not_found"),
        ("POST", "/v1/runs/x/y", 404, "not_found"),
    ):
        response = await client.call(method, path)
        assert (response.status, response.error["code"]) == (status, code)


async def test_every_response_has_a_request_id_of_its_own(emulator: Emulator, connect: Any) -> None:
    client = await connect(emulator)
    responses = [await client.post("/", {}), await client.stream(), await client.get("/x")]
    ids = [response.headers["x-request-id"] for response in responses]
    assert len(set(ids)) == 3
    assert ids == [record.request_id for record in emulator.requests]


async def test_several_apps_share_a_port(connect: Any) -> None:
    async with Emulator("llm", apps={"shout": shout, "mirror": "echo"}) as emulator:
        assert emulator.url_for("shout") == f"{emulator.url}/shout"
        client = await connect(emulator)
        response = await client.post("/shout/", {"input": {"say": "a"}})
        assert response.json == {"output": "A"}
        assert (await client.post("/shout", {"input": {"say": "a"}})).status == 200
        assert (await client.post("/mirror/")).json == {}
        assert "Hello" in (await client.post("/")).json["output"]
        assert [request.app for request in emulator.requests] == ["shout", "shout", "mirror", "llm"]
        with pytest.raises(KeyError):
            emulator.url_for("nobody")
    with pytest.raises(ValueError, match="no such App"):
        Emulator("nobody")
