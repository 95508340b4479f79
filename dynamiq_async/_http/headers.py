"""The headers of requests: the client's own and the user's, and which of them can be sent."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from dynamiq_async._credentials import revealed
from dynamiq_async._scalars import plain
from dynamiq_async._version import __version__
from dynamiq_async.errors import InvalidArgumentError
from dynamiq_async.options import check_mapping

if TYPE_CHECKING:
    from collections.abc import Mapping


USER_AGENT = f"dynamiq-async/{__version__}"
JSON_TYPE = "application/json"
SSE_TYPE = "text/event-stream"
_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_HEADER_BREAK = re.compile(r"[\r\n\x00]")


# These carry a secret, so a pickle of a client leaves them out.
_SECRET = frozenset({"authorization", "proxy-authorization", "cookie", "x-api-key"})


class HeaderSets:
    """The headers of each kind of request, built once for a view of a client.

    Where a name comes twice, the user's header wins over the headers of every request, and these
    win over the headers of the kind.

    Attributes:
        get: for a request without a body, or with a form.
        json: for one with a JSON body.
        sse: for one that opens a stream, without the content type of its body.
    """

    __slots__ = ("get", "json", "sse")

    def __init__(self, key: str | None, added: Mapping[str, str]) -> None:
        common = {"User-Agent": USER_AGENT}
        if key is not None:
            common["Authorization"] = f"Bearer {revealed(key)}"
        common |= titled(added)
        self.get = {"Accept": JSON_TYPE} | common
        self.json = {"Accept": JSON_TYPE, "Content-Type": JSON_TYPE} | common
        # A compressed stream would be delayed until each block is full.
        self.sse = {
            "Accept": SSE_TYPE,
            "Accept-Encoding": "identity",
            "Cache-Control": "no-store",
        } | common

    def of(self, *, stream: bool, json: bool) -> dict[str, str]:
        if not stream:
            return self.json if json else self.get
        return self.sse | {"Content-Type": JSON_TYPE} if json else self.sse


def titled(headers: Mapping[str, str]) -> dict[str, str]:
    """`headers` with names in title case, so that the same name is the same key in two mappings."""
    return {name.title(): value for name, value in headers.items()}


def without_secrets(headers: Mapping[str, str]) -> dict[str, str]:
    """`headers` without those that carry a secret."""
    return {name: value for name, value in headers.items() if name.lower() not in _SECRET}


def check_headers(headers: Mapping[str, str] | None, argument: str) -> dict[str, str]:
    """A copy of `headers`, empty for None. The text of an enum is its value.

    Raises:
        InvalidArgumentError: one of them cannot be sent; the error names `argument`.
    """
    checked: dict[str, str] = {}
    for name, value in check_mapping(headers, argument).items():
        if isinstance(value, str) and type(value) is not str:
            value = plain(value)
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
            raise InvalidArgumentError(
                f"{argument}: {name!r} is not a header name", argument=argument
            )
        if not isinstance(value, str) or _HEADER_BREAK.search(value):
            raise InvalidArgumentError(
                f"{argument}: the value of {name} must be a string on one line", argument=argument
            )
        checked[name] = value
    return checked
