"""A page without a browser: what the inspector tells it, event by event."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.browser import chromium

if TYPE_CHECKING:
    from collections.abc import Callable

    from dynamiq_async.emulator import Emulator
    from tests.support.raw_http import RawClient, RawClients

__all__ = ["chromium"]


class Looker:
    """Follows the inspector's events.

    Attributes:
        told: the data of the newest event of each type.
        types: the types of all events.
        events: those of the run that is looked at.
        runs, requests: those that are listed, newest first.
    """

    def __init__(self, client: RawClient) -> None:
        self.client = client
        self.told: dict[str, Any] = {}
        self.types: list[str] = []
        self.events: list[Any] = []
        self.missed = 0
        self._entries: dict[str, dict[str, Any]] = {"runs": {}, "requests": {}}

    async def open(self, run: str | None = None) -> Looker:
        path = "/_emulator/events" + (f"?run={run}" if run else "")
        await self.client.send("GET", path, key=None)
        head = await self.client.head()
        assert (head.status, head.headers["content-type"]) == (200, "text/event-stream")
        return self

    async def next(self) -> str:
        size = int(await self.client.reader.readuntil(b"\r\n"), 16)
        chunk = await self.client.reader.readexactly(size + 2)
        lines = chunk.decode("ascii").splitlines()
        type, data = lines[0].removeprefix("event: "), json.loads(lines[1].removeprefix("data: "))
        self.types.append(type)
        self.told[type] = data
        if type in self._entries:
            self._entries[type] |= {entry["id"]: entry for entry in data["changed"]}
        if type == "timeline":
            self.events += data["events"]
            self.missed += data["missed"]
        return type

    async def until(self, condition: Callable[[Looker], object]) -> None:
        """Read on until the condition holds. The time limit of every test ends it."""
        while not condition(self):
            await self.next()

    def _listed(self, name: str) -> list[Any]:
        ids = self.told.get(name, {"ids": []})["ids"]
        return [self._entries[name][id] for id in ids]

    @property
    def runs(self) -> list[Any]:
        return self._listed("runs")

    @property
    def requests(self) -> list[Any]:
        return self._listed("requests")


@pytest.fixture
def look(connect: RawClients) -> Any:
    """Opens a page without a browser."""

    async def open(emulator: Emulator, run: str | None = None) -> Looker:
        return await Looker(await connect(emulator)).open(run)

    return open
