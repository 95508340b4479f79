"""Relays as responses of Starlette and FastAPI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dynamiq_async import errors
from dynamiq_async.relay.asgi import respond
from dynamiq_async.relay.core import relay
from dynamiq_async.relay.problems import error_reply

try:
    from starlette.responses import Response
except ImportError as error:
    raise errors.MissingExtraError(
        "dynamiq_async.relay.starlette needs Starlette: pip install starlette (FastAPI has it)"
    ) from error

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Mapping

    from starlette.background import BackgroundTask
    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

__all__ = ["RelayResponse", "error_response"]


class RelayResponse(Response):
    """A stream as a response; return it from an endpoint.

    Args:
        stream: what `relay` takes.
        headers: additional headers, such as cookies.
        background: runs when all was sent or the browser has disconnected.
        options: the options of `relay`: format, map, heartbeat, retry, on_leave.

    Raises:
        InvalidArgumentError: an argument cannot be used.
    """

    def __init__(
        self,
        stream: AsyncIterable[Any],
        *,
        headers: Mapping[str, str] | None = None,
        background: BackgroundTask | None = None,
        **options: Any,
    ) -> None:
        self.relay = relay(stream, **options)
        self.status_code = self.relay.status
        self.background = background
        self.init_headers(headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await respond(self.relay, scope, receive, send, headers=self.raw_headers)
        if self.background is not None:
            await self.background()


async def error_response(request: Request, error: Exception) -> Response:
    """The response a relay would send for an error of this package, for endpoints that do not
    stream: `api.add_exception_handler(DynamiqError, error_response)`.

    The backend's own mistakes are raised again, so that its developers see them.
    """
    reply = error_reply(error)
    if reply.status == 500:
        raise error
    return Response(reply.body, reply.status, reply.headers)
