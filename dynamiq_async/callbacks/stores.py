"""Which callbacks were handled: what a `CallbackReceiver` remembers so that none is handled twice.

A store is asked with a delivery's `owner`, a name that is used for one delivery only. An id goes
from unknown to claimed, and from there to done, or back to unknown when its handling failed.
"""

from __future__ import annotations

from typing import Literal, Protocol

from dynamiq_async.options import check_count

Claim = Literal["claimed", "done", "busy"]
"""What a claim came to: it is this owner's to handle; it was handled before; another is at it."""


class CallbackStore(Protocol):
    """What a store of your own has to do. Each call must be atomic.

    An error that it raises goes to the framework, as one of the handler does, and the callback
    counts as not taken. The time that a process may be at one id should be limited, as a process
    can die at it: that is the store's own business.
    """

    async def claim(self, id: str, owner: str) -> Claim:
        """Have `owner` handle `id`, unless it is done or somebody is at it."""
        ...

    async def complete(self, id: str) -> None:
        """Remember `id` as done, whoever claims it by now."""
        ...

    async def release(self, id: str, owner: str) -> None:
        """Forget the claim of `owner`. Does nothing when there is none, or `id` is done."""
        ...


class MemoryStore:
    """Remembers in this process, and for as long as it lives.

    Args:
        max_entries: how many handled ids are remembered; the oldest are forgotten first. Those
            being handled come on top.

    Raises:
        InvalidArgumentError: the bound is no positive number.
    """

    def __init__(self, *, max_entries: int = 10_000) -> None:
        self._max_entries = check_count(max_entries, "max_entries")
        self._owners: dict[str, str] = {}
        self._done: dict[str, None] = {}  # the oldest first

    def __len__(self) -> int:
        """How many ids are remembered or being handled."""
        return len(self._owners) + len(self._done)

    async def claim(self, id: str, owner: str) -> Claim:
        """See `CallbackStore`."""
        if id in self._done:
            return "done"
        return "claimed" if self._owners.setdefault(id, owner) == owner else "busy"

    async def complete(self, id: str) -> None:
        """See `CallbackStore`."""
        self._owners.pop(id, None)
        self._done[id] = None
        if len(self._done) > self._max_entries:
            del self._done[next(iter(self._done))]

    async def release(self, id: str, owner: str) -> None:
        """See `CallbackStore`."""
        if self._owners.get(id) == owner:
            del self._owners[id]
