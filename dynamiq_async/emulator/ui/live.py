"""Live updates for the page: `GET /_emulator/events?run=…`, an event stream.

| event | data |
|---|---|
| `hello` | nothing. It is the first event of each connection; all earlier data is void |
| `apps` | the Apps, with their URLs |
| `runs`, `requests` | the `ids` of the listed ones, newest first, and the entries that `changed` |
| `faults` | `seed`, `faults`, and whether they can be switched `here` |
| `run` | the run that the page shows, without its events; null if there is none |
| `timeline` | more of its `events`, and how many before them were `missed` |

The state is compared a few times a second. That is less work than waking for each event of a busy
emulator. Apps never wait for a page, so it misses events that have left their window by then.
"""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import TYPE_CHECKING, Any

from ..core.event_stream import stream_events
from ..core.feed import Feed, Reader
from . import faults_api, shown_runs, views
from .access import is_here

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .inspector import Inspector, InspectorExchange

MAX_REQUESTS = 100
"""How many requests are listed."""

MAX_EVENTS = 500
"""How many events of a run are shown at first, the newest."""

_SECONDS = 0.2  # between two comparisons
_WINDOW = 16  # how many events wait for a slow page
_HEARTBEAT = 15.0

Event = tuple[str, Any]


async def follow(exchange: InspectorExchange) -> None:
    """`GET /_emulator/events`."""
    feed = Feed(window=_WINDOW)
    reader = Reader(feed)
    watching = exchange.state.apps.tasks.spawn(_watch(Watcher(exchange), feed))
    try:
        await stream_events(exchange, reader, newline="\n", named=True, heartbeat=_HEARTBEAT)
    finally:
        watching.cancel()


async def _watch(watcher: Watcher, feed: Feed) -> None:
    try:
        while True:
            for type, data in watcher.news():
                await feed.room()
                feed.append(type, views.encode(data))
            await asyncio.sleep(_SECONDS)
    finally:
        feed.close()


class Watcher:
    """Finds the news for one page, by what it has been sent."""

    def __init__(self, exchange: InspectorExchange) -> None:
        self._inspector: Inspector = exchange.state
        self._url = exchange.url
        self._here = is_here(exchange.record)
        self._run = exchange.record.query.get("run")
        self._told: dict[str, Any] = {}
        self._position = -1

    def news(self) -> Iterator[Event]:
        """The events that the page needs now."""
        inspector = self._inspector
        if self._is_new("hello", True):
            yield "hello", {}
        apps = views.apps(inspector.apps.deployments, self._url)
        if self._is_new("apps", apps):
            yield "apps", apps
        runs = [run.summary() for run in shown_runs.newest(inspector.apps)]
        yield from self._listed("runs", runs)
        newest = islice(reversed(inspector.requests), MAX_REQUESTS)
        yield from self._listed("requests", [views.request(record) for record in newest])
        faults = {**faults_api.shown(inspector.rules), "here": self._here}
        if self._is_new("faults", faults):
            yield "faults", faults
        if self._run is not None:
            yield from self._looked_at(self._run)

    def _listed(self, name: str, entries: list[dict[str, Any]]) -> Iterator[Event]:
        now = {entry["id"]: entry for entry in entries}
        before = self._told.get(name, {})
        if self._is_new(name, now):
            changed = [entry for id, entry in now.items() if before.get(id) != entry]
            yield name, {"ids": list(now), "changed": changed}

    def _looked_at(self, id: str) -> Iterator[Event]:
        run = shown_runs.find(self._inspector.apps, id)
        if self._is_new("run", run and run.state()):
            yield "run", run and run.whole()
        if run is not None:
            yield from self._timeline(run.feed)

    def _timeline(self, feed: Feed) -> Iterator[Event]:
        end = feed.forgotten + len(feed.events)
        if self._position < 0:
            self._position = 0
            first = end - MAX_EVENTS
        else:
            first = feed.forgotten
        missed = max(first, feed.forgotten) - self._position
        if missed > 0:
            self._position += missed
        while events := feed.slice(self._position):
            self._position += len(events)
            told = [
                {"sequence": event.sequence, "type": event.type, **views.text(event.data)}
                for event in events
            ]
            yield "timeline", {"missed": max(missed, 0), "events": told}
            missed = 0

    def _is_new(self, name: str, now: Any) -> bool:
        new = name not in self._told or self._told[name] != now
        self._told[name] = now
        return new
