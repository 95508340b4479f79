"""Who may look and act: programs on this machine and, of web pages, only the inspector's own.

Pages of any origin may call the Apps, because the vendor's widget needs it. They may not call the
inspector: otherwise a page of another site, open in a browser on this machine, could read the
inputs of Apps, answer questions and switch faults. So a request must meet these conditions:

- Its address is this machine's, and no proxy has forwarded it.
- `Host` is a name of this machine, or one that the emulator was given. So no site can reach the
  inspector through a domain name that points here.
- `Origin` and `Sec-Fetch-Site`, which browsers send, name no page but the inspector's own. A page
  at another port of this machine is another page.
- If it changes something, its body is JSON, which a page cannot send elsewhere without a preflight.

With `inspector=True` everyone may use the inspector whose requests have such a `Host`, but faults
can still be switched only from this machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..core.hosts import is_loopback
from ..core.refusals import RefusalError
from ..core.request_bodies import content_type_of

if TYPE_CHECKING:
    from ..core.request_record import RequestRecord
    from .inspector import InspectorExchange

_FORWARDED = ("Forwarded", "X-Forwarded-For", "Via")


def is_here(record: RequestRecord) -> bool:
    """Whether a request comes from this machine."""
    return is_loopback(record.peer) and not any(name in record.headers for name in _FORWARDED)


def may_look(exchange: InspectorExchange) -> None:
    """Refuse (404, 421, 403) a request for the page. The page itself contains no data."""
    inspector, record = exchange.state, exchange.record
    if not inspector.on:
        raise RefusalError(404, "not_found", "the inspector is off")
    _check_host(exchange)
    if not inspector.wanted and not is_here(record):
        raise RefusalError(403, "forbidden", "only this machine may look")


def may_act(exchange: InspectorExchange) -> None:
    """Refuse (404, 421, 403) requests of other machines, and of pages of other origins."""
    record = exchange.record
    if record.endpoint.partition("/")[2].partition("/")[0] != "faults":
        may_look(exchange)
    elif not is_here(record):
        raise RefusalError(403, "forbidden", "faults are switched from this machine only")
    _check_host(exchange)
    own = f"{exchange.url.partition('://')[0]}://{record.headers['Host']}"
    origin = record.headers.get("Origin", own)
    site = record.headers.get("Sec-Fetch-Site", "none")
    if origin.lower() != own.lower() or site not in ("none", "same-origin"):
        raise RefusalError(403, "forbidden", "pages of other origins may not call this")


def json_object(exchange: InspectorExchange) -> dict[str, Any]:
    """The body of a request that changes something. Raises `RefusalError` (415, 400)."""
    record = exchange.record
    if content_type_of(record).kind != "application/json":
        raise RefusalError(415, "unsupported_media_type", "the body must be application/json")
    if not isinstance(record.json, dict):
        raise RefusalError(400, "bad_request", "the body must be a JSON object")
    return record.json


def _check_host(exchange: InspectorExchange) -> None:
    if not exchange.state.callers.are_named(exchange.record.headers.get("Host", "")):
        raise RefusalError(421, "misdirected_request", "the inspector serves no such host")
