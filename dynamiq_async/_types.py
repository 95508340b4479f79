"""Caches for what is made from the types that callers ask for, such as decoders.

A type that a module holds lives as long as the program, so what is made from it is kept, up to
a bound. A type made at run time (within a function, or by `create_model` and the like) must not be
kept alive by a cache, so anything that refers to it is made anew each time.
"""

from __future__ import annotations

import sys
from enum import Enum
from typing import TYPE_CHECKING, Any, Generic, TypeVar, get_args, get_origin
from weakref import WeakSet

from msgspec import Meta

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

MAX_KEPT = 256
"""How many types a cache holds. One more empties it."""


class PerType(Generic[T]):
    """Makes one object from each type, and keeps it where the type lasts.

    Args:
        make: makes the object. If it raises, the error is passed on and nothing is kept.
    """

    def __init__(self, make: Callable[[Any], T]) -> None:
        self._make = make
        self._kept: dict[Any, T] = {}

    def __call__(self, type: Any) -> T:
        try:
            return self._kept[type]
        except KeyError:
            made = self._make(type)
        except TypeError:  # an `Annotated` type with a list in it cannot be looked up
            return self._make(type)
        if lasts(type):
            _keep(self._kept, type, made)
        return made


class OncePerType:
    """Runs a check once for each type.

    Args:
        check: the check. A type for which it raises is checked again the next time.
    """

    def __init__(self, check: Callable[[Any], None]) -> None:
        self._check = check
        self._lasting: dict[Any, None] = {}
        self._others: WeakSet[type] = WeakSet()

    def __call__(self, asked: Any) -> None:
        try:
            if asked in self._lasting:
                return
        except TypeError:
            self._check(asked)
            return
        if isinstance(asked, type) and asked in self._others:
            return
        self._check(asked)
        if lasts(asked):
            _keep(self._lasting, asked, None)
        elif isinstance(asked, type):
            self._others.add(asked)


def _keep(kept: dict[Any, T], type: Any, made: T) -> None:
    if len(kept) >= MAX_KEPT:
        kept.clear()
    kept[type] = made


# Parts of `X | None`, `Literal`, `Annotated` and `tuple` that are not types held by a module.
_NONE, _PARTS = (None, type(None), ...), (str, int, bytes, Enum, Meta)


def lasts(type: Any) -> bool:
    """Whether a type, and every type in it, is held by a module."""
    if get_origin(type) is not None:  # an alias, such as `list[X]` or `X | None`
        return all(map(lasts, get_args(type)))
    if type in _NONE or isinstance(type, _PARTS):
        return True
    name = getattr(type, "__qualname__", None) or getattr(type, "__name__", None) or ""
    found: Any = sys.modules.get(getattr(type, "__module__", None) or "")
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is type
