"""Masks values in the inspector that may be a key, a token or a password."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..core.masks import MASKED, SECRET_PARAMETERS, Mask

if TYPE_CHECKING:
    from ..core.request_record import RequestRecord

MASK = MASKED.decode()
"""Replaces a secret."""

# These mask more than a tape does, because nothing is replayed from here. The plural "tokens" is
# not masked: usage has counts of tokens, which are not secrets.
_WORDS = (
    "authorization|cookie|token(?!s)|secret|passw|credential|signature|session[-_]?key|"
    "(?:api|access|private)[-_]?key"
)
_NAME = re.compile(_WORDS, re.IGNORECASE)
_FIELD = re.compile(
    rf'("[^"]*(?:{_WORDS})[^"]*"\s*:\s*")((?:[^"\\]|\\.)+)', re.IGNORECASE | re.DOTALL
)


class ShownRequest:
    """A request and the beginning of its response, masked."""

    def __init__(self, record: RequestRecord) -> None:
        self._record = record
        self._mask = Mask(())
        self._mask.learn(record.headers.items())

    @property
    def query(self) -> list[tuple[str, str]]:
        """The parameters of the query."""
        return [
            (name, MASK if _is_secret(name) else value)
            for name, value in self._record.query.items()
        ]

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """The headers of the request."""
        return self._mask.headers(self._record.headers.items())

    def body(self, data: bytes) -> bytes:
        """The body of the request, or its beginning."""
        content_type = self._record.headers.get("Content-Type", "")
        return _mask_fields(self._mask.request(data, content_type))

    def sent(self, data: bytes) -> bytes:
        """The beginning of the response. Secrets of the request's body are masked here too."""
        [masked] = self._mask.pieces([data])
        return _mask_fields(masked)


def _is_secret(name: str) -> bool:
    return name.lower() in SECRET_PARAMETERS or _NAME.search(name) is not None


def _mask_fields(data: bytes) -> bytes:
    """Mask the texts in JSON, whole or cut, whose names say that they may be secret."""
    return _FIELD.sub(rf"\g<1>{MASK}", data.decode("utf-8", "replace")).encode()
