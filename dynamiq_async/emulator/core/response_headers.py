"""The headers on every response, whichever service sends it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from .request_record import RequestRecord


def add_common_headers(headers: MutableMapping[str, str], record: RequestRecord) -> None:
    """Add the request's id, the CORS headers, and the headers of the request's fault, which may
    replace others."""
    headers["x-request-id"] = record.request_id
    for more in (record.browser_headers, record.fault.headers):
        if more:
            headers.update(more)
