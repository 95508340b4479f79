"""Prints lists: a table for people, one item's JSON a line for programs."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from dynamiq_async.cli import output

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import Console
    from rich.table import Table

    from dynamiq_async._http.paging import Pages

T = TypeVar("T")

_SHORT = 200

Cell = str | tuple[str, str] | None
"""A text, or a text and its style."""


def local_time(time: str | None) -> str | None:
    """A time in the local zone, to the second. A text that is not a time is returned unchanged."""
    try:
        return f"{datetime.fromisoformat(time or '').astimezone():%Y-%m-%d %H:%M:%S}"
    except ValueError:
        return time


def short_json(value: Any) -> str | None:
    """The beginning of a text, or of another value's JSON."""
    if value is None:
        return None
    text = value if isinstance(value, str) else output.json_line(value).decode().rstrip()
    return text if len(text) <= _SHORT else f"{text[: _SHORT - 1]}…"


async def beginning(pages: Pages[T], limit: int) -> list[T]:
    """The first items: up to `limit`, and one more if there are more."""
    found: list[T] = []
    async with pages as items:
        async for item in items:
            found.append(item)
            if len(found) > limit:
                break
    return found


def print_list(
    items: Sequence[T],
    names: Sequence[str],
    row: Callable[[T], Sequence[Cell]],
    *,
    none: str,
    limit: int | None = None,
) -> None:
    """Print a list, and say if there are more items.

    Args:
        names: the columns' names. `row` makes the cells of an item.
        none: the text that a person sees in place of an empty table.
        limit: how many items to print; None: all.
    """
    shown = items[:limit]
    if not output.is_terminal():
        for item in shown:
            output.write(output.json_line(item))
    elif shown:
        print_table(names, [row(item) for item in shown])
    else:
        output.remark(none)
    if len(items) > len(shown):
        output.remark(f"there are more than {limit}; --limit shows them")


def print_table(names: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    """Print a table, or a block for each row if the longest words do not fit side by side."""
    from rich.table import Table

    console = output.console()
    table = _grid()
    for name in names:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*map(_text, row))
    if _fits(table, console):
        console.print(table)
        return
    for place, row in enumerate(rows):
        block = Table.grid(padding=(0, 2, 0, 0))
        block.add_column(style="dim")
        block.add_column(overflow="fold")
        for name, cell in zip(names, row, strict=True):
            if cell:
                block.add_row(name, _text(cell))
        console.print(*([""] if place else []), block, sep="\n")


def _grid() -> Table:
    from rich.table import Table

    return Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")


def _fits(table: Table, console: Console) -> bool:
    from rich.measure import Measurement

    return Measurement.get(console, console.options.update(width=10_000), table).minimum <= (
        console.width
    )


def _text(cell: Cell) -> Any:
    from rich.text import Text

    text, style = cell if isinstance(cell, tuple) else (cell or "", "")
    return Text(output.visible(text), style)
