"""The key of a client, held so that it cannot be shown, logged or pickled by accident, and what
messages call it."""

from __future__ import annotations

from typing import NamedTuple, NoReturn

MASK = "***"


class Credential(NamedTuple):
    """How a service's key is called and given, for messages about one that is missing or refused.

    `personal` says whether the service takes Personal Access Tokens.
    """

    name: str = "access key"
    argument: str = "access_key"
    variable: str = "DYNAMIQ_ACCESS_KEY"
    personal: bool = False


ACCESS_KEY = Credential()


def is_personal(key: str) -> bool:
    """Whether `key` looks like a Personal Access Token, which no App takes (documented)."""
    return key.startswith(("dyn_pat_", "uak_"))


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
