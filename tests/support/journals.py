"""Journals for tests: the stores that are shipped, one that a user might write, and one that holds
whoever calls a store to what its Protocol says."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from dynamiq_async.batch.journal import (
    Header,
    Journal,
    JournalStore,
    MemoryJournal,
    Record,
    SQLiteJournal,
)
from dynamiq_async.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

KINDS = ("sqlite", "memory", "lines")

Given = Path | JournalStore
"""What a batch is given as its `journal`."""


class Line(msgspec.Struct, omit_defaults=True):
    """One change: a record for its key, or none any more."""

    key: str
    record: Record | None = None


class LinesJournal:
    """Written from the docstrings of `JournalStore` alone: JSON lines in a file, the header first.

    Each change takes a while, as if it had to go over a network.
    """

    def __init__(self, path: Path, delay: float = 0.0005) -> None:
        self._path = path
        self._delay = delay
        self._lock = asyncio.Lock()
        self._in_use = False

    def __str__(self) -> str:
        return str(self._path)

    async def load(self, header: Header) -> Header:
        if self._in_use:
            raise JournalError(f"{self._path} is in use")
        await asyncio.sleep(self._delay)
        if not self._path.exists():
            await self._append([header])
        first, *lines = self._path.read_bytes().splitlines()
        self._records = records_in(lines)
        self._in_use = True
        return msgspec.json.decode(first, type=Header)

    async def begin(self, records: Sequence[Record]) -> Sequence[Record]:
        async with self._lock:
            held = {
                record.key: self._records[record.key]
                for record in records
                if record.key in self._records
                and self._records[record.key].attempt >= record.attempt
            }
            await self._put({r.key: r for r in records if r.key not in held})
        return list(held.values())

    async def end(self, records: Sequence[Record]) -> None:
        async with self._lock:
            await self._put({record.key: record for record in records})

    async def withdraw(self, before: Mapping[str, Record | None]) -> None:
        async with self._lock:
            await self._put(before)

    async def close(self) -> None:
        self._in_use = False

    async def _put(self, changes: Mapping[str, Record | None]) -> None:
        await self._append([Line(key, record) for key, record in changes.items()])
        for key, record in changes.items():
            if record is None:
                del self._records[key]
            else:
                self._records[key] = record

    async def _append(self, lines: Sequence[msgspec.Struct]) -> None:
        await asyncio.sleep(self._delay)
        with self._path.open("ab") as file:
            file.writelines(msgspec.json.encode(line) + b"\n" for line in lines)


def records_in(lines: Sequence[bytes]) -> dict[str, Record]:
    changes = [msgspec.json.decode(line, type=Line) for line in lines]
    latest = {change.key: change.record for change in changes}
    return {key: record for key, record in latest.items() if record is not None}


class Checked:
    """A store that holds whoever calls it to what `JournalStore` promises.

    Attributes:
        closed: how often it was closed.
    """

    def __init__(self, store: JournalStore) -> None:
        self._store = store
        self._loaded = self._broken = False
        self._under_way: dict[str, set[str]] = {}
        self.closed = 0

    def __str__(self) -> str:
        return str(self._store)

    async def load(self, header: Header) -> Header:
        header = await self._store.load(header)
        assert not self._loaded
        self._loaded, self._broken = True, False
        return header

    async def begin(self, records: Sequence[Record]) -> Sequence[Record]:
        assert {record.state for record in records} == {"running"}
        with self._call("begin", [record.key for record in records]):
            return await self._store.begin(records)

    async def end(self, records: Sequence[Record]) -> None:
        with self._call("end", [record.key for record in records]):
            await self._store.end(records)

    async def withdraw(self, before: Mapping[str, Record | None]) -> None:
        with self._call("withdraw", list(before)):
            await self._store.withdraw(before)

    async def close(self) -> None:
        assert self._loaded
        assert not self._under_way
        self._loaded = False
        self.closed += 1
        await self._store.close()

    @contextmanager
    def _call(self, name: str, keys: list[str]) -> Iterator[None]:
        assert self._loaded
        assert not self._broken
        assert keys
        assert len(set(keys)) == len(keys)
        assert not {name, "withdraw"} & self._under_way.keys()
        assert name != "withdraw" or not self._under_way
        assert not any(others & set(keys) for others in self._under_way.values())
        self._under_way[name] = set(keys)
        try:
            yield
        except BaseException:
            self._broken = True
            raise
        finally:
            del self._under_way[name]


class Held(Checked):
    """A store that holds back what is begun and ended until `open` is set."""

    def __init__(self, store: JournalStore) -> None:
        super().__init__(store)
        self.reached, self.open = asyncio.Event(), asyncio.Event()

    async def begin(self, records: Sequence[Record]) -> Sequence[Record]:
        await self._opened()
        return await super().begin(records)

    async def end(self, records: Sequence[Record]) -> None:
        await self._opened()
        await super().end(records)

    async def _opened(self) -> None:
        self.reached.set()
        await self.open.wait()


class Kept:
    """One journal of some kind, whose store may be made anew for each start."""

    def __init__(self, kind: str, folder: Path, name: str = "job") -> None:
        self._kind = kind
        self._memory = MemoryJournal()
        self._path = folder / f"{name}.{kind}"

    def store(self) -> JournalStore:
        if self._kind == "memory":
            return self._memory
        return SQLiteJournal(self._path) if self._kind == "sqlite" else LinesJournal(self._path)

    def argument(self) -> Given:
        """What a batch is given, in each start."""
        return self._path if self._kind == "sqlite" else Checked(self.store())

    def entries(self) -> dict[str, Any]:
        """What is kept of each key, by attributes as of `Record`; also while it is written."""
        if self._kind == "memory":
            return dict(self._memory.records)
        if self._kind == "lines":
            return dict(records_in(self._path.read_bytes().splitlines()[1:]))
        with Journal.read(self._path) as reader:
            return {entry.key: entry for entry in reader}

    def states(self) -> dict[str, str]:
        return {key: entry.state for key, entry in self.entries().items()}
