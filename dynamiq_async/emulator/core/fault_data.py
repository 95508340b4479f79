"""A `Fault` as plain data, as TOML and JSON have it, and back.

The names are those of `Fault`. JSON and TOML lack two things: bytes that are no text, which are
`{"hex": "ff fe"}`, and in JSON a time without end, which is `"forever"` (in TOML also `inf`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import fields
from difflib import get_close_matches
from typing import Any, TypeVar

import msgspec

from .faults import FOREVER, NO_FAULT, Fault

T = TypeVar("T")

_FOREVER = "forever"
_TIMES = ("delay", "stall", "terminator")
_DEFAULTS = {known.name: getattr(NO_FAULT, known.name) for known in fields(Fault)}
FAULT_FIELDS = frozenset(_DEFAULTS)
"""The names of a fault's fields."""

_PLACE = re.compile(r" - at `\$\.?(.*)`$")


def read_fault(data: Any) -> Fault:
    """The fault that `data` describes. Raises `ValueError` for an unknown field, a wrong value, and
    what `Fault` refuses."""
    given = table(data, FAULT_FIELDS)
    for name in _TIMES:
        if given.get(name) == _FOREVER:
            given[name] = FOREVER
    if "send" in given:
        given["send"] = _bytes(given["send"])
    return convert(given, Fault)


def fault_data(fault: Fault) -> dict[str, Any]:
    """The fields of a fault that are not as they are by default."""
    given = {name: getattr(fault, name) for name in _DEFAULTS}
    return {name: _plain(value) for name, value in given.items() if value != _DEFAULTS[name]}


def table(data: Any, known: Collection[str]) -> dict[str, Any]:
    """A copy of `data`, a table with no other names than those that are `known`.

    Raises `ValueError`, with the name that was probably meant.
    """
    if not isinstance(data, Mapping):
        raise ValueError("this is no table of names and values")
    for name in data:
        if name not in known:
            meant = get_close_matches(str(name), known, 1) or [", ".join(sorted(known))]
            raise ValueError(f"there is no {name!r}: did you mean {meant[0]}?")
    return dict(data)


def convert(data: Any, type: type[T]) -> T:
    """`data` as this type. Raises `ValueError`, which begins with the name of what is wrong."""
    try:
        return msgspec.convert(data, type)
    except msgspec.ValidationError as error:
        said, place, _ = (*_PLACE.split(str(error)), "", "")[:3]
        raise ValueError(f"{place}: {said}" if place else said) from None


def _bytes(value: Any) -> bytes:
    try:
        return value.encode() if isinstance(value, str) else bytes.fromhex(value["hex"])
    except (KeyError, TypeError, ValueError):
        raise ValueError('send: a text, or bytes as {"hex": "ff fe"}') from None


def _plain(value: Any) -> Any:
    if value == FOREVER:
        return _FOREVER
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return {"hex": value.hex(" ")}
    if isinstance(value, Collection) and not isinstance(value, str | Mapping):
        return list(value)
    return value
