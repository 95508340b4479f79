"""Web pages may call the emulator, as they may call the service: CORS with its preflight.

A browser names the page's origin in `Origin`. Before a request with a key or with JSON it asks by a
preflight, which has no key itself, whether it may send it. Pages of other origins than those
allowed are refused, also where a browser would send their request without asking first.

The vendor's chat widget needs this: it runs in its customers' pages.
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
    """Whether a browser asks what a page may send, as CORS has it."""
    if record.method != "OPTIONS" or record.internal:  # the emulator's own page need not ask
        return False
    return "Origin" in record.headers and "Access-Control-Request-Method" in record.headers


def refused_page(record: RequestRecord, origins: Collection[str]) -> RefusalError | None:
    """Why the page that a request is from may not send it, if it may not.

    Args:
        origins: what is allowed beside pages of this machine: origins such as
            `https://shop.example`, or `*`.
    """
    origin = record.headers.get("Origin")
    if origin is None or not {"*", origin.lower()}.isdisjoint(origins) or _is_local(origin):
        return None
    return RefusalError(403, "forbidden", f"pages of {origin} may not call the emulator")


def browser_headers(record: RequestRecord, origins: Collection[str]) -> Mapping[str, str] | None:
    """What a response says to the browser of a page that may send the request; None where it is
    from no such page."""
    origin = record.headers.get("Origin")
    if origin is None or record.internal or refused_page(record, origins) is not None:
        return None
    return {
        "Access-Control-Allow-Origin": "*" if "*" in origins else origin,
        "Access-Control-Expose-Headers": _EXPOSED,
        "Vary": "Origin",
    }


async def allow(wire: Wire, asked: Mapping[str, str]) -> None:
    """Respond to a preflight with the request headers `asked`: what it asks for may be sent."""
    headers = {"Access-Control-Allow-Methods": _METHODS, "Access-Control-Max-Age": _MAX_AGE}
    if wanted := asked.get("Access-Control-Request-Headers"):
        headers["Access-Control-Allow-Headers"] = wanted
    await wire.start(204, headers, length=0)
    await wire.finish()


def _is_local(origin: str) -> bool:
    """Whether a page is this machine's own. That of a file has the origin `null`, and so have
    frames of any site: it is not."""
    try:
        return is_loopback(urlsplit(origin).hostname or "")
    except ValueError:
        return False
