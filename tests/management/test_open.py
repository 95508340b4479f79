"""`management.open`: from an App's name or id to a client for it, with a key of its own."""

from __future__ import annotations

import asyncio
import inspect
import pickle
import ssl
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import aiohttp
import pytest
import trustme

from dynamiq_async import App, AsyncApp, AsyncManagement, Timeout, errors
from dynamiq_async.emulator import DEFAULT_PROJECT, Emulator, Fault
from dynamiq_async.management import AppOptions
from dynamiq_async.management.models import AccessControl

from .conftest import KEY, TOKEN

if TYPE_CHECKING:
    from pathlib import Path

INPUT = {"question": "?"}
OTHER_PROJECT = "00000000-0000-4000-8000-000000000002"


def sent_tokens(emulator: Emulator) -> dict[str, set[str | None]]:
    """What was sent as a key, by service."""
    found: dict[str, set[str | None]] = {}
    for seen in emulator.requests:
        found.setdefault(seen.service, set()).add(seen.headers.get("Authorization"))
    return found


# --- by id and by name ---------------------------------------------------------------------------


async def test_an_app_by_its_name(emulator: Emulator, management: AsyncManagement) -> None:
    async with management.open("agent", access_key=KEY) as app:
        assert isinstance(app, AsyncApp)
        assert app.url == emulator.url_for("agent")
        await app.invoke(INPUT)
    assert emulator.executions[0].app == "agent"
    assert sent_tokens(emulator) == {"management": {f"Bearer {TOKEN}"}, "": {f"Bearer {KEY}"}}
    with pytest.raises(errors.ClientClosedError):
        await app.invoke(INPUT)


@pytest.mark.parametrize("kind", [str, UUID])
async def test_an_app_by_its_id(
    kind: type, emulator: Emulator, management: AsyncManagement
) -> None:
    id = kind(emulator.management.find("echo").id)
    app = await management.open(id, access_key=KEY)
    async with app:
        await app.invoke(INPUT)
    assert [seen.endpoint for seen in emulator.requests] == [f"/v1/apps/{id}", "/"]


async def test_an_app_that_was_listed_is_opened_without_a_request(
    emulator: Emulator, management: AsyncManagement
) -> None:
    listed = await management.apps.get(emulator.management.find("echo").id)
    async with management.open(listed, access_key=KEY) as app:
        await app.invoke(INPUT)
    assert emulator.requests.total == 2
    assert await management.find(listed) is listed


async def test_a_name_in_another_case(management: AsyncManagement) -> None:
    assert (await management.find("AGENT")).name == "agent"


async def test_an_exact_name_comes_before_one_in_another_case(
    emulator: Emulator, management: AsyncManagement
) -> None:
    emulator.management.add("Agent")
    assert (await management.find("agent")).name == "agent"
    assert (await management.find("Agent")).name == "Agent"
    with pytest.raises(errors.InvalidArgumentError, match="2 Apps are called 'AGENT'"):
        await management.find("AGENT")


async def test_a_name_of_hexadecimal_digits_is_a_name(
    emulator: Emulator, management: AsyncManagement
) -> None:
    added = emulator.management.add("0f0e52c29c1d4f0b8a305d6f4a7c1c11")
    assert (await management.find(added.name)).id == added.id


async def test_a_name_in_another_project(emulator: Emulator, management: AsyncManagement) -> None:
    there = emulator.management.add("there", project_id=OTHER_PROJECT)
    assert (await management.find("there", project_id=OTHER_PROJECT)).id == there.id
    async with management.open("there", project_id=OTHER_PROJECT, access_key=KEY) as app:
        assert app.url == emulator.url


async def test_every_page_is_looked_through(
    emulator: Emulator, management: AsyncManagement
) -> None:
    for number in range(600):
        emulator.management.add(f"app {number:03}")
    last = emulator.management.add("zebra")
    assert (await management.find("zebra")).id == last.id
    pages = [seen.query["page"] for seen in emulator.requests]
    assert pages == ["1", "2"]


# --- what cannot be opened -----------------------------------------------------------------------


async def refusal(management: AsyncManagement, app: Any, **options: Any) -> str:
    with pytest.raises(errors.InvalidArgumentError) as caught:
        await management.open(app, **{"access_key": KEY, **options})
    assert TOKEN not in str(vars(caught.value))
    assert KEY not in str(vars(caught.value))
    return caught.value.message


async def test_the_error_for_an_unknown_name_lists_the_names_there_are(
    management: AsyncManagement,
) -> None:
    message = await refusal(management, "agnet")
    assert message.startswith("the project has no App called 'agnet': there are 'agent', ")
    assert message.count("'") == 2 * 9


async def test_of_many_names_the_nearest_are_shown(
    emulator: Emulator, management: AsyncManagement
) -> None:
    for number in range(100):
        emulator.management.add(f"number {number:02}")
    message = await refusal(management, "nubmer 42")
    assert "'number 42'" in message
    assert message.endswith(", and 100 more")
    assert message.count("'") == 2 * 9


async def test_an_empty_project_is_reported(
    emulator: Emulator, management: AsyncManagement
) -> None:
    emulator.management.apps.clear()
    assert await refusal(management, "agent") == (
        "the project has no App called 'agent': it has no Apps"
    )


async def test_the_error_for_an_ambiguous_name_lists_the_ids(
    emulator: Emulator, management: AsyncManagement
) -> None:
    first, second = (emulator.management.add("twin") for _ in range(2))
    message = await refusal(management, "twin")
    assert first.id in message
    assert second.id in message
    assert (await management.find(first.id)).id == first.id


async def test_an_archived_app_says_so(emulator: Emulator, management: AsyncManagement) -> None:
    gone = datetime(2026, 1, 2, tzinfo=UTC)
    old = emulator.management.add("old", archived_at=gone)
    for app in ("old", old.id):
        message = await refusal(management, app)
        assert message.startswith(f"the App 'old' ({old.id}) was archived at 2026-01-02T00:00:00Z")
    live = emulator.management.add("old")
    assert (await management.find("old")).id == live.id


@pytest.mark.parametrize("hostname", [None, ""])
async def test_an_app_without_a_hostname_says_so(
    hostname: str | None, emulator: Emulator, management: AsyncManagement
) -> None:
    new = emulator.management.add("new", fields={"hostname": hostname, "name": None})
    message = await refusal(management, new.id)
    assert message == f"the App ({new.id}) has no hostname yet: deploy it first"


async def test_an_unknown_id(management: AsyncManagement) -> None:
    with pytest.raises(errors.NotFoundError):
        await management.open(OTHER_PROJECT)


@pytest.mark.parametrize("bad", ["", None, 5])
async def test_what_is_no_name(bad: Any, management: AsyncManagement) -> None:
    assert "app must be a non-empty string" in await refusal(management, bad)


# --- hostnames -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hostname", "url"),
    [
        ("x.apps.example", "https://x.apps.example"),
        ("https://x.apps.example", "https://x.apps.example"),
        ("https://x.apps.example/", "https://x.apps.example"),
        ("HTTPS://X.apps.example:8443/prefix/", "https://x.apps.example:8443/prefix"),
    ],
)
async def test_a_hostname_comes_with_or_without_https(
    hostname: str, url: str, management: AsyncManagement
) -> None:
    async with management.open(App(hostname=hostname), access_key=KEY) as app:
        assert app.url == url


@pytest.mark.parametrize(
    ("hostname", "said"),
    [
        ("http://x.apps.example", "is plain http"),
        ("x apps", "may not hold white space"),
        ("https://u:p@x.apps.example", "may not hold a user name or password"),
        ("wss://x.apps.example", "must be an https URL, not wss"),
    ],
)
async def test_an_app_whose_hostname_cannot_be_called_says_so(
    hostname: str, said: str, management: AsyncManagement
) -> None:
    message = await refusal(management, App(id="a-1", name="Bot", hostname=hostname))
    assert message.startswith(f"the App 'Bot' (a-1) cannot be called: its hostname {said}")


async def test_plain_http_is_allowed_once_for_all() -> None:
    app = App(hostname="http://x.apps.example")
    async with (
        AsyncManagement("http://m.example", token=TOKEN, allow_http=True) as management,
        aiohttp.ClientSession() as session,
        management.open(app, access_key=KEY) as plain,
        management.open(app, access_key=KEY, session=session) as over_session,
    ):
        assert plain.url == over_session.url == "http://x.apps.example"
        assert "plain http" in await refusal(management, app, allow_http=False)


# --- the key -------------------------------------------------------------------------------------


async def test_the_key_is_the_environments(
    emulator: Emulator, management: AsyncManagement, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DYNAMIQ_ACCESS_KEY", KEY)
    async with management.open("echo") as app:
        await app.invoke(INPUT)
    async with management.open("echo", access_key="dynamiq_acc_other") as app:
        with pytest.raises(errors.AuthenticationError):
            await app.invoke(INPUT)


async def test_without_a_key_a_private_app_is_not_called(
    emulator: Emulator, management: AsyncManagement
) -> None:
    assert "DYNAMIQ_ACCESS_KEY" in await refusal(management, "echo", access_key=None)
    assert "" not in sent_tokens(emulator)


@pytest.mark.parametrize("token", [TOKEN, "uak_0123456789"])
async def test_a_personal_token_is_never_sent_to_an_app(
    token: str, emulator: Emulator, management: AsyncManagement, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = await refusal(management, "echo", access_key=token)
    assert "Personal Access Token" in message
    monkeypatch.setenv("DYNAMIQ_ACCESS_KEY", token)
    assert message == await refusal(management, "echo", access_key=None)
    assert "" not in sent_tokens(emulator)


async def test_a_public_app_needs_no_key(
    emulator: Emulator, management: AsyncManagement, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator.settings.access_key = None
    emulator.management.find("echo").access_type = "public"
    async with management.open("echo") as app:
        await app.invoke(INPUT)
    monkeypatch.setenv("DYNAMIQ_ACCESS_KEY", KEY)
    async with management.open("echo") as app:
        await app.invoke(INPUT)
    async with management.open("echo", access_key=False) as app:
        await app.invoke(INPUT)
    sent = [seen.headers.get("Authorization") for seen in emulator.requests if not seen.service]
    assert sent == [None, f"Bearer {KEY}", None]


async def test_a_key_that_an_app_does_not_take_is_explained(emulator: Emulator) -> None:
    async with AsyncApp(emulator.url, access_key=TOKEN) as app:
        with pytest.raises(errors.PermissionDeniedError, match="looks like a Personal Access"):
            await app.invoke(INPUT)


# --- the client ----------------------------------------------------------------------------------


async def test_options_reach_the_client(management: AsyncManagement) -> None:
    async with management.open(
        App(hostname="x.example"), access_key=KEY, timeout=3, max_retries=7, max_event_bytes=99
    ) as app:
        assert app._api.options.timeout == Timeout(total=3)  # with an App's own for the rest
        assert app._api.options.policy.max_retries == 7
        assert app._api.max_event_bytes == 99


def test_all_options_of_a_client_can_be_given() -> None:
    arguments = inspect.signature(AsyncApp).parameters
    assert {"host_or_url", *AppOptions.__annotations__} == set(arguments)


async def test_what_leads_to_the_network_is_inherited(tmp_path: Path) -> None:
    """A self-hosted install has one CA, and is behind one proxy."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    async with Emulator("echo", access_key=KEY, ssl_context=context) as emulator:
        bare = emulator.url.removeprefix("https://")
        emulator.management.add("bare", fields={"hostname": bare})
        async with AsyncManagement(
            emulator.management_url,
            token=emulator.management.token,
            project_id=DEFAULT_PROJECT,
            verify=tmp_path / "ca.pem",
        ) as management:
            async with management.open("bare", access_key=KEY) as app:
                assert await app.invoke({"a": 1})
            async with aiohttp.ClientSession() as session:
                strange = management.open("bare", access_key=KEY, session=session, max_retries=0)
                async with strange as app:
                    with pytest.raises(errors.ConnectError):
                        await app.invoke({"a": 1})


def closed(app: AsyncApp) -> bool:
    return app._api.sender.closed


async def test_one_opening_makes_one_client_after_another(management: AsyncManagement) -> None:
    opening = management.open(App(hostname="x.example"), access_key=KEY)
    async with opening as first:
        with pytest.raises(errors.DynamiqError, match="entered already"):
            await opening.__aenter__()
        assert await opening is not first
        assert not closed(first)
    assert closed(first)
    async with opening as second:
        assert not closed(second)
    assert closed(second)


async def test_tasks_do_not_close_each_others_clients(
    emulator: Emulator, management: AsyncManagement
) -> None:
    """They enter at the same time: one gets in, the other gets an error."""
    opening = management.open("echo", access_key=KEY)

    async def call() -> Any:
        async with opening as app:
            return await app.invoke({"a": 1})

    results = await asyncio.gather(call(), call(), return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["DynamiqError", "dict"]


async def test_an_opening_is_not_pickled_and_shows_no_key(management: AsyncManagement) -> None:
    opening = management.open("echo", access_key=KEY)
    assert KEY not in repr(opening)
    with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
        pickle.dumps(opening)


async def test_leaving_while_the_app_is_looked_for(
    emulator: Emulator, management: AsyncManagement
) -> None:
    emulator.script(Fault(delay=5))

    async def enter() -> None:
        async with management.open("echo", access_key=KEY):
            pytest.fail("the App was found")

    task = asyncio.create_task(enter())
    await emulator.wait_for_requests(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert management._api.sender.limiter.in_flight == 0


def test_whether_an_app_is_public_is_its_word() -> None:
    assert App(access_control=AccessControl(access_type="public")).is_public
    assert not App(access_control=AccessControl()).is_public
