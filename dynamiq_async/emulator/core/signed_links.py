"""Signed links to another host, which accepts signatures and no keys, like a storage service.

The host is the emulator's own port under another name of this machine. A request with a key is
refused, because storage services refuse two kinds of credentials. So no test passes with a client
that sends its key to another host.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode, urlsplit

from .refusals import RefusalError

if TYPE_CHECKING:
    from .exchange import Exchange, S
    from .request_record import RequestRecord

_SECRET = secrets.token_bytes(32)
_OTHER_NAME = {"127.0.0.1": "localhost", "localhost": "127.0.0.1"}
_PIECE = 65536


def sign(url: str, service: str, *segments: str, expires: float) -> str:
    """A link to a service of the emulator, whose URL is `url`, that works until `expires`."""
    parts = urlsplit(url)
    host, colon, port = parts.netloc.rpartition(":")
    there = f"{_OTHER_NAME.get(host, host)}{colon}{port}"
    path = "".join(f"/{quote(segment, safe='')}" for segment in segments)
    until = str(int(expires))
    query = urlencode({"expires": until, "signature": _signature(path, until)})
    return f"{parts.scheme}://{there}/~{service}{path}?{query}"


def check(record: RequestRecord, now: float) -> None:
    """Refuse (400) a request with a key, and (403) a link that is forged or has expired."""
    if {"authorization", "cookie", "x-api-key"} & {name.lower() for name in record.headers}:
        raise RefusalError(400, "InvalidArgument", "Only one auth mechanism allowed")
    expires = record.query.get("expires", "")
    signature = record.query.get("signature", "")
    right = _signature(record.endpoint, expires)
    if not hmac.compare_digest(signature.encode("utf-8", "replace"), right.encode()):
        raise RefusalError(403, "SignatureDoesNotMatch", "The signature does not match")
    if int(expires) <= now:
        raise RefusalError(403, "AccessDenied", "Request has expired")


async def respond_content(exchange: Exchange[S], content: bytes, media_type: str) -> None:
    """Send the content that a link leads to."""
    await exchange.wire.start(200, {"Content-Type": media_type}, length=len(content))
    for start in range(0, len(content), _PIECE):
        await exchange.wire.write(content[start : start + _PIECE])
    await exchange.wire.finish()


def _signature(path: str, expires: str) -> str:
    return hmac.new(_SECRET, f"{path}\n{expires}".encode(), hashlib.sha256).hexdigest()
