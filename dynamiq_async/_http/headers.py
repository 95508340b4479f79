"""The headers of requests: the client's own, the user's, and what none may hold."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from dynamiq_async._version import __version__
from dynamiq_async.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Mapping


JSON_TYPE = "application/json"
SSE_TYPE = "text/event-stream"
_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_HEADER_BREAK = re.compile(r"[\r\n\x00]")


def check_headers(headers: Mapping[str, str] | None, argument: str) -> dict[str, str]:
    for name, value in (headers or {}).items():
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
            raise InvalidArgumentError(
                f"{argument}: {name!r} is not a header name", argument=argument
            )
        if not isinstance(value, str) or _HEADER_BREAK.search(value):
            raise InvalidArgumentError(
                f"{argument}: the value of {name} must be a string on one line", argument=argument
            )
    return dict(headers or {})


USER_AGENT = f"dynamiq-async/{__version__}"

# Headers that carry a key of their own, and so stay where they are when a client is pickled.
_SECRET_HEADERS = frozenset({"authorization", "proxy-authorization", "cookie", "x-api-key"})
