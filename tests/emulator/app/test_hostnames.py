"""Apps at hostnames of their own, and in projects with keys of their own."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from dynamiq_async import AsyncApp, AsyncManagement, Callback, errors
from dynamiq_async.callbacks import CallbackInbox
from dynamiq_async.emulator import (
    DEFAULT_ORG,
    DEFAULT_PROJECT,
    DEFAULT_TOKEN,
    Emulator,
    Fault,
    Project,
    RunContext,
)


async def support(input: dict[str, Any], run: RunContext) -> Any:
    await run.text("How can I help?")
    return {"app": run.app, "files": [file.name for file in run.files]}


async def billing(input: dict[str, Any], run: RunContext) -> Any:
    return {"app": run.app}


APPS: dict[str, Any] = {"support": support, "Billing": billing, "under_score": billing}


@pytest.fixture
async def emulator() -> Any:
    async with Emulator("echo", apps=APPS) as running:
        yield running


async def test_an_app_is_at_a_hostname_of_its_own_for_every_client(emulator: Emulator) -> None:
    url = emulator.url_for("support", hostname=True)
    assert url == f"http://support.localhost:{emulator.port}"
    async with AsyncApp(url, access_key=emulator.access_key) as app:
        assert (await app.invoke({}))["app"] == "support"
        assert await app.stream({}).output() == {
            "node-1": {
                "status": "success",
                "input": {},
                "output": {"app": "support", "files": []},
            }
        }
        file = await app.files.upload(b"content", name="a.txt")
        run = await app.runs.create({}, file_ids=[file.id])
        assert run.output == {"app": "support", "files": ["a.txt"]}
        assert [event.type async for event in app.runs.follow(run.id)][-1] == "run.completed"
        async with app.connect() as socket, socket.run({}) as events:
            assert "".join([event.text async for event in events]) == "How can I help?"
    async with AsyncApp(emulator.url_for("support"), access_key=emulator.access_key) as same:
        assert (await same.runs.get(run.id)).id == run.id
    async with AsyncApp(emulator.url, access_key=emulator.access_key) as other:
        with pytest.raises(errors.NotFoundError):
            await other.runs.get(run.id)
    assert {record.app for record in emulator.requests if record.prefix} == {"support"}


HOSTS = [
    ("support.localhost", "support"),
    ("SUPPORT.Localhost.:80", "support"),
    ("billing.localhost:1", "Billing"),
    ("llm.localhost", "llm"),
    ("echo.localhost", "echo"),
    ("localhost", "echo"),
    ("a.support.localhost", "echo"),
    ("127.0.0.1", "echo"),
]


@pytest.mark.parametrize(("host", "name"), HOSTS)
async def test_the_host_decides_which_app_it_is(
    connect: Any, emulator: Emulator, host: str, name: str
) -> None:
    assert (await (await connect(emulator)).post(host=host)).status == 200
    assert emulator.requests[0].app == name


@pytest.mark.parametrize("host", ["nobody.localhost", "under-score.localhost", "v1.localhost"])
async def test_where_there_is_no_app_it_says_so(
    connect: Any, emulator: Emulator, host: str
) -> None:
    client = await connect(emulator)
    for path in ("/", "/support", "/v1/runs"):
        refused = await client.post(path, host=host, key=None)
        assert (refused.status, refused.error["code"]) == (404, "not_found")
        assert refused.error["message"] == "there is no App at this hostname"
    assert {record.app for record in emulator.requests} == {host.removesuffix(".localhost")}
    async with AsyncApp(f"http://{host}:{emulator.port}", access_key="dynamiq_acc_x") as app:
        with pytest.raises(errors.NotFoundError, match="no App at this hostname"):
            await app.invoke({})


async def test_at_its_host_the_path_is_the_apps_own(connect: Any, emulator: Emulator) -> None:
    client = await connect(emulator)
    host = f"support.localhost:{emulator.port}"
    assert (await client.post("/Billing", host=host)).status == 404
    emulator.script(Fault(status=503), match="POST /v1/runs")
    assert (await client.post("/v1/runs", host=host)).status == 503


async def test_links_of_an_app_lead_to_services_at_other_hosts(
    connect: Any, emulator: Emulator
) -> None:
    needed = emulator.requirements.add("Slack", app="support")
    host = f"support.localhost:{emulator.port}"
    client = await connect(emulator)
    body = {"user_id": "ann"}
    link = (await client.post("/v1/connect/tokens", body, host=host)).json["url"]
    assert urlsplit(link).netloc == f"localhost:{emulator.port}"
    assert (await client.get(urlsplit(link).path, key=None)).status == 200
    assert needed.users == {"ann"}
    listed = await client.get(
        f"/~management/v1/apps?project_id={DEFAULT_PROJECT}", key=DEFAULT_TOKEN, host=host
    )
    assert {urlsplit(app["hostname"]).hostname for app in listed.json["data"]} == {"localhost"}


async def test_the_default_app_has_a_hostname_by_its_functions_name(connect: Any) -> None:
    async with Emulator(support) as emulator:
        assert emulator.url_for("", hostname=True) == f"http://support.localhost:{emulator.port}"
        assert emulator.url_for("") == emulator.url
        body = (await (await connect(emulator)).post(host="support.localhost")).json
        assert body["app"] == "support"
    async with Emulator(support, apps={"support": billing}) as emulator:
        client = await connect(emulator)
        await client.post(host="support.localhost")
        assert emulator.requests[0].prefix == "support"
        with pytest.raises(ValueError, match="by its path only"):
            emulator.url_for("", hostname=True)


async def test_names_that_are_no_hostnames_are_reached_by_path(emulator: Emulator) -> None:
    async with AsyncApp(emulator.url_for("under_score"), access_key=emulator.access_key) as app:
        assert (await app.invoke({}))["app"] == "under_score"
    for name in ("under_score",):
        with pytest.raises(ValueError, match="'under_score' is no name of a host"):
            emulator.url_for(name, hostname=True)
    with pytest.raises(KeyError):
        emulator.url_for("nobody", hostname=True)


async def test_of_two_names_that_differ_in_case_the_lower_one_has_the_host(connect: Any) -> None:
    async with Emulator(apps={"Bot": billing, "bot": support}) as emulator:
        assert emulator.url_for("bot", hostname=True).startswith("http://bot.")
        with pytest.raises(ValueError, match="'Bot'"):
            emulator.url_for("Bot", hostname=True)
        await (await connect(emulator)).post(host="BOT.localhost")
        assert emulator.requests[0].app == "bot"


@pytest.mark.parametrize("name", ["a b", "ä?#%41", "<b>", "_mine", "~".join("ab")])
async def test_whatever_else_a_name_has_its_path_leads_there(name: str) -> None:
    async with (
        Emulator("echo", apps={name: billing}) as emulator,
        AsyncApp(emulator.url_for(name), access_key=emulator.access_key) as app,
        AsyncManagement(
            emulator.management_url, token=DEFAULT_TOKEN, project_id=DEFAULT_PROJECT
        ) as management,
    ):
        assert await app.invoke({}) == {"app": name}
        assert (await app.runs.create({})).output == {"app": name}
        [listed] = [app async for app in management.apps.list() if app.name == name]
        async with management.open(listed, access_key=emulator.access_key) as same:
            assert await same.invoke({}) == {"app": name}


@pytest.mark.parametrize("name", ["", "a/b", "~flowy", "v1", ".", ".."])
def test_what_cannot_be_a_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be the name of an App"):
        Emulator(apps={name: support})


async def test_a_host_that_is_allowed_is_no_apps(connect: Any) -> None:
    async with Emulator(
        "echo", apps=APPS, allow_hosts=["Support.localhost", "emulator.localhost"]
    ) as emulator:
        client = await connect(emulator)
        for host in ("support.localhost", "emulator.localhost:1"):
            assert (await client.post(host=host)).status == 200
        assert {record.prefix for record in emulator.requests} == {""}


async def test_a_callback_comes_from_there_and_may_go_to_such_a_name() -> None:
    async with (
        Emulator(apps=APPS, allow_loopback_callbacks=True) as emulator,
        CallbackInbox() as inbox,
        AsyncApp(emulator.url_for("support", hostname=True), access_key=emulator.access_key) as app,
    ):
        hook = inbox.callback()
        url = hook.url.replace("127.0.0.1", "hooks.localhost")
        accepted = await app.submit({}, callbacks=[Callback(url, token=hook.token)])
        result = await inbox.result(accepted.id, timeout=10)
        assert result.unwrap() == {"app": "support", "files": []}


# --- projects ------------------------------------------------------------------------------------


FINANCE = "dynamiq_acc_finance"


@pytest.fixture
async def two_projects() -> Any:
    finance = Project(name="Finance", apps=["Billing"])
    async with Emulator("echo", apps=APPS, projects=[finance]) as running:
        yield running


async def test_a_key_is_for_the_apps_of_its_project(connect: Any, two_projects: Emulator) -> None:
    emulator, client = two_projects, await connect(two_projects)
    default = str(emulator.access_key)
    assert emulator.key_for("Billing") == FINANCE
    assert emulator.key_for("support") == emulator.key_for("") == default
    for path, host in (("/Billing", None), ("/", "billing.localhost"), ("/Billing/v1/runs", None)):
        assert (await client.post(path, host=host, key=FINANCE)).status == 200
        refused = await client.post(path, host=host, key=default)
        assert (refused.status, refused.error["code"]) == (403, "forbidden")
        assert "another project" in refused.error["message"]
        for key, status in ((None, 401), ("dynamiq_acc_x", 401), ("dyn_pat_x", 403)):
            assert (await client.post(path, host=host, key=key)).status == status
    for path in ("/", "/support", "/llm"):
        assert (await client.post(path, key=default)).status == 200
        assert (await client.post(path, key=FINANCE)).status == 403
    assert emulator.executions.total == 6


async def test_our_client_says_what_the_key_is_not_for(two_projects: Emulator) -> None:
    url = two_projects.url_for("billing".title(), hostname=True)
    async with AsyncApp(url, access_key=two_projects.access_key) as app:
        with pytest.raises(errors.PermissionDeniedError, match="another project"):
            await app.invoke({})


async def test_management_lists_each_project_with_its_apps(two_projects: Emulator) -> None:
    emulator = two_projects
    async with AsyncManagement(
        emulator.management_url, token=DEFAULT_TOKEN, project_id=DEFAULT_PROJECT
    ) as management:
        projects = {p.name: p.id async for p in management.projects.list(org_id=DEFAULT_ORG)}
        assert set(projects) == {"Default", "Finance"}
        listed = [app async for app in management.apps.list(project_id=projects["Finance"])]
        [app] = listed
        assert (app.name, app.project_id) == ("Billing", projects["Finance"])
        assert app.hostname == emulator.url_for("Billing")
        others = {app.name async for app in management.apps.list()}
        assert "support" in others
        assert "Billing" not in others
        async with management.open(app, access_key=FINANCE) as billing_app:
            assert (await billing_app.invoke({}))["app"] == "Billing"


async def test_a_project_may_be_public_beside_one_that_is_not(connect: Any) -> None:
    shown = Project(name="Shown", apps=["support"], access_key=None)
    kept = Project(name="Kept back", apps=["Billing"], id="project-2")
    async with Emulator("echo", apps=APPS, projects=[shown, kept]) as emulator:
        client = await connect(emulator)
        assert (await client.post("/support", key=None)).status == 200
        assert (await client.post("/Billing", key=None)).status == 401
        assert emulator.key_for("support") is None
        assert emulator.key_for("Billing") == "dynamiq_acc_kept-back"
        types = {app.name: app.access_type for app in emulator.management.apps}
        assert (types["support"], types["Billing"], types["llm"]) == (
            "public",
            "private",
            "private",
        )
    async with Emulator("echo", apps=APPS, access_key=None, projects=[kept]) as emulator:
        client = await connect(emulator)
        assert (await client.post("/", key=None)).status == 200
        assert (await client.post("/Billing", key=None)).status == 401


@pytest.mark.parametrize(
    ("projects", "said"),
    [
        ([Project(name="A", apps=["nobody"])], "there is no App 'nobody'"),
        (
            [Project(name="A", apps=["support"]), Project(name="B", apps=["support"])],
            "the App 'support' belongs to one project only",
        ),
        (
            [Project(name="A", apps=[]), Project(name="B", apps=[], access_key="dynamiq_acc_a")],
            "the key 'dynamiq_acc_a' belongs",
        ),
        ([Project(name="A", apps=[], id="i"), Project(name="B", apps=[], id="i")], "the id 'i'"),
    ],
)
def test_what_is_not_clear_is_refused(projects: list[Project], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Emulator(apps=APPS, projects=projects)


async def test_browsers_and_other_clients_reach_it_where_their_resolver_knows_it(
    emulator: Emulator,
) -> None:
    """The name goes in `Host`, wherever the address comes from."""
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        response = await stack.enter_async_context(
            session.post(
                emulator.url,
                json={"input": {}},
                headers={
                    "Host": f"support.localhost:{emulator.port}",
                    "Authorization": f"Bearer {emulator.access_key}",
                },
            )
        )
        assert (await response.json())["app"] == "support"
