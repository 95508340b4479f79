"""`MemoryJournal`: a journal that lasts as long as its process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dynamiq_async.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dynamiq_async.batch.journal.store import Header, Record


class MemoryJournal:
    """A store in memory, for tests and for batches that are started again by the same process.

    The journal lives as long as this object, and is lost when the process ends. A batch that has to
    survive that needs a file. The journal grows with each key and its output.

    Attributes:
        header: what the journal is for; None before its first use.
        records: the record of each key.
    """

    def __init__(self) -> None:
        self.header: Header | None = None
        self.records: dict[str, Record] = {}
        self._in_use = False

    def __str__(self) -> str:
        return "in memory"

    async def load(self, header: Header) -> Header:
        """See `JournalStore`."""
        if self._in_use:
            raise JournalError("the journal in memory is being written by another batch")
        self._in_use = True
        self.header = self.header or header
        return self.header

    async def begin(self, records: Sequence[Record]) -> Sequence[Record]:
        """See `JournalStore`."""
        held = []
        for record in records:
            before = self.records.get(record.key)
            if before is None or before.attempt < record.attempt:
                self.records[record.key] = record
            else:
                held.append(before)
        return held

    async def end(self, records: Sequence[Record]) -> None:
        """See `JournalStore`."""
        self.records.update((record.key, record) for record in records)

    async def withdraw(self, before: Mapping[str, Record | None]) -> None:
        """See `JournalStore`."""
        for key, record in before.items():
            if record is None:
                del self.records[key]
            else:
                self.records[key] = record

    async def close(self) -> None:
        """See `JournalStore`."""
        self._in_use = False
