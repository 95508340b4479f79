"""The types of CSV cells: text, unless the command line names another type."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from typing import Any, Final

import msgspec

from dynamiq_async.errors import InvalidArgumentError


def _bool(cell: str) -> bool:
    try:
        return _BOOLS[cell.strip().lower()]
    except KeyError:
        raise ValueError(cell) from None


def _float(cell: str) -> float:
    number = float(cell)
    if not isfinite(number):
        raise ValueError(cell)
    return number


def _json(cell: str) -> Any:
    return msgspec.json.decode(cell)


_BOOLS = {"true": True, "false": False, "yes": True, "no": False, "1": True, "0": False}

TYPES: Final[Mapping[str, Callable[[str], Any]]] = {
    "text": str,
    "int": int,
    "float": _float,
    "bool": _bool,
    "json": _json,
}


class Cells:
    """Reads cells as values.

    Args:
        types: types by column, such as "age=int,score=float"; see `TYPES`. Other columns are text.
        empty_null: whether an empty cell is null.

    Raises:
        InvalidArgumentError: `types` has another form.
    """

    def __init__(self, types: str | None = None, *, empty_null: bool = False) -> None:
        self._types = {} if types is None else dict(map(_typed, types.split(",")))
        self._empty_null = empty_null

    def check(self, header: Sequence[str]) -> None:
        """Raise InvalidArgumentError if a type is for a column that is not among these."""
        if missing := self._types.keys() - set(header):
            raise InvalidArgumentError(
                f"types name {', '.join(sorted(missing))}, and the columns are {', '.join(header)}",
                argument="types",
            )

    def read(self, header: Sequence[str], row: Sequence[str]) -> dict[str, Any]:
        """The fields of a row. Raises ValueError, with a message for people, if one has another
        type."""
        fields: dict[str, Any] = dict(zip(header, row, strict=True))
        if self._empty_null:
            fields = {name: cell or None for name, cell in fields.items()}
        for name, type in self._types.items():
            if fields[name] is not None:
                fields[name] = _read(name, fields[name], type)
        return fields


def _read(name: str, cell: str, type: str) -> Any:
    try:
        return TYPES[type](cell)
    except (ValueError, msgspec.MsgspecError):
        empty = "" if cell else "; with --empty-null, an empty cell is null"
        raise ValueError(f"{name} is {cell!r}, which is no {type}{empty}") from None


def _typed(given: str) -> tuple[str, str]:
    name, _, type = given.rpartition("=")
    if not name.strip() or type.strip() not in TYPES:
        raise InvalidArgumentError(
            f"types are such as age=int,score=float, of {', '.join(TYPES)}; not {given!r}",
            argument="types",
        )
    return name.strip(), type.strip()
