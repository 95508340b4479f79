"""Lists in pages, and single items, for all parts of the management API.

Any field of an item may be missing or null, so every field has a default. Unknown fields are
ignored, and a field of an unexpected type is left out, so that a caller still gets the rest. An
item's `raw` has everything that came.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import msgspec
from msgspec import Raw, Struct

from dynamiq_async import _json, errors
from dynamiq_async._http.endpoints import identity_of
from dynamiq_async._http.paging import Page, PageBody, Pages
from dynamiq_async._http.request_options import UNSET, CallOptions, RequestOptions, TimeoutLike
from dynamiq_async._http.response import read_with
from dynamiq_async.management.models import App
from dynamiq_async.options import check_count, check_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from dynamiq_async._http.api import Api

T = TypeVar("T")
S = TypeVar("S", bound=Struct)

MAX_PAGE_SIZE = 500
"""The most items on a page (seen in the vendor's library)."""


class ListOptions(CallOptions, total=False):
    """The arguments that all lists share.

    - `page`: the first page, counted from 1.
    - `page_size`: items on a page, at most 500; by default the service's choice, which is 25 (both
      seen in the vendor's library).
    - `prefetch`: while iterating, fetch the next page ahead.
    - `timeout`, `max_retries`: for each page, instead of the client's.
    - `extra_query`: parameters to add to the query.
    """

    page: int
    page_size: int | None
    prefetch: bool
    extra_query: Mapping[str, Any] | None


def pages_of(
    api: Api,
    path: tuple[str, ...],
    read: Callable[[Raw], T],
    what: str,
    query: Mapping[str, Any] | None = None,
    *,
    page: int = 1,
    page_size: int | None = None,
    prefetch: bool = False,
    timeout: TimeoutLike = UNSET,
    max_retries: int | None = None,
    extra_query: Mapping[str, Any] | None = None,
) -> Pages[T]:
    """A list whose items `read` decodes. Errors call an item `what`.

    The arguments after `query` are those of `ListOptions`.

    Raises:
        InvalidArgumentError: one of them cannot be used.
    """
    if page_size is not None and check_count(page_size, "page_size") > MAX_PAGE_SIZE:
        raise errors.InvalidArgumentError(
            f"page_size may be at most {MAX_PAGE_SIZE}, not {page_size}", argument="page_size"
        )
    asked = {**(query or {}), "page_size": page_size}
    given = RequestOptions(timeout, max_retries, query=extra_query)

    async def fetch(number: int) -> Page[T]:
        request = api.request("GET", *path, query={**asked, "page": number}, given=given)
        found = await api.fetch(request, api.options.for_call(given), PageBody)
        wrong = f"the answer to {request} holds no {what}"
        items = [read_with(read, data, wrong, key=api.sender.key) for data in found.data or []]
        return found.page(items)

    return Pages(fetch, page=check_count(page, "page"), identity=identity_of, prefetch=prefetch)


async def fetch_one(
    api: Api,
    path: tuple[str, ...],
    read: Callable[[Raw], T],
    what: str,
    *,
    timeout: TimeoutLike = UNSET,
    max_retries: int | None = None,
) -> T:
    """One item. It comes within `data`, or without that if it has an id."""
    given = RequestOptions(timeout, max_retries)
    request = api.request("GET", *path, given=given)
    body: Raw = await api.fetch(request, api.options.for_call(given), Raw)
    wrong = f"the answer to {request} holds no {what}"
    return read_with(lambda data: read(_unwrapped(data)), body, wrong, key=api.sender.key)


def reader(type: type[S]) -> Callable[[Raw], S]:
    """A decoder of items. It raises one of `_json.DECODE_ERRORS` for anything but an object."""
    decode = msgspec.json.Decoder(type).decode

    def read(data: Raw) -> S:
        try:
            item = _json.decode_with(decode, data)
        except msgspec.ValidationError:
            item = _json.fitting(_json.decode(data, dict[str, Any]), type)
        _json.keep(item, bytes(data))
        return item

    return read


def app_path(app: App | str | UUID) -> tuple[str, ...]:
    """The path of an App, from the App or its id.

    Raises:
        InvalidArgumentError: the id is empty, or the App has none.
    """
    return ("v1", "apps", check_id(app.id if isinstance(app, App) else app, "app"))


def _unwrapped(body: Raw) -> Raw:
    fields = _json.decode(body, dict[str, Raw])
    if "data" in fields:
        return fields["data"]
    if "id" in fields:
        return body
    raise msgspec.ValidationError("Object missing required field `data`")
