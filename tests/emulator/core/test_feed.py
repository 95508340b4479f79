"""The feed of a run's events."""

from __future__ import annotations

from dynamiq_async.emulator.core.feed import Feed, Reader


async def test_a_feed_takes_nothing_behind_its_end() -> None:
    feed = Feed()
    reader = Reader(feed)
    feed.append("a", b"1")
    feed.close()
    feed.append("b", b"2")
    assert [event.type for event in await reader.batch()] == ["a"]
    assert reader.at_end


async def test_without_a_window_and_readers_events_are_counted_only() -> None:
    feed = Feed(window=0)
    feed.append("a", b"1")
    reader = Reader(feed, after=0)
    feed.append("b", b"2")
    assert [event.sequence for event in await reader.batch()] == [2]
    assert reader.position == feed.sequence == 2
