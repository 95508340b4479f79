"""The key of a client, held so that it cannot be shown, logged or pickled by accident, and its name
in messages.

The wire facts and their sources are in docs/contract.md.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Literal, NamedTuple, NoReturn, Self, TypeVar, cast
from urllib.parse import quote

import msgspec

from dynamiq_async.errors import InvalidArgumentError

MASK = "***"

K = TypeVar("K")

_UNSENDABLE = re.compile(r"[\x00-\x20\x7f]")


class Credential(NamedTuple):
    """A kind of key: its name in messages, and where it comes from.

    Attributes:
        name: what messages call the key.
        argument: the argument of the client that sets it.
        variable: the environment variable that holds it.
        purpose: what messages say that it is for.
        otherwise: what messages advise to users who have no key.
        personal: whether the service takes Personal Access Tokens.
        find: looks for a key that was not given; by default in the environment variable.
        advice: called with a request's name in messages and the status of its refusal; returns what
            the message advises, or "" for the advice about a Dynamiq App.
    """

    name: str
    argument: str
    variable: str
    purpose: str = ""
    otherwise: str = ""
    personal: bool = False
    find: Callable[[], str | None] | None = None
    advice: Callable[[str, int], str] | None = None

    def resolve(self, given: str | Literal[False] | None) -> str | None:
        """The key to send: `given`, else the one that is found. None only for False.

        Raises:
            InvalidArgumentError: there is no key.
        """
        if given is False:
            return None
        given = hidden(given)
        found = given if given is not None else hidden(self._look_up())
        if not found:
            raise InvalidArgumentError(
                f"no {self.name}{self.purpose}: pass {self.argument} or set "
                f"{self.variable}{self.otherwise}",
                argument=self.argument,
            )
        return found

    def is_set(self) -> bool:
        """Whether a key can be found."""
        try:
            return bool(self._look_up())
        except InvalidArgumentError:  # the file that may hold it cannot be read
            return False

    def _look_up(self) -> str | None:
        return os.environ.get(self.variable) if self.find is None else self.find()


ACCESS_KEY = Credential(
    "access key",
    "access_key",
    "DYNAMIQ_ACCESS_KEY",  # documented by the vendor
    otherwise="; pass access_key=False for a public App",
)


def is_personal(key: str) -> bool:
    """Whether `key` looks like a Personal Access Token, which no App takes (documented)."""
    return revealed(key).startswith(("dyn_pat_", "uak_"))


class Secret(str):
    """A text that only `reveal()` returns; in any other use it is the mask.

    So a local variable may hold it, although error trackers record local variables.
    """

    __slots__ = ("_reveal",)  # no `__dict__` to dump

    _reveal: Callable[[], str]

    def __new__(cls, value: str) -> Self:
        secret = super().__new__(cls, MASK)
        secret._reveal = lambda: value
        return secret

    def reveal(self) -> str:
        """The text itself."""
        return self._reveal()

    def __repr__(self) -> str:
        return MASK

    def __reduce__(self) -> NoReturn:
        raise TypeError("an access key is not pickled")


def revealed(key: str) -> str:
    """The key itself, also from a `Secret`. Never keep it in a local of a function that raises."""
    return key.reveal() if isinstance(key, Secret) else key


def hidden(key: K) -> K:
    """A key that was given, as a Secret. Any other value is returned unchanged, and nothing is
    raised. Constructors call this first, so that none of their frames that raise holds the key."""
    if isinstance(key, Secret) or not isinstance(key, str) or not key:
        return key
    return cast("K", Secret(key))


def check_key(key: str, argument: str) -> Secret:
    """The key as a Secret. Raises InvalidArgumentError, without the key, if it cannot be sent."""
    key = hidden(key)
    if not isinstance(key, str) or not key:
        raise InvalidArgumentError(f"{argument} must be a non-empty string", argument=argument)
    if _UNSENDABLE.search(revealed(key)) or not revealed(key).isascii():
        raise InvalidArgumentError(
            f"{argument} holds white space, control or non-ASCII characters; "
            "was it copied with a line break or quotes?",
            argument=argument,
        )
    return key if isinstance(key, Secret) else Secret(key)


_BEARER = r"(?i)(bearer\s+)[^\s\"'<>\\]+"
# A shorter key is a placeholder for a public or emulated App, and may be a part of plain words.
_MIN_MASKED_LENGTH = 6


def mask(text: str, key: str | None) -> str:
    """`text` without the key, in whatever form a server or library repeats it."""
    if key and len(key := revealed(key)) >= _MIN_MASKED_LENGTH:
        as_json = msgspec.json.encode(key).decode()[1:-1]
        for form in (key, as_json, key.replace("/", r"\/"), quote(key, safe="")):
            text = text.replace(form, MASK)
    return re.sub(_BEARER, rf"\1{MASK}", text)
