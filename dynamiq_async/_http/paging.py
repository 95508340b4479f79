"""Lists that come in pages: await a list for a page, iterate it for everything."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

import msgspec
from msgspec import Raw, Struct

from dynamiq_async import _json
from dynamiq_async._tasks import cancel_requests
from dynamiq_async.errors import StreamClosedError, StreamError

if TYPE_CHECKING:
    from collections.abc import Generator, Hashable, Iterator

T = TypeVar("T")

_CLOSED = "the list was closed"

FetchPage = Callable[[int], Awaitable["Page[T]"]]


class Pages(Generic[T]):
    """A list that a service sends in pages.

        page = await app.runs.list()            # one page
        async for run in app.runs.list(): ...   # that page and all behind it, fetched as needed

    An item that moves from one page to the next because newer ones came in is returned once.

    Args:
        fetch: gets the page of a number.
        page: the number of the first page.
        identity: the key by which an item is recognised on the next page.
        prefetch: while iterating, fetch the next page ahead.
    """

    def __init__(
        self,
        fetch: FetchPage[T],
        *,
        page: int,
        identity: Callable[[T], Hashable],
        prefetch: bool = False,
    ) -> None:
        self.fetch = fetch
        self.first = page
        self.identity = identity
        self.prefetch = prefetch

    def __await__(self) -> Generator[None, None, Page[T]]:
        return self.fetch(self.first).__await__()

    def __aiter__(self) -> PageIterator[T]:
        return PageIterator(self)

    async def __aenter__(self) -> PageIterator[T]:
        self._entered = self.__aiter__()
        return self._entered

    async def __aexit__(self, *_: object) -> None:
        await self._entered.aclose()


class PageIterator(Generic[T]):
    """All items, page after page. Closing or dropping it cancels a fetch under way."""

    _fetching: asyncio.Task[Page[T]] | None = None

    def __init__(self, pages: Pages[T]) -> None:
        # Not `pages` itself, which may refer to this.
        self._fetch, self._next = pages.fetch, pages.first
        self._identity, self._prefetch = pages.identity, pages.prefetch
        self._items: list[T] = []
        self._seen: set[Hashable] = set()
        self._more = True
        self._stale = 0
        self._reading = False
        self._closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        while not self._items:
            if self._closed:
                raise StreamClosedError(_CLOSED)
            if not self._more:
                raise StopAsyncIteration
            if self._reading:
                raise StreamError("another task is reading this list")
            self._reading = True
            try:
                await self._turn_page()
            finally:
                self._reading = False
        return self._items.pop()

    async def _turn_page(self) -> None:
        page = await self._next_page()
        count = page.pagination.page_count
        identities = [self._identity(item) for item in page]
        new = [
            item
            for item, identity in zip(page, identities, strict=True)
            if identity not in self._seen
        ]
        self._seen = set(identities)
        self._items = new[::-1]
        # The second page in a row without a new item ends the list. One such page is possible when
        # newer items have pushed the last page's items here. A service that ignores the page's
        # number sends the same page for ever. The number that it echoes is not relied on.
        self._stale = 0 if new else self._stale + 1
        follows = bool(identities) if count is None else self._next < count
        self._more = follows and self._stale < 2
        self._next += 1
        if self._prefetch and self._more:
            self._fetching = self._start()

    async def _next_page(self) -> Page[T]:
        task = self._fetching = self._fetching or self._start()
        cancelled_before = cancel_requests()
        try:
            page = await task
        except asyncio.CancelledError:
            if self._closed and cancel_requests() == cancelled_before:
                raise StreamClosedError(_CLOSED) from None
            raise
        finally:
            self._fetching = None
        if self._closed:
            raise StreamClosedError(_CLOSED)
        return page

    def _start(self) -> asyncio.Task[Page[T]]:
        return asyncio.ensure_future(self._fetch(self._next))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop. May be called from any task and any number of times."""
        self._closed = True
        self._items.clear()
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait([self._fetching])

    def __del__(self) -> None:
        if self._fetching is not None and not self._fetching.get_loop().is_closed():
            self._fetching.cancel()


class Pagination(Struct, frozen=True, kw_only=True):
    """The position of a page in its list. Pages are counted from 1."""

    page: int = 1
    page_size: int | None = None
    page_count: int | None = None
    total_count: int | None = None


ONLY_PAGE = Pagination(page_count=1)
"""The position of a page that came without one, because the service sent the whole list at once
(seen in the vendor's library)."""


class Page(Struct, Generic[T], frozen=True, kw_only=True):
    """One page of a list; iterating it gives its items."""

    data: list[T]
    pagination: Pagination = ONLY_PAGE

    @property
    def has_next(self) -> bool:
        """Whether pages follow. Without a `page_count`: whether this one has items."""
        count = self.pagination.page_count
        return bool(self.data) if count is None else self.pagination.page < count

    def __iter__(self) -> Iterator[T]:
        return iter(self.data)

    def __len__(self) -> int:
        return len(self.data)


class PageBody(Struct):
    """A page as services send it: some write null for an empty list."""

    data: list[Raw] | None = None
    pagination: Any = None

    def page(self, items: list[T]) -> Page[T]:
        if not isinstance(self.pagination, dict):
            return Page(data=items)
        return Page(data=items, pagination=_json.fitting(self.pagination, Pagination))


def page_body_of(data: Raw) -> PageBody:
    """A page of a list of unknown form: an object with the list as its `data`; the bare list; or
    Flowy's form, whose `data` is an object with the list and its position.

    Raises one of `_json.DECODE_ERRORS` when there is no list.
    """
    body = _json.decode(data, _LIST_OR_OBJECT)
    if isinstance(body, list):
        return PageBody(body)
    pagination = _json.decode(body.get("pagination", _NULL))
    content = _json.decode(body.get("data", _NULL), _LIST_OR_OBJECT | None)
    if not isinstance(content, dict):
        return PageBody(content, pagination)
    lists = [name for name, value in content.items() if bytes(value).lstrip()[:1] == b"["]
    if len(lists) != 1:
        raise msgspec.ValidationError("Expected `array`, got `object` - at `$.data`")
    items = _json.decode(content.pop(lists[0]), list[Raw])
    told = {_FLOWY_NAMES.get(name, name): _json.decode(value) for name, value in content.items()}
    known = {name: told[name] for name in Pagination.__struct_fields__ if name in told}
    return PageBody(items, pagination or known or None)


_LIST_OR_OBJECT: Any = list[Raw] | dict[str, Raw]
_NULL = Raw(b"null")
_FLOWY_NAMES = {"pageSize": "page_size", "totalPages": "page_count", "total": "total_count"}
