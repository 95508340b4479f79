"""`Expect: 100-continue`: the body waits until the server asks for it, but not for long."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from dynamiq_async.transport import _aiohttp_private as private

if TYPE_CHECKING:
    from collections.abc import Generator

    import aiohttp

    from dynamiq_async.transport.base import Request

CONTINUE_SECONDS = 1.0
"""How long the body waits for a 100. A server may ignore the expectation, so a client must not wait
for ever (RFC 9110, 10.1.1); the time is curl's."""


class Continue(asyncio.Future[bool]):
    """Done with the interim response, or `CONTINUE_SECONDS` after the head of `request` was sent:
    aiohttp awaits this future from then on."""

    def __init__(self, request: Request) -> None:
        super().__init__(loop=asyncio.get_running_loop())
        self._request = request
        self._timer: asyncio.TimerHandle | None = None

    def __await__(self) -> Generator[Any, None, bool]:
        self._request.sent = True
        self._timer = self.get_loop().call_later(CONTINUE_SECONDS, self._go_on)
        try:
            return (yield from super().__await__())
        finally:
            self._timer.cancel()

    def _go_on(self) -> None:
        if not self.done():
            self.set_result(True)

    def hold(self) -> None:
        """Stop the timer, because the final response came: the body is not sent."""
        if self._timer is not None:
            self._timer.cancel()


def expecting(session: aiohttp.ClientSession, request: Request) -> tuple[Any, ...]:
    """The middlewares for a request with `Expect`: those of the session, and ours."""

    async def middleware(sent: Any, handler: Any) -> Any:
        waiter = Continue(request)
        private.wait_for_continue(sent, waiter)
        try:
            return await handler(sent)
        finally:
            waiter.hold()

    return (*private.middlewares_of(session), middleware)
