"""The events of streams.

Every event has the views of `Event`, whether it is a `StreamEvent` of an App's root endpoint or
WebSocket, or a `RunEvent` of a run. The wire facts and their sources are in docs/contract.md.
"""

from dynamiq_async.events.app_events import StreamEvent
from dynamiq_async.events.run_events import RunEvent
from dynamiq_async.events.vocabulary import (
    Event,
    NodeResult,
    Question,
    ToolCall,
    ToolCallStatus,
    Usage,
)

__all__ = [
    "Event",
    "NodeResult",
    "Question",
    "RunEvent",
    "StreamEvent",
    "ToolCall",
    "ToolCallStatus",
    "Usage",
]
