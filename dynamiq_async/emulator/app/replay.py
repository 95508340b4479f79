"""Runs that go on after a restart: their Apps are run again, and repeat what they have said.

An App is a function that is in the middle of its work, and cannot be kept in a file. So it is
called again with the same input, and its events are compared with those that are stored. As long as
they are equal they are left out: readers have them. Behind the last of them the run goes on.

Ids may differ, because Apps make them up: a UUID, as it is or within a longer text, stands for the
one at its place in the stored event, from then on.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import TYPE_CHECKING, Any

import msgspec

from ..core.json import encode
from .run_context import WorkflowFailedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..core.feed import FeedEvent

_PATIENCE = 5.0
"""Seconds that a stored answer waits for what came before it."""

_ID = re.compile(r"[0-9a-fA-F]{8}(?:-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}")


class ReplayError(WorkflowFailedError):
    """The App did something else than before the restart, so that its run cannot go on."""


class Replay:
    """What an App has to repeat.

    Args:
        events: what is stored of the run, at least one event.
        ended: called once all of them were repeated.

    Attributes:
        ids: the ids that the App has made up by now, and what stands for them.
        paused: whether the run was paused behind the last event that was repeated.
    """

    def __init__(self, events: Sequence[FeedEvent], ended: Callable[[], None]) -> None:
        self.ids: dict[bytes, bytes] = {}
        self.paused: bool = False
        self._made_of: dict[bytes, bytes] = {}
        self._events = events
        self._next = 0
        self._sequence = 0
        self._ended = ended
        self._taken = asyncio.Event()

    @property
    def over(self) -> bool:
        """Whether all events were repeated."""
        return self._next == len(self._events)

    def take(self, type: str, data: Any) -> None:
        """Compare the App's next event with the stored one. Raises `ReplayError`.

        Args:
            data: of the envelope; bytes are the whole of it.
        """
        stored = self._events[self._next]
        place = f"event {stored.sequence} was {stored.type!r}"
        if type != stored.type:
            raise _error(f"{place}, and now the App sent {type!r}")
        if self._sequence + 1 != stored.sequence:
            raise _error(f"{place}, and now the App sent it as event {self._sequence + 1}")
        if isinstance(data, bytes):
            same = data == stored.data
        else:
            old = msgspec.json.decode(stored.data)["data"]
            same = self._same(msgspec.json.decode(encode(data)), old)
        if not same:
            raise _error(f"{place}, and now the App sent it with other data")
        self.paused = type == "run.paused" or (self.paused and type != "run.resumed")
        self._sequence += 1
        self._next += 1
        taken, self._taken = self._taken, asyncio.Event()
        taken.set()
        if self.over:
            self._ended()

    async def turn(self, type: str, data: Any) -> None:
        """Wait until the next event is that of this answer. It is here at once, but before a person
        gave it, other parts of the App may have said something. An App that does not say it again
        is not waited for."""
        told = msgspec.json.decode(encode(data))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                while not self._is_next(type, told):
                    await self._taken.wait()

    def _is_next(self, type: str, data: Any) -> bool:
        coming = self._events[self._next : self._next + 2]
        if coming and coming[0].type == "run.resumed":  # the answer brings it
            coming = coming[1:]
        if not coming:
            return True
        return coming[0].type == type and bool(msgspec.json.decode(coming[0].data)["data"] == data)

    def skip(self, count: int) -> None:
        """Leave out sequence numbers, as the App did before."""
        self._sequence += count

    def renamed(self, data: bytes) -> bytes:
        """JSON with the ids that stand for those that the App has made up."""
        for new, old in self.ids.items():
            data = data.replace(new, old)
        return data

    def _same(self, new: Any, old: Any) -> bool:
        if isinstance(new, str) and isinstance(old, str):
            return new == old or self._same_but_for_ids(new, old)
        if isinstance(new, list) and isinstance(old, list):
            return len(new) == len(old) and all(map(self._same, new, old))
        if isinstance(new, dict) and isinstance(old, dict):
            return new.keys() == old.keys() and all(self._same(new[k], old[k]) for k in new)
        return bool(new == old)

    def _same_but_for_ids(self, new: str, old: str) -> bool:
        if _ID.split(new) != _ID.split(old):
            return False
        for one, other in zip(_ID.findall(new), _ID.findall(old), strict=True):
            pair = one.encode(), other.encode()
            if (
                self.ids.setdefault(*pair) != pair[1]
                or self._made_of.setdefault(*pair[::-1]) != pair[0]
            ):
                return False
        return True


def _error(what: str) -> ReplayError:
    return ReplayError(
        "the emulator was started again, and the App did not repeat what it had done in this "
        f"run: {what}"
    )
