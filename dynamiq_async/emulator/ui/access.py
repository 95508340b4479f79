"""Who may look and act: this machine, and of web pages the inspector's own.

The Apps may be called by pages of any origin, as the vendor's widget needs it. What is here may
not: a page of another site that is open in a browser of this machine could else read what Apps were
given, answer questions and switch faults. So

- the caller's address is this machine's, and no proxy has forwarded the request;
- `Host` is a name of this machine, or one that the emulator was given, so that no site reaches it
  by having a name of its own point here;
- `Origin` and `Sec-Fetch-Site`, which browsers send, name no other page than the inspector's own:
  one at another port of this machine is another;
- what changes something is JSON, which no page sends elsewhere without asking first.

Where an inspector was asked for, others may use it as they may call the emulator; faults are
switched from this machine all the same.
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
    """Refuse (404, 421, 403) a request for the page, which itself holds nothing."""
    inspector, record = exchange.state, exchange.record
    if not inspector.on:
        raise RefusalError(404, "not_found", "the inspector is off")
    _check_host(exchange)
    if not inspector.wanted and not is_here(record):
        raise RefusalError(403, "forbidden", "only this machine may look")


def may_act(exchange: InspectorExchange) -> None:
    """Refuse (404, 421, 403) a request that another machine or a page of another site may send."""
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
