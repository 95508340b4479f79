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

_sent: dict[asyncio.AbstractEventLoop, set[Relay]] = {}


def must_stop() -> bool:
    """Whether the uvicorn server of this process was told to stop. It says so in `should_exit`, and
    a method of it handles the signals."""
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return getattr(server, "should_exit", False) is True


def stop_with_server(body: Relay) -> None:
    """Shut the relay down when the server has to stop."""
    loop = asyncio.get_running_loop()
    if loop not in _sent:
        _sent[loop] = set()
        loop.call_soon(_look, loop)
    _sent[loop].add(body)


def _look(loop: asyncio.AbstractEventLoop) -> None:
    if not _sent[loop]:
        del _sent[loop]
        return
    if must_stop():
        for body in _sent[loop]:
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
                _sent[asyncio.get_running_loop()].discard(body)
                await body.aclose()
    try:
        (sender if sent else watch).result()
    except LeftError:
        sent = False
    return sent
