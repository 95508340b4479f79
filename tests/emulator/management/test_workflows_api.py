"""The workflows of the emulator's management API: kept as they are, and never run."""

from __future__ import annotations

from typing import Any

import pytest

from dynamiq_async.emulator import DEFAULT_PROJECT, DEFAULT_TOKEN, Emulator
from tests.support.raw_http import RawClient, RawClients

PATH = "/~management/v1/workflows"
FLOW: dict[str, Any] = {
    "id": "f-1",
    "nodes": [{"id": "input", "type": "dynamiq.nodes.utils.Input"}],
}
UI: dict[str, Any] = {"nodes": [], "edges": []}
BODY = {"name": "my-flow", "project_id": DEFAULT_PROJECT, "flow": FLOW, "flow_ui": UI}


async def call(client: RawClient, method: str, path: str, body: Any = None) -> Any:
    response = await client.call(method, PATH + path, body, key=DEFAULT_TOKEN)
    assert response.status in (200, 201), response.body
    return response.json


async def made(client: RawClient) -> Any:
    return (await call(client, "POST", "", BODY))["data"]


async def test_the_apps_own_workflows_are_listed_and_shown(connect: RawClients) -> None:
    async with Emulator("echo") as emulator:
        client = await connect(emulator)
        page = await call(client, "GET", f"?project_id={DEFAULT_PROJECT}")
        assert page["pagination"]["total_count"] == len(emulator.management.apps)
        names = [workflow["name"] for workflow in page["data"]]
        assert names == sorted(app.name for app in emulator.management.apps)
        id = emulator.management.find("llm").workflow_id
        shown = (await call(client, "GET", f"/{id}"))["data"]
        assert (shown["id"], shown["name"], shown["status"]) == (id, "llm", "active")
        assert (await call(client, "GET", "?project_id=other"))["data"] == []


async def test_a_workflow_is_created_saved_renamed_and_released(connect: RawClients) -> None:
    async with Emulator() as emulator:
        client = await connect(emulator)
        workflow = await made(client)
        path = f"/{workflow['id']}"
        assert (workflow["flow"], workflow["status"]) == (FLOW, "draft")
        assert (await call(client, "GET", f"{path}/versions"))["data"] == []
        flow = {"id": "f-1", "nodes": [*FLOW["nodes"], {"id": "out"}]}
        saved = await call(client, "POST", f"{path}/save", {"flow": flow, "flow_ui": UI})
        assert saved["data"]["flow"] == flow
        renamed = {"name": "other", "flow": FLOW, "description": "mine"}
        shown = (await call(client, "PUT", path, renamed))["data"]
        assert (shown["name"], shown["flow"], shown["description"]) == ("other", flow, "mine")
        assert (await call(client, "PUT", path, {"name": "again"}))["data"]["description"] == "mine"
        body = {"name": "third", "flow": FLOW, "flow_ui": UI}
        for number in ("1", "2"):
            version = (await call(client, "POST", f"{path}/release", body))["data"]
            assert (version["version"], version["workflow_id"]) == (number, workflow["id"])
        versions = (await call(client, "GET", f"{path}/versions"))["data"]
        assert [version["version"] for version in versions] == ["2", "1"]
        shown = (await call(client, "GET", path))["data"]
        assert (shown["name"], shown["flow"], shown["status"]) == ("third", FLOW, "active")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"name": None}, {"name": "cannot be blank"}),
        ({"name": "My Flow"}, {"name": "must be lowercase letters, digits and hyphens"}),
        ({"project_id": "p"}, {"project_id": "must be a valid UUID"}),
        ({"project_id": None}, {"project_id": "cannot be blank"}),
        ({"flow": {"nodes": []}}, {"flow": "nodes: cannot be blank"}),
        ({"flow": None}, {"flow": "cannot be blank"}),
        ({"flow_ui": []}, {"flow_ui": "cannot be blank"}),
    ],
)
async def test_what_is_wrong_with_one_is_said(
    change: dict[str, Any], complaint: dict[str, str], connect: RawClients
) -> None:
    async with Emulator() as emulator:
        client = await connect(emulator)
        response = await client.post(PATH, BODY | change, key=DEFAULT_TOKEN)
        assert response.status == 400
        assert response.error["details"].keys() == complaint.keys()


async def test_a_list_needs_a_project(connect: RawClients) -> None:
    async with Emulator() as emulator:
        response = await (await connect(emulator)).get(PATH, key=DEFAULT_TOKEN)
        assert response.error["details"] == {"project_id": "cannot be blank"}


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", ""), ("PUT", ""), ("POST", "/save"), ("POST", "/release"), ("GET", "/versions")],
)
async def test_one_that_is_not_there(method: str, path: str, connect: RawClients) -> None:
    async with Emulator() as emulator:
        client = await connect(emulator)
        response = await client.call(method, f"{PATH}/nope{path}", BODY, key=DEFAULT_TOKEN)
        assert (response.status, response.error["code"]) == (404, "not_found")


async def test_its_flow_is_not_run_and_that_is_said(connect: RawClients) -> None:
    async with Emulator("echo") as emulator:
        client = await connect(emulator)
        workflow = await made(client)
        wanted = {"name": "a", "project_id": DEFAULT_PROJECT, "workflow_id": workflow["id"]}
        app = emulator.management.find("echo").id
        places = [("/~management/v1/apps", wanted), (f"/~management/v1/apps/{app}/deploy", wanted)]
        for path, body in places:
            response = await client.post(path, body, key=DEFAULT_TOKEN)
            assert response.error["details"] == {"workflow_id": "it has no released version"}
        body = {"name": "my-flow", "flow": FLOW, "flow_ui": UI}
        await call(client, "POST", f"/{workflow['id']}/release", body)
        for path, body in places:
            response = await client.post(path, body, key=DEFAULT_TOKEN)
            assert (response.status, response.error["code"]) == (501, "not_emulated")
            assert "dynamiq-async serve module:workflow" in response.error["message"]
        assert (await client.post("/echo")).status == 200


@pytest.mark.parametrize(
    ("method", "path", "said"),
    [
        ("POST", "workflows/test", "does not run a flow's JSON"),
        ("GET", "workflows/w/requirements", "Emulator.requirements.add"),
        ("PUT", "workflows/w/requirements/r", "Emulator.requirements.add"),
        ("GET", "agent-builder/nodes", "no catalogue of nodes"),
        ("POST", "apps/a/triggers", "no scheduler"),
        ("POST", "apps/a/triggers/t/run", "no scheduler"),
        ("GET", "apps/a/metrics", "no metrics"),
        ("GET", "conversations", "no conversations"),
        ("GET", "datasets/d", "not among them"),
        ("PATCH", "agents/voice/agents/v", "not among them"),
        ("DELETE", "memory-stores/m/files", "not among them"),
        ("GET", "user/connectors", "not among them"),
    ],
)
async def test_what_is_not_emulated_says_so(
    method: str, path: str, said: str, connect: RawClients
) -> None:
    async with Emulator() as emulator:
        client = await connect(emulator)
        response = await client.call(method, f"/~management/v1/{path}", key=DEFAULT_TOKEN)
        assert (response.status, response.error["code"]) == (501, "not_emulated")
        assert said in response.error["message"]
        assert (await client.call(method, f"/~management/v1/{path}", key=None)).status == 401


async def test_there_are_no_triggers(connect: RawClients) -> None:
    async with Emulator("echo") as emulator:
        client = await connect(emulator)
        path = f"/~management/v1/apps/{emulator.management.find('echo').id}/triggers"
        assert (await client.get(path, key=DEFAULT_TOKEN)).json["data"] == []
        path = "/~management/v1/apps/nope/triggers"
        assert (await client.get(path, key=DEFAULT_TOKEN)).status == 404
