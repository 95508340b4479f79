"""The position in a run's stream: which events are new, repeated, or may be missing.

The service delivers events at least once, and connections break anywhere. The cursor turns the
events that arrive into each event once and in order. It does no I/O: where events may be missing
it returns their sequence numbers, and its caller looks them up and reports the result.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from msgspec import structs

from dynamiq_async.events.run_events import RUN_STARTED, BrokenRunEvent

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dynamiq_async.events.run_events import RunEvent

# After so many holes in a row for which the service has no events, its numbering is taken to be
# sparse: holes are then looked up only after a lost connection.
SPARSE_AFTER = 3


class Gap(NamedTuple):
    """Sequence numbers without an event in the stream, from `first` to `last` inclusive.

    `confirmed` is whether the service was asked and has no such events.
    """

    first: int
    last: int
    confirmed: bool


class Hole(NamedTuple):
    """Sequence numbers, from `first` to `last` inclusive, missing before the events in `rest`.

    `after_break` is whether the connection was lost before `rest`, so that events may be lost.
    """

    first: int
    last: int
    after_break: bool
    rest: Sequence[RunEvent]


class Cursor:
    """The position of one stream.

    Attributes:
        sequence: the sequence number of the last event let through, or None before the first.
        gaps: the sequence numbers that were passed over.
    """

    def __init__(self, after_sequence: int | None = None) -> None:
        self.sequence = after_sequence
        self.gaps: list[Gap] = []
        self._after_break = False
        self._confirmed_in_a_row = 0

    def attached(self) -> None:
        """Note a new connection, whose events have to continue after the position."""
        self._after_break = self.sequence is not None

    def take(self, batch: Sequence[RunEvent]) -> tuple[list[RunEvent], Hole | None]:
        """The events of `batch` that are new, up to the first hole.

        Events at or before the position are dropped. Broken ones have no position of their own.
        """
        fresh: list[RunEvent] = []
        for index, event in enumerate(batch):
            sequence = event.sequence
            if sequence < 0 and isinstance(event, BrokenRunEvent):
                fresh.append(structs.replace(event, sequence=self.sequence or 0))
                continue
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
        """The stored events of a hole, in order. Numbers without one become confirmed gaps."""
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
        """Note a hole as an unconfirmed gap: the service did not say whether it has events."""
        self.gaps.append(Gap(hole.first, hole.last, confirmed=False))
        self.sequence = hole.last
        self._after_break = False

    def _may_miss(self, event: RunEvent) -> bool:
        if self.sequence is None:
            # `run.started` is the first event of a run, whatever its number.
            return event.sequence > 1 and event.type != RUN_STARTED
        if event.sequence == self.sequence + 1:
            return False
        return self._after_break or self._confirmed_in_a_row < SPARSE_AFTER
