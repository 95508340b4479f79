"""`management.apps`: the deployed Apps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Raw, Struct

from dynamiq_async import errors
from dynamiq_async._http.paging import Page, PageBody, Pages
from dynamiq_async._http.request_options import UNSET, RequestOptions, TimeoutLike
from dynamiq_async._http.response import read_with
from dynamiq_async.management.models import App, app_of
from dynamiq_async.management.settings import PROJECT
from dynamiq_async.options import check_count, check_id

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping
    from uuid import UUID

    from dynamiq_async._http.api import Api
    from dynamiq_async._http.request import Request


MAX_PAGE_SIZE = 500
"""The most Apps that the service puts on a page (seen in the vendor's library)."""


class _AppData(Struct):
    data: Raw


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
        page: int = 1,
        page_size: int | None = None,
        prefetch: bool = False,
        timeout: TimeoutLike = UNSET,
        max_retries: int | None = None,
        extra_query: Mapping[str, Any] | None = None,
    ) -> Pages[App]:
        """A project's Apps, by name: await it for a page, iterate it for all.

        Args:
            project_id: by default the client's.
            archived: only archived Apps, or only others. The parameter is documented, its meaning
                is our guess.
            include_archived: archived Apps too, which are left out by default (the same).
            workflow_id: only Apps that were deployed from this workflow.
            sort: fields separated by commas, `-` for descending, such as `-created_at`.
            page: the first page, counted from 1.
            page_size: Apps on a page, at most 500; by default the service's choice, which is 25
                (both seen in the vendor's library).
            prefetch: while iterating, fetch the next page ahead.
            timeout, max_retries: for each page, instead of the client's.
            extra_query: added to the query, for what is not foreseen.

        Raises:
            InvalidArgumentError: an argument cannot be used, or there is no project.
        """
        project = project_id if project_id is not None else self._find_project()
        if project is None:
            raise errors.InvalidArgumentError(
                f"no project: pass project_id or set {PROJECT.variables[0]}",
                argument="project_id",
            )
        if page_size is not None and check_count(page_size, "page_size") > MAX_PAGE_SIZE:
            raise errors.InvalidArgumentError(
                f"page_size may be at most {MAX_PAGE_SIZE}, not {page_size}", argument="page_size"
            )
        query = {
            "project_id": check_id(project, "project_id"),
            "archived": archived,
            "include_archived": include_archived,
            "workflow_id": None if workflow_id is None else check_id(workflow_id, "workflow_id"),
            "sort": sort,
            "page_size": page_size,
        }
        given = RequestOptions(timeout, max_retries, query=extra_query)

        async def fetch(number: int) -> Page[App]:
            return await self._page({**query, "page": number}, given)

        return Pages(fetch, page=check_count(page, "page"), identity=_identity, prefetch=prefetch)

    async def get(
        self,
        app_id: str | UUID,
        *,
        timeout: TimeoutLike = UNSET,
        max_retries: int | None = None,
    ) -> App:
        """The App with an id.

        Raises:
            InvalidArgumentError: the id is empty.
            NotFoundError: there is no such App.
            What `AsyncApp.invoke` raises.
        """
        given = RequestOptions(timeout, max_retries)
        path = ("v1", "apps", check_id(app_id, "app_id"))
        request = self._api.request("GET", *path, given=given)
        found = await self._api.fetch(request, self._api.options.for_call(given), _AppData)
        return self._read_app(request, found.data)

    async def _page(self, query: Mapping[str, Any], given: RequestOptions) -> Page[App]:
        request = self._api.request("GET", "v1", "apps", query=query, given=given)
        found = await self._api.fetch(request, self._api.options.for_call(given), PageBody)
        return found.page([self._read_app(request, data) for data in found.data or []])

    def _read_app(self, request: Request, data: Raw) -> App:
        wrong = f"the answer to {request} holds no App"
        return read_with(app_of, data, wrong, key=self._api.sender.key)


def _identity(app: App) -> Hashable:
    # Any field may be missing. Two Apps without an id are one if all their fields are equal.
    return app.id or msgspec.json.encode(app)
