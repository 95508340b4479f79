"""Receives callbacks: verifies each, handles it once, and acknowledges it only after handling.

The vendor documents neither signatures nor repeated deliveries. So a token decides who may send.
A repeated callback is recognised by its id, and acknowledged without handling it again. If the
handler raises, the response is a 5xx, so that the service can deliver the callback again.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterable, Awaitable, Callable
from typing import TYPE_CHECKING
from uuid import uuid4

from dynamiq_async._json import IN_PLACE_BYTES
from dynamiq_async._tasks import in_thread
from dynamiq_async._telemetry import extra
from dynamiq_async.errors import InvalidArgumentError
from dynamiq_async.options import check_seconds

from . import adapters
from .stores import CallbackStore, MemoryStore
from .verifier import (
    DEFAULT_MAX_BODY_BYTES,
    CallbackRefusedError,
    CallbackReply,
    CallbackVerifier,
    Headers,
    Tokens,
    hidden_tokens,
    parse_result,
)

if TYPE_CHECKING:
    from aiohttp import web

    from .results import CallbackResult

log: logging.Logger = logging.getLogger("dynamiq_async")

OnResult = Callable[["CallbackResult"], Awaitable[object] | object]
"""A function that is called once with each result: async, or a plain one that does not block."""

Body = bytes | AsyncIterable[bytes]

_POLL_SECONDS = (0.05, 1.0)
"""The first and the longest pause, in seconds, between claims of an id that another process
handles."""

_HANDLED = CallbackReply.of(200, {"status": "ok"}, {})
_REPEATED = CallbackReply.of(200, {"status": "duplicate"}, {})


class CallbackReceiver:
    """Receives callbacks in a web backend: an ASGI application, with a handler for aiohttp too.

    ```python
    receiver = CallbackReceiver(tokens=TOKEN, on_result=save)
    fastapi_app.routes.append(Route("/callbacks", receiver))  # starlette.routing.Route
    aiohttp_app.router.add_post("/callbacks", receiver.aiohttp_handler)
    ```

    If you mount it (`app.mount("/callbacks", receiver)`), its URL ends in a slash. Without the
    slash, the framework redirects or refuses, and the result may be lost. In any other framework,
    call `receive`. One receiver serves one event loop.

    Args:
        tokens: the tokens that callbacks may carry. Pass several while one replaces another. False
            accepts callbacks from anybody.
        on_result: called with each `CallbackResult`. If it raises, the sender gets a 5xx, and the
            callback is not remembered, so that it can be delivered again. It runs within the
            request, and the sender may give up, so start long work elsewhere.
        store: remembers the ids; by default a `MemoryStore`, which a restart clears. With a shared
            store, such as `SQLiteStore`, several processes together handle each callback once.
        max_body_bytes: the most bytes of a body.
        max_wait: seconds that a repeated callback waits while an earlier delivery is handled. After
            that it gets a 503. None for no limit.

    Raises:
        InvalidArgumentError: an argument cannot be used.
    """

    def __init__(
        self,
        *,
        tokens: Tokens,
        on_result: OnResult,
        store: CallbackStore | None = None,
        max_body_bytes: int = DEFAULT_MAX_BODY_BYTES,
        max_wait: float | None = 30.0,
    ) -> None:
        tokens = hidden_tokens(tokens)
        if not callable(on_result):
            raise InvalidArgumentError("on_result must be a function", argument="on_result")
        check_seconds(max_wait, "max_wait")
        self._verifier = CallbackVerifier(tokens=tokens, max_body_bytes=max_body_bytes)
        self._on_result = on_result
        self._store: CallbackStore = MemoryStore() if store is None else store
        self._max_wait = max_wait
        self._outcomes: dict[str, asyncio.Future[bool | None]] = {}

    async def receive(self, headers: Headers, body: Body, *, method: str = "POST") -> CallbackReply:
        """Handle one request, and return the response to send.

        Args:
            headers: the request's headers.
            body: the whole body, or an async iterable of its pieces. The iterable is not read if
                the headers are refused, and never beyond `max_body_bytes`.
            method: the request's method.

        Raises whatever `on_result`, the store or reading `body` raises. Respond with a 500 then.
        """
        try:
            self._verifier.check_head(headers, method=method)
            first = await self._handle_once(await _parsed(await self._read_body(body)))
        except CallbackRefusedError as refused:
            status = refused.status
            log.debug("refused a callback with %s: %s", status, refused, extra=extra(status=status))
            return refused.reply
        return _HANDLED if first else _REPEATED

    async def __call__(
        self, scope: adapters.Scope, receive: adapters.Receive, send: adapters.Send
    ) -> None:
        """The ASGI application. It accepts callbacks at every path where it is mounted."""
        await adapters.serve_asgi(self.receive, scope, receive, send)

    async def aiohttp_handler(self, request: web.BaseRequest) -> web.Response:
        """The handler for `aiohttp.web`. The application's `client_max_size` does not apply."""
        return await adapters.serve_aiohttp(self.receive, request)

    async def _read_body(self, body: Body) -> bytes:
        if not isinstance(body, AsyncIterable):
            self._verifier.check_size(len(body))
            return bytes(body)
        whole = bytearray()  # not a list of pieces, which may be many and tiny
        async for piece in body:
            whole += piece
            self._verifier.check_size(len(whole))
        return bytes(whole)

    async def _handle_once(self, result: CallbackResult) -> bool:
        """Handle the result unless it was handled before. Return whether it was handled now."""
        while (earlier := self._outcomes.get(result.id)) is not None:
            # Unlike `await earlier`, this does not cancel `earlier` when this request is cancelled.
            await asyncio.wait([earlier], timeout=self._max_wait)
            if not earlier.done():
                raise _unavailable("an earlier delivery is still being handled")
            if earlier.result():
                return False
            if earlier.result() is False:
                raise _unavailable("an earlier delivery could not be handled")
        outcome = asyncio.get_running_loop().create_future()
        self._outcomes[result.id] = outcome
        try:
            first = await self._claim_and_handle(result)
            outcome.set_result(True)
        except Exception:
            outcome.set_result(False)
            raise
        finally:
            del self._outcomes[result.id]
            if not outcome.done():
                outcome.set_result(None)  # cancelled, so the next delivery handles it
        return first

    async def _claim_and_handle(self, result: CallbackResult) -> bool:
        owner = uuid4().hex
        try:
            if not await self._claim(result.id, owner):
                return False
            outcome = self._on_result(result)
            if inspect.isawaitable(outcome):
                await outcome
            await self._store.complete(result.id)
        except BaseException:
            await self._store.release(result.id, owner)
            raise
        return True

    async def _claim(self, id: str, owner: str) -> bool:
        """Claim the id. Wait while another process handles it. Return False if it is done."""
        loop = asyncio.get_running_loop()
        deadline = None if self._max_wait is None else loop.time() + self._max_wait
        pause = _POLL_SECONDS[0]
        while (claim := await self._store.claim(id, owner)) == "busy":
            if deadline is not None and loop.time() >= deadline:
                raise _unavailable("an earlier delivery is still being handled")
            await asyncio.sleep(pause)
            pause = min(pause * 2, _POLL_SECONDS[1])
        return claim == "claimed"


async def _parsed(body: bytes) -> CallbackResult:
    """The result in a body. A large body is parsed in a thread, so that it does not block the
    loop."""
    if len(body) <= IN_PLACE_BYTES:
        return parse_result(body)
    return await in_thread(parse_result, body)


def _unavailable(message: str) -> CallbackRefusedError:
    return CallbackRefusedError(message, status=503, code="unavailable", retry_after=5.0)
