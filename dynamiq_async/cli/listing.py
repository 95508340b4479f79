"""The beginning of a list that comes in pages, for commands with a `--limit`."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from dynamiq_async.cli import output

if TYPE_CHECKING:
    from collections.abc import Sized

    from dynamiq_async._http.paging import Pages

T = TypeVar("T")


async def beginning(pages: Pages[T], limit: int) -> list[T]:
    """The first items, and one more than `limit` where there are more."""
    found: list[T] = []
    async with pages as items:
        async for item in items:
            found.append(item)
            if len(found) > limit:
                break
    return found


def report_more(found: Sized, limit: int) -> None:
    """Print a remark if there are more items than are shown."""
    if len(found) > limit:
        output.remark(f"there are more than {limit}; --limit shows them")
