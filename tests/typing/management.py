"""How the management API looks to a type checker. Never run: `mypy --strict` reads it.

Each `type: ignore` is an error that users are meant to get; mypy complains if it is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, assert_type
from uuid import UUID

from dynamiq_async import (
    Accepted,
    App,
    Artifact,
    AsyncApp,
    AsyncManagement,
    ConnectLink,
    Page,
    Requirement,
    RequirementsStatus,
    RunEvent,
    Trace,
    Usage,
)
from dynamiq_async._http.paging import PageIterator, Pages
from dynamiq_async.management import Org, Project, Session, SessionMessage, User
from dynamiq_async.sse import ServerSentEvent
from dynamiq_async.streaming import EndpointStream


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
    management.open("Support bot", token="t")  # type: ignore[call-arg]  # ty takes it
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


async def history(management: AsyncManagement, app: App, accepted: Accepted, id: UUID) -> None:
    artifacts = management.artifacts.list(app, id, page_size=5)
    assert_type(artifacts, Pages[Artifact])
    async for artifact in artifacts:
        assert_type(await artifact.save("folder", timeout=5.0), Path)
        assert_type(await artifact.read(), bytes)
    assert_type(management.traces.list("id", status=["failed"], since="…"), Pages[Trace])
    trace = await management.traces.get(id, accepted, timeout=5)
    assert_type(trace.usage, Usage | None)
    assert_type(trace.unwrap(), Any)
    assert_type(trace.unwrap(App), App)
    assert_type(await management.sessions.list(app), Page[Session])
    assert_type(management.sessions.messages(app, "s", prefetch=True), Pages[SessionMessage])
    management.traces.list("id", page_sise=5)  # type: ignore[call-arg]  # ty takes it


async def accounts(management: AsyncManagement, id: UUID) -> None:
    assert_type(await management.me(max_retries=0), User)
    assert_type(management.orgs.list(), Pages[Org])
    assert_type(await management.orgs.get(id), Org)
    assert_type(management.projects.list(org_id=id), Pages[Project])
    assert_type(await management.projects.get("p"), Project)


async def streams(management: AsyncManagement) -> None:
    plain = management.events("POST", "v3", "conversations", "c-1", "messages", body={"text": "hi"})
    assert_type(plain, EndpointStream[ServerSentEvent])
    async with management.events("GET", "a", event_type=RunEvent) as events:
        assert_type(events, EndpointStream[RunEvent])
        async for event in events:
            assert_type(event, RunEvent)
