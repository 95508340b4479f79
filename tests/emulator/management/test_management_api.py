"""The emulator's management API, seen from the wire."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from dynamiq_async.emulator import (
    BUILTIN,
    DEFAULT_PROJECT,
    DEFAULT_TOKEN,
    Emulator,
    Fault,
    RunContext,
)
from tests.support.raw_http import RawClients

LIST = f"/~management/v1/apps?project_id={DEFAULT_PROJECT}"


async def mine(input: dict[str, object], run: RunContext) -> None:
    """An App without a name of its own among the built-in ones."""


async def test_the_emulators_own_apps_are_listed_and_lead_to_it(connect: RawClients) -> None:
    async with Emulator(mine, apps={"other": mine}) as emulator:
        client = await connect(emulator)
        assert emulator.management_url == f"{emulator.url}/~management"
        response = (await client.get(LIST, key=DEFAULT_TOKEN)).json
        hosts = {app["name"]: app["hostname"] for app in response["data"]}
        assert list(hosts) == sorted([*BUILTIN, "other"])
        assert all(hosts[name] == emulator.url_for(name) for name in hosts)
        total = len(BUILTIN) + 1
        assert response["pagination"] == {
            "page": 1,
            "page_size": 25,
            "page_count": 1,
            "total_count": total,
        }


async def test_the_default_app_is_listed_once(connect: RawClients) -> None:
    async with Emulator("echo") as named, Emulator(mine) as own:
        names = [app.name for app in named.management.apps]
        assert sorted(names) == sorted(BUILTIN)
        assert own.management.find("mine").public(own.url)["hostname"] == own.url
        assert [app.name for app in own.management.apps] == [*BUILTIN, "mine"]
        with pytest.raises(KeyError):
            named.management.find("mine")


async def test_an_app_is_the_one_that_its_runs_belong_to(connect: RawClients) -> None:
    async with Emulator("echo") as emulator:
        client = await connect(emulator)
        id = emulator.management.find("llm").id
        app = (await client.get(f"/~management/v1/apps/{id}", key=DEFAULT_TOKEN)).json["data"]
        run = (await client.post("/llm/v1/runs")).json["data"]
        assert run["app_id"] == app["id"] == id
        assert app["access_control"] == {"access_type": "private"}


async def test_public_apps_say_so() -> None:
    emulator = Emulator(access_key=None)
    assert {app.access_type for app in emulator.management.apps} == {"public"}


@pytest.mark.parametrize("token", [None, "dynamiq_acc_emulator", f"{DEFAULT_TOKEN}x"])
async def test_it_wants_its_token(token: str | None, connect: RawClients) -> None:
    async with Emulator() as emulator:
        client = await connect(emulator)
        response = await client.get(LIST, key=token)
        assert (response.status, response.error["code"]) == (401, "unauthorized")
        emulator.management.token = None
        assert (await client.get(LIST, key=token)).status == 200


async def test_an_app_does_not_take_the_token(connect: RawClients) -> None:
    async with Emulator() as emulator:
        response = await (await connect(emulator)).post("/", key=DEFAULT_TOKEN)
        assert response.status == 403


@pytest.mark.parametrize(
    ("query", "complaint"),
    [
        ("", {"project_id": "cannot be blank"}),
        ("project_id=p-1", {"project_id": "must be a valid UUID"}),
        (f"project_id={DEFAULT_PROJECT}&sort=-nope", {"sort": "cannot sort by nope"}),
        (f"project_id={DEFAULT_PROJECT}&page=0", {"page": "must be an integer no less than 1"}),
    ],
)
async def test_a_bad_query_is_refused(
    query: str, complaint: dict[str, str], connect: RawClients
) -> None:
    async with Emulator() as emulator:
        client = await connect(emulator)
        response = await client.get(f"/~management/v1/apps?{query}", key=DEFAULT_TOKEN)
        assert (response.status, response.error["details"]) == (400, complaint)


async def test_other_paths_and_methods(connect: RawClients) -> None:
    async with Emulator() as emulator:
        client = await connect(emulator)
        for path, status in (("/~management/", 404), ("/~management/v1/apps/nope", 404)):
            assert (await client.get(path, key=DEFAULT_TOKEN)).status == status
        assert (await client.call("PUT", "/~management/v1/apps", key=DEFAULT_TOKEN)).status == 405


async def test_sorting_by_several_fields(connect: RawClients) -> None:
    async with Emulator() as emulator:
        emulator.management.apps.clear()
        for day, name in ((2, "a"), (1, "b"), (1, "c")):
            emulator.management.add(name, created_at=datetime(2026, 1, day, tzinfo=UTC))
        client = await connect(emulator)
        response = await client.get(f"{LIST}&sort=created_at,-name", key=DEFAULT_TOKEN)
        assert [app["name"] for app in response.json["data"]] == ["c", "b", "a"]


async def test_fields_are_laid_over_the_response_and_faults_are_met(connect: RawClients) -> None:
    async with Emulator() as emulator:
        id = emulator.management.add("odd", fields={"hostname": None, "new": [1]}).id
        client = await connect(emulator)
        emulator.script(Fault(status=503), match="GET /v1/apps/*")
        path = f"/~management/v1/apps/{id}"
        assert (await client.get(path, key=DEFAULT_TOKEN)).status == 503
        app = (await client.get(path, key=DEFAULT_TOKEN)).json["data"]
        assert (app["hostname"], app["new"]) == (None, [1])
        assert [seen.service for seen in emulator.requests] == ["management"] * 2
