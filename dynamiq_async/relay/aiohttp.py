"""Relays as responses of `aiohttp.web`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from aiohttp import web

from dynamiq_async.errors import DynamiqError, StreamClosedError
from dynamiq_async.relay.chat_routes import MAX_BODY, Chats
from dynamiq_async.relay.core import Relay, relay
from dynamiq_async.relay.position import last_event_id
from dynamiq_async.relay.problems import error_reply
from dynamiq_async.relay.sending import LeftError, send_while_there

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Awaitable, Callable, Mapping

    from dynamiq_async.options import OnLeave
    from dynamiq_async.relay.chat import Chat
    from dynamiq_async.relay.chat_routes import Client, Relayed, Wire
    from dynamiq_async.relay.formats.ui_message_stream import SDKVersion

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

__all__ = ["chat_routes", "error_middleware", "relay_response", "setup"]

LOOK_SECONDS = 0.25
"""How often the connection is checked, in seconds. aiohttp reports a disconnected browser only when
the handler writes, which may be much later."""


class _Relays:
    """The relays that an application sends."""

    def __init__(self) -> None:
        self.sent: set[Relay] = set()
        self.stopping = False

    def add(self, body: Relay) -> None:
        self.sent.add(body)
        if self.stopping:
            body.shut_down()

    async def shut_down(self, _: web.Application) -> None:
        self.stopping = True
        for body in self.sent:
            body.shut_down()


_RELAYS = web.AppKey("dynamiq_async_relays", _Relays)


def setup(app: web.Application) -> None:
    """End the relays of `app` and of its sub-applications when the server has to stop, and install
    `error_middleware`. Call this before the application runs. A second call does nothing.

    Without this, aiohttp waits for responses that are under way, 60 seconds by default. With it,
    each relay sends its last frame at once, and cancels its run if `on_leave="cancel"`, while the
    clients are still open.

    Raises:
        RuntimeError: the application is running already.
    """
    if _RELAYS not in app:
        relays = app[_RELAYS] = _Relays()
        app.on_shutdown.append(relays.shut_down)
        app.middlewares.append(error_middleware)


async def relay_response(
    request: web.Request,
    stream: AsyncIterable[Any],
    *,
    headers: Mapping[str, str] | None = None,
    **options: Any,
) -> web.StreamResponse:
    """Send a stream as the response to `request`. The handler must return the result.

    Args:
        stream: what `relay` takes.
        headers: additional headers; they replace the relay's own of the same name.
        options: the options of `relay`: format, map, heartbeat, retry, on_leave.

    Raises:
        InvalidArgumentError: an argument cannot be used.
    """
    body = relay(stream, **options)
    response = web.StreamResponse(headers=headers)

    async def sending() -> None:
        await body.open(last_event_id=last_event_id(request.headers))
        await _begin(request, response, body)
        try:
            async for piece in body:
                await _there(response.write(piece))
        except StreamClosedError:
            if not body.must_break or request.transport is None:
                raise
            request.transport.close()  # after the written pieces, and without the body's end
            return
        await _there(response.write_eof())

    if request.method == "HEAD":
        await body.aclose()
        await _begin(request, response, body)
        return response
    groups = [app[_RELAYS] for app in request.match_info.apps if _RELAYS in app]
    for group in groups:
        group.add(body)
    try:
        sent = await send_while_there(body, sending(), _leaving(request))
    finally:
        for group in groups:
            group.sent.discard(body)
    if not sent and request.transport is not None:
        request.transport.abort()  # drop what the browser has not received
    return response


@web.middleware
async def error_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn this package's errors into the responses a relay would send, for handlers that do not
    stream: `web.Application(middlewares=[error_middleware])`.

    The backend's own mistakes are raised again, so that its developers see them.
    """
    try:
        return await handler(request)
    except DynamiqError as error:
        reply = error_reply(error)
        if reply.status == 500 or request.writer.output_size:
            raise
        return web.Response(status=reply.status, headers=reply.headers, body=reply.body)


async def _begin(request: web.Request, response: web.StreamResponse, body: Relay) -> None:
    response.set_status(body.status)
    for name, value in body.headers.items():
        if name in ("Content-Type", "Content-Length"):
            response.headers[name] = value
        else:
            response.headers.setdefault(name, value)
    if body.status == 200 and request.keep_alive:
        response.headers["Connection"] = "keep-alive"
    await _there(response.prepare(request))


async def _there(writing: Awaitable[Any]) -> None:
    try:
        await writing
    except ConnectionError as error:
        raise LeftError from error


async def _leaving(request: web.Request) -> None:
    # aiohttp offers no event to wait for.
    while (there := request.transport) is not None and not there.is_closing():  # noqa: ASYNC110
        await asyncio.sleep(LOOK_SECONDS)


def chat_routes(
    client: Client | Callable[[web.Request], Client],
    *,
    input: Callable[[Chat], Any],
    owner: Callable[[web.Request, str], Awaitable[str | None]],
    path: str = "/api/chat",
    wire: Wire = "ui-message-stream",
    sdk_version: SDKVersion = 6,
    stop: bool = False,
    resume_within: float = 60.0,
    on_leave: OnLeave = "detach",
    max_body: int = MAX_BODY,
    heartbeat: float | None = 15.0,
) -> list[web.RouteDef]:
    """The endpoints of a chat page: `application.add_routes(chat_routes(…))`. Call `setup` too.

    The arguments and endpoints are those of `dynamiq_async.relay.starlette.chat_routes`.

    Raises:
        InvalidArgumentError: an argument cannot be used.
    """
    chats = Chats(
        client,
        input=input,
        owner=owner,
        wire=wire,
        sdk_version=sdk_version,
        resume_within=resume_within,
        max_body=max_body,
    )

    async def respond(request: web.Request, relayed: Relayed) -> web.StreamResponse:
        stream, format = relayed
        return await relay_response(
            request, stream, format=format, heartbeat=heartbeat, on_leave=on_leave
        )

    async def post(request: web.Request) -> web.StreamResponse:
        content_type = request.headers.get("Content-Type", "")
        relayed = await chats.chat(request, content_type, request.content.iter_any())
        return await respond(request, relayed)

    async def resume(request: web.Request) -> web.StreamResponse:
        relayed = await chats.resume(request, request.match_info["chat_id"], request.query)
        return web.Response(status=204) if relayed is None else await respond(request, relayed)

    async def cancel(request: web.Request) -> web.StreamResponse:
        await chats.stop(request, request.match_info["chat_id"])
        return web.Response(status=204)

    routes = [
        web.post(path, _told(post)),
        web.get(f"{path}/{{chat_id}}/{chats.resume_path}", _told(resume)),
    ]
    if stop:
        routes.append(web.post(f"{path}/{{chat_id}}/stop", _told(cancel)))
    return routes


def _told(handler: Handler) -> Handler:
    """The handler, with this package's errors as responses."""

    async def call(request: web.Request) -> web.StreamResponse:
        return await error_middleware(request, handler)

    return call
