"""Waiting for one of a client's slots, with a warning in the log if that takes long."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from dynamiq_async._telemetry import extra

if TYPE_CHECKING:
    from dynamiq_async._http.limiter import Limiter
    from dynamiq_async._http.request import Request
    from dynamiq_async._http.request_options import SendOptions

log = logging.getLogger("dynamiq_async")

WARNING_SECONDS = 5.0
"""After a call has waited this long for a slot, a warning is logged: once, until none waits."""


async def slot_of(limiter: Limiter, request: Request, options: SendOptions) -> bool:
    """Wait for a slot, as `Limiter.acquire` does. Queued calls, and calls delayed by a rate, are
    meant to wait, so no warning is logged for them."""
    if options.queued or limiter.metered:
        return await limiter.acquire()
    warning = asyncio.get_running_loop().call_later(WARNING_SECONDS, _warn, limiter, request)
    try:
        return await limiter.acquire()
    finally:
        warning.cancel()


def _warn(limiter: Limiter, request: Request) -> None:
    if not limiter.warned:
        limiter.warned = True
        lacking, advice = lack_of(limiter)
        log.warning(
            "%s has waited %.0f s to be sent: %s; %s or lower the concurrency",
            request,
            WARNING_SECONDS,
            lacking,
            advice,
            extra=extra(),
        )


def lack_of(limiter: Limiter) -> tuple[str, str]:
    """What the limiter lacks, and advice, as texts for messages."""
    if limiter.metered:
        return "the rate limit let none more start", "allow more time"
    slots, end = ("streams", "ended") if limiter.for_streams else ("connections", "came free")
    return f"none of the client's {limiter.limit} {slots} {end}", f"raise max_{slots}"
