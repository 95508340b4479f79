"""The heads of requests and their targets, made once and cached."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from aiohttp.client_reqrep import ConnectionKey
from yarl import URL

from dynamiq_async.transport._decoding import ACCEPTED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dynamiq_async.transport.base import Request

MAX_HEADS = 256
"""The most heads that are cached. One more empties the cache."""

_URL = re.compile(r"(https?://(?:[0-9A-Za-z._~-]+|\[[0-9a-f:.]+\])(?::\d+)?)(/[!-\"$-~]*)")

# These change the framing of the body, or need more than one request and one response.
_SESSION_S = frozenset(
    {"content-length", "transfer-encoding", "connection", "upgrade", "expect", "te", "trailer"}
)


class Target:
    """The target of requests, with the attributes that aiohttp's connector reads from a request."""

    proxy = proxy_auth = proxy_headers = server_hostname = None
    ssl = True  # as the connector's is

    def __init__(self, origin: str) -> None:
        url = URL(origin, encoded=True)
        self.url: URL = url
        self.host: str | None = url.raw_host
        self.port: int | None = url.port
        known = {"host": self.host, "port": self.port, "is_ssl": self.is_ssl(), "ssl": True}
        self.connection_key: Any = ConnectionKey(*(known.get(f) for f in ConnectionKey._fields))  # type: ignore[arg-type]

    def is_ssl(self) -> bool:
        """Whether the target uses TLS."""
        return self.url.scheme == "https"


class Head:
    """The head of a request. Its `repr` does not show the content.

    Attributes:
        target: the host that it goes to.
        data: its bytes; with a body, up to the number of `Content-Length`.
        chunked: its bytes for a body whose length is not known.
    """

    __slots__ = ("_headers", "chunked", "data", "target")

    def __init__(self, target: Target, request: Request, path: str) -> None:
        headers = {"Host": target.url.host_port_subcomponent, "Accept-Encoding": ACCEPTED}
        lines = [f"{request.method} {path} HTTP/1.1"]
        lines += (f"{n}: {v}" for n, v in {**headers, **request.headers}.items())
        start = "\r\n".join(lines).encode()
        self.target: Target = target
        self._headers = request.headers  # kept alive, because their id is a part of the key
        self.chunked: bytes = start + b"\r\nTransfer-Encoding: chunked\r\n\r\n"
        if request.body is not None:
            self.data: bytes = start + b"\r\nContent-Length: "
        elif request.method in ("POST", "PUT", "PATCH"):
            self.data = start + b"\r\nContent-Length: 0\r\n\r\n"
        else:
            self.data = start + b"\r\n\r\n"

    def is_for(self, headers: Mapping[str, str]) -> bool:
        """Whether it was made from this very headers object."""
        return self._headers is headers


class Heads:
    """Makes the heads of requests, and caches them."""

    def __init__(self) -> None:
        self._targets: dict[str, Target] = {}
        self._heads: dict[tuple[str, str, int, bool], Head] = {}

    def of(self, request: Request) -> Head | None:
        """The head of a request; None if aiohttp's session has to send the request."""
        headers = request.headers
        key = request.method, request.url, id(headers), request.body is None
        head = self._heads.get(key)
        if head is not None and head.is_for(headers):
            return head
        found = _URL.fullmatch(request.url)
        if request.method == "HEAD":  # its response has no body, whatever the head says
            return None
        if found is None or not _SESSION_S.isdisjoint(name.lower() for name in headers):
            return None
        if len(self._heads) >= MAX_HEADS:
            self._heads.clear()
            self._targets.clear()
        target = self._targets.get(found[1])
        if target is None:
            target = self._targets[found[1]] = Target(found[1])
        head = self._heads[key] = Head(target, request, found[2])
        return head
