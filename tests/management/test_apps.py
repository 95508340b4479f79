"""`management.apps`: listing and getting, whatever the service sends."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from dynamiq_async import App, AsyncManagement, errors
from dynamiq_async.emulator import BUILTIN, DEFAULT_PROJECT, HTML_PAGE, Emulator, Fault
from dynamiq_async.management.models import AccessControl, app_of

from .conftest import TOKEN

OTHER_PROJECT = "00000000-0000-4000-8000-000000000002"
WORKFLOW = "00000000-0000-4000-8000-00000000000f"
PAGINATION = {"page": 1, "page_size": 25, "page_count": 1, "total_count": 1}


def names(apps: Any) -> list[str | None]:
    return [app.name for app in apps]


# --- list ----------------------------------------------------------------------------------------


async def test_awaiting_gives_a_page_by_name(
    emulator: Emulator, management: AsyncManagement
) -> None:
    page = await management.apps.list(page=2, page_size=3)
    assert names(page) == sorted(BUILTIN)[3:6]
    assert (page.pagination.page_count, page.pagination.total_count) == (3, 8)
    (request,) = emulator.requests
    assert (request.method, request.endpoint) == ("GET", "/v1/apps")
    assert request.headers["Authorization"] == f"Bearer {TOKEN}"
    assert sorted(request.query.items()) == [
        ("page", "2"),
        ("page_size", "3"),
        ("project_id", DEFAULT_PROJECT),
    ]


async def test_iterating_gives_all(emulator: Emulator, management: AsyncManagement) -> None:
    assert [app.name async for app in management.apps.list(page_size=3)] == sorted(BUILTIN)
    assert len(emulator.requests) == 3
    async with management.apps.list(page_size=3, prefetch=True) as apps:
        assert (await anext(apps)).name == "agent"


async def test_the_filters_reach_the_service(
    emulator: Emulator, management: AsyncManagement
) -> None:
    emulator.management.apps.clear()
    gone = datetime(2026, 1, 2, tzinfo=UTC)
    emulator.management.add("b", workflow_id=WORKFLOW)
    emulator.management.add("a", archived_at=gone)
    emulator.management.add("c", project_id=OTHER_PROJECT)
    apps = management.apps
    assert names(await apps.list()) == ["b"]
    assert names(await apps.list(archived=True)) == ["a"]
    assert names(await apps.list(archived=False)) == ["b"]
    assert names(await apps.list(include_archived=True)) == ["a", "b"]
    assert names(await apps.list(include_archived=True, sort="-name")) == ["b", "a"]
    assert names(await apps.list(include_archived=True, workflow_id=WORKFLOW)) == ["b"]
    assert names(await apps.list(project_id=OTHER_PROJECT)) == ["c"]
    assert dict(emulator.requests[-2].query)["include_archived"] == "true"
    (archived,) = await apps.list(archived=True)
    assert archived.is_archived
    assert archived.archived_at == "2026-01-02T00:00:00Z"


async def test_what_is_not_foreseen_can_be_asked_for(
    emulator: Emulator, management: AsyncManagement
) -> None:
    await management.apps.list(extra_query={"new": ["x", "y"]})
    assert emulator.requests[0].query.getall("new") == ["x", "y"]


@pytest.mark.parametrize(
    ("arguments", "argument"),
    [
        ({"page_size": 501}, "page_size"),
        ({"page_size": 0}, "page_size"),
        ({"page_size": "5"}, "page_size"),
        ({"page": 0}, "page"),
        ({"project_id": ""}, "project_id"),
        ({"project_id": 5}, "project_id"),
        ({"workflow_id": ""}, "workflow_id"),
    ],
)
async def test_wrong_arguments_send_nothing(
    arguments: dict[str, Any], argument: str, emulator: Emulator, management: AsyncManagement
) -> None:
    with pytest.raises(errors.InvalidArgumentError) as caught:
        management.apps.list(**arguments)
    assert caught.value.argument == argument
    assert emulator.requests.total == 0


async def test_the_largest_page_is_asked_for_as_it_is(
    emulator: Emulator, management: AsyncManagement
) -> None:
    await management.apps.list(page_size=500)
    assert emulator.requests[0].query["page_size"] == "500"


async def test_without_a_project_it_says_how_to_name_one(emulator: Emulator) -> None:
    async with AsyncManagement(emulator.management_url, token=TOKEN) as management:
        with pytest.raises(errors.InvalidArgumentError, match="DYNAMIQ_PROJECT_ID"):
            await management.apps.list()
        assert len(await management.apps.list(project_id=DEFAULT_PROJECT)) == 8
    assert "/v1/apps" not in [seen.endpoint for seen in emulator.requests][:-1]


@pytest.mark.parametrize(
    "body", [{"data": None}, {"data": [], "pagination": None}, {}, {"data": None, "new": 1}]
)
async def test_a_list_that_is_empty_in_any_way(
    body: Any, emulator: Emulator, management: AsyncManagement
) -> None:
    emulator.script(Fault(status=200, body=body), times=2)
    assert (await management.apps.list()).data == []
    assert [app async for app in management.apps.list()] == []


async def test_apps_without_ids_are_kept_apart(
    emulator: Emulator, management: AsyncManagement
) -> None:
    first = {"data": [{"name": "a"}, {"name": "b"}], "pagination": PAGINATION | {"page_count": 2}}
    second = {"data": [{"name": "b"}, {}], "pagination": PAGINATION | {"page_count": 2}}
    emulator.script(Fault(status=200, body=first), Fault(status=200, body=second))
    assert [app.name async for app in management.apps.list()] == ["a", "b", None]


async def test_a_service_that_ignores_the_page_is_not_asked_for_ever(
    emulator: Emulator, management: AsyncManagement
) -> None:
    same = {"data": [{"name": "a"}], "pagination": {"page": 1}}
    emulator.script(Fault(status=200, body=same), times=None)
    assert len([app async for app in management.apps.list()]) == 1
    assert len(emulator.requests) == 3


@pytest.mark.parametrize("pagination", [{}, {"pagination": None}])
async def test_a_page_without_pagination_is_the_whole_list(
    pagination: Any, emulator: Emulator, management: AsyncManagement
) -> None:
    emulator.script(Fault(status=200, body={"data": [{"name": "a"}], **pagination}), times=None)
    assert not (await management.apps.list(page=3)).has_next
    assert [app.name async for app in management.apps.list(prefetch=True)] == ["a"]
    assert len(emulator.requests) == 2


@pytest.mark.parametrize("data", [[5], ["a-1"], [[]], [None]])
async def test_a_list_of_something_else_is_an_error(
    data: Any, emulator: Emulator, management: AsyncManagement
) -> None:
    emulator.script(Fault(status=200, body={"data": data}))
    with pytest.raises(errors.ResponseDecodeError, match="holds no App"):
        await management.apps.list()


# --- get -----------------------------------------------------------------------------------------


async def test_an_app_has_all_that_is_documented(
    emulator: Emulator, management: AsyncManagement
) -> None:
    known = emulator.management.find("agent")
    app = await management.apps.get(known.id)
    assert (app.id, app.name, app.hostname) == (known.id, "agent", emulator.url_for("agent"))
    assert app.project_id == DEFAULT_PROJECT
    assert app.deployment_config == {"deployment_type": "serverless", "config": {}}
    assert app.runtime is not None
    assert app.runtime.label == "Emulator"
    assert app.workflow is not None
    assert app.workflow.status == "active"
    assert app.workflow_version is not None
    assert app.workflow_version.workflow_id == app.workflow_id
    assert (app.is_public, app.is_archived) == (False, False)
    filled = {name for name in App.__struct_fields__ if getattr(app, name) is not None}
    assert set(App.__struct_fields__) - filled == {"archived_at", "archived_by"}
    assert msgspec.json.decode(msgspec.json.encode(app), type=App) == app


async def test_an_id_is_quoted(emulator: Emulator, management: AsyncManagement) -> None:
    with pytest.raises(errors.NotFoundError):
        await management.apps.get("a/../b?c")
    assert emulator.requests[0].path == "/~management/v1/apps/a%2F..%2Fb%3Fc"
    for bad in ("", "..", None):
        with pytest.raises(errors.InvalidArgumentError):
            await management.apps.get(bad)  # type: ignore[arg-type]


def test_almost_everything_may_be_missing_or_null() -> None:
    assert app_of(msgspec.Raw(b"{}")) == App()
    nulls = dict.fromkeys(App.__struct_fields__)
    assert app_of(msgspec.Raw(msgspec.json.encode(nulls))) == App()
    assert (App().is_public, App().is_archived) == (False, False)
    assert not App(archived_at="").is_archived


def test_a_field_of_another_type_is_left_out_and_the_rest_is_there() -> None:
    odd = {
        "id": 5,
        "name": "x",
        "deployment_config": [1],
        "access_control": {"access_type": "public", "new": 1},
        "runtime": {"id": "r", "version": 2, "label": ["?"]},
        "workflow": "w",
        "workflow_version": {"version": 1.5, "id": "v"},
        "new_field": {"x": 1},
    }
    app = app_of(msgspec.Raw(msgspec.json.encode(odd)))
    assert (app.id, app.name, app.deployment_config) == (None, "x", None)
    assert app.access_control == AccessControl(access_type="public")
    assert app.is_public
    assert app.runtime is not None
    assert (app.runtime.id, app.runtime.version, app.runtime.label) == ("r", 2, None)
    assert app.workflow is None
    assert app.workflow_version is not None
    assert (app.workflow_version.id, app.workflow_version.version) == ("v", None)


# --- refusals ------------------------------------------------------------------------------------


async def test_a_wrong_token(emulator: Emulator) -> None:
    async with AsyncManagement(emulator.management_url, token="dyn_pat_wrong") as management:
        with pytest.raises(errors.AuthenticationError) as caught:
            await management.apps.list(project_id=DEFAULT_PROJECT)
    assert (caught.value.status, caught.value.code) == (401, "unauthorized")
    assert "check the token" in caught.value.message
    assert "dyn_pat_wrong" not in str(vars(caught.value))


async def test_a_token_of_another_project(emulator: Emulator, management: AsyncManagement) -> None:
    emulator.script(Fault(status=403, body={"error": {"code": "forbidden", "message": TOKEN}}))
    with pytest.raises(errors.PermissionDeniedError) as caught:
        await management.apps.list()
    # The management API takes Personal Access Tokens; the kind of the token is not to blame.
    assert "the token may be for another project or organisation" in caught.value.message
    assert "Personal" not in caught.value.message
    assert TOKEN not in str(vars(caught.value))


async def test_no_such_app(management: AsyncManagement) -> None:
    with pytest.raises(errors.NotFoundError) as caught:
        await management.apps.get(OTHER_PROJECT)
    assert (caught.value.status, caught.value.code) == (404, "not_found")


async def test_a_bad_request_says_which_field(management: AsyncManagement) -> None:
    with pytest.raises(errors.BadRequestError) as caught:
        await management.apps.list(project_id="p-1")
    assert caught.value.details == {"project_id": "must be a valid UUID"}


async def test_a_server_error_is_tried_again(
    emulator: Emulator, management: AsyncManagement
) -> None:
    emulator.script(Fault(status=500), Fault(status=503), match="/v1/apps")
    assert len(await management.apps.list()) == 8
    emulator.script(Fault(status=500), times=None)
    with pytest.raises(errors.InternalServerError) as caught:
        await management.apps.list()
    assert (caught.value.status, caught.value.attempts) == (500, 3)


@pytest.mark.parametrize("status", [200, 502])
async def test_a_page_of_html(status: int, emulator: Emulator, management: AsyncManagement) -> None:
    emulator.script(Fault(status=status, body=HTML_PAGE), times=None)
    kind = errors.ContentTypeError if status == 200 else errors.InternalServerError
    with pytest.raises(kind):
        await management.apps.list()


async def test_a_redirect_does_not_get_the_token(
    emulator: Emulator, management: AsyncManagement
) -> None:
    emulator.script(Fault(status=302, headers={"Location": f"{emulator.url}/v1/apps"}))
    with pytest.raises(errors.RedirectError, match="carry the token elsewhere"):
        await management.apps.list()
    assert emulator.requests.total == 1


async def test_a_list_can_be_left_at_any_time(
    emulator: Emulator, management: AsyncManagement
) -> None:
    emulator.script(Fault(delay=5))
    task = asyncio.create_task(management.apps.list().__aiter__().__anext__())
    await emulator.wait_for_requests(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert management._api.sender.limiter.in_flight == 0
