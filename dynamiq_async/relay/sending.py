"""Sending for as long as there is somebody to send to: what the adapters share."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import anyio

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from dynamiq_async.relay.core import Relay


class LeftError(Exception):
    """Raised by what is to be sent, when it finds that the browser has left."""


async def send_while_there(
    body: Relay, sending: Coroutine[Any, Any, None], leaving: Coroutine[Any, Any, None]
) -> bool:
    """Run `sending` to its end or until `leaving`, which waits for the browser to leave, is done.
    Then the body is closed. Gives whether all was sent.

    Each has a task of its own, so that a `send` that waits for a browser that does not read can be
    given up.
    """
    sender = asyncio.create_task(sending)
    watch = asyncio.create_task(leaving)
    try:
        await asyncio.wait([sender, watch], return_when=asyncio.FIRST_COMPLETED)
        sent = sender.done()
    finally:
        sender.cancel()
        watch.cancel()
        # Starlette's middleware cancels by anyio's rules: whatever is awaited then, again and
        # again. The body's closing is short.
        with anyio.CancelScope(shield=True):
            try:
                await asyncio.wait([sender, watch])
            finally:
                await body.aclose()
    try:
        (sender if sent else watch).result()
    except LeftError:
        sent = False
    return sent
