"""Whom the token belongs to, and which organisations and projects it reaches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from dynamiq_async import AsyncManagement, errors
from dynamiq_async.emulator import DEFAULT_ORG, DEFAULT_PROJECT, Emulator, Fault
from dynamiq_async.management import Org, Project, User

from .conftest import TOKEN

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

import pytest_asyncio

ORG = Org(id=DEFAULT_ORG, name="Emulator")
PROJECT = Project(id=DEFAULT_PROJECT, name="Default", org_id=DEFAULT_ORG)
OTHER_ORG = "00000000-0000-4000-8000-0000000000f2"


@pytest_asyncio.fixture
async def anywhere(emulator: Emulator) -> AsyncIterator[AsyncManagement]:
    """A client without a project."""
    async with AsyncManagement(emulator.management_url, token=TOKEN) as management:
        yield management


# --- what there is -------------------------------------------------------------------------------


async def test_the_tokens_owner(emulator: Emulator, management: AsyncManagement) -> None:
    me = await management.me(timeout=5, max_retries=0)
    assert me == User(
        id="00000000-0000-4000-8000-0000000000a1",
        email="ann@emulator.example",
        first_name="Ann",
        last_name="Emulator",
    )
    emulator.management.user = None
    with pytest.raises(errors.PermissionDeniedError):
        await management.me()
    emulator.management.token = "another"
    with pytest.raises(errors.AuthenticationError):
        await management.me()


async def test_organisations(emulator: Emulator, management: AsyncManagement) -> None:
    assert (await management.orgs.list()).data == [ORG]
    assert [org async for org in management.orgs.list(page_size=5)] == [ORG]
    assert await management.orgs.get(UUID(DEFAULT_ORG)) == ORG
    with pytest.raises(errors.NotFoundError):
        await management.orgs.get("nope")
    assert len(emulator.requests) == 4  # a list without `pagination` is whole


async def test_projects(
    emulator: Emulator, management: AsyncManagement, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(errors.InvalidArgumentError, match="DYNAMIQ_ORG_ID") as caught:
        management.projects.list()
    assert caught.value.argument == "org_id"
    assert (await management.projects.list(org_id=DEFAULT_ORG)).data == [PROJECT]
    monkeypatch.setenv("DYNAMIQ_ORG_ID", DEFAULT_ORG)
    assert [project async for project in management.projects.list()] == [PROJECT]
    assert (await management.projects.list(org_id=OTHER_ORG)).data == []
    assert await management.projects.get(DEFAULT_PROJECT) == PROJECT
    with pytest.raises(errors.NotFoundError):
        await management.projects.get("nope")


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda m: m.orgs.get(""), "org_id"),
        (lambda m: m.projects.get(None), "project_id"),
    ],
)
async def test_an_empty_id_sends_nothing(
    call: Any, argument: str, emulator: Emulator, management: AsyncManagement
) -> None:
    with pytest.raises(errors.InvalidArgumentError) as caught:
        await call(management)
    assert caught.value.argument == argument
    assert emulator.requests.total == 0


# --- whatever the service sends ------------------------------------------------------------------


async def test_an_item_comes_with_or_without_data_around_it(
    emulator: Emulator, management: AsyncManagement
) -> None:
    wrapped, bare = {"data": {"id": "o", "new": [1]}}, {"id": "o", "name": 5, "new": [1]}
    emulator.script(Fault(status=200, body=wrapped), Fault(status=200, body=bare))
    first, second = await management.orgs.get("o"), await management.orgs.get("o")
    assert first == second == Org(id="o")
    assert (first.raw, b'"name":5' in second.raw.replace(b" ", b"")) == (
        b'{"id":"o","new":[1]}',
        True,
    )


@pytest.mark.parametrize("body", [{}, [], 5, {"data": None}, {"data": []}, {"data": "x"}])
async def test_what_is_no_item_is_an_error(
    body: Any, emulator: Emulator, management: AsyncManagement
) -> None:
    emulator.script(Fault(status=200, body=body), times=None)
    for call, what in ((management.orgs.get("o"), "organisation"), (management.me(), "user")):
        with pytest.raises(errors.ResponseDecodeError, match=f"holds no {what}"):
            await call


# --- without a project ---------------------------------------------------------------------------


async def failure(management: AsyncManagement) -> str:
    with pytest.raises(errors.InvalidArgumentError) as caught:
        await management.apps.list()
    assert caught.value.argument == "project_id"
    assert TOKEN not in str(vars(caught.value))
    return caught.value.message


async def test_the_error_says_which_projects_there_are(
    emulator: Emulator, anywhere: AsyncManagement, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator.management.orgs.append({"id": OTHER_ORG, "name": "Other"})
    emulator.management.orgs.append({"id": None, "name": "Odd"})
    emulator.management.projects.append({"id": "p-2", "name": "Theirs", "org_id": OTHER_ORG})
    how = "; pass project_id or set DYNAMIQ_PROJECT_ID"
    mine, theirs = f"'Default' ({DEFAULT_PROJECT})", "'Theirs' (p-2)"
    assert await failure(anywhere) == f"no project: there are {mine}, {theirs}{how}"
    monkeypatch.setenv("DYNAMIQ_ORG_ID", OTHER_ORG)
    assert await failure(anywhere) == f"no project: there are {theirs}{how}"
    with pytest.raises(errors.InvalidArgumentError, match="Theirs"):
        await anywhere.find("llm")
    with pytest.raises(errors.InvalidArgumentError, match="Theirs"):
        [app async for app in anywhere.apps.list(prefetch=True)]
    app = emulator.management.find("echo")
    assert (await anywhere.find(app.id)).name == "echo"  # an id needs no project


async def test_of_many_projects_some_are_shown_and_few_organisations_asked(
    emulator: Emulator, anywhere: AsyncManagement
) -> None:
    emulator.management.orgs += [{"id": f"o-{n}", "name": None} for n in range(50)]
    emulator.management.projects += [
        {"id": f"p-{n}", "name": f"n-{n}", "org_id": DEFAULT_ORG} for n in range(50)
    ]
    assert (await failure(anywhere)).count("(p-") == 7
    assert len(emulator.requests) == 1 + 5


async def test_a_token_that_reaches_none_is_told_so(
    emulator: Emulator, anywhere: AsyncManagement
) -> None:
    emulator.management.orgs.clear()
    assert (await failure(anywhere)).startswith("no project: the token reaches none; pass")


@pytest.mark.parametrize("endpoint", ["/v1/orgs", "/v1/projects"])
async def test_what_keeps_it_from_being_found_out_is_told(
    endpoint: str, emulator: Emulator, anywhere: AsyncManagement
) -> None:
    body = {"error": {"code": "forbidden", "message": TOKEN}}
    emulator.script(Fault(status=403, body=body), match=endpoint)
    message = await failure(anywhere)
    assert "no project: which there are could not be found out (" in message
    assert "403" in message


async def test_wrong_arguments_are_found_without_a_project_too(
    emulator: Emulator, anywhere: AsyncManagement
) -> None:
    for wrong in ({"page": 0}, {"page_size": 501}, {"workflow_id": ""}):
        with pytest.raises(errors.InvalidArgumentError) as caught:
            anywhere.apps.list(**wrong)
        assert caught.value.argument in wrong
    assert emulator.requests.total == 0
