"""Pages of list endpoints, and the order of what they list."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from .fields import positive_number
from .refusals import bad_fields

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .exchange import Exchange

S = TypeVar("S")
T = TypeVar("T")

PAGE_SIZE = 25
MAX_PAGE_SIZE = 500


def sort_items(items: list[T], keys: str, known: Mapping[str, Callable[[T], Any]]) -> None:
    """Sort by comma-separated keys; a `-` before a key makes it descending.

    Raises `RefusalError` (400) for a key that is not in `known`.
    """
    for key in reversed(keys.split(",")):
        name = key.strip().removeprefix("-")
        if name not in known:
            raise bad_fields({"sort": f"cannot sort by {name}"})
        items.sort(key=known[name], reverse=key.strip().startswith("-"))


async def respond_page(exchange: Exchange[S], items: Sequence[T], show: Callable[[T], Any]) -> None:
    """Send the page of `items` that the query asks for; `show` makes JSON of each."""
    query = exchange.record.query
    page = positive_number(query, "page", default=1)
    size = min(positive_number(query, "page_size", default=PAGE_SIZE), MAX_PAGE_SIZE)
    total = len(items)
    start = (page - 1) * size
    pagination = {
        "page": page,
        "page_size": size,
        "page_count": -(-total // size),
        "total_count": total,
    }
    shown = [show(items[index]) for index in range(start, min(start + size, total))]
    await exchange.respond(200, {"data": shown, "pagination": pagination})
