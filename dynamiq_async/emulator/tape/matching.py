"""Finds the exchange of a tape for a request, or explains how the nearest one differs."""

from __future__ import annotations

from contextlib import suppress
from difflib import SequenceMatcher
from functools import lru_cache
from heapq import nlargest
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl

import msgspec

from ... import _json

if TYPE_CHECKING:
    from collections.abc import Collection

    from ..core.masks import Mask
    from .models import Exchange, Request

_SHOWN = 60
_PATH = 200  # how many characters of two paths are compared for likeness
_COMPARED = 2000  # how many characters of two bodies are compared for likeness
_CANDIDATES = 50  # for how many exchanges of the tape the bodies are compared
SOCKET = "WEBSOCKET"
"""Replaces the method of a request for a WebSocket."""


class Asked(NamedTuple):
    """The parts of a request that must match: all but the headers.

    `body` is JSON with sorted names, or the unchanged bytes.
    """

    method: str
    path: str
    query: tuple[tuple[str, str], ...]
    body: bytes

    @classmethod
    def of(cls, request: Request, mask: Mask) -> Asked:
        """The parts to match, of a request on a tape or of one to replay."""
        body = mask.request(request.body.data, request.header("content-type"))
        path, _, query = mask.path(request.path).partition("?")
        with suppress(*_json.DECODE_ERRORS, OverflowError):
            body = msgspec.json.encode(_json.decode(body), order="sorted")
        pairs = tuple(sorted(parse_qsl(query, keep_blank_values=True)))
        method = SOCKET if request.header("upgrade").lower() == "websocket" else request.method
        return cls(method, path, pairs, body)


def explain(asked: Asked, taped: Collection[tuple[Exchange, Asked]]) -> str:
    """Why a request matches none on the tape: how it differs from the nearest one."""
    said = f"the tape does not know {_told(asked)}"
    if not taped:
        return f"{said}: it is empty"
    exchange, nearest = max(
        nlargest(_CANDIDATES, taped, key=lambda pair: _likeness(asked, pair[1])),
        key=lambda pair: _likeness(asked, pair[1]) + _alike(asked.body, pair[1].body),
    )
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
    join = " at "
    while isinstance(here, dict) and isinstance(there, dict):
        name = next((name for name in sorted({*here, *there}) if _other(here, there, name)), None)
        if name is None:  # for example 1 and 1.0, which are equal in Python and differ in JSON
            break
        if name not in there:
            return f"{where} has {name!r}, on the tape it has not"
        if name not in here:
            return f"{where} has no {name!r}, on the tape it has"
        where, join = f"{where}{join}{name}", "."
        here, there = here[name], there[name]
    return f"{where} is {_shown(here)}, on the tape {_shown(there)}"


def _other(here: dict[str, Any], there: dict[str, Any], name: str) -> bool:
    return name not in here or name not in there or here[name] != there[name]


def _likeness(asked: Asked, taped: Asked) -> float:
    same_query = asked.query == taped.query
    return 3 * (asked.method == taped.method) + 4 * _near(asked.path, taped.path) + same_query


@lru_cache(256)
def _near(path: str, other: str) -> float:
    return SequenceMatcher(None, path[:_PATH], other[:_PATH], autojunk=False).ratio()


def _alike(body: bytes, other: bytes) -> float:
    here, there = (some[:_COMPARED].decode("latin-1") for some in (body, other))
    return SequenceMatcher(None, here, there, autojunk=False).quick_ratio()


def _decoded(body: bytes) -> Any:
    try:
        return _json.decode(body)
    except _json.DECODE_ERRORS:
        return body


def _told(asked: Asked) -> str:
    query = "&".join(f"{name}={value}" for name, value in asked.query)
    return f"{asked.method} {asked.path}{f'?{query}' if query else ''}"


def _shown(value: Any) -> str:
    text = ascii(value) if isinstance(value, bytes) else repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
