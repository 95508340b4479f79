"""Flowy as the emulator puts it on the wire."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from dynamiq_async.emulator import Emulator, Fault, FlowyApp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.raw_http import RawClient, RawClients

NOON = 1_800_014_400.0  # 2027-01-15 12:00:00 UTC
INPUTS = {"inputs": {"text-1": "Fresh"}}


class Flowy:
    """One connection to an emulator whose time is moved."""

    def __init__(self, emulator: Emulator, client: RawClient) -> None:
        self.emulator = emulator
        self.client = client
        self.service = emulator.flowy

    async def call(self, method: str, path: str, body: Any = None, *, key: str | None = "") -> Any:
        key = self.emulator.flowy_key if key == "" else key
        return await self.client.call(method, f"/~flowy{path}", body, key=key)

    async def start(self, app: str = "poster", **more: Any) -> Any:
        return await self.call("POST", f"/apps/{app}/runs", INPUTS, **more)


class Time:
    now = NOON

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
async def flowy(connect: RawClients, time: Time) -> AsyncIterator[Flowy]:
    async with Emulator(clock=time) as emulator:
        yield Flowy(emulator, await connect(emulator))


def left(response: Any) -> int:
    return int(response.headers["x-ratelimit-remaining"])


def untold(response: Any) -> bool:
    return not [name for name in response.headers if name.startswith("x-ratelimit")]


async def test_successful_responses_say_how_many_requests_are_left(flowy: Flowy) -> None:
    responses = [
        await flowy.call("GET", "/apps"),
        await flowy.call("GET", "/apps/nope"),
        await flowy.call("GET", "/nothing/here"),
        await flowy.call("GET", "/apps/haiku"),
        await flowy.start(),
        await flowy.call("GET", "/apps", key="other"),
    ]
    assert [response.status for response in responses] == [200, 404, 404, 200, 202, 401]
    assert [untold(response) for response in responses] == [False, True, True, False, False, True]
    assert [left(responses[index]) for index in (0, 3, 4)] == [59, 56, 55]
    assert {response.headers["date"] for response in responses} == {"Fri, 15 Jan 2027 12:00:00 GMT"}


async def test_every_response_says_so_where_that_is_asked_for(flowy: Flowy) -> None:
    flowy.service.limits_told = "all"
    responses = [
        await flowy.call("GET", "/apps"),
        await flowy.call("GET", "/apps/nope"),
        await flowy.call("GET", "/nothing/here"),
        await flowy.call("DELETE", "/apps"),
        await flowy.call("POST", "/runs/1"),
    ]
    assert [response.status for response in responses] == [200, 404, 404, 404, 404]
    assert [left(response) for response in responses] == [59, 58, 57, 56, 55]
    for response in responses:
        assert response.headers["x-ratelimit-limit"] == "60"
        assert response.headers["x-ratelimit-reset"] == str(int(NOON + 60))
        assert response.headers["date"] == "Fri, 15 Jan 2027 12:00:00 GMT"


async def test_beyond_them_it_refuses_until_the_window_ends(flowy: Flowy, time: Time) -> None:
    for _ in range(60):
        await flowy.call("GET", "/apps")
    time.now += 17.5
    refused = await flowy.call("GET", "/apps")
    assert (refused.status, refused.json) == (429, {"error": "Rate limit exceeded"})
    assert (refused.headers["retry-after"], untold(refused)) == ("43", True)
    other = await flowy.call("GET", "/apps", key=flowy.service.publishable_key)
    assert (other.status, left(other)) == (200, 119)
    time.now += 42.5
    assert left(await flowy.call("GET", "/apps")) == 59


@pytest.mark.parametrize("key", ["flowy_sk_other", None])
async def test_another_key_is_refused(flowy: Flowy, key: str | None) -> None:
    refused = await flowy.call("GET", "/apps", key=key)
    assert (refused.status, refused.json) == (401, {"error": "Invalid API key"})
    assert untold(refused)


async def test_a_run_goes_through_its_states_by_the_clock(flowy: Flowy, time: Time) -> None:
    flowy.service.queue_seconds = 2
    started = await flowy.start("clip")
    assert started.status == 202
    run_id = started.json["data"]["runId"]
    assert started.json == {"data": {"runId": run_id, "status": "queued"}}
    seen = []
    for _ in range(3):
        seen.append((await flowy.call("GET", f"/runs/{run_id}")).json["data"])
        time.now += 5
    assert [run["status"] for run in seen] == ["queued", "running", "completed"]
    assert [len(run["outputs"]) for run in seen] == [0, 0, 1]
    assert [run["createdAt"] for run in seen] == ["2027-01-15T12:00:00Z"] * 3
    assert seen[2]["updatedAt"] == "2027-01-15T12:00:10Z"
    assert "error" not in seen[2]


async def test_an_unknown_run_is_not_found(flowy: Flowy) -> None:
    unknown = await flowy.call("GET", "/runs/r-1")
    assert (unknown.status, unknown.json) == (404, {"error": "Run not found"})


async def test_a_run_that_fails_says_why(flowy: Flowy) -> None:
    run_id = (await flowy.call("POST", "/apps/broken/runs")).json["data"]["runId"]
    shown = (await flowy.call("GET", f"/runs/{run_id}")).json["data"]
    assert (shown["status"], shown["error"]) == ("failed", "the model is out of paint")


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({}, "Missing input: text-1"),
        ({"text-1": 3}, "Invalid input: text-1"),
        ({"text-1": "a", "x": "b"}, "Invalid input: x"),
        ("text", "Missing input: text-1"),
    ],
)
async def test_inputs_are_those_of_the_app(flowy: Flowy, inputs: Any, said: str) -> None:
    refused = await flowy.call("POST", "/apps/poster/runs", {"inputs": inputs})
    assert (refused.status, refused.json) == (400, {"error": said})


async def test_so_many_runs_are_in_flight_and_no_more(flowy: Flowy, time: Time) -> None:
    flowy.service.max_runs = 2
    assert [(await flowy.start("clip")).status for _ in range(2)] == [202, 202]
    refused = await flowy.start("clip")
    assert (refused.status, refused.headers["retry-after"]) == (429, "5")
    assert untold(refused)
    other = await flowy.start("clip", key=flowy.service.publishable_key)
    assert other.status == 202
    time.now += 8
    assert (await flowy.start("clip")).status == 202


async def test_a_day_has_its_cap(flowy: Flowy, time: Time) -> None:
    flowy.service.daily_runs = 1
    assert (await flowy.start()).status == 202
    refused = await flowy.start()
    assert (refused.status, refused.json) == (402, {"error": "Daily spend cap reached"})
    time.now += 12 * 3600 - 1
    assert (await flowy.start()).status == 402
    time.now += 1
    assert (await flowy.start()).status == 202


async def link_of(flowy: Flowy) -> str:
    run_id = (await flowy.start()).json["data"]["runId"]
    shown = (await flowy.call("GET", f"/runs/{run_id}")).json["data"]
    url: str = shown["outputs"][0]["url"]
    there = f"http://localhost:{flowy.emulator.port}"
    assert url.startswith(f"{there}/~flowy-files/")
    return url.removeprefix(there)


async def test_a_link_leads_to_the_content_without_a_key(flowy: Flowy) -> None:
    response = await flowy.client.get(await link_of(flowy), key=None)
    assert (response.status, response.headers["content-type"]) == (200, "image/png")
    assert response.headers["content-length"] == str(len(response.body))
    assert response.body.endswith(b"Fresh")


async def test_who_brings_a_key_to_a_link_is_refused(flowy: Flowy) -> None:
    link = await link_of(flowy)
    assert (await flowy.client.get(link, key=flowy.emulator.flowy_key)).status == 400
    assert (await flowy.client.get(link, key=None, Cookie="a=b")).status == 400
    assert (await flowy.client.get(link, key=None, X_API_Key="a")).status == 400


async def test_a_link_expires(flowy: Flowy, time: Time) -> None:
    link = await link_of(flowy)
    time.now += 600
    refused = await flowy.client.get(link, key=None)
    assert (refused.status, refused.error["code"]) == (403, "AccessDenied")


async def test_a_link_cannot_be_forged(flowy: Flowy) -> None:
    link = await link_of(flowy)
    later = link.replace("expires=1", "expires=2")
    other = link.replace("/poster.png", "/other.png")
    for forged in (later, other, link.partition("?")[0], link + "0"):
        refused = await flowy.client.get(forged, key=None)
        assert (refused.status, refused.error["code"]) == (403, "SignatureDoesNotMatch")


async def test_a_link_to_what_is_gone_is_not_found(flowy: Flowy) -> None:
    link = await link_of(flowy)
    flowy.service.runs.clear()
    assert (await flowy.client.get(link, key=None)).status == 404


async def test_faults_happen_here_as_everywhere(flowy: Flowy) -> None:
    flowy.emulator.script(Fault.html_page(502), match="GET /apps")
    assert (await flowy.call("GET", "/apps")).status == 502
    link = await link_of(flowy)
    flowy.emulator.script(Fault(at_byte=3, drop="close"))
    response = await flowy.client.get(link, key=None)
    assert (len(response.body), response.end) == (3, "closed")


async def test_apps_can_be_added(flowy: Flowy) -> None:
    flowy.service.apps["mine"] = FlowyApp(id="mine", title="Mine", make=lambda _: {"n": "text"})
    run_id = (await flowy.call("POST", "/apps/mine/runs")).json["data"]["runId"]
    shown = (await flowy.call("GET", f"/runs/{run_id}")).json["data"]
    assert shown["outputs"] == [{"nodeId": "n", "kind": "text", "text": "text"}]


async def test_an_app_is_shown_with_its_inputs_and_outputs(flowy: Flowy) -> None:
    assert flowy.emulator.flowy_url == f"{flowy.emulator.url}/~flowy"
    listed = {app["id"]: app for app in (await flowy.call("GET", "/apps")).json["data"]}
    assert list(listed) == ["haiku", "poster", "clip", "collage", "broken"]
    for name in ("haiku", listed["poster"]["slug"]):
        shown = (await flowy.call("GET", f"/apps/{name}")).json["data"]
        assert listed[shown["id"]] == {k: v for k, v in shown.items() if not k.endswith("puts")}
        assert shown["inputs"][0].keys() == {"nodeId", "label", "kind", "required"}
        assert shown["outputs"][0].keys() == {"nodeId", "label", "outputType"}


async def test_a_text_is_in_the_run_itself(flowy: Flowy) -> None:
    body = {"inputs": {"topic-1": "a frog"}}
    run_id = (await flowy.call("POST", "/apps/haiku/runs", body)).json["data"]["runId"]
    [output] = (await flowy.call("GET", f"/runs/{run_id}")).json["data"]["outputs"]
    assert (output["nodeId"], output["kind"]) == ("text-1", "text")
    assert "a frog jumps in" in output["text"]


async def test_a_signature_of_any_characters_is_refused(connect: Any) -> None:
    async with Emulator() as emulator:
        client = await connect(emulator)
        link = "/~flowy-files/run/node/a.png?expires=9&signature="
        for signature in ("", "%C3%A4", "%ff", "%ED%A0%80"):
            assert (await client.get(link + signature, key=None)).status == 403
