"""The JSON for the page. Values that may be large become text that is cut, with the full size.

The standard library's `json` writes it, because msgspec cannot write everything that Apps may
handle: integers beyond int64, and strings that are not valid UTF-8.
"""

from __future__ import annotations

import json
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypedDict

from ..core.fault_data import fault_data
from .masks import MASK, ShownRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..app.state import Deployment
    from ..core.request_record import RequestRecord
    from .inspector import InspectorExchange

_HEADERS = {
    "Content-Type": "application/json",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}

MAX_TEXT = 16 * 1024
"""How much of one value is shown, in bytes."""


def _plain(given: Any) -> str:
    return given.isoformat() if isinstance(given, datetime) else str(given)


_dumps = partial(json.dumps, default=_plain, separators=(",", ":"))


class Text(TypedDict):
    """A value as text. `size` is the full size in bytes; `cut` says whether some is missing."""

    text: str
    size: int
    cut: bool


def encode(value: Any) -> bytes:
    """JSON, in ASCII. A number that JSON cannot represent becomes null."""
    try:
        return _dumps(value, allow_nan=False).encode()
    except ValueError:
        return _dumps(json.loads(_dumps(value), parse_constant=lambda _: None)).encode()


def text(data: bytes, size: int | None = None, mask: Callable[[bytes], bytes] = bytes) -> Text:
    """Bytes as text. `data` may be only the beginning; `size` is the full size."""
    size = len(data) if size is None else size
    # Mask more than is shown, so that a secret at the cut is masked as a whole.
    masked = mask(data[: 2 * MAX_TEXT])
    cut = size > min(len(data), 2 * MAX_TEXT) or len(masked) > MAX_TEXT
    return {"text": masked[:MAX_TEXT].decode("utf-8", "replace"), "size": size, "cut": cut}


def value(given: Any) -> Text | None:
    """A JSON value as text; None for None."""
    if given is None:
        return None
    written = json.dumps(given, default=_plain, ensure_ascii=False, indent=2)
    return text(written.encode("utf-8", "replace"))


async def respond(exchange: InspectorExchange, status: int, given: Any) -> None:
    """Send JSON to the page."""
    body = encode(given)
    await exchange.wire.start(status, _HEADERS, length=len(body))
    await exchange.wire.write(body)
    await exchange.wire.finish()


def apps(deployments: Mapping[str, Deployment], url: str) -> list[dict[str, Any]]:
    """The Apps with their URLs, the default one first."""
    return [
        {
            "name": deployment.name,
            "id": deployment.id,
            "url": f"{url}/{path}" if path else url,
            "about": (deployment.app.__doc__ or "").strip().partition("\n")[0],
        }
        for path, deployment in sorted(deployments.items(), key=lambda item: item[0] != "")
        if not deployment.removed
    ]


def request(record: RequestRecord) -> dict[str, Any]:
    """A request in the list."""
    seconds = (record.ended_at - record.received_at).total_seconds() if record.ended_at else None
    return {
        "id": record.request_id,
        "method": record.method,
        "path": _path(record),
        "status": record.status,
        "received_at": record.received_at,
        "seconds": seconds,
        "events": record.events_sent,
        "bytes": record.bytes_sent,
        "finished": record.finished,
        "disconnected": record.disconnected,
        "fault": bool(fault_data(record.fault)),
    }


def whole_request(record: RequestRecord) -> dict[str, Any]:
    """A request with its headers and body, and the beginning of its response."""
    shown = ShownRequest(record)
    return {
        **request(record),
        "app": None if record.service else record.app,
        "service": record.service.replace("flowy-files", "flowy") or None,
        "query": shown.query,
        "headers": shown.headers,
        "body": text(record.body, record.size, shown.body) if not record.form else None,
        "parts": [
            {"name": part.name, "filename": part.filename, "size": part.size}
            for part in record.form
        ],
        "response": text(record.sent, record.bytes_sent, shown.sent),
        "faults": value(fault_data(record.fault) or None),
    }


def _path(record: RequestRecord) -> str:
    """The path of a request. The link by which an end user connects an account is a secret."""
    return f"/~connect/{MASK}" if record.service == "connect" else record.path
