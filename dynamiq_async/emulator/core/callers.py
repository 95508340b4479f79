"""Who may call the emulator: under which host names, and from which web pages.

On this machine's own addresses the emulator serves only this machine's names, so that no web page
can reach it through a domain name of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .browsers import refused_page
from .hosts import is_loopback, name_of
from .refusals import RefusalError

if TYPE_CHECKING:
    from collections.abc import Collection

    from .request_record import RequestRecord


class Callers:
    """Decides who may call.

    Args:
        host: where the emulator listens.
        hosts: more host names to serve.
        origins: the origins of pages that may call, beside those of this machine; `*` is any.

    Attributes:
        on_loopback: whether only this machine can reach the emulator.
    """

    def __init__(self, host: str, hosts: Collection[str], origins: Collection[str]) -> None:
        self.on_loopback = True
        self.origins: set[str] = {origin.lower().rstrip("/") for origin in origins}
        self._names = {name.lower().strip("[]") for name in hosts}
        self._host = host.lower()

    def refused(self, record: RequestRecord) -> RefusalError | None:
        """Why a request is refused because of its `Host` or `Origin`; None if it is not."""
        if not self._is_served(record.headers.get("Host")):
            return RefusalError(421, "misdirected_request", "the emulator serves no such host")
        return refused_page(record, self.origins)

    def _is_served(self, host: str | None) -> bool:
        """Whether requests with this `Host` are served. A request of HTTP/1.0 may have none."""
        if host is None:
            return True
        return name_of(host) is not None and (
            self.are_named(host) or not (self.on_loopback or self._names)
        )

    def are_named(self, host: str) -> bool:
        """Whether a `Host` is a name of this machine, or one of those given."""
        name = name_of(host)
        return name is not None and (is_loopback(name) or name in {*self._names, self._host})
