"""Relays as responses of Starlette and FastAPI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dynamiq_async import errors
from dynamiq_async.relay.asgi import respond
from dynamiq_async.relay.chat_routes import MAX_BODY, Chats
from dynamiq_async.relay.core import relay
from dynamiq_async.relay.problems import error_reply

try:
    from starlette.responses import Response
    from starlette.routing import Route
except ImportError as _error:
    raise errors.MissingExtraError(
        "dynamiq_async.relay.starlette needs Starlette: pip install starlette (FastAPI has it)"
    ) from _error

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Awaitable, Callable, Mapping

    from starlette.background import BackgroundTask
    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from dynamiq_async.options import OnLeave
    from dynamiq_async.relay.chat import Chat
    from dynamiq_async.relay.chat_routes import Client, Relayed, Wire
    from dynamiq_async.relay.core import Relay
    from dynamiq_async.relay.formats.ui_message_stream import SDKVersion

__all__ = ["RelayResponse", "chat_routes", "error_response"]


class RelayResponse(Response):
    """A stream as a response; return it from an endpoint.

    Args:
        stream: what `relay` takes.
        headers: additional headers, such as cookies.
        background: runs after everything was sent or the browser has disconnected.
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
        self.relay: Relay = relay(stream, **options)
        self.status_code: int = self.relay.status
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


def chat_routes(
    client: Client | Callable[[Request], Client],
    *,
    input: Callable[[Chat], Any],
    owner: Callable[[Request, str], Awaitable[str | None]],
    path: str = "/api/chat",
    wire: Wire = "ui-message-stream",
    sdk_version: SDKVersion = 6,
    stop: bool = False,
    resume_within: float = 60.0,
    on_leave: OnLeave = "detach",
    max_body: int = MAX_BODY,
    heartbeat: float | None = 15.0,
) -> list[Route]:
    """The endpoints of a chat page: `api.router.routes.extend(chat_routes(…))`, or
    `Starlette(routes=chat_routes(…))`.

    | request | what it does |
    |---|---|
    | `POST {path}` | starts a run with the newest text, or answers the question of a run |
    | `GET {path}/{chat_id}/stream` | replays the chat's newest run; `/connect` for AG-UI |
    | `POST {path}/{chat_id}/stop` | cancels the chat's newest run; only with `stop` |

    Args:
        client: the `AsyncApp`, or a function of the request that returns it.
        input: a function of the `Chat` that returns the App's input, or a `Start`; may be async.
        owner: an async function of the request and the chat's id, which the browser chose. It
            returns the id of the user that the chat belongs to, or None if it is not this user's
            chat. For None, the response is 404.
        path: where the page posts to.
        wire: "ui-message-stream" for the AI SDK's `useChat`, "ag-ui" for AG-UI's clients.
        sdk_version: the major version of the npm package `ai` in the page: 5, 6 or 7.
        stop: whether the page may cancel its runs.
        resume_within: for so many seconds after a run's end, a page that reloads can replay it.
        on_leave: "cancel" cancels a run when its page leaves, so the page cannot resume it.
        max_body: the most bytes of a request.
        heartbeat: as for `relay`.

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

    def respond(relayed: Relayed) -> Response:
        stream, format = relayed
        return RelayResponse(stream, format=format, heartbeat=heartbeat, on_leave=on_leave)

    async def post(request: Request) -> Response:
        content_type = request.headers.get("content-type", "")
        return respond(await chats.chat(request, content_type, request.stream()))

    async def resume(request: Request) -> Response:
        chat_id = request.path_params["chat_id"]
        relayed = await chats.resume(request, chat_id, request.query_params)
        return Response(status_code=204) if relayed is None else respond(relayed)

    async def cancel(request: Request) -> Response:
        await chats.stop(request, request.path_params["chat_id"])
        return Response(status_code=204)

    routes = [
        Route(path, _told(post), methods=["POST"]),
        Route(f"{path}/{{chat_id}}/{chats.resume_path}", _told(resume), methods=["GET"]),
    ]
    if stop:
        routes.append(Route(f"{path}/{{chat_id}}/stop", _told(cancel), methods=["POST"]))
    return routes


def _told(endpoint: Callable[[Request], Awaitable[Response]]) -> Any:
    """The endpoint, with this package's errors as responses."""

    async def call(request: Request) -> Response:
        try:
            return await endpoint(request)
        except errors.DynamiqError as error:
            return await error_response(request, error)

    return call
