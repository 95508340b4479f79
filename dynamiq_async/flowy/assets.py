"""`flowy.assets`: the assets of a workspace, which are the things that Flowy made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dynamiq_async._http.paging import Page, Pages
from dynamiq_async._http.request_options import UNSET, RequestOptions, TimeoutLike
from dynamiq_async.options import check_count, check_id

if TYPE_CHECKING:
    from dynamiq_async.flowy.models import FlowyAsset
    from dynamiq_async.flowy.requests import FlowyRequests


class FlowyAssets:
    """The assets of a workspace, as `flowy.assets`. The key needs the scope `assets:read`."""

    def __init__(self, requests: FlowyRequests) -> None:
        self._requests = requests

    def list(
        self,
        *,
        page: int = 1,
        page_size: int | None = None,
        timeout: TimeoutLike = UNSET,
        max_retries: int | None = None,
    ) -> Pages[FlowyAsset]:
        """All assets. Await the result for one page, or iterate it for that page and all later
        ones.

        Args:
            page: the number of the first page, from 1.
            page_size: assets on a page; by default the service's own. The query parameter
                `pageSize` is our guess.

        Raises:
            InvalidArgumentError: a number cannot be used.
        """
        check_count(page, "page")
        if page_size is not None:
            check_count(page_size, "page_size")
        requests = self._requests
        options = requests.api.options.for_call(RequestOptions(timeout, max_retries))

        async def fetch(number: int) -> Page[FlowyAsset]:
            return await requests.get_assets(number, page_size, options)

        return Pages(fetch, page=page, identity=lambda asset: asset.id or id(asset))

    async def get(
        self, asset_id: str, *, timeout: TimeoutLike = UNSET, max_retries: int | None = None
    ) -> FlowyAsset:
        """An asset, with a fresh link to its content.

        Args:
            asset_id: its id, such as `asset_id` of an output or `id` of a listed asset.

        Raises:
            NotFoundError: there is no such asset.
        """
        options = self._requests.api.options.for_call(RequestOptions(timeout, max_retries))
        return await self._requests.get_asset(check_id(asset_id, "asset_id"), options)
