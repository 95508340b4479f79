"""Sends a response until the browser disconnects. The adapters share this."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Any

import anyio

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from dynamiq_async.relay.core import Relay


LOOK_SECONDS = 0.1
"""How often to check whether the server has to stop, in seconds. No server notifies its
applications before their responses have ended."""


class _Sent:
    """The relays that are being sent on one event loop.

    Attributes:
        server: the uvicorn server that runs on the loop; None if none was found.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.bodies: set[Relay] = set()
        self.server = _uvicorn_of(loop)

    @property
    def must_stop(self) -> bool:
        """Whether the server was told to stop, which sets its `should_exit`. If no server was found
        on the loop, use the one whose method handles the process's signals."""
        handler = signal.getsignal(signal.SIGTERM)
        server = self.server or getattr(handler, "__self__", None)
        return getattr(server, "should_exit", False) is True


_sent: dict[asyncio.AbstractEventLoop, _Sent] = {}


def _uvicorn_of(loop: asyncio.AbstractEventLoop) -> Any:
    """The uvicorn server that one of the loop's tasks runs. This finds it even if it handles no
    signals, as in a separate thread, or when the program handles them itself."""
    for task in asyncio.all_tasks(loop):
        work: Any = task.get_coro()
        while (frame := getattr(work, "cr_frame", None)) is not None:
            # Do not read the variables of other frames: that keeps the objects alive.
            if frame.f_globals.get("__name__") == "uvicorn.server":
                return frame.f_locals.get("self")
            work = work.cr_await
    return None


def stop_with_server(body: Relay) -> None:
    """Shut the relay down when the server has to stop."""
    loop = asyncio.get_running_loop()
    if loop not in _sent:
        _sent[loop] = _Sent(loop)
        loop.call_soon(_look, loop)
    _sent[loop].bodies.add(body)


def _look(loop: asyncio.AbstractEventLoop) -> None:
    sent = _sent[loop]
    if not sent.bodies:
        del _sent[loop]
        return
    if sent.must_stop:
        for body in sent.bodies:
            body.shut_down()
    loop.call_later(LOOK_SECONDS, _look, loop)


class LeftError(Exception):
    """Raised while sending when the browser has disconnected."""


async def send_while_there(
    body: Relay, sending: Coroutine[Any, Any, None], leaving: Coroutine[Any, Any, None]
) -> bool:
    """Run `sending` to its end, or until `leaving` returns because the browser has disconnected.
    Then close the body. Return whether all was sent.

    Each coroutine has its own task, so that this can cancel a `send` to a browser that does not
    read.
    """
    stop_with_server(body)
    sender = asyncio.create_task(sending)
    watch = asyncio.create_task(leaving)
    try:
        await asyncio.wait([sender, watch], return_when=asyncio.FIRST_COMPLETED)
        sent = sender.done()
    finally:
        sender.cancel()
        watch.cancel()
        # Starlette's middleware cancels by anyio's rules, which cancel every further await too.
        # Closing the body does not take long.
        with anyio.CancelScope(shield=True):
            try:
                await asyncio.wait([sender, watch])
            finally:
                _sent[asyncio.get_running_loop()].bodies.discard(body)
                await body.aclose()
    try:
        (sender if sent else watch).result()
    except LeftError:
        sent = False
    return sent
