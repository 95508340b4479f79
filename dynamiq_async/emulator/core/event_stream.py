"""An event stream (SSE) as a response, with heartbeats and with the faults of its events."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeVar

from .faults import NO_FAULT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .exchange import Exchange
    from .faults import Fault
    from .feed import FeedEvent, Reader

S = TypeVar("S")

_HEADERS = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache"}


async def stream_events(
    exchange: Exchange[S],
    reader: Reader,
    *,
    newline: str,
    named: bool,
    heartbeat: float | None,
    sent: Callable[[], None] | None = None,
) -> None:
    """Send the events of a feed until its end, and close the reader.

    Args:
        newline: the line end of the stream.
        named: whether each event has an `event:` line.
        heartbeat: seconds of silence after which a comment is sent; None: no comments.
        sent: called when events were sent.
    """
    wire, end = exchange.wire, newline.encode()
    faults = event_faults(exchange.record.fault)
    await wire.start(200, _HEADERS)
    frame = partial(_frame, newline=end, named=named)
    gathers = exchange.record.fault is NO_FAULT
    try:
        while not reader.at_end:
            events = await reader.batch(heartbeat, gathers=gathers)
            if not events and not reader.at_end:
                await wire.write(b": heartbeat" + end * 2)
            await wire.write_events([*map(frame, faults.put(events) if faults else events)])
            if sent is not None:
                sent()
        await wire.write_events([*map(frame, faults.rest() if faults else ())])
        await wire.finish()
    finally:
        reader.close()


def _frame(event: FeedEvent, *, newline: bytes, named: bool) -> bytes:
    """An event as text (WHATWG). Each line of its data becomes a `data:` line."""
    data = event.data
    if b"\n" in data:
        data = (newline + b"data: ").join(data.split(b"\n"))
    if named:
        return b"event: %b%bdata: %b%b%b" % (event.type.encode(), newline, data, newline, newline)
    return b"data: %b%b%b" % (data, newline, newline)


class EventFaults:
    """Skips, duplicates and swaps the events of one response, as its fault says."""

    def __init__(self, fault: Fault) -> None:
        self._fault = fault
        self._late: list[FeedEvent] = []

    def put(self, events: Sequence[FeedEvent]) -> list[FeedEvent]:
        """The events to send now, given the next ones of the feed."""
        now: list[FeedEvent] = []
        for event in events:
            if event.sequence in self._fault.skip:
                continue
            copies = [event] * (2 if event.sequence in self._fault.duplicate else 1)
            if event.sequence in self._fault.swap:
                self._late += copies
            else:
                now += copies + self._late
                self._late = []
        return now

    def rest(self) -> list[FeedEvent]:
        """The events to send at the end: those swapped with an event that never came."""
        return self._late


def event_faults(fault: Fault) -> EventFaults | None:
    """The fault's changes to the events; None if it does not change them."""
    return EventFaults(fault) if fault.skip or fault.duplicate or fault.swap else None
