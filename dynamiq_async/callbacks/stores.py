"""Stores of handled callbacks, by which a `CallbackReceiver` handles none of them twice.

An id is claimed by an `owner`: a name for one delivery only. Its state goes from unknown to
claimed, and from there to done, or back to unknown if its handling failed.
"""

from __future__ import annotations

from typing import Literal, Protocol

from dynamiq_async.options import check_count

Claim = Literal["claimed", "done", "busy"]
"""The outcome of a claim: the owner has to handle the id, or it was handled before, or another
owner is handling it."""


class CallbackStore(Protocol):
    """The interface of a store. Each call must be atomic.

    If a store raises, the error goes to the framework, like an error of the handler, and the
    callback counts as not handled. Claims should expire, because a process can die while it handles
    an id.
    """

    async def claim(self, id: str, owner: str) -> Claim:
        """Let `owner` handle `id`, unless it is done or being handled."""
        ...

    async def complete(self, id: str) -> None:
        """Remember `id` as done, even if another owner has claimed it in the meantime."""
        ...

    async def release(self, id: str, owner: str) -> None:
        """Forget the claim of `owner`. Do nothing if there is none, or if `id` is done."""
        ...


class MemoryStore:
    """A `CallbackStore` in the memory of this process.

    Args:
        max_entries: how many handled ids to remember. The oldest are forgotten first. Ids that are
            being handled do not count.

    Raises:
        InvalidArgumentError: the bound is not a positive number.
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
