"""The emulator's organisations, projects and the owner of its token, seen from the wire."""

from __future__ import annotations

from typing import Any

import pytest

from dynamiq_async.emulator import (
    DEFAULT_ORG,
    DEFAULT_PROJECT,
    DEFAULT_TOKEN,
    DEFAULT_USER,
    Emulator,
)
from tests.support.raw_http import RawClients

ORG = {"id": DEFAULT_ORG, "name": "Emulator"}
PROJECT = {"id": DEFAULT_PROJECT, "name": "Default", "org_id": DEFAULT_ORG}


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("me", DEFAULT_USER),
        ("orgs", [ORG]),
        (f"orgs/{DEFAULT_ORG}", ORG),
        (f"projects?org_id={DEFAULT_ORG}", [PROJECT]),
        ("projects?org_id=other", []),
        (f"projects/{DEFAULT_PROJECT}", PROJECT),
        (f"projects/{DEFAULT_PROJECT}?org_id={DEFAULT_ORG}", PROJECT),
    ],
)
async def test_what_the_token_reaches(path: str, data: Any, connect: RawClients) -> None:
    async with Emulator() as emulator:
        client = await connect(emulator)
        response = await client.get(f"/~management/v1/{path}", key=DEFAULT_TOKEN)
        assert (response.status, response.json) == (200, {"data": data})


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("projects", 400),
        ("orgs/nope", 404),
        ("projects/nope", 404),
        (f"projects/{DEFAULT_PROJECT}?org_id=other", 404),
    ],
)
async def test_what_is_refused(path: str, status: int, connect: RawClients) -> None:
    async with Emulator() as emulator:
        client = await connect(emulator)
        response = await client.get(f"/~management/v1/{path}", key=DEFAULT_TOKEN)
        assert response.status == status
        assert (await client.get(f"/~management/v1/{path}", key="other")).status == 401


async def test_a_service_accounts_token_belongs_to_no_user(connect: RawClients) -> None:
    async with Emulator() as emulator:
        emulator.management.user = None
        response = await (await connect(emulator)).get("/~management/v1/me", key=DEFAULT_TOKEN)
        assert (response.status, response.error["code"]) == (403, "forbidden")
