"""Lists that come in pages: await one for a page, iterate it for everything."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Generic, Self, TypeVar

from dynamiq_async.errors import StreamClosedError

if TYPE_CHECKING:
    from collections.abc import Generator, Hashable

    from dynamiq_async.runs_models import Page

T = TypeVar("T")

FetchPage = Callable[[int], Awaitable["Page[T]"]]


class Pages(Generic[T]):
    """A list of the service's.

        page = await app.runs.list()            # the page asked for
        async for run in app.runs.list(): ...   # that page and all behind it, fetched as needed

    An item that moved from one page to the next because newer ones came in is given once.

    Args:
        fetch: gets the page of a number.
        page: the number of the first page.
        identity: what tells items apart.
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
        self._fetch = fetch
        self._first = page
        self._identity = identity
        self._prefetch = prefetch

    def __await__(self) -> Generator[None, None, Page[T]]:
        return self._fetch(self._first).__await__()

    def __aiter__(self) -> PageIterator[T]:
        return PageIterator(self._fetch, self._first, self._identity, prefetch=self._prefetch)

    async def __aenter__(self) -> PageIterator[T]:
        return self.__aiter__()

    async def __aexit__(self, *_: object) -> None:
        return None


class PageIterator(Generic[T]):
    """All items, page after page. Closing it, or dropping it, ends a fetch that runs ahead."""

    _ahead: asyncio.Task[Page[T]] | None = None

    def __init__(
        self,
        fetch: FetchPage[T],
        page: int,
        identity: Callable[[T], Hashable],
        *,
        prefetch: bool,
    ) -> None:
        self._fetch = fetch
        self._next = page
        self._identity = identity
        self._prefetch = prefetch
        self._items: list[T] = []
        self._seen: set[Hashable] = set()
        self._more = True
        self._closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        while not self._items:
            if self._closed:
                raise StreamClosedError("the list was closed")
            if not self._more:
                raise StopAsyncIteration
            await self._turn_page()
        return self._items.pop()

    async def _turn_page(self) -> None:
        if self._ahead is None:
            page = await self._fetch(self._next)
        else:
            ahead, self._ahead = self._ahead, None
            try:
                page = await ahead
            except BaseException:
                ahead.cancel()
                raise
        self._next += 1
        self._more = page.has_next
        identities = [self._identity(item) for item in page]
        new = [
            item
            for item, identity in zip(page, identities, strict=True)
            if identity not in self._seen
        ]
        self._seen = set(identities)
        self._items = new[::-1]
        if self._prefetch and self._more and not self._closed:
            self._ahead = asyncio.ensure_future(self._fetch(self._next))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop. May be called from any task and any number of times."""
        self._closed = True
        self._items.clear()
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            ahead.cancel()
            await asyncio.wait([ahead])

    def __del__(self) -> None:
        if self._ahead is not None and not self._ahead.get_loop().is_closed():
            self._ahead.cancel()
