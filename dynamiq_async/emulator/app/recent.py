"""The newest invocations of the root endpoint and the WebSocket, with what they have streamed.

Their feeds keep no more than a window, and end with the stream. Here their ends are kept, within a
limit, for people who look at them later. A run of the Runs API keeps its events itself.
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
"""How much of what each has streamed is kept."""


@dataclass(eq=False, slots=True)
class Recent:
    """One invocation, and its events: none where nothing was streamed."""

    execution: Execution
    feed: Feed = field(repr=False)

    def close(self) -> None:
        """Keep the end of what was streamed."""
        if self.feed.events:
            self.feed = self.feed.tail(_MAX_BYTES)
