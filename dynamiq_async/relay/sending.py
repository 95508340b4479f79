"""Sending a response until the browser disconnects; the adapters share this."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Any

import anyio

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from dynamiq_async.relay.core import Relay


LOOK_SECONDS = 0.1
"""How often the server is asked whether it has to stop, in seconds. No server tells its
applications before their responses have ended."""


class _Sent:
    """What is being sent on one event loop.

    Attributes:
        server: the uvicorn server that runs on the loop; None where none was found.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.bodies: set[Relay] = set()
        self.server = _uvicorn_of(loop)

    @property
    def must_stop(self) -> bool:
        """Whether the server was told to stop. It says so in `should_exit`. One that was not found
        on the loop is that of the process, a method of which handles the signals."""
        handler = signal.getsignal(signal.SIGTERM)
        server = self.server or getattr(handler, "__self__", None)
        return getattr(server, "should_exit", False) is True


_sent: dict[asyncio.AbstractEventLoop, _Sent] = {}


def _uvicorn_of(loop: asyncio.AbstractEventLoop) -> Any:
    """The uvicorn server that one of the loop's tasks runs. In a thread of its own, or with the
    program's own signals, it handles none that it could be found by."""
    for task in asyncio.all_tasks(loop):
        work: Any = task.get_coro()
        while (frame := getattr(work, "cr_frame", None)) is not None:
            # Of other frames the variables are left alone: looking keeps what they refer to.
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

    Each coroutine has its own task, so that a `send` to a browser that does not read can be
    cancelled.
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
        # Starlette's middleware cancels by anyio's rules: each further await is cancelled, too.
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
