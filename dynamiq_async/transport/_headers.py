"""The headers of a response as a client reads them: text that can be shown, without the key."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from dynamiq_async._credentials import mask

if TYPE_CHECKING:
    from collections.abc import Iterator

# If one of these is repeated, its first value counts. The values of any other header make one list
# (RFC 9110, 5.3).
_SINGLE = {
    "content-length",
    "content-type",
    "content-encoding",
    "date",
    "location",
    "retry-after",
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
}
_SURROGATES = re.compile(r"[\ud800-\udfff]")
_NO_BYTES = re.compile(r"[\ud800-\udc7f\udd00-\udfff]")


def readable(text: str) -> str:
    """`text` with U+FFFD for bytes that are not UTF-8, which libraries keep as surrogates."""
    return text if text.isascii() else _SURROGATES.sub("\ufffd", text)


class Headers(Mapping[str, str]):
    """A response's headers. Few are ever looked up, so each is made readable only then.

    Args:
        headers: a mapping with `getall`, without regard to case.
        key: masked where the server repeats it.
    """

    __slots__ = ("_headers", "_key")

    def __init__(self, headers: Any, key: str | None) -> None:
        self._headers = headers
        self._key = key

    def __getitem__(self, name: str) -> str:
        values = self._headers.getall(name)
        lower = name.lower()
        value = values[0] if lower in _SINGLE else ", ".join(values)
        if lower == "location" and not value.isascii():
            # A URL is ASCII. Any other byte goes back to the server as it came.
            raw = _NO_BYTES.sub("\ufffd", value).encode("utf-8", "surrogateescape")
            value = quote(raw, safe=string.punctuation)
        return mask(readable(value), self._key)

    def __iter__(self) -> Iterator[str]:
        return iter({name.lower(): name for name in self._headers}.values())

    def __len__(self) -> int:
        return len({name.lower() for name in self._headers})
