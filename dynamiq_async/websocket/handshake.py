"""The handshake of RFC 6455: a request like any other, except for its key."""

from __future__ import annotations

import os
from base64 import b64encode
from hashlib import sha1
from typing import TYPE_CHECKING

from dynamiq_async._http.request import Request

if TYPE_CHECKING:
    from collections.abc import Mapping

_UPGRADE = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
# The caller cannot set these: the given headers may be those of a handshake that is passed on.
_NEGOTIATED = {*map(str.lower, _UPGRADE), "sec-websocket-key", "sec-websocket-extensions"}

_ACCEPT = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # the standard's


class Handshake(Request):
    """`request`, a GET, as the handshake of a WebSocket.

    Compression is not offered, so that a message is never larger than it looks.
    """

    __slots__ = ("_key",)
    upgrades = True

    def __init__(self, request: Request) -> None:
        kept = {n: said for n, said in request.headers.items() if n.lower() not in _NEGOTIATED}
        super().__init__("GET", request.url, kept | _UPGRADE, idempotent=True)
        self._key = ""

    def begin(self) -> None:
        """Begin another attempt. The standard requires a new key for each handshake."""
        super().begin()
        self._key = b64encode(os.urandom(16)).decode()
        self.headers: dict[str, str] = {**self.headers, "Sec-WebSocket-Key": self._key}

    def is_accepted(self, headers: Mapping[str, str]) -> bool:
        """Whether the headers of a 101 accept this handshake. Their names are in lower case. They
        must not accept an extension, since none was offered."""
        digest = sha1(self._key.encode() + _ACCEPT, usedforsecurity=False).digest()
        return (
            headers.get("upgrade", "").lower() == "websocket"
            and "upgrade" in headers.get("connection", "").lower()
            and headers.get("sec-websocket-accept", "").strip() == b64encode(digest).decode()
            and "sec-websocket-extensions" not in headers
        )
