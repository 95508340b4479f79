"""What callers hand in and get back, apart from events: plain, typed data."""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field

from dynamiq_async._secret import MASK


class Callback(Struct, frozen=True):
    """Where an App posts the result of a submitted call.

    Attributes:
        url: a public HTTPS address (documented by the vendor).
        token: sent back as `Authorization: Bearer <token>`, so that the receiver can tell a
            genuine callback. Never shown in a repr.
        metadata: an object that the callback carries unchanged.
    """

    url: str
    token: str | None = None
    metadata: dict[str, Any] | None = None

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.__rich_repr__())
        return f"Callback({shown})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        token = None if self.token is None else MASK
        return [("url", self.url), ("token", token), ("metadata", self.metadata)]


class Accepted(Struct, frozen=True):
    """The App took a submitted call; `id` is the one its callbacks will carry."""

    id: str
    status: str = "accepted"


class ResponseInfo(Struct, frozen=True, kw_only=True):
    """What is known of the response behind a stream.

    Attributes:
        status: the HTTP status.
        headers: the response's headers, their names in lower case.
        request_id: the server's or proxy's id for the request.
        attempts: how many times the request was sent or tried.
    """

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    request_id: str | None = None
    attempts: int = 1
