"""Resumes runs after a restart: their Apps run again, and repeat their stored events.

An App is a function in the middle of its work, which a file cannot store. So it is called again
with the same input, and its events are compared with the stored ones. Events that are equal are
dropped, because readers have them already. After the last stored event the run continues.

Ids may differ, because Apps generate them. A UUID, alone or within a longer text, is replaced from
then on by the UUID at the same place in the stored event.
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
"""Seconds that a stored answer waits for the events before it."""

_ID = re.compile(r"[0-9a-fA-F]{8}(?:-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}")


class ReplayError(WorkflowFailedError):
    """The App did not repeat what it did before the restart, so its run cannot resume."""


class Replay:
    """The events that an App has to repeat.

    Args:
        events: the stored events of the run, at least one.
        ended: called once all of them were repeated.

    Attributes:
        ids: maps the ids that the App has generated now to the stored ids.
        paused: whether the run was paused after the last repeated event.
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
            data: the data of the event's envelope; bytes are the whole envelope.
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
        """Wait until the next stored event is that of this answer. A stored answer is available at
        once, but before the person gave it, other parts of the App may have sent events. The wait
        is limited, in case the App does not send them again."""
        told = msgspec.json.decode(encode(data))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                while not self._is_next(type, told):
                    await self._taken.wait()

    def _is_next(self, type: str, data: Any) -> bool:
        coming = self._events[self._next : self._next + 2]
        if coming and coming[0].type == "run.resumed":  # the answer itself causes it
            coming = coming[1:]
        if not coming:
            return True
        return coming[0].type == type and bool(msgspec.json.decode(coming[0].data)["data"] == data)

    def skip(self, count: int) -> None:
        """Skip sequence numbers, as the App did before."""
        self._sequence += count

    def renamed(self, data: bytes) -> bytes:
        """JSON in which the App's new ids are replaced by the stored ones."""
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
