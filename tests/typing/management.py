"""How the management API looks to a type checker. Never run: `mypy --strict` reads it.

Each `type: ignore` is an error that users are meant to get; mypy complains if it is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import assert_type
from uuid import UUID

from dynamiq_async import (
    App,
    AsyncApp,
    AsyncManagement,
    ConnectLink,
    Page,
    Requirement,
    RequirementsStatus,
)
from dynamiq_async._http.paging import PageIterator, Pages


async def apps(id: UUID) -> None:
    async with AsyncManagement("api.example", token="t", project_id=id, timeout=5) as management:
        assert_type(management, AsyncManagement)
        assert_type(management.with_options(max_retries=3), AsyncManagement)
        listed = management.apps.list(archived=True, workflow_id=id, sort="-name", page_size=9)
        assert_type(listed, Pages[App])
        assert_type(await listed, Page[App])
        async with listed as found:
            assert_type(found, PageIterator[App])
        async for app in listed:
            assert_type(app.name, str | None)
            assert_type(app.is_public, bool)
        assert_type(await management.apps.get(id), App)
        assert_type(await management.find("Support bot", project_id=id), App)


async def opened(management: AsyncManagement, listed: App) -> None:
    async with management.open("Support bot", access_key=False, verify=Path("ca.pem")) as app:
        assert_type(app, AsyncApp)
    assert_type(await management.open(listed, timeout=3, session=None), AsyncApp)
    management.open("Support bot", token="t")  # type: ignore[call-arg]
    management.open("Support bot", max_retries="3")  # type: ignore[arg-type]


async def requirements(app: AsyncApp) -> None:
    assert_type(await app.requirements.list(), Sequence[Requirement])
    status = await app.requirements.status("ann")
    assert_type(status, RequirementsStatus)
    assert_type(status.unsatisfied, list[Requirement])
    assert_type(status.status, str | None)
    link = await app.requirements.connect_link("ann", requirement_ids=["r-1"], retry=True)
    assert_type(link, ConnectLink)
    assert_type(link.url, str)
