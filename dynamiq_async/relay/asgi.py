"""A relay as an ASGI response, for every framework and server that speaks ASGI."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import TYPE_CHECKING, Any

from dynamiq_async._telemetry import extra
from dynamiq_async.relay.position import last_event_id
from dynamiq_async.relay.sending import LeftError, send_while_there

if TYPE_CHECKING:
    from dynamiq_async.relay.core import Relay

log: logging.Logger = logging.getLogger("dynamiq_async")

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
RawHeaders = Iterable[tuple[bytes, bytes]]

_FIXED = frozenset({b"content-type", b"content-length"})

LEFT = 499
"""The status when the browser disconnected before the response began; nginx logs the same. Only
middleware sees it: without any response, middleware would report a mistake."""


async def respond(
    body: Relay,
    scope: MutableMapping[str, Any],
    receive: Receive,
    send: Send,
    *,
    headers: RawHeaders = (),
) -> None:
    """Send `body` as the response to the request of `scope`.

    Args:
        headers: additional headers; they replace the relay's own of the same name, except the
            content type and length.
    """
    if scope["method"] == "HEAD":
        await body.aclose()
        await send(_start(body, scope, headers))
        await send(_piece(b"", more=False))
        return
    started = False

    async def put(message: Message) -> None:
        try:
            await send(message)
        except OSError as error:  # by ASGI 2.4, this is how servers report a disconnect
            raise LeftError from error

    async def sending() -> None:
        nonlocal started
        await body.open(last_event_id=last_event_id(scope["headers"]))
        started = True
        await put(_start(body, scope, headers))
        try:
            async for piece in body:
                await put(_piece(piece))
        except Exception as error:
            if body.told or isinstance(error, LeftError):
                raise
            if not body.must_break:
                log.error("a response was broken off", exc_info=error, extra=extra(error))
            rejected = await _break_off(send, error)
            if body.must_break and rejected:
                return  # without the body's end: uvicorn logs one line and closes
            raise
        await put(_piece(b"", more=False))

    async def leaving() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    if not await send_while_there(body, sending(), leaving()) and not started:
        body.status = LEFT
        with contextlib.suppress(LeftError):
            await put(_start(body, scope, headers))
            await put(_piece(b"", more=False))


async def _break_off(send: Send, error: Exception) -> bool:
    """Make the server break the connection, so that a truncated response does not look complete.

    In ASGI only an exception does that, but Starlette's `BaseHTTPMiddleware` ends the response
    properly before it raises one. So this sends a message that the middleware, and every server,
    rejects as invalid. Returns whether it was rejected at once, as a server does. A middleware
    rejects it later, and would take a return for the end of the response."""
    try:
        await send({"type": "http.response.broken_off", "error": error})
    except Exception:  # noqa: BLE001 - that was the purpose
        return True
    return False


def _start(body: Relay, scope: MutableMapping[str, Any], headers: RawHeaders) -> Message:
    own = {name.lower().encode(): value.encode("latin-1") for name, value in body.headers.items()}
    if body.status == 200 and _stays(scope):
        own[b"connection"] = b"keep-alive"
    more = [(name.lower(), value) for name, value in headers if name.lower() not in _FIXED]
    for name, _ in more:
        own.pop(name, None)
    return {
        "type": "http.response.start",
        "status": body.status,
        "headers": [*own.items(), *more],
    }


def _stays(scope: MutableMapping[str, Any]) -> bool:
    """Whether the connection stays open for further requests, and a header can say so."""
    asked = [value.lower() for name, value in scope["headers"] if name == b"connection"]
    return scope.get("http_version", "1.1") == "1.1" and b"close" not in asked


def _piece(data: bytes, *, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}
