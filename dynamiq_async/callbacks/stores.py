"""Which callbacks were handled: what a `CallbackReceiver` remembers so that none is handled twice.

An id is claimed by an `owner`: a name that is used for one delivery only. It goes from unknown to
claimed, and from there to done, or back to unknown when its handling failed.
"""

from __future__ import annotations

from typing import Literal, Protocol

from dynamiq_async.options import check_count

Claim = Literal["claimed", "done", "busy"]
"""The outcome of a claim: the owner is to handle the id; it was handled before; another owner is
handling it."""


class CallbackStore(Protocol):
    """The interface of a store. Each call must be atomic.

    An error that it raises goes to the framework, as one of the handler does, and the callback
    counts as not handled. A store should let claims expire, since a process can die while it
    handles an id.
    """

    async def claim(self, id: str, owner: str) -> Claim:
        """Let `owner` handle `id`, unless it is done or being handled."""
        ...

    async def complete(self, id: str) -> None:
        """Remember `id` as done, whoever has claimed it by now."""
        ...

    async def release(self, id: str, owner: str) -> None:
        """Forget the claim of `owner`. Does nothing when there is none, or `id` is done."""
        ...


class MemoryStore:
    """A `CallbackStore` in the memory of this process.

    Args:
        max_entries: how many handled ids are remembered; the oldest are forgotten first. Ids that
            are being handled do not count.

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
