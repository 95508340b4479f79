"""What a refusal means, and what the limits are that come with some responses only."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from dynamiq_async import errors
from dynamiq_async.emulator import Fault
from dynamiq_async.flowy.advice import advice
from dynamiq_async.options import Adaptive

if TYPE_CHECKING:
    from .conftest import Serve, Served

TOPIC = {"topic-1": "x"}


async def test_out_of_credits_is_told_as_one_of_two_causes(flowy: Served) -> None:
    flowy.service.credits = 15
    await flowy.client.run("haiku", TOPIC)
    for call in (
        flowy.client.run("haiku", TOPIC),
        flowy.client.generations.start("image", "a cat"),
    ):
        with pytest.raises(errors.PaymentRequiredError) as caught:
            await call
        assert "Insufficient credits; either the key's daily spend cap is used up" in str(
            caught.value
        )
        assert "or the workspace is out of credits" in str(caught.value)
    assert (await flowy.client.credits()).available == 5


CALLS = {
    "apps:read": lambda client: client.apps.get("haiku"),
    "runs:write": lambda client: client.runs.start("haiku", TOPIC, check=False),
    "runs:read": lambda client: client.runs.get("r"),
    "generations:write": lambda client: client.generations.start("image", "x"),
    "generations:read": lambda client: client.generations.get("g"),
    "assets:read": lambda client: client.assets.get("a"),
    "credits:read": lambda client: client.credits(),
}


@pytest.mark.parametrize("scope", CALLS)
async def test_a_missing_scope_is_named(flowy: Served, scope: str) -> None:
    flowy.service.scopes[flowy.service.key] = frozenset(CALLS) - {scope}
    with pytest.raises(errors.PermissionDeniedError) as caught:
        await CALLS[scope](flowy.client)
    assert f"may lack a scope ({scope}, which this needs)" in str(caught.value)
    assert "another workspace's private one" in str(caught.value)
    assert "domain that is not allowed" in str(caught.value)
    assert "organisation" not in str(caught.value)


@pytest.mark.parametrize(
    ("request_", "scope"),
    [
        ("GET https://h/v1/apps", "apps:read"),
        ("GET https://h/v1/assets", "assets:read"),
        ("GET https://h/v1/apps/credits", "apps:read"),
        ("POST https://h/v1/apps/assets/runs", "runs:write"),
        ("POST https://h/v1/generations", "generations:write"),
    ],
)
def test_the_scope_is_that_of_the_call(request_: str, scope: str) -> None:
    assert f"({scope}, which" in advice(request_, 403)


def test_of_an_unknown_call_all_scopes_are_named() -> None:
    said = advice("PUT https://h/v1/new", 403)
    assert all(scope in said for scope in CALLS)
    assert advice("GET https://h/v1/apps", 401) == ""


async def test_other_refusals_are_told_as_ever(flowy: Served) -> None:
    flowy.service.key = "other"
    with pytest.raises(errors.AuthenticationError, match="check the API key"):
        await flowy.client.apps.list()


# --- limits that only successful responses tell ----------------------------------------------


async def test_an_error_without_numbers_does_not_open_the_gates(flowy: Served) -> None:
    """At the beginning nothing is known, so requests go one after the other until a success."""
    most = 0

    async def look(name: str) -> None:
        nonlocal most
        with pytest.raises(errors.NotFoundError):
            await flowy.client.runs.get(name)

    limiter = flowy.client._api.sender.limiter
    looks = asyncio.gather(*[look(f"r-{number}") for number in range(4)])
    while not looks.done():
        most = max(most, limiter.in_flight)
        await asyncio.sleep(0)
    await looks
    assert most == 1
    await flowy.client.apps.list()
    assert limiter.quota is not None
    assert limiter.quota.remaining == 55


async def test_a_service_whose_successes_tell_nothing_limits_nothing(flowy: Served) -> None:
    quota = flowy.client._api.sender.limiter.quota
    assert quota is not None
    flowy.emulator.script(Fault(body={"data": []}), match="GET /apps")
    await flowy.client.apps.list()
    assert quota.delay(asyncio.get_running_loop().time(), 50) == 0


@pytest.mark.parametrize(("method", "limit"), [("GET", 6), ("POST", 4)])
async def test_only_what_starts_something_can_be_too_many_runs(
    serve: Serve, method: str, limit: int
) -> None:
    flowy = await serve(max_runs=Adaptive(max=6, start=6))
    await flowy.client.apps.list()
    busy = Fault(status=429, headers={"Retry-After": "0"}, body={"error": "busy"})
    flowy.emulator.script(busy, match=f"{method} *")
    runs = flowy.client._shared.runs
    for _ in range(6):
        assert runs.try_acquire()
    if method == "GET":
        await flowy.client.apps.list()
    else:
        await flowy.client.runs.start("haiku", TOPIC, check=False)
    assert runs.limit == limit
    for _ in range(6):
        runs.release()
