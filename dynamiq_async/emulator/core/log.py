"""What happened: every request, every connection, every time an App really ran.

Tests read it to tell what a client did ("nothing ran twice", "the connection was reused"), and
wait on it instead of sleeping.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from .faults import NO_FAULT

if TYPE_CHECKING:
    from multidict import CIMultiDictProxy, MultiDictProxy

    from .faults import Fault
    from .request_bodies import Part

T = TypeVar("T")


@dataclass(eq=False, kw_only=True)
class RequestRecord:
    """One request, and what became of it.

    Attributes:
        connection: the number of its connection: 1 for the first since the start.
        method, path, query, headers: as they arrived; `path` is not decoded.
        service: which service it is for (`dynamiq_async.emulator.services`); "" for an App.
        app: the name of the App; `prefix` is the part of the path that chose it, "" for none.
        endpoint: the path within the App, such as "/v1/runs".
        body: the raw body, at most its first MiB; `size` is its whole length.
        json: the JSON of the body, when it is JSON; `json_error` says why it is not.
        form: the parts of the body, when it is multipart.
        received_at: when its headers had come.
        status: the status answered; None when nothing was, or not yet.
        request_id: the answer's `x-request-id`.
        bytes_sent, events_sent: of the body, without its transfer coding.
        disconnected: the client left before it had the whole answer.
        finished: nothing more happens to it.
        fault: what was scripted for it.
    """

    connection: int
    method: str
    path: str
    query: MultiDictProxy[str]
    headers: CIMultiDictProxy[str] = field(repr=False)
    app: str
    service: str
    prefix: str
    endpoint: str
    body: bytes = field(default=b"", repr=False)
    size: int = 0
    json: Any = field(default=None, repr=False)
    json_error: str | None = None
    form: list[Part] = field(default_factory=list)
    received_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    status: int | None = None
    request_id: str = ""
    bytes_sent: int = 0
    events_sent: int = 0
    disconnected: bool = False
    finished: bool = False
    fault: Fault = field(default=NO_FAULT, repr=False)


class Log(Sequence[T], Generic[T]):
    """The newest entries, oldest first; `total` counts all there ever were."""

    def __init__(self, limit: int) -> None:
        self._entries: deque[T] = deque(maxlen=limit)
        self.total = 0

    def add(self, entry: T) -> None:
        """Note one more."""
        self._entries.append(entry)
        self.total += 1

    def clear(self) -> None:
        """Forget all entries, and their number."""
        self._entries.clear()
        self.total = 0

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        if isinstance(index, slice):
            return list(self._entries)[index]
        return self._entries[index]

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[T]:
        return iter(self._entries)

    def __repr__(self) -> str:
        return f"<Log of {self.total}>"


class Connections:
    """The connections of the server, numbered from 1."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self.made = 0
        self.open: dict[object, tuple[int, asyncio.Transport]] = {}
        self._changed = changed

    def add(self, protocol: object, transport: asyncio.Transport) -> None:
        """A client connected."""
        self.made += 1
        self.open[protocol] = self.made, transport
        self._changed()

    def remove(self, protocol: object) -> None:
        """The connection is gone."""
        self.open.pop(protocol, None)
        self._changed()

    def number(self, protocol: object) -> int:
        """Which one it is; 0 for one that is gone."""
        return self.open[protocol][0] if protocol in self.open else 0

    def abort(self) -> None:
        """Close every connection at once."""
        for _, transport in self.open.values():
            transport.abort()


class Changes:
    """Tells those who wait that something happened."""

    def __init__(self) -> None:
        self._waiters: set[asyncio.Event] = set()

    def notify(self) -> None:
        """Something happened: have every waiter look again."""
        for waiter in self._waiters:
            waiter.set()

    async def wait_until(self, condition: Callable[[], object], timeout: float | None) -> None:
        """Return as soon as `condition()` is true; `TimeoutError` after `timeout` seconds."""
        news = asyncio.Event()
        self._waiters.add(news)
        try:
            async with asyncio.timeout(timeout):
                while not condition():
                    await news.wait()
                    news.clear()
        finally:
            self._waiters.discard(news)
