"""`AsyncApp.submit`: the callbacks that an App posts the result to, and its response to the call.

The wire facts and their sources are in docs/contract.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from msgspec import Raw, Struct

from dynamiq_async._credentials import MASK, check_key
from dynamiq_async._hosts import is_loopback, is_private
from dynamiq_async._http.urls import CONTROL, ascii_host, split_url
from dynamiq_async._json import encode_object
from dynamiq_async.errors import InvalidArgumentError

MAX_CALLBACKS = 5  # documented by the vendor


class Callback(Struct, frozen=True):
    """Where an App posts the result of a submitted call.

    Attributes:
        url: a public HTTPS address (documented by the vendor).
        token: sent back as `Authorization: Bearer <token>`, so that the receiver can recognise
            a genuine callback. Never shown in a repr.
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
    """The App accepted a submitted call. Its callbacks will carry the same `id`."""

    id: str
    status: str = "accepted"


def callback_objects(callbacks: Sequence[Callback], *, app_url: str) -> list[dict[str, Any]] | None:
    """The callbacks as the vendor documents them, None where there are none.

    Raises:
        InvalidArgumentError: one of them cannot be used, as far as a client can tell.
    """
    if not isinstance(callbacks, Sequence) or not all(isinstance(c, Callback) for c in callbacks):
        raise InvalidArgumentError("callbacks must be a list of Callback", argument="callbacks")
    if len(callbacks) > MAX_CALLBACKS:
        raise InvalidArgumentError(
            f"an App takes at most {MAX_CALLBACKS} callbacks, not {len(callbacks)}",
            argument="callbacks",
        )
    if not callbacks:
        return None
    on_loopback = is_loopback(urlsplit(app_url).hostname or "")
    return [_callback_object(callback, on_loopback=on_loopback) for callback in callbacks]


def _callback_object(callback: Callback, *, on_loopback: bool) -> dict[str, Any]:
    if not isinstance(callback.url, str) or CONTROL.search(callback.url):
        raise InvalidArgumentError(
            f"a callback's URL must be a string without white space: {callback.url!r}",
            argument="callbacks",
        )
    parts = split_url(callback.url, "callbacks")
    host = ascii_host(parts.hostname or "")  # 127.0.0.1 can be written in non-ASCII digits
    if not host:
        raise InvalidArgumentError(
            f"a callback's URL has no usable host: {callback.url}", argument="callbacks"
        )
    if parts.scheme not in ("https", "http"):
        raise InvalidArgumentError(
            f"a callback's URL must be https: {callback.url}", argument="callbacks"
        )
    if parts.username is not None or parts.password is not None:
        raise InvalidArgumentError(
            "a callback's URL may not hold a user name or password; use its token",
            argument="callbacks",
        )
    local = is_private(host)
    if (local or parts.scheme == "http") and not (on_loopback and is_loopback(host)):
        raise InvalidArgumentError(
            f"a callback's URL must be https at a public address: {callback.url} "
            "(loopback works only for an App that is itself on loopback)",
            argument="callbacks",
        )
    body: dict[str, Any] = {"url": callback.url}
    if callback.token is not None:
        body["auth"] = {"type": "bearer", "token": check_key(callback.token, "callbacks").reveal()}
    if callback.metadata is not None:
        body["metadata"] = Raw(encode_object(callback.metadata, "callbacks"))
    return body
