"""`flowy.apps`: the apps of a workspace."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Raw, Struct

from dynamiq_async._http.paging import Page, Pages, Pagination
from dynamiq_async._http.request_options import UNSET, RequestOptions, TimeoutLike
from dynamiq_async.flowy.schema import FlowyApp, app_of
from dynamiq_async.options import check_id

if TYPE_CHECKING:
    from dynamiq_async.flowy.requests import FlowyRequests


class _AppList(Struct):
    data: list[Raw] | None = None


class FlowyApps:
    """The apps of Flowy, as `flowy.apps`."""

    def __init__(self, requests: FlowyRequests) -> None:
        self._requests = requests

    def list(
        self, *, timeout: TimeoutLike = UNSET, max_retries: int | None = None
    ) -> Pages[FlowyApp]:
        """All apps. Await the result for one page with all of them, or iterate it.

        No paging is documented. Only `get` returns the inputs and outputs of an app.
        """
        requests = self._requests
        options = requests.api.options.for_call(RequestOptions(timeout, max_retries))

        async def fetch(_: int) -> Page[FlowyApp]:
            request = requests.api.request("GET", "apps")
            found = await requests.api.fetch(request, options, _AppList)
            apps = [requests.read(app_of, data, request) for data in found.data or []]
            return Page(data=apps, pagination=Pagination(page=1, page_count=1))

        return Pages(fetch, page=1, identity=lambda app: app.id or app.slug or id(app))

    async def get(
        self, app_id: str, *, timeout: TimeoutLike = UNSET, max_retries: int | None = None
    ) -> FlowyApp:
        """An app with its inputs and outputs.

        Args:
            app_id: its id (documented) or slug (our guess).

        Raises:
            NotFoundError: there is no such app.
        """
        options = self._requests.api.options.for_call(RequestOptions(timeout, max_retries))
        return await self._requests.get_app(check_id(app_id, "app_id"), options)
