"""`management.apps`: the deployed Apps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from dynamiq_async._http.paging import Page, Pages
from dynamiq_async._http.request_options import CallOptions
from dynamiq_async.management.accounts import no_project_error
from dynamiq_async.management.lists import ListOptions, fetch_one, pages_of
from dynamiq_async.management.models import App, app_of
from dynamiq_async.options import check_id

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from dynamiq_async._http.api import Api


class Apps:
    """The deployed Apps, as `management.apps`."""

    def __init__(self, api: Api, find_project: Callable[[], str | None]) -> None:
        self._api = api
        self._find_project = find_project

    def list(
        self,
        *,
        project_id: str | UUID | None = None,
        archived: bool | None = None,
        include_archived: bool | None = None,
        workflow_id: str | UUID | None = None,
        sort: str | None = None,
        **options: Unpack[ListOptions],
    ) -> Pages[App]:
        """A project's Apps, by name. Await the result for one page, or iterate it for all.

        Args:
            project_id: by default the client's.
            archived: True lists only archived Apps, False only other Apps. The parameter is
                documented, but its meaning is our guess.
            include_archived: also list archived Apps, which are left out by default. Here, too, the
                meaning is our guess.
            workflow_id: only Apps that were deployed from this workflow.
            sort: fields separated by commas, `-` for descending, such as `-created_at`.
            options: the arguments that all lists share; see `ListOptions`.

        Raises:
            InvalidArgumentError: an argument cannot be used. Without a project, awaiting and
                iterating raise it, and it lists the projects.
        """
        project = project_id if project_id is not None else self._find_project()
        query = {
            "project_id": None if project is None else check_id(project, "project_id"),
            "archived": archived,
            "include_archived": include_archived,
            "workflow_id": None if workflow_id is None else check_id(workflow_id, "workflow_id"),
            "sort": sort,
        }
        pages = pages_of(self._api, ("v1", "apps"), app_of, "App", query, **options)
        if project is None:
            pages.fetch = self._refuse
        return pages

    async def get(self, app_id: str | UUID, **options: Unpack[CallOptions]) -> App:
        """The App with an id.

        Raises:
            InvalidArgumentError: the id is empty.
            NotFoundError: there is no such App.

        And what `AsyncApp.invoke` raises.
        """
        path = ("v1", "apps", check_id(app_id, "app_id"))
        return await fetch_one(self._api, path, app_of, "App", **options)

    async def _refuse(self, number: int) -> Page[App]:
        raise await no_project_error(self._api)
