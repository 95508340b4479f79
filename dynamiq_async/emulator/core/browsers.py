"""CORS: web pages may call the emulator, as they may call the service.

A browser sends the page's origin in `Origin`. Before a request with a key or with JSON it asks for
permission with a preflight request, which has no key. Pages of origins that are not allowed are
refused, even if the browser would send their request without a preflight.

The vendor's chat widget needs this, because it runs in its customers' pages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from .hosts import is_loopback
from .refusals import RefusalError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from .request_record import RequestRecord
    from .wire import Wire

ANY_ORIGIN = ("*",)
"""Pages from anywhere."""

_METHODS = "GET, POST, PUT, PATCH, DELETE"
_EXPOSED = (
    "Content-Disposition, Retry-After, X-RateLimit-Limit, X-RateLimit-Remaining, "
    "X-RateLimit-Reset, X-Request-Id"
)
_MAX_AGE = "600"


def is_preflight(record: RequestRecord) -> bool:
    """Whether a request is a CORS preflight."""
    if record.method != "OPTIONS" or record.internal:  # the emulator's own page need not ask
        return False
    return "Origin" in record.headers and "Access-Control-Request-Method" in record.headers


def refused_page(record: RequestRecord, origins: Collection[str]) -> RefusalError | None:
    """Why the page that sent a request may not send it; None if it may.

    Args:
        origins: the origins that are allowed beside those of this machine, such as
            `https://shop.example`, or `*`.
    """
    origin = record.headers.get("Origin")
    if origin is None or not {"*", origin.lower()}.isdisjoint(origins) or _is_local(origin):
        return None
    return RefusalError(403, "forbidden", f"pages of {origin} may not call the emulator")


def browser_headers(record: RequestRecord, origins: Collection[str]) -> Mapping[str, str] | None:
    """The CORS headers of a response; None unless the request is from a page that may send it."""
    origin = record.headers.get("Origin")
    if origin is None or record.internal or refused_page(record, origins) is not None:
        return None
    return {
        "Access-Control-Allow-Origin": "*" if "*" in origins else origin,
        "Access-Control-Expose-Headers": _EXPOSED,
        "Vary": "Origin",
    }


async def allow(wire: Wire, asked: Mapping[str, str]) -> None:
    """Respond to a preflight, whose request headers are `asked`, with permission."""
    headers = {"Access-Control-Allow-Methods": _METHODS, "Access-Control-Max-Age": _MAX_AGE}
    if wanted := asked.get("Access-Control-Request-Headers"):
        headers["Access-Control-Allow-Headers"] = wanted
    await wire.start(204, headers, length=0)
    await wire.finish()


def _is_local(origin: str) -> bool:
    """Whether an origin is this machine. `null` is not: a page from a file has it, but frames of
    any site may have it too."""
    try:
        return is_loopback(urlsplit(origin).hostname or "")
    except ValueError:
        return False
