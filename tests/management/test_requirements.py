"""`app.requirements`: what end users have to connect, and the links they are sent."""

from __future__ import annotations

import json
import pickle
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from rich.pretty import pretty_repr

from dynamiq_async import AsyncApp, ConnectLink, Requirement, RequirementsStatus, errors
from dynamiq_async._http.request_options import RequestOptions
from dynamiq_async.emulator import HTML_PAGE, Emulator, Fault

from .conftest import KEY

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dynamiq_async.emulator.app.requirements import Requirement as Needed

INPUT = {"question": "?"}
LINK = "/v1/connect/tokens"


@pytest_asyncio.fixture
async def app(emulator: Emulator) -> AsyncIterator[AsyncApp]:
    async with AsyncApp(emulator.url, access_key=KEY) as app:
        yield app
        assert app._api.sender.limiter.in_flight == 0


async def follow(link: str) -> dict[str, Any]:
    """Follow a link as the end user's browser does."""
    base, _, path = link.rpartition("/")
    async with AsyncApp(base, access_key=False) as browser:
        request = browser._api.request("GET", path, given=RequestOptions())
        response = await browser._api.sender.fetch(request, browser._api.options)
    found: dict[str, Any] = json.loads(response.body)
    return found


def shown(one: Needed) -> Requirement:
    """A requirement of the emulator as the client tells it."""
    told = one.public()
    return Requirement(
        title=one.title,
        description=one.description,
        **{name: told[name] for name in ("id", "type", "name", "form", "spec", "workflow_id")},
    )


async def test_an_app_that_needs_nothing(app: AsyncApp) -> None:
    assert list(await app.requirements.list()) == []
    assert (await app.requirements.status("ann")).is_satisfied


async def test_a_user_connects_and_disconnects(emulator: Emulator, app: AsyncApp) -> None:
    calendar = emulator.requirements.add("Your calendar")
    mail = emulator.requirements.add("Your mail")
    emulator.requirements.add("Another App's", app="echo")
    needed = [shown(one) for one in (calendar, mail)]
    assert list(await app.requirements.list()) == needed
    status = await app.requirements.status("ann")
    assert (status.is_satisfied, status.unsatisfied) == (False, needed)
    assert status.status == "incomplete"

    link = await app.requirements.connect_link("ann", requirement_ids=[calendar.id])
    assert emulator.requests[-1].json == {"user_id": "ann", "requirement_ids": [calendar.id]}
    assert await follow(link.url) == {"message": "connected"}
    assert (await app.requirements.status("ann")).unsatisfied == needed[1:]
    assert (await app.requirements.status("bob")).unsatisfied == needed

    link = await app.requirements.connect_link("ann")
    assert emulator.requests[-1].json == {"user_id": "ann"}
    await follow(link.url)
    assert (await app.requirements.status("ann")).is_satisfied

    await app.requirements.disconnect(mail.id, "ann")
    deleted = emulator.requests[-1]
    assert (deleted.method, deleted.status) == ("DELETE", 204)
    assert deleted.endpoint == f"/v1/requirements/{mail.id}/connections"
    assert dict(deleted.query) == {"user_id": "ann"}
    assert (await app.requirements.status("ann")).unsatisfied == needed[1:]


async def test_a_run_for_a_user_with_something_unsatisfied_fails_before_it_starts(
    emulator: Emulator, app: AsyncApp
) -> None:
    needed = emulator.requirements.add("Your calendar")
    for call in (
        app.invoke(INPUT, user_id="ann"),
        app.runs.create(INPUT, user_id="ann"),
        app.invoke(INPUT, user_id="ann", files=[b"x"]),
        app.stream(INPUT, user_id="ann").open(),
        app.invoke(INPUT),
    ):
        with pytest.raises(errors.APIStatusError, match="Your calendar") as caught:
            await call
        assert caught.value.details == {needed.id: "Your calendar"}
    assert emulator.executions.total == 0
    await follow((await app.requirements.connect_link("ann")).url)
    await app.invoke(INPUT, user_id="ann")
    await app.invoke(INPUT, user_id="ann", files=[b"x"])
    await app.runs.create(INPUT, user_id="ann")
    assert emulator.executions.total == 3


async def test_what_has_to_be_connected_is_told_whole(emulator: Emulator, app: AsyncApp) -> None:
    """As in the vendor's example, which is not wrapped."""
    gmail = {
        "id": "9b8e2f4d-1c3a-4d5e-8f60-718293a4b5c6",
        "type": "pipedream_account",
        "form": {"title": "Connect your Gmail account", "description": "Used to send replies."},
        "spec": {"type": "pipedream_account", "data": {"app_slug": "gmail"}},
        "workflow_id": "2b3c4d5e-6f70-4182-93a4-b5c6d7e8f901",
        "name": "gmail_account",
    }
    emulator.script(Fault(status=200, body={"status": "incomplete", "unsatisfied": [gmail]}))
    status = await app.requirements.status("ann")
    assert (status.status, status.is_satisfied) == ("incomplete", False)
    [needed] = status.unsatisfied
    assert (needed.id, needed.type, needed.name) == (gmail["id"], gmail["type"], gmail["name"])
    assert needed.title == "Connect your Gmail account"
    assert needed.description == "Used to send replies."
    assert (needed.form, needed.spec) == (gmail["form"], gmail["spec"])
    assert needed.workflow_id == gmail["workflow_id"]


@pytest.mark.parametrize(
    ("told", "title", "description"),
    [
        ({"title": "Top", "description": "d"}, "Top", "d"),
        ({"title": "Top", "form": {"title": "Form"}}, "Form", None),
        ({"title": "Top", "form": {"description": "d"}}, "Top", "d"),
        ({"title": "Top", "form": None}, "Top", None),
        ({"title": "Top", "form": "odd"}, "Top", None),
        ({"title": 3, "form": {"title": None, "description": 4}}, None, None),
    ],
)
async def test_a_title_is_that_of_the_form_or_of_the_top(
    told: Any, title: str | None, description: str | None, emulator: Emulator, app: AsyncApp
) -> None:
    emulator.script(Fault(status=200, body={"data": [{"id": "r-1", **told}]}))
    [needed] = await app.requirements.list()
    assert (needed.id, needed.title, needed.description) == ("r-1", title, description)


@pytest.mark.parametrize(
    ("told", "left", "satisfied"),
    [
        ("incomplete", ["r-1"], False),
        ("incomplete", [], False),
        ("complete", [], True),
        ("complete", ["r-1"], True),
        ("Completed", ["r-1"], True),
        ("satisfied", ["r-1"], True),
        ("new", ["r-1"], False),
        ("new", [], True),
        ("", ["r-1"], False),
        (5, [], True),
        (None, ["r-1"], False),
        (None, [], True),
    ],
)
async def test_what_is_satisfied_follows_the_status_where_it_is_known(
    told: Any, left: list[str], satisfied: bool, emulator: Emulator, app: AsyncApp
) -> None:
    emulator.script(Fault(status=200, body={"status": told, "unsatisfied": left}))
    status = await app.requirements.status("ann")
    assert status.is_satisfied is satisfied
    assert status.status == (told if isinstance(told, str) else None)
    assert [needed.id for needed in status.unsatisfied] == left


async def test_a_status_may_leave_out_what_is_empty(emulator: Emulator, app: AsyncApp) -> None:
    emulator.script(*(Fault(status=200, body={"status": told}) for told in ("complete", "x")))
    assert await app.requirements.status("ann") == RequirementsStatus(status="complete")
    assert (await app.requirements.status("ann")).is_satisfied


@pytest.mark.parametrize("listed", [True, False])
async def test_a_run_starts_although_something_optional_is_unsatisfied(
    listed: bool, emulator: Emulator, app: AsyncApp
) -> None:
    emulator.requirements.lists_optional = listed
    emulator.requirements.add("Your mail", required=False)
    status = await app.requirements.status("ann")
    assert (status.is_satisfied, len(status.unsatisfied)) == (True, int(listed))
    await app.invoke(INPUT, user_id="ann")
    emulator.requirements.add("Your calendar")
    assert not (await app.requirements.status("ann")).is_satisfied
    with pytest.raises(errors.APIStatusError, match="Your calendar"):
        await app.invoke(INPUT, user_id="ann")


async def test_a_link_works_for_a_day(emulator: Emulator, app: AsyncApp) -> None:
    emulator.requirements.add("Your calendar")
    link = await app.requirements.connect_link("ann")
    assert link.expires_at is not None
    left = datetime.fromisoformat(link.expires_at) - datetime.now(UTC)
    assert timedelta(hours=23) < left <= timedelta(hours=24)
    assert list(emulator.requirements.links) == [link.token]
    for _ in range(2):
        assert await follow(link.url) == {"message": "connected"}
    late = await app.requirements.connect_link("bob")
    for one in emulator.requirements.links.values():
        one.expires_at = datetime.now(UTC)
    with pytest.raises(errors.GoneError):
        await follow(late.url)
    assert not (await app.requirements.status("bob")).is_satisfied


async def test_a_link_is_a_secret(app: AsyncApp) -> None:
    link = await app.requirements.connect_link("ann")
    shown = f"{link}{link!r}{[link]}{pretty_repr(link)}"
    assert link.token
    assert link.url not in shown
    assert link.token not in shown
    assert repr(ConnectLink(url="u")) == "ConnectLink(url='***', token=None, expires_at=None)"
    assert pickle.loads(pickle.dumps(link)) == link


async def test_a_link_whose_response_was_lost_is_made_again_where_that_is_allowed(
    emulator: Emulator, app: AsyncApp
) -> None:
    emulator.script(Fault(drop="reset", executes=True), times=2, match=f"POST {LINK}")
    with pytest.raises(errors.AmbiguousOutcomeError):
        await app.requirements.connect_link("ann")
    assert len(emulator.requirements.links) == 1
    link = await app.requirements.connect_link("ann", retry=True)
    assert len(emulator.requirements.links) == 3
    assert link.url.endswith(list(emulator.requirements.links)[-1])


async def test_an_id_in_a_url_is_quoted(emulator: Emulator, app: AsyncApp) -> None:
    await app.requirements.status("ann&b=ü/?")
    assert dict(emulator.requests[-1].query) == {"user_id": "ann&b=ü/?"}
    with pytest.raises(errors.NotFoundError):
        await app.requirements.disconnect("a/b", "ann")
    assert emulator.requests[-1].path == "/v1/requirements/a%2Fb/connections"


async def test_unknown_requirements(emulator: Emulator, app: AsyncApp) -> None:
    with pytest.raises(errors.BadRequestError) as caught:
        await app.requirements.connect_link("ann", requirement_ids=["r-1"])
    assert caught.value.details == {"requirement_ids": "there is no r-1"}


@pytest.mark.parametrize("bad", ["", None, 5])
async def test_wrong_ids_send_nothing(bad: Any, emulator: Emulator, app: AsyncApp) -> None:
    needs = app.requirements
    for call, argument in (
        (needs.status(bad), "user_id"),
        (needs.connect_link(bad), "user_id"),
        (needs.connect_link("ann", requirement_ids=[bad]), "requirement_ids"),
        (needs.connect_link("ann", requirement_ids="r-1"), "requirement_ids"),
        (needs.disconnect(bad, "ann"), "requirement_id"),
        (needs.disconnect("r-1", bad), "user_id"),
    ):
        with pytest.raises(errors.InvalidArgumentError) as caught:
            await call
        assert caught.value.argument == argument
    assert emulator.requests.total == 0


# --- responses of other shapes -------------------------------------------------------------------


@pytest.mark.parametrize("wrap", [lambda data: data, lambda data: {"data": data}])
async def test_a_response_may_be_wrapped_or_not(
    wrap: Any, emulator: Emulator, app: AsyncApp
) -> None:
    bodies = (
        [{"id": "r-1", "title": "T", "type": 5, "new": 1}, "r-2"],
        {"unsatisfied": ["r-1"], "satisfied": False},
        {"url": "https://x.example/1", "expires_at": 5, "token": "t"},
    )
    emulator.script(*(Fault(status=200, body=wrap(body)) for body in bodies))
    expected = [Requirement(id="r-1", title="T"), Requirement(id="r-2")]
    assert list(await app.requirements.list()) == expected
    assert (await app.requirements.status("ann")).unsatisfied == [Requirement(id="r-1")]
    link = await app.requirements.connect_link("ann")
    assert link == ConnectLink(url="https://x.example/1", token="t")


async def test_nulls_are_nothing(emulator: Emulator, app: AsyncApp) -> None:
    bodies = ({"data": None}, {"data": {"unsatisfied": None}}, {"data": [None]})
    emulator.script(*(Fault(status=200, body=body) for body in bodies))
    assert list(await app.requirements.list()) == []
    assert (await app.requirements.status("ann")).is_satisfied
    # A requirement without any known field is still a requirement.
    assert list(await app.requirements.list()) == [Requirement()]


@pytest.mark.parametrize(
    "body", [{}, {"data": {}}, {"data": 5}, {"unsatisfied": 5, "url": ""}, None]
)
async def test_an_unknown_shape_does_not_pass_for_nothing_left(
    body: Any, emulator: Emulator, app: AsyncApp
) -> None:
    emulator.script(Fault(status=200, body=json.dumps(body).encode()), times=2)
    with pytest.raises(errors.ResponseDecodeError, match="requirements/status"):
        await app.requirements.status("ann")
    with pytest.raises(errors.ResponseDecodeError, match="connect/tokens"):
        await app.requirements.connect_link("ann")


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault(status=401), errors.AuthenticationError),
        (Fault(status=403), errors.PermissionDeniedError),
        (Fault(status=404), errors.NotFoundError),
        (Fault(status=500), errors.InternalServerError),
        (Fault(status=200, body=HTML_PAGE), errors.ContentTypeError),
    ],
)
async def test_refusals(
    fault: Fault, kind: type[Exception], emulator: Emulator, app: AsyncApp
) -> None:
    emulator.script(fault, times=None)
    for call in (
        app.requirements.list(),
        app.requirements.status("ann"),
        app.requirements.connect_link("ann"),
    ):
        with pytest.raises(kind):
            await call
    with pytest.raises(kind):
        await app.requirements.disconnect("r-1", "ann")


async def test_disconnecting_may_have_a_response_with_a_body(
    emulator: Emulator, app: AsyncApp
) -> None:
    emulator.script(Fault(status=200, body={"message": "ok"}), Fault(status=200, body=b""))
    await app.requirements.disconnect("r-1", "ann")
    await app.requirements.disconnect("r-1", "ann")
    assert emulator.requests.total == 2
