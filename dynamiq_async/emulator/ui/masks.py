"""What may be a key, a token or a password is not shown."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multidict import MultiMapping

MASK = "••••"
"""In place of a secret."""

# Not in plural: usage tells of tokens that are no secrets.
_WORDS = (
    "authorization|cookie|token(?!s)|secret|passw|credential|signature|session[-_]?key|"
    "(?:api|access|private)[-_]?key"
)
_SECRET = re.compile(_WORDS, re.IGNORECASE)
_FIELD = re.compile(
    rf'("[^"]*(?:{_WORDS})[^"]*"\s*:\s*")((?:[^"\\]|\\.)+)', re.IGNORECASE | re.DOTALL
)


def mask_items(items: MultiMapping[str]) -> list[tuple[str, str]]:
    """Headers or the parameters of a query, with what may be secret masked by its name."""
    return [(name, MASK if _SECRET.search(name) else value) for name, value in items.items()]


def mask_text(text: str) -> str:
    """JSON, whole or cut, with the texts masked whose names say that they may be secret."""
    return _FIELD.sub(rf"\g<1>{MASK}", text)
