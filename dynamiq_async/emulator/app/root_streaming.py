"""The root endpoint's streaming: the library's messages as an event stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.event_stream import stream_events
from ..core.feed import Feed, Reader
from .invocations import STREAM_WINDOW, new_execution, run

if TYPE_CHECKING:
    from .invocations import Invocation
    from .state import AppExchange


async def stream(exchange: AppExchange, invocation: Invocation) -> None:
    """Run the App and stream its messages. When the client leaves, the App is canceled."""
    feed = Feed(window=STREAM_WINDOW)
    reader = Reader(feed)
    execution = new_execution(exchange, invocation)
    task = exchange.state.tasks.spawn(run(exchange, invocation, execution, feed))
    settings = exchange.state.settings
    try:
        await stream_events(
            exchange,
            reader,
            newline=settings.newline,
            named=settings.event_line,
            heartbeat=settings.root_heartbeat,
            sent=exchange.state.changes.notify,
        )
    finally:
        task.cancel()
