"""The position in a run's stream: what is new, what is a repetition, and what may be missing.

Delivery is at least once and connections break anywhere; the cursor turns what arrives into each
event once and in order. It knows no network: where something may be missing it says which sequence
numbers, and is told what became of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from dynamiq_async.events.run_events import RUN_STARTED

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dynamiq_async.events.run_events import RunEvent

# After so many holes in a row that the service confirmed, its numbering is taken to have holes.
SPARSE_AFTER = 3


class Gap(NamedTuple):
    """Sequence numbers, both included, that were passed over.

    `confirmed` is whether the service was asked and has no such events.
    """

    first: int
    last: int
    confirmed: bool


class Hole(NamedTuple):
    """Sequence numbers, both included, that may be missing before the events in `rest`.

    `after_break` is whether the connection was lost in between, which makes it suspicious.
    """

    first: int
    last: int
    after_break: bool
    rest: Sequence[RunEvent]


class Cursor:
    """Where the reader stands.

    Attributes:
        sequence: of the last event that came through, or None before the first.
        gaps: what was passed over.
    """

    def __init__(self, after_sequence: int | None = None) -> None:
        self.sequence = after_sequence
        self.gaps: list[Gap] = []
        self._after_break = False
        self._confirmed_in_a_row = 0

    def attached(self) -> None:
        """A connection was made that has to go on behind the position."""
        self._after_break = self.sequence is not None

    def take(self, batch: Sequence[RunEvent]) -> tuple[list[RunEvent], Hole | None]:
        """The events of `batch` that are new, up to the first hole.

        Repetitions, and events that go backwards, are dropped.
        """
        fresh: list[RunEvent] = []
        for index, event in enumerate(batch):
            sequence = event.sequence
            if self.sequence is not None and sequence <= self.sequence:
                continue
            if self._may_miss(event):
                first = (self.sequence or 0) + 1
                return fresh, Hole(first, sequence - 1, self._after_break, batch[index:])
            fresh.append(event)
            self.sequence = sequence
            self._after_break = False
        return fresh, None

    def fill(self, hole: Hole, stored: Iterable[RunEvent]) -> list[RunEvent]:
        """What the service has stored of a hole, in order; what it has not is a confirmed gap."""
        found: list[RunEvent] = []
        expected = hole.first
        for event in sorted(stored, key=lambda event: event.sequence):
            if expected <= event.sequence <= hole.last:
                if event.sequence > expected:
                    self.gaps.append(Gap(expected, event.sequence - 1, confirmed=True))
                found.append(event)
                expected = event.sequence + 1
        self._confirmed_in_a_row = 0 if found else self._confirmed_in_a_row + 1
        if expected <= hole.last:
            self.gaps.append(Gap(expected, hole.last, confirmed=True))
        self.sequence = hole.last
        self._after_break = False
        return found

    def pass_over(self, hole: Hole) -> None:
        """Nobody could tell whether there is anything in the hole."""
        self.gaps.append(Gap(hole.first, hole.last, confirmed=False))
        self.sequence = hole.last
        self._after_break = False

    def _may_miss(self, event: RunEvent) -> bool:
        if self.sequence is None:
            # A stream from its start begins with this event, whatever its number.
            return event.sequence > 1 and event.type != RUN_STARTED
        if event.sequence == self.sequence + 1:
            return False
        return self._after_break or self._confirmed_in_a_row < SPARSE_AFTER
