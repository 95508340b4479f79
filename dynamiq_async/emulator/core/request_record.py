"""The record of a request. Tests read it to check what a client did ("nothing ran twice")."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import field

from .clock import utc_now
from .faults import NO_FAULT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from multidict import CIMultiDictProxy, MultiDictProxy

    from .faults import Fault
    from .multipart import Part


_KEPT = 2048


class RequestRecord(msgspec.Struct, eq=False, kw_only=True, gc=False):
    """One request, and how it was responded to.

    Attributes:
        connection: the number of its connection: 1 for the first since the start.
        peer: the address that it came from.
        method, path, query, headers: as they arrived; `path` is not decoded.
        service: which service it is for (see `dynamiq_async.emulator.routes`); "" for an App.
        app: the name of the App; `prefix` is the part of the path or the host that selected it, ""
            for none.
        endpoint: the path within the App or service, such as "/v1/runs".
        body: the raw body, at most its first MiB; `size` is its whole length.
        json: the JSON of the body, when it is JSON; `json_error` says why it is not.
        form: the parts of the body, when it is multipart.
        received_at: when its headers had arrived; `ended_at`: when it was `finished`.
        status: the status of the response; None before it is sent, or if there is none.
        request_id: the response's `x-request-id`.
        browser_headers: the CORS headers of the response; None unless the request is from a page
            that may send it.
        bytes_sent, events_sent: how much of the response's body was sent, without its transfer
            coding.
        sent: the beginning of that body, at most its first 2 KiB.
        disconnected: the client left before it had the whole response.
        finished: the response has ended, or will never come.
        fault: the fault that it meets.
    """

    connection: int
    method: str
    path: str
    query: MultiDictProxy[str]
    headers: CIMultiDictProxy[str]
    app: str
    service: str
    prefix: str
    endpoint: str
    peer: str = ""
    body: bytes = b""
    size: int = 0
    json: Any = None
    json_error: str | None = None
    form: Sequence[Part] = ()
    received_at: datetime = field(default_factory=utc_now)
    status: int | None = None
    request_id: str = ""
    browser_headers: Mapping[str, str] | None = None
    bytes_sent: int = 0
    events_sent: int = 0
    sent: bytes = b""
    disconnected: bool = False
    finished: bool = False
    ended_at: datetime | None = None
    fault: Fault = NO_FAULT

    def __repr__(self) -> str:
        return f"<RequestRecord {self.method} {self.path}: {self.status}>"

    @property
    def internal(self) -> bool:
        """Whether it is for the emulator itself. It is then in no log, and meets no fault."""
        return self.service.startswith("_")

    def count(self, data: bytes) -> None:
        """Note a piece of the response's body that was sent."""
        if self.bytes_sent < _KEPT:
            self.sent += data[: _KEPT - self.bytes_sent]
        self.bytes_sent += len(data)

    def count_events(self, events: Sequence[bytes]) -> None:
        """Note events that were sent at once."""
        if self.bytes_sent < _KEPT:
            self.sent += b"".join(events)[: _KEPT - self.bytes_sent]
        self.bytes_sent += sum(map(len, events))
        self.events_sent += len(events)

    def finish(self) -> None:
        """Note that the response is over."""
        self.finished = True
        self.ended_at = utc_now()
