"""Sending a response until the browser disconnects; the adapters share this."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import anyio

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from dynamiq_async.relay.core import Relay


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
                await body.aclose()
    try:
        (sender if sent else watch).result()
    except LeftError:
        sent = False
    return sent
