"""Receiving callbacks: each is verified, handled once, and acknowledged only when it is done.

The vendor documents neither signatures nor whether it delivers again. So a token decides who may
send. A repetition is recognised by its id, acknowledged, and not handled again. When the handler
raises, the response is a 5xx, so that the callback can be delivered once more.
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
"""Called with each result, once. An async function, or a plain one that does not block."""

Body = bytes | AsyncIterable[bytes]

_POLL_SECONDS = (0.05, 1.0)
"""The first and the longest pause between two claims of an id that another process handles."""

_HANDLED = CallbackReply.of(200, {"status": "ok"}, {})
_REPEATED = CallbackReply.of(200, {"status": "duplicate"}, {})


class CallbackReceiver:
    """Receives callbacks in a web backend: an ASGI application, with a handler for aiohttp too.

    ```python
    receiver = CallbackReceiver(tokens=TOKEN, on_result=save)
    fastapi_app.routes.append(Route("/callbacks", receiver))  # starlette.routing.Route
    aiohttp_app.router.add_post("/callbacks", receiver.aiohttp_handler)
    ```

    Where it is mounted (`app.mount("/callbacks", receiver)`), its URL ends in a slash; without
    that slash the framework redirects or refuses, and the result may be lost. Any other framework
    calls `receive`. One receiver serves one event loop.

    Args:
        tokens: the tokens that callbacks may carry; several while one replaces another. False
            accepts callbacks from anybody.
        on_result: called with each `CallbackResult`. When it raises, the sender gets a 5xx, and
            the callback is not remembered, so that it can be delivered again. It runs within the
            request, whose sender may give up: start what takes long elsewhere.
        store: remembers the ids; by default a `MemoryStore`, which a restart clears. With one that
            is shared, such as `SQLiteStore`, several processes handle each callback once.
        max_body_bytes: the most that a body may have.
        max_wait: seconds that a repetition waits for the outcome of a delivery that is still
            being handled, before it gets a 503; None for no limit.

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
        """Handle one request, whole or with its body as it comes. Returns the response to send.

        Args:
            headers: of the request.
            body: all of it, or an async iterable of its pieces, which is not touched when the
                headers are refused, and not read beyond `max_body_bytes`.
            method: of the request.

        Raises whatever `on_result`, the store or the reading of `body` raises: respond with a 500.
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
        """The ASGI application. It takes callbacks at every path that it is mounted at."""
        await adapters.serve_asgi(self.receive, scope, receive, send)

    async def aiohttp_handler(self, request: web.BaseRequest) -> web.Response:
        """The handler for `aiohttp.web`. The application's `client_max_size` does not apply."""
        return await adapters.serve_aiohttp(self.receive, request)

    async def _read_body(self, body: Body) -> bytes:
        if not isinstance(body, AsyncIterable):
            self._verifier.check_size(len(body))
            return bytes(body)
        whole = bytearray()  # rather than a list of pieces, which may be many and tiny
        async for piece in body:
            whole += piece
            self._verifier.check_size(len(whole))
        return bytes(whole)

    async def _handle_once(self, result: CallbackResult) -> bool:
        """Handle the result unless that was done before. Returns whether it was handled now."""
        while (earlier := self._outcomes.get(result.id)) is not None:
            # Unlike `await earlier`, this does not cancel it when this request is cancelled.
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
        """Claim the id, waiting while another process handles it. Returns False if it is done."""
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
    """The result in a body, which is read in a thread where that would hold up the loop."""
    if len(body) <= IN_PLACE_BYTES:
        return parse_result(body)
    return await in_thread(parse_result, body)


def _unavailable(message: str) -> CallbackRefusedError:
    return CallbackRefusedError(message, status=503, code="unavailable", retry_after=5.0)
