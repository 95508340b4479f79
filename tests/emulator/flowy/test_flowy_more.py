"""Generations, credits, assets, scopes and renewed links of Flowy, on the wire."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from dynamiq_async.emulator import Emulator

from .test_flowy_api import Flowy, Time

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.raw_http import RawClients

CAT = {"type": "image", "prompt": "a cat"}


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
async def flowy(connect: RawClients, time: Time) -> AsyncIterator[Flowy]:
    async with Emulator(clock=time) as emulator:
        yield Flowy(emulator, await connect(emulator))


async def made(flowy: Flowy) -> str:
    """The id of a generation."""
    started = await flowy.call("POST", "/generations", CAT)
    assert started.status == 202
    id: str = started.json["data"]["generationId"]
    return id


async def shown(flowy: Flowy, path: str) -> Any:
    response = await flowy.call("GET", path)
    assert response.status == 200
    return response.json["data"]


async def test_a_generation_goes_through_its_states_by_the_clock(flowy: Flowy, time: Time) -> None:
    flowy.service.generation_seconds = 5
    started = (await flowy.call("POST", "/generations", CAT)).json["data"]
    id = started["generationId"]
    assert started == {"generationId": id, "status": "processing", "estimatedCredits": 10}
    assert await shown(flowy, f"/generations/{id}") == {
        "generationId": id,
        "status": "processing",
        "outputs": [],
        "createdAt": "2027-01-15T12:00:00Z",
        "updatedAt": "2027-01-15T12:00:00Z",
    }
    time.now += 5
    over = await shown(flowy, f"/generations/{id}")
    assert (over["status"], over["creditsCharged"]) == ("completed", 10)
    [output] = over["outputs"]
    assert output.keys() == {"kind", "assetId", "url"}
    link = output["url"].removeprefix(f"http://localhost:{flowy.emulator.port}")
    assert (await flowy.client.get(link, key=None)).body.endswith(b"a cat")


async def test_a_generation_that_fails_says_why_and_costs_nothing(flowy: Flowy) -> None:
    started = await flowy.call("POST", "/generations", {**CAT, "prompt": "fail"})
    failed = await shown(flowy, f"/generations/{started.json['data']['generationId']}")
    assert (failed["status"], failed["error"]) == ("failed", "the model is out of ideas")
    assert "creditsCharged" not in failed
    assert (await shown(flowy, "/credits"))["credits"] == flowy.service.credits


@pytest.mark.parametrize("body", [None, [], {}, {"type": "image"}, {**CAT, "type": ""}])
async def test_it_needs_a_type_and_a_prompt(flowy: Flowy, body: Any) -> None:
    refused = await flowy.call("POST", "/generations", body)
    assert refused.status == 400
    assert refused.json["error"].startswith("Missing field: ")


async def test_what_is_not_there_is_not_found(flowy: Flowy) -> None:
    for path, said in (("/generations/g", "Generation not found"), ("/assets/a", "Asset not f")):
        unknown = await flowy.call("GET", path)
        assert unknown.status == 404
        assert said in unknown.json["error"]


async def test_credits_are_blocked_while_something_is_in_flight(flowy: Flowy, time: Time) -> None:
    flowy.service.credits = 25
    await flowy.start("clip")
    await made(flowy)
    assert await shown(flowy, "/credits") == {
        "workspaceId": "workspace-1",
        "credits": 15,
        "blockedCredits": 10,
        "available": 5,
    }
    for refused in (await flowy.start("clip"), await flowy.call("POST", "/generations", CAT)):
        assert (refused.status, refused.json) == (402, {"error": "Insufficient credits"})
    time.now += 8
    assert (await shown(flowy, "/credits"))["blockedCredits"] == 0
    assert (await flowy.start("clip")).status == 402


async def test_assets_are_what_was_made_by_now_newest_first(flowy: Flowy, time: Time) -> None:
    first = await made(flowy)
    time.now += 1
    run_id = (await flowy.start()).json["data"]["runId"]
    await flowy.start("clip")
    page = await shown(flowy, "/assets")
    assert {name: page[name] for name in ("total", "page", "pageSize", "totalPages")} == {
        "total": 2,
        "page": 1,
        "pageSize": 20,
        "totalPages": 1,
    }
    assert [asset["assetId"] for asset in page["assets"]] == [f"{run_id}-1", f"{first}-1"]
    second = await shown(flowy, "/assets?page=2&pageSize=1")
    assert [asset["assetId"] for asset in second["assets"]] == [f"{first}-1"]
    assert (second["page"], second["totalPages"]) == (2, 2)
    assert (await shown(flowy, f"/assets/{first}-1"))["createdAt"] == "2027-01-15T12:00:00Z"
    assert (await flowy.call("GET", "/assets?page=0")).status == 400


async def test_where_links_are_not_renewed_the_asset_has_a_fresh_one(
    flowy: Flowy, time: Time
) -> None:
    flowy.service.renews_links = False
    id = await made(flowy)
    [before] = (await shown(flowy, f"/generations/{id}"))["outputs"]
    time.now += 601
    [after] = (await shown(flowy, f"/generations/{id}"))["outputs"]
    assert after == before
    assert (await shown(flowy, f"/assets/{id}-1"))["url"] != before["url"]
    flowy.service.renews_links = True
    [renewed] = (await shown(flowy, f"/generations/{id}"))["outputs"]
    assert renewed["url"] != before["url"]


async def test_a_key_may_have_some_scopes_only(flowy: Flowy) -> None:
    flowy.service.scopes[flowy.service.key] = frozenset({"apps:read"})
    assert (await flowy.call("GET", "/apps")).status == 200
    for method, path in (
        ("POST", "/apps/haiku/runs"),
        ("GET", "/runs/r"),
        ("POST", "/generations"),
        ("GET", "/generations/g"),
        ("GET", "/credits"),
        ("GET", "/assets"),
        ("GET", "/assets/a"),
    ):
        refused = await flowy.call(method, path, CAT if method == "POST" else None)
        assert (refused.status, refused.json) == (403, {"error": "Insufficient permissions"})
    other = await flowy.call("GET", "/credits", key=flowy.service.publishable_key)
    assert other.status == 200
