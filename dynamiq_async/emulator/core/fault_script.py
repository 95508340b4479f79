"""Which request meets which fault: a script hands out one `Fault` to each matching request."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from fnmatch import fnmatchcase

from .faults import Fault
from .request_record import RequestRecord

Match = str | Callable[[RequestRecord], bool] | None


def matches(match: Match, record: RequestRecord) -> bool:
    """Whether `record` matches `match`, as described at `Emulator.script`."""
    if match is None:
        return True
    if callable(match):
        return match(record)
    method, _, pattern = match.rpartition(" ")
    return method in ("", record.method) and fnmatchcase(record.endpoint, pattern)


@dataclass(eq=False)
class _Act:
    """The faults of one call of `Emulator.script`, and the position of the next one."""

    match: Match
    faults: list[Fault]
    rounds: float  # still to be played, the current one included
    position: int = 0

    def advance(self) -> Fault:
        fault = self.faults[self.position]
        self.position += 1
        if self.position == len(self.faults):
            self.position = 0
            self.rounds -= 1
        return fault


class Script:
    """The faults to come, in the order in which they were scripted."""

    def __init__(self) -> None:
        self._acts: list[_Act] = []

    def add(self, faults: Collection[Fault], match: Match, times: int | None) -> None:
        """Play `faults` `times` times (None: for ever) for the requests that match."""
        if not faults or (times is not None and times < 1):
            raise ValueError("a script needs at least one fault, played at least once")
        self._acts.append(_Act(match, list(faults), math.inf if times is None else times))

    def take(self, record: RequestRecord) -> Fault | None:
        """The fault for this request, from the oldest act that matches it."""
        for act in self._acts:
            if matches(act.match, record):
                fault = act.advance()
                if not act.rounds:
                    self._acts.remove(act)
                return fault
        return None

    @property
    def pending(self) -> int:
        """How many scripted faults are still to happen; those without an end do not count."""
        finite = [act for act in self._acts if act.rounds != math.inf]
        return sum(int(act.rounds) * len(act.faults) - act.position for act in finite)

    def clear(self) -> None:
        """Forget all faults to come."""
        self._acts.clear()
