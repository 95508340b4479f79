"""One request being answered: as JSON, or as a stream of events."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..app.messages import encode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..app.state import Deployment, State
    from .faults import Fault
    from .feed import FeedEvent, Reader
    from .log import RequestRecord
    from .wire import Wire

_JSON = {"Content-Type": "application/json"}
_EVENT_STREAM = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache"}


@dataclass(eq=False)
class Exchange:
    """A request and the way to answer it. `headers` go with a JSON answer."""

    state: State
    deployment: Deployment
    record: RequestRecord
    wire: Wire
    headers: dict[str, str] = field(default_factory=dict)

    async def answer(self, status: int, value: Any) -> None:
        """Send a JSON value."""
        body = encode(value)
        await self.wire.start(status, _JSON | self.headers, length=len(body))
        await self.wire.write(body)
        await self.wire.finish()

    async def stream(self, reader: Reader, *, named: bool, heartbeat: float | None) -> None:
        """Send the events of a feed until its end.

        Args:
            named: whether each event has an `event:` line.
            heartbeat: seconds of silence after which a comment is sent.
        """
        newline = self.state.settings.newline.encode()
        arrange = arranger(self.record.fault)
        await self.wire.start(200, _EVENT_STREAM)
        try:
            while not reader.at_end:
                events = await reader.batch(heartbeat)
                if not events and not reader.at_end:
                    await self.wire.write(b": heartbeat" + newline * 2)
                for event in arrange.put(events) if arrange else events:
                    await self.wire.write_event(frame(event, newline, named=named))
            for event in arrange.rest() if arrange else ():
                await self.wire.write_event(frame(event, newline, named=named))
            await self.wire.finish()
        finally:
            reader.close()


def frame(event: FeedEvent, newline: bytes, *, named: bool) -> bytes:
    """An event as the text of an event stream (WHATWG). Data with line breaks takes more lines."""
    data = event.data
    if b"\n" in data:
        data = (newline + b"data: ").join(data.split(b"\n"))
    head = b"event: " + event.type.encode() + newline if named else b""
    return head + b"data: " + data + newline + newline


class _Arranger:
    """Leaves out, doubles and swaps events as the fault says."""

    def __init__(self, fault: Fault) -> None:
        self._fault = fault
        self._late: list[FeedEvent] = []

    def put(self, events: Sequence[FeedEvent]) -> list[FeedEvent]:
        """What is to be sent now."""
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
        """What was to be sent after an event that never came."""
        return self._late


def arranger(fault: Fault) -> _Arranger | None:
    """What arranges the events of one answer; None where they come as they are."""
    return _Arranger(fault) if fault.skip or fault.duplicate or fault.swap else None
