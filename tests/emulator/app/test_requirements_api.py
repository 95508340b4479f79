"""The requirements API: accounts that end users connect."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from dynamiq_async.emulator import Emulator

if TYPE_CHECKING:
    from tests.support.raw_http import RawClient, RawClients

ANN = {"input": {}, "user_id": "ann"}


async def link_for(client: RawClient, **more: Any) -> str:
    """The path of a link that connects Ann."""
    response = await client.post("/v1/connect/tokens", {"user_id": "ann", **more})
    assert response.status == 200
    url, token = response.json["url"], response.json["token"]
    assert url == f"{client.emulator.url}/~connect/{token}"
    assert response.json["expires_at"].endswith("Z")
    return str(url.removeprefix(client.emulator.url))


async def unsatisfied(client: RawClient) -> list[str]:
    status = (await client.get("/v1/requirements/status?user_id=ann")).json
    left = [needed["form"]["title"] for needed in status["unsatisfied"]]
    assert status["status"] == ("incomplete" if left else "complete")
    return left


async def test_requirements_ask_for_a_user(connect: RawClients) -> None:
    async with Emulator() as emulator:
        client = await connect(emulator)
        for method, path in (
            ("GET", "/v1/requirements/status"),
            ("DELETE", "/v1/requirements/r-1/connections"),
        ):
            response = await client.call(method, path)
            assert response.error["details"] == {"user_id": "cannot be blank"}
        response = await client.post("/v1/connect/tokens", {})
        assert response.error["details"] == {"user_id": "cannot be blank"}


async def test_an_app_lists_what_it_needs_itself(connect: RawClients) -> None:
    async with Emulator() as emulator:
        mail = emulator.requirements.add("Mail")
        emulator.requirements.add("Calendar", app="echo")
        client = await connect(emulator)
        listed = (await client.get("/v1/requirements")).json
        shown = {
            "id": mail.id,
            "type": "connection",
            "form": {"title": "Mail", "description": ""},
            "spec": {"type": "connection", "data": {"type": "dynamiq.connections.OpenAI"}},
            "workflow_id": mail.workflow_id,
            "name": "account",
        }
        assert listed == {"data": [shown]}


async def test_an_optional_requirement_keeps_no_run_back(connect: RawClients) -> None:
    async with Emulator("echo") as emulator:
        mail = emulator.requirements.add("Mail", required=False, type="pipedream_account")
        client = await connect(emulator)
        status = (await client.get("/v1/requirements/status?user_id=ann")).json
        assert status == {"status": "complete", "unsatisfied": [mail.public()]}
        assert status["unsatisfied"][0]["type"] == "pipedream_account"
        assert (await client.post("/", ANN)).status == 200
        emulator.requirements.lists_optional = False
        status = (await client.get("/v1/requirements/status?user_id=ann")).json
        assert status == {"status": "complete", "unsatisfied": []}


@pytest.mark.parametrize("path", ["/", "/v1/runs"])
async def test_a_run_waits_for_what_its_user_has_to_connect(connect: RawClients, path: str) -> None:
    async with Emulator("echo") as emulator:
        mail = emulator.requirements.add("Mail")
        client = await connect(emulator)
        refused = await client.post(path, ANN)
        assert (refused.status, refused.error["code"]) == (400, "requirements_unsatisfied")
        assert refused.error["message"] == "user ann has not connected Mail"
        assert refused.error["details"] == {mail.id: "Mail"}
        nobody = await client.post(path)
        assert nobody.error["message"].startswith("this run, which has no user_id, has not")
        await client.get(await link_for(client), key=None)
        assert (await client.post(path, ANN)).status == 200
        assert emulator.executions.total == 1


async def test_a_link_connects_everything_and_is_a_jwt(connect: RawClients) -> None:
    async with Emulator() as emulator:
        for title in ("Mail", "Calendar"):
            emulator.requirements.add(title)
        client = await connect(emulator)
        link = await link_for(client)
        assert await unsatisfied(client) == ["Mail", "Calendar"]
        opened = await client.get(link, key=None)
        assert (opened.status, opened.json) == (200, {"message": "connected"})
        assert await unsatisfied(client) == []
        assert (await client.get(link, key=None)).status == 200
        token = link.rpartition("/")[2]
        claims = token.split(".")[1]
        known = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
        assert known["user_id"] == "ann"
        assert 86_000 < known["exp"] - datetime.now(UTC).timestamp() <= 86_400


async def test_a_link_expires(connect: RawClients) -> None:
    async with Emulator() as emulator:
        emulator.requirements.add("Mail")
        client = await connect(emulator)
        link = await link_for(client)
        [known] = emulator.requirements.links.values()
        known.expires_at = datetime.now(UTC)
        late = await client.get(link, key=None)
        assert (late.status, late.error["code"]) == (410, "gone")
        assert await unsatisfied(client) == ["Mail"]


async def test_a_link_may_be_for_some_requirements_only(connect: RawClients) -> None:
    async with Emulator() as emulator:
        emulator.requirements.add("Mail")
        calendar = emulator.requirements.add("Calendar")
        client = await connect(emulator)
        await client.get(await link_for(client, requirement_ids=[calendar.id]), key=None)
        assert await unsatisfied(client) == ["Mail"]
        body = {"user_id": "ann", "requirement_ids": ["r-1", calendar.id, "r-2"]}
        refused = await client.post("/v1/connect/tokens", body)
        assert refused.error["details"] == {"requirement_ids": "there is no r-1, r-2"}


async def test_an_account_can_be_disconnected(connect: RawClients) -> None:
    async with Emulator() as emulator:
        emulator.requirements.add("Calendar").users.add("ann")
        mail = emulator.requirements.add("Mail")
        mail.users.update(("ann", "bob"))
        client = await connect(emulator)
        path = f"/v1/requirements/{mail.id}/connections?user_id=ann"
        assert (await client.call("DELETE", path)).status == 204
        assert mail.users == {"bob"}
        assert await unsatisfied(client) == ["Mail"]
        unknown = await client.call("DELETE", "/v1/requirements/r-1/connections?user_id=ann")
        assert (unknown.status, unknown.error["code"]) == (404, "not_found")
