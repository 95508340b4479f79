"""The token's owner, and the organisations and projects that the token can access.

The fields were seen in the vendor's command line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from msgspec import Struct

from dynamiq_async import _json, errors
from dynamiq_async._http.request_options import CallOptions
from dynamiq_async.management.lists import (
    ListOptions,
    fetch_one,
    pages_of,
    reader,
)
from dynamiq_async.management.settings import ORGANISATION, PROJECT
from dynamiq_async.options import check_id

if TYPE_CHECKING:
    from uuid import UUID

    from dynamiq_async._http.api import Api
    from dynamiq_async._http.paging import Pages

_SHOWN_ORGS = 5
_SHOWN_PROJECTS = 8  # how many the message that no project is set lists


class User(_json.KeepsRaw, Struct, frozen=True, kw_only=True):
    """The user that a token belongs to."""

    id: str | None = None
    email: str | None = None
    first_name: str | None = None
    last_name: str | None = None


class Org(_json.KeepsRaw, Struct, frozen=True, kw_only=True):
    """An organisation."""

    id: str | None = None
    name: str | None = None


class Project(_json.KeepsRaw, Struct, frozen=True, kw_only=True):
    """A project. `org_id` is the id of its organisation."""

    id: str | None = None
    name: str | None = None
    org_id: str | None = None


_read_user, _read_org, _read_project = reader(User), reader(Org), reader(Project)


async def fetch_user(api: Api, **options: Unpack[CallOptions]) -> User:
    """The user that the token belongs to. See `AsyncManagement.me`."""
    return await fetch_one(api, ("v1", "me"), _read_user, "user", **options)


class Orgs:
    """The organisations that the token can access, as `management.orgs`."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def list(self, **options: Unpack[ListOptions]) -> Pages[Org]:
        """The organisations. Await the result for one page, or iterate it for all.

        Args:
            options: the arguments that all lists share; see `ListOptions`.
        """
        return pages_of(self._api, ("v1", "orgs"), _read_org, "organisation", **options)

    async def get(self, org_id: str | UUID, **options: Unpack[CallOptions]) -> Org:
        """The organisation with an id.

        Raises:
            NotFoundError, PermissionDeniedError: there is none, or the token has no access to it.

        And what `AsyncApp.invoke` raises.
        """
        path = ("v1", "orgs", check_id(org_id, "org_id"))
        return await fetch_one(self._api, path, _read_org, "organisation", **options)


class Projects:
    """The projects that the token can access, as `management.projects`."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def list(
        self, *, org_id: str | UUID | None = None, **options: Unpack[ListOptions]
    ) -> Pages[Project]:
        """An organisation's projects. Await the result for one page, or iterate it for all.

        Args:
            org_id: by default from `DYNAMIQ_ORG_ID`, then from the settings of the vendor's command
                line.
            options: the arguments that all lists share; see `ListOptions`.

        Raises:
            InvalidArgumentError: an argument cannot be used, or there is no organisation.
        """
        org = org_id if org_id is not None else ORGANISATION.find()
        if org is None:
            raise errors.InvalidArgumentError(
                f"no organisation: pass org_id or set {ORGANISATION.variables[0]}; "
                "management.orgs.list() has those there are",
                argument="org_id",
            )
        query = {"org_id": check_id(org, "org_id")}
        return pages_of(self._api, ("v1", "projects"), _read_project, "project", query, **options)

    async def get(self, project_id: str | UUID, **options: Unpack[CallOptions]) -> Project:
        """The project with an id.

        Raises:
            NotFoundError, PermissionDeniedError: there is none, or the token has no access to it.

        And what `AsyncApp.invoke` raises.
        """
        path = ("v1", "projects", check_id(project_id, "project_id"))
        return await fetch_one(self._api, path, _read_project, "project", **options)


async def no_project_error(api: Api) -> errors.InvalidArgumentError:
    """The error that no project is set. It lists the projects that the token can access."""
    try:
        found = await _some_projects(api)
    except errors.DynamiqError as error:
        there = f"which there are could not be found out ({error.message})"
    else:
        shown = ", ".join(f"{project.name!r} ({project.id})" for project in found)
        there = f"there are {shown}" if shown else "the token reaches none"
    return errors.InvalidArgumentError(
        f"no project: {there}; pass project_id or set {PROJECT.variables[0]}",
        argument="project_id",
    )


async def _some_projects(api: Api) -> list[Project]:
    configured = ORGANISATION.find()
    orgs = [Org(id=configured)] if configured else (await Orgs(api).list()).data[:_SHOWN_ORGS]
    projects: list[Project] = []
    for org in orgs:
        if org.id:
            projects += await Projects(api).list(org_id=org.id)
    return projects[:_SHOWN_PROJECTS]
