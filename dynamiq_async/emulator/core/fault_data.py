"""Converts a `Fault` to plain data, for TOML and JSON, and back.

The names are those of `Fault`. Two kinds of values need a special form: bytes that are not text
become `{"hex": "ff fe"}`, and an infinite time is `"forever"` (in TOML also `inf`).
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
    """The fields of a fault that differ from the defaults."""
    given = {name: getattr(fault, name) for name in _DEFAULTS}
    return {name: _plain(value) for name, value in given.items() if value != _DEFAULTS[name]}


def table(data: Any, known: Collection[str]) -> dict[str, Any]:
    """A copy of `data`, which must be a table with `known` names only.

    Raises `ValueError`, which for an unknown name suggests the one that was probably meant.
    """
    if not isinstance(data, Mapping):
        raise ValueError("this is no table of names and values")
    for name in data:
        if name not in known:
            meant = get_close_matches(str(name), known, 1) or [", ".join(sorted(known))]
            raise ValueError(f"there is no {name!r}: did you mean {meant[0]}?")
    return dict(data)


def convert(data: Any, type: type[T]) -> T:
    """Convert `data` to this type. Raises `ValueError`, which begins with the field's name."""
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
