"""Web pages call the emulator as they call the service: CORS with its preflight."""

from __future__ import annotations

from typing import Any

import pytest

from dynamiq_async.emulator import Emulator, Fault

SHOP = "https://shop.example"
ASKS = {
    "Origin": SHOP,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type",
}


def asking(**more: str) -> dict[str, str]:
    headers = ASKS | {name.replace("_", "-"): value for name, value in more.items()}
    return {name: value for name, value in headers.items() if value}


PATHS = ["/", "/llm", "/v1/runs", "/nowhere", "/~management/v1/apps", "/~flowy/apps", "/~connect/x"]


@pytest.mark.parametrize("path", PATHS)
async def test_a_preflight_is_answered_without_a_key(connect: Any, path: str) -> None:
    async with Emulator() as emulator:
        client = await connect(emulator)
        allowed = await client.call("OPTIONS", path, key=None, **asking())
        assert (allowed.status, allowed.body) == (204, b"")
        assert allowed.headers["access-control-allow-origin"] == "*"
        assert "POST" in allowed.headers["access-control-allow-methods"].split(", ")
        assert allowed.headers["access-control-allow-headers"] == "authorization,content-type"
        assert int(allowed.headers["access-control-max-age"]) > 0
        bare = asking(Access_Control_Request_Headers="")
        assert "access-control-allow-headers" not in (
            (await client.call("OPTIONS", path, key=None, **bare)).headers
        )


@pytest.mark.parametrize("left_out", ["Origin", "Access-Control-Request-Method"])
async def test_other_options_are_no_preflight(connect: Any, left_out: str) -> None:
    async with Emulator() as emulator:
        client = await connect(emulator)
        headers = asking(**{left_out.replace("-", "_"): ""})
        assert (await client.call("OPTIONS", "/", key=None, **headers)).status == 401
        assert (await client.call("OPTIONS", "/", **headers)).status == 405


async def test_every_response_may_be_read_by_the_page(connect: Any) -> None:
    async with Emulator("echo") as emulator:
        client = await connect(emulator)
        emulator.script(Fault(status=503, headers={"Retry-After": "1"}), match="GET /v1/runs")
        responses = [
            await client.post(Origin=SHOP),
            await client.stream(Origin=SHOP),
            await client.post("/", {}, Origin=SHOP),
            await client.get("/v1/runs", Origin=SHOP),
            await client.get("/nowhere", key=None, Origin=SHOP),
        ]
        assert [response.status for response in responses] == [200, 200, 400, 503, 401]
        for response in responses:
            assert response.headers["access-control-allow-origin"] == "*"
            exposed = response.headers["access-control-expose-headers"].lower().split(", ")
            assert {"x-request-id", "retry-after", "x-ratelimit-reset"} <= set(exposed)
        assert "access-control-allow-origin" not in (await client.post()).headers


async def test_a_preflight_meets_no_fault(connect: Any) -> None:
    async with Emulator("echo") as emulator:
        client = await connect(emulator)
        emulator.script(Fault(status=503))
        assert (await client.call("OPTIONS", "/", key=None, **asking())).status == 204
        assert emulator.pending_faults == 1
        assert (await client.post(Origin=SHOP)).status == 503
        assert [request.method for request in emulator.requests] == ["OPTIONS", "POST"]


MINE = ["http://localhost:3000", "http://127.0.0.1:8000", "http://[::1]:1", "https://a.localhost"]


@pytest.mark.parametrize("origin", [*MINE, SHOP, "HTTPS://Shop.example"])
async def test_pages_of_this_machine_and_those_allowed_may_call(connect: Any, origin: str) -> None:
    async with Emulator("echo", allow_origins=[f"{SHOP}/"]) as emulator:
        client = await connect(emulator)
        called = await client.post(Origin=origin)
        assert called.status == 200
        assert called.headers["access-control-allow-origin"] == origin
        assert called.headers["vary"] == "Origin"
        asked = await client.call("OPTIONS", "/", key=None, **asking(Origin=origin))
        assert asked.headers["access-control-allow-origin"] == origin


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://[", "localhost"])
async def test_other_pages_are_refused_before_anything_runs(connect: Any, origin: str) -> None:
    async with Emulator("echo", allow_origins=[SHOP], access_key=None) as emulator:
        client = await connect(emulator)
        for method, headers in (("OPTIONS", asking(Origin=origin)), ("POST", {"Origin": origin})):
            refused = await client.call(method, "/", {"input": {}}, **headers)
            assert (refused.status, refused.error["code"]) == (403, "forbidden")
            assert "access-control-allow-origin" not in refused.headers
        assert not emulator.executions
