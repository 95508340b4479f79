"""What may be a key, a token or a password is not shown."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..core.masks import MASKED, SECRET_PARAMETERS, Mask

if TYPE_CHECKING:
    from ..core.request_record import RequestRecord

MASK = MASKED.decode()
"""In place of a secret."""

# More than a tape leaves out, for nothing is replayed from here. Not in plural: usage tells of
# tokens that are no secrets.
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
        """The parameters of its query."""
        return [
            (name, MASK if _is_secret(name) else value)
            for name, value in self._record.query.items()
        ]

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """Its headers."""
        return self._mask.headers(self._record.headers.items())

    def body(self, data: bytes) -> bytes:
        """Its body, or the beginning of that."""
        content_type = self._record.headers.get("Content-Type", "")
        return _mask_fields(self._mask.request(data, content_type))

    def sent(self, data: bytes) -> bytes:
        """The beginning of its response. What was found in the body is masked there too."""
        [masked] = self._mask.pieces([data])
        return _mask_fields(masked)


def _is_secret(name: str) -> bool:
    return name.lower() in SECRET_PARAMETERS or _NAME.search(name) is not None


def _mask_fields(data: bytes) -> bytes:
    """JSON, whole or cut, with the texts masked whose names say that they may be secret."""
    return _FIELD.sub(rf"\g<1>{MASK}", data.decode("utf-8", "replace")).encode()
