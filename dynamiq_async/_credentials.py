"""The key of a client, held so that it cannot be shown, logged or pickled by accident, and what
messages call it.

The wire facts and their sources are in docs/contract.md.
"""

from __future__ import annotations

import os
import re
from typing import Literal, NamedTuple, NoReturn
from urllib.parse import quote

import msgspec

from dynamiq_async import errors
from dynamiq_async.errors import InvalidArgumentError

MASK = "***"

_UNSENDABLE = re.compile(r"[\x00-\x20\x7f]")


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


def check_key(key: str, argument: str) -> Secret:
    """The key as a Secret. The message of a refusal never holds it."""
    if not isinstance(key, str) or not key:
        raise InvalidArgumentError(f"{argument} must be a non-empty string", argument=argument)
    if _UNSENDABLE.search(key) or not key.isascii():
        raise InvalidArgumentError(
            f"{argument} holds white space, control or non-ASCII characters; "
            "was it copied with a line break or quotes?",
            argument=argument,
        )
    return Secret(key)


_BEARER = re.compile(r"(?i)(bearer\s+)[^\s\"'<>\\]+")
# A shorter key is a placeholder for a public or emulated App, and a part of many words.
_MASKABLE = 6


def mask(text: str, key: str | None) -> str:
    """`text` without the key, in whatever form a server or library repeats it."""
    if key and len(key) >= _MASKABLE:
        as_json = msgspec.json.encode(key).decode()[1:-1]
        for form in (key, as_json, key.replace("/", r"\/"), quote(key, safe="")):
            text = text.replace(form, MASK)
    return _BEARER.sub(rf"\1{MASK}", text)


def resolve_key(key: str | Literal[False] | None, variable: str) -> str | None:
    """The key to send: the one given, else the environment's; None only where False was given."""
    if key is False:
        return None
    found = key if key is not None else os.environ.get(variable)
    if not found:
        raise errors.InvalidArgumentError(
            f"no access key: pass access_key or set {variable}; pass access_key=False for "
            "a public App",
            argument="access_key",
        )
    return found
