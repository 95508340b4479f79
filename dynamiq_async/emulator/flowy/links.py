"""Links to Flowy's outputs: they lead to another host, which knows signatures and no keys.

The host is the emulator's own port under another name of this machine. A request with a key is
refused, as storage services refuse two kinds of credentials, so that no test passes with a client
that sends its key to another host.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode, urlsplit

from ..core.refusals import RefusalError
from .apps import FlowyContent

if TYPE_CHECKING:
    from ..core.exchange import Exchange
    from .jobs import FlowyJob
    from .state import Flowy

_SECRET = secrets.token_bytes(32)
_OTHER_NAME = {"127.0.0.1": "localhost", "localhost": "127.0.0.1"}


def link_of(exchange: Exchange[Flowy], job: FlowyJob, node: str, what: FlowyContent) -> str:
    """The link to an output as its run or generation shows it: a fresh one at each look, unless
    `Flowy.renews_links` says otherwise."""
    fresh = sign(exchange, job.id, node, what)
    return fresh if exchange.state.renews_links else job.links.setdefault(node, fresh)


def sign(exchange: Exchange[Flowy], job_id: str, node: str, what: FlowyContent) -> str:
    """A link to an output that works for `Flowy.link_seconds`."""
    flowy, parts = exchange.state, urlsplit(exchange.url)
    host, colon, port = parts.netloc.rpartition(":")
    there = f"{_OTHER_NAME.get(host, host)}{colon}{port}"
    path = f"/{job_id}/{quote(node, safe='')}/{quote(what.name, safe='')}"
    expires = str(int(flowy.clock() + flowy.link_seconds))
    query = urlencode({"expires": expires, "signature": _signature(path, expires)})
    return f"{parts.scheme}://{there}/~flowy-files{path}?{query}"


def authorize(exchange: Exchange[Flowy]) -> None:
    """Refuse (400) a request with a key, and (403) a link that is forged or has expired."""
    record = exchange.record
    if {"authorization", "cookie", "x-api-key"} & {name.lower() for name in record.headers}:
        raise RefusalError(400, "InvalidArgument", "Only one auth mechanism allowed")
    expires = record.query.get("expires", "")
    signature = record.query.get("signature", "")
    right = _signature(record.endpoint, expires)
    if not hmac.compare_digest(signature.encode("utf-8", "replace"), right.encode()):
        raise RefusalError(403, "SignatureDoesNotMatch", "The signature does not match")
    if int(expires) <= exchange.state.clock():
        raise RefusalError(403, "AccessDenied", "Request has expired")


async def download(exchange: Exchange[Flowy], job_id: str, node: str) -> None:
    """`GET` an output."""
    job = exchange.state.job(job_id)
    what = job.outputs.get(node) if job is not None else None
    if not isinstance(what, FlowyContent):
        raise RefusalError(404, "NoSuchKey", "The specified key does not exist")
    size = len(what.content)
    await exchange.wire.start(200, {"Content-Type": what.media_type}, length=size)
    for start in range(0, size, 65536):
        await exchange.wire.write(what.content[start : start + 65536])
    await exchange.wire.finish()


def _signature(path: str, expires: str) -> str:
    return hmac.new(_SECRET, f"{path}\n{expires}".encode(), hashlib.sha256).hexdigest()
