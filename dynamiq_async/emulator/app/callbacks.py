"""Callbacks of the async mode: which URLs are accepted, and the POST that each of them gets.

The request is written to the socket by hand, so that the emulator needs no HTTP client.
"""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from yarl import URL

from ..core.hosts import is_loopback, is_public
from ..core.json import encode

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

    from .execution import Execution

MAX_CALLBACKS = 5

DELIVERY_SECONDS = 30.0
"""How long a receiver may take before its delivery fails."""

_TOKEN = re.compile(r"[\x21-\x7e]+")  # only what a header can carry
_NOT_IN_URLS = re.compile(r"[\x00-\x20\x7f\\]")
_STATUS_LINE = re.compile(rb"HTTP/\d\.\d (\d{3})(?: .*)?\r\n", re.DOTALL)


@dataclass(frozen=True)
class Callback:
    """Where to POST the end of a run."""

    url: URL
    token: str | None = field(default=None, repr=False)
    metadata: Mapping[str, Any] | None = None


@dataclass(eq=False, kw_only=True)
class Delivery:
    """One POST to a callback: what was sent, and the receiver's status or why there is none."""

    url: str
    payload: Mapping[str, Any]
    status: int | None = None
    error: str | None = None


def parse_callbacks(
    value: list[Any], *, allow_loopback: bool
) -> tuple[list[Callback], dict[str, str]]:
    """The callbacks of a request, and the complaints about them."""
    callbacks: list[Callback] = []
    if len(value) > MAX_CALLBACKS:
        return [], {"callbacks": f"the length must be no more than {MAX_CALLBACKS}"}
    complaints: dict[str, str] = {}
    for index, item in enumerate(value):
        name = f"callbacks[{index}]"
        if not isinstance(item, dict):
            complaints[name] = "must be an object"
            continue
        auth, metadata = item.get("auth"), item.get("metadata")
        if complaint := _complain_url(item.get("url"), allow_loopback):
            complaints[f"{name}.url"] = complaint
        elif auth is not None and not _is_bearer(auth):
            complaints[f"{name}.auth"] = 'must be {"type": "bearer", "token": string}'
        elif auth is not None and not _TOKEN.fullmatch(auth["token"]):
            complaints[f"{name}.auth"] = "the token must be of visible ASCII characters"
        elif metadata is not None and not isinstance(metadata, dict):
            complaints[f"{name}.metadata"] = "must be an object"
        else:
            token = auth["token"] if auth else None
            callbacks.append(Callback(URL(item["url"]), token, metadata))
    return callbacks, complaints


async def deliver(
    callback: Callback, execution: Execution, trust: ssl.SSLContext | None
) -> Delivery:
    """POST the end of `execution` to one callback, once.

    `trust` is for HTTPS; None uses the system's trust store.
    """
    succeeded = execution.status == "success"
    payload: dict[str, Any] = {
        "id": execution.id,
        "status": "succeeded" if succeeded else "failed",
        "timestamp": rfc3339_ns(time.time_ns()),
    }
    if succeeded:
        payload["output"] = execution.output
    if callback.metadata is not None:
        payload["metadata"] = callback.metadata
    delivery = Delivery(url=str(callback.url), payload=payload)
    try:
        async with asyncio.timeout(DELIVERY_SECONDS):
            delivery.status = await _post(callback, encode(payload), trust)
    except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
        delivery.error = f"{type(error).__name__}: {error}"
    return delivery


def rfc3339_ns(nanoseconds: int) -> str:
    """A time as RFC 3339 with nanoseconds, which `datetime` does not have."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09}Z"


async def _post(callback: Callback, body: bytes, trust: ssl.SSLContext | None) -> int:
    url, host = callback.url, callback.url.raw_host or ""
    secure = (trust or True) if url.scheme == "https" else None
    # Names under .localhost are this machine, even if the resolver does not know them.
    there = "localhost" if host.removesuffix(".").endswith(".localhost") else host
    reader, writer = await asyncio.open_connection(
        there, url.port, ssl=secure, server_hostname=host if secure else None
    )
    try:
        lines = [
            f"POST {url.raw_path_qs} HTTP/1.1",
            f"Host: {url.host_port_subcomponent}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            "Connection: close",
        ]
        if callback.token is not None:
            lines.append(f"Authorization: Bearer {callback.token}")
        writer.write("\r\n".join((*lines, "", "")).encode() + body)
        await writer.drain()
        match = _STATUS_LINE.fullmatch(await reader.readuntil(b"\r\n"))
        if match is None:
            raise ValueError("the receiver did not respond with HTTP")
        return int(match[1])
    finally:
        writer.close()


def _is_bearer(auth: Any) -> bool:
    if not isinstance(auth, dict) or auth.get("type") != "bearer":
        return False
    return isinstance(auth.get("token"), str)


def _complain_url(value: Any, allow_loopback: bool) -> str | None:
    """The complaint about a URL, if any. Hostnames are not resolved."""
    if not isinstance(value, str) or not value:
        return "cannot be blank" if value in (None, "") else "must be a string"
    try:
        if _NOT_IN_URLS.search(value):
            raise ValueError("parsers of URLs disagree about such characters")
        url = URL(value)
    except ValueError:
        return "must be a valid URL"
    host = url.raw_host or ""
    if allow_loopback and is_loopback(host) and url.scheme in ("http", "https"):
        return None
    if url.scheme != "https" or not is_public(host):
        return "must be a public HTTPS URL"
    return None
