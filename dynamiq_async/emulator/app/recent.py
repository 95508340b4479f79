"""The newest invocations of the root endpoint and the WebSocket, with what they have streamed.

Their feeds keep only a window, until the stream ends. This module keeps the last events of each, up
to a limit, for people who look at them later. A run of the Runs API keeps its events itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..core.feed import Feed
    from .execution import Execution

RECENT = 100
"""How many invocations are kept."""

_MAX_BYTES = 256 * 1024
"""How many bytes of each invocation's events are kept."""


@dataclass(eq=False, slots=True)
class Recent:
    """One invocation, and its events; there are none if nothing was streamed."""

    execution: Execution
    feed: Feed = field(repr=False)

    def close(self) -> None:
        """Keep only the last of the streamed events."""
        if self.feed.events:
            self.feed = self.feed.tail(_MAX_BYTES)
