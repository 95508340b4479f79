"""Apps that are deployed over the emulator's management API, called, and deleted."""

from __future__ import annotations

from typing import Any

import pytest

from dynamiq_async.emulator import (
    DEFAULT_PROJECT,
    DEFAULT_TOKEN,
    Emulator,
    Project,
    RunContext,
)
from tests.support.raw_http import RawClient, RawClients

APPS = "/~management/v1/apps"


async def old(input: dict[str, Any], run: RunContext) -> str:
    return "old"


async def new(input: dict[str, Any], run: RunContext) -> str:
    return "new"


def workflow_of(emulator: Emulator, name: str) -> str:
    return emulator.management.find(name).workflow_id


def wanted(emulator: Emulator, name: str = "My Bot", *, of: str = "old", **more: Any) -> Any:
    return {
        "name": name,
        "project_id": DEFAULT_PROJECT,
        "workflow_id": workflow_of(emulator, of),
        **more,
    }


async def deploy(client: RawClient, body: Any, path: str = APPS) -> Any:
    response = await client.post(path, body, key=DEFAULT_TOKEN)
    assert response.status in (200, 201), response.body
    return response.json["data"]


def path_of(app: Any, emulator: Emulator) -> str:
    path: str = app["hostname"].removeprefix(emulator.url)
    return path


async def test_an_app_is_made_of_a_workflow_and_serves_at_its_hostname(connect: RawClients) -> None:
    async with Emulator(old) as emulator:
        client = await connect(emulator)
        config = {"deployment_type": "server_based", "config": {"autoscaling": {"min_replicas": 1}}}
        body = wanted(emulator, description="mine", deployment_config=config, runtime_id="r-9")
        response = await client.post(APPS, body, key=DEFAULT_TOKEN)
        app = response.json["data"]
        assert response.status == 201
        assert app["hostname"] == emulator.url_for("my-bot")
        assert (app["description"], app["deployment_config"]) == ("mine", config)
        assert app["runtime"]["id"] == app["runtime_id"] == "r-9"
        answer = await client.post(path_of(app, emulator))
        assert (answer.status, answer.json) == (200, {"output": "old"})
        run = (await client.post(f"{path_of(app, emulator)}/v1/runs")).json["data"]
        assert run["app_id"] == app["id"]
        found = await client.get(f"{APPS}/{app['id']}", key=DEFAULT_TOKEN)
        assert found.json["data"] == app
        query = f"?project_id={DEFAULT_PROJECT}&workflow_id={workflow_of(emulator, 'old')}"
        listed = (await client.get(APPS + query, key=DEFAULT_TOKEN)).json["data"]
        assert {entry["name"] for entry in listed} == {"old", "My Bot"}


@pytest.mark.parametrize(
    ("names", "paths"),
    [
        (["My Bot", "my bot", "My.Bot"], ["/my-bot", "/my-bot-2", "/my-bot-3"]),
        (["echo"], ["/echo-2"]),
        (["'"], ["/app"]),
    ],
)
async def test_each_has_a_path_of_its_own(
    names: list[str], paths: list[str], connect: RawClients
) -> None:
    async with Emulator(old) as emulator:
        client = await connect(emulator)
        apps = [await deploy(client, wanted(emulator, name)) for name in names]
        assert [path_of(app, emulator) for app in apps] == paths


async def test_a_public_app_takes_calls_without_a_key(connect: RawClients) -> None:
    async with Emulator(old) as emulator:
        client = await connect(emulator)
        access = {"access_control": {"access_type": "public"}}
        public = await deploy(client, wanted(emulator, "open") | access)
        private = await deploy(client, wanted(emulator, "shut"))
        assert public["access_control"] == {"access_type": "public"}
        assert (await client.post(path_of(public, emulator), key=None)).status == 200
        assert (await client.post(path_of(private, emulator), key=None)).status == 401


async def test_another_workflow_is_deployed_onto_an_app(connect: RawClients) -> None:
    async with Emulator(old, apps={"new": new}) as emulator:
        client = await connect(emulator)
        app = await deploy(client, wanted(emulator))
        path = f"{APPS}/{app['id']}"
        again = await deploy(
            client, {"workflow_id": workflow_of(emulator, "new")}, f"{path}/deploy"
        )
        assert (again["id"], again["hostname"]) == (app["id"], app["hostname"])
        assert again["workflow_id"] == again["workflow"]["id"] == workflow_of(emulator, "new")
        assert (await client.post(path_of(app, emulator))).json == {"output": "new"}
        listed = (await client.get(f"{path}/deployments", key=DEFAULT_TOKEN)).json
        assert listed["pagination"]["total_count"] == 2
        assert [each["workflow_id"] for each in listed["data"]] == [
            workflow_of(emulator, "new"),
            workflow_of(emulator, "old"),
        ]
        ids = [again["latest_deployment_id"], app["latest_deployment_id"]]
        assert [each["id"] for each in listed["data"]] == ids


async def test_a_deleted_app_is_gone_and_its_workflow_is_not(connect: RawClients) -> None:
    async with Emulator(old) as emulator:
        client = await connect(emulator)
        app = await deploy(client, wanted(emulator))
        workflow_id = app["workflow_id"]
        for id, path in (
            (app["id"], path_of(app, emulator)),
            (emulator.management.find("old").id, "/"),
        ):
            gone = await client.call("DELETE", f"{APPS}/{id}", key=DEFAULT_TOKEN)
            assert (gone.status, gone.body) == (204, b"")
            for key in ("", None):
                answer = await client.post(path, key=key)
                assert (answer.status, answer.error["code"]) == (404, "not_found")
            assert (await client.get(f"{APPS}/{id}", key=DEFAULT_TOKEN)).status == 404
        assert (await client.post("/echo")).status == 200
        body = {"name": "My Bot", "project_id": DEFAULT_PROJECT, "workflow_id": workflow_id}
        again = await deploy(client, body)
        assert (await client.post(path_of(again, emulator))).json == {"output": "old"}
        assert path_of(again, emulator) == "/my-bot"


async def test_an_app_that_leads_nowhere_is_deleted_too(connect: RawClients) -> None:
    async with Emulator() as emulator:
        id = emulator.management.add("elsewhere", app="not-here").id
        client = await connect(emulator)
        assert (await client.call("DELETE", f"{APPS}/{id}", key=DEFAULT_TOKEN)).status == 204


WRONG: list[tuple[dict[str, Any], dict[str, str]]] = [
    ({"name": None}, {"name": "cannot be blank"}),
    ({"name": "a;b"}, {"name": "may have letters, digits, spaces and . / _ ' -"}),
    ({"project_id": "p"}, {"project_id": "must be a valid UUID"}),
    ({"project_id": None}, {"project_id": "cannot be blank"}),
    ({"workflow_id": None}, {"workflow_id": "cannot be blank"}),
    ({"workflow_id": "nope"}, {"workflow_id": "there is no such workflow"}),
    ({"workflow_version_id": "v"}, {"workflow_version_id": "there is no such version"}),
    ({"description": "x" * 513}, {"description": "must be 512 characters at most"}),
    (
        {"access_control": {"access_type": "secret"}},
        {"access_control": "access_type must be private or public"},
    ),
    (
        {"deployment_config": {}},
        {"deployment_config": "deployment_type must be serverless or server_based"},
    ),
]


@pytest.mark.parametrize(("change", "complaint"), WRONG)
async def test_what_is_wrong_with_a_deployment_is_said(
    change: dict[str, Any], complaint: dict[str, str], connect: RawClients
) -> None:
    async with Emulator(old) as emulator:
        client = await connect(emulator)
        response = await client.post(APPS, wanted(emulator) | change, key=DEFAULT_TOKEN)
        assert (response.status, response.error["details"]) == (400, complaint)
        assert len(emulator.management.apps) == len(Emulator(old).management.apps)


async def test_a_version_of_an_apps_own_workflow_can_be_named(connect: RawClients) -> None:
    async with Emulator(old) as emulator:
        client = await connect(emulator)
        path = f"/~management/v1/workflows/{workflow_of(emulator, 'old')}/versions"
        [version] = (await client.get(path, key=DEFAULT_TOKEN)).json["data"]
        app = await deploy(client, wanted(emulator, workflow_version_id=version["id"]))
        assert app["workflow_version_id"] == version["id"]


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
async def test_an_app_that_is_not_there(method: str, connect: RawClients) -> None:
    async with Emulator(old) as emulator:
        client = await connect(emulator)
        path = {"POST": "/nope/deploy", "GET": "/nope/deployments", "DELETE": "/nope"}[method]
        body = {"workflow_id": workflow_of(emulator, "old")} if method == "POST" else None
        response = await client.call(method, APPS + path, body, key=DEFAULT_TOKEN)
        assert response.status == 404


async def test_it_wants_the_key_of_the_project_that_it_is_deployed_in(connect: RawClients) -> None:
    finance = Project(name="Finance", apps=["old"])
    async with Emulator("echo", apps={"old": old}, projects=[finance]) as emulator:
        client = await connect(emulator)
        app = await deploy(client, wanted(emulator, project_id=finance.id))
        path = path_of(app, emulator)
        assert (await client.post(path, key=finance.access_key)).json == {"output": "old"}
        assert (await client.post(path)).status == 403
        assert emulator.key_for("my-bot") == finance.access_key
        host = f"my-bot.localhost:{emulator.port}"
        assert (await client.post("/", host=host, key=finance.access_key)).status == 200
        await client.call("DELETE", f"{APPS}/{app['id']}", key=DEFAULT_TOKEN)
        assert (await client.post("/", host=host, key=finance.access_key)).status == 404
        again = await deploy(client, wanted(emulator))
        assert path_of(again, emulator) == path
        assert (await client.post(path)).status == 200
        assert (await client.post(path, key=finance.access_key)).status == 403


async def test_no_path_of_another_app_is_taken(connect: RawClients) -> None:
    async with Emulator(old) as emulator:
        client = await connect(emulator)
        app = await deploy(client, wanted(emulator, "V1"))
        assert path_of(app, emulator) == "/v1-2"
        assert (await client.post("/v1/runs")).status == 200
