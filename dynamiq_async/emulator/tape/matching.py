"""Which exchange of a tape a request is, and if none, which is the nearest and why it is not it."""

from __future__ import annotations

from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl

import msgspec

from ... import _json

if TYPE_CHECKING:
    from collections.abc import Collection

    from .masks import Mask
    from .models import Exchange, Request

_SHOWN = 60
_COMPARED = 2000  # characters of two bodies whose likeness is measured


class Asked(NamedTuple):
    """What of a request must be the same: all but its headers.

    `body` is JSON with its names in order, or the bytes as they are.
    """

    method: str
    path: str
    query: tuple[tuple[str, str], ...]
    body: bytes

    @classmethod
    def of(cls, request: Request, mask: Mask) -> Asked:
        """What a request of a tape, or one that is put to it, asks for."""
        path, _, query = mask.path(request.path).partition("?")
        body = mask.request(request.body.data, request.header("content-type"))
        decoded = _decoded(body)
        if not isinstance(decoded, bytes):
            body = msgspec.json.encode(decoded, order="sorted")
        pairs = tuple(sorted(parse_qsl(query, keep_blank_values=True)))
        return cls(request.method, path, pairs, body)


def explain(asked: Asked, taped: Collection[tuple[Exchange, Asked]]) -> str:
    """Why a request is none of those on the tape: how it differs from the nearest one."""
    said = f"the tape does not know {_told(asked)}"
    if not taped:
        return f"{said}: it is empty"
    exchange, nearest = max(taped, key=lambda pair: _likeness(asked, pair[1]))
    return (
        f"{said}; the nearest is request {exchange.number}, {_told(nearest)}: "
        f"{difference(asked, nearest)}"
    )


def difference(asked: Asked, taped: Asked) -> str:
    """The first difference between two requests."""
    for name in ("method", "path", "query"):
        here, there = getattr(asked, name), getattr(taped, name)
        if here != there:
            return f"the {name} is {_shown(here)}, on the tape {_shown(there)}"
    here, there = (_decoded(body) for body in (asked.body, taped.body))
    return _differ(here, there, "the body")


def _differ(here: Any, there: Any, where: str) -> str:
    if isinstance(here, dict) and isinstance(there, dict):
        for name in sorted({*here, *there}):
            if name not in there:
                return f"{where} has {name!r}, on the tape it has not"
            if name not in here:
                return f"{where} has no {name!r}, on the tape it has"
            if here[name] != there[name]:
                inner = f"{where} at {name}" if where == "the body" else f"{where}.{name}"
                return _differ(here[name], there[name], inner)
    return f"{where} is {_shown(here)}, on the tape {_shown(there)}"


def _likeness(asked: Asked, taped: Asked) -> float:
    def alike(a: bytes | str, b: bytes | str) -> float:
        return SequenceMatcher(None, a[:_COMPARED], b[:_COMPARED], autojunk=False).ratio()

    return (
        3 * (asked.method == taped.method)
        + 4 * alike(asked.path, taped.path)
        + (asked.query == taped.query)
        + alike(asked.body.decode("latin-1"), taped.body.decode("latin-1"))
    )


def _decoded(body: bytes) -> Any:
    try:
        return _json.decode(body)
    except _json.DECODE_ERRORS:
        return body


def _told(asked: Asked) -> str:
    query = "&".join(f"{name}={value}" for name, value in asked.query)
    return f"{asked.method} {asked.path}{f'?{query}' if query else ''}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
