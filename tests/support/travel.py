"""An event loop that does not wait: when only a timer can go on, it is already that late."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

GLANCES = 2
GLANCE_SECONDS = 0.001
"""What was sent on loopback is there at once; looking this long for it is enough."""


class _Selector(selectors.DefaultSelector):
    ahead = 0.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        for _ in range(GLANCES):
            if events := super().select(GLANCE_SECONDS):
                return events
        self.ahead += timeout
        return []


class TravelingLoop(asyncio.SelectorEventLoop):
    """Its time runs only when nothing happens, so that what is done takes none, on any machine. No
    threads can be waited for in it."""

    def __init__(self) -> None:
        self._clockwork = _Selector()
        super().__init__(self._clockwork)
        self._start = super().time()

    def time(self) -> float:
        return self._start + self._clockwork.ahead


def travel(work: Callable[[Callable[[], float]], Coroutine[Any, Any, T]]) -> T:
    """Run `work` in such a loop; it is given a clock of Unix time that goes with the loop."""
    with asyncio.Runner(loop_factory=TravelingLoop) as runner:
        loop = runner.get_loop()
        start = 1_800_000_007.25 - loop.time()
        return runner.run(work(lambda: start + loop.time()))
