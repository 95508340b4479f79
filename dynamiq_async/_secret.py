"""The access key, held so that it cannot be shown, logged or pickled by accident."""

from __future__ import annotations

from typing import NoReturn

MASK = "***"


class Secret:
    """A string that only `reveal()` gives away."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return MASK

    def __reduce__(self) -> NoReturn:
        raise TypeError("an access key is not pickled")
