"""What one stream may cost: the limit on an event, memory, copies."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING

import pytest

from dynamiq_async.errors import EventDecodeError, EventTooLargeError
from dynamiq_async.sse import SSEDecoder
from tests.support.limits import HANG_SECONDS, time_limit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MEGABYTE = 1_000_000


def peak(work: Callable[[], object]) -> int:
    """The bytes that `work` took at most. Other threads of the test runner's are traced as well, so
    that only the least of some measurements tells."""
    return min(_peak(work) for _ in range(3))


def _peak(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        work()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def feed_all(decoder: SSEDecoder[str], chunks: Iterable[bytes]) -> list[str]:
    return [event for chunk in chunks for event in decoder.feed(chunk)]


def test_too_large_carries_the_events_before_and_ends_the_decoder() -> None:
    decoder = SSEDecoder(int, max_event_bytes=20)
    with pytest.raises(EventTooLargeError) as caught:
        decoder.feed(b"data: 1\n\ndata: 2\n\ndata: " + b"3" * 30 + b"\n\ndata: 4\n\n")
    assert caught.value.events == [1, 2]
    assert caught.value.limit == 20
    assert decoder.pending
    for chunk in (b"", b"\n\ndata: 5\n\n"):
        with pytest.raises(EventTooLargeError) as again:
            decoder.feed(chunk)
        assert again.value.events == []
        assert again.value.limit == 20


def test_no_event_comes_behind_one_that_is_too_large() -> None:
    decoder = SSEDecoder(int, max_event_bytes=20)
    assert decoder.feed(b"data: 1\n\n") == decoder.feed(b"data: 1\n\n") == [1]
    for chunk in (b"data: " + b"2" * 20, b"data: 3\n\n"):
        with pytest.raises(EventTooLargeError):
            decoder.feed(chunk)


def test_too_large_is_raised_as_soon_as_it_is_known() -> None:
    decoder = SSEDecoder(max_event_bytes=10)
    assert decoder.feed(b"data: 7890") == []
    with pytest.raises(EventTooLargeError):
        decoder.feed(b"1")


@pytest.mark.parametrize("count", [1, 3, 100])
@pytest.mark.parametrize(
    "block", [b"data: 1234\n\n", b"event: a\ndata: 12\n\n", b"event: a\ndata: 12\ndata: 34\n\n"]
)
def test_an_event_of_just_the_limit_comes_through_and_a_larger_one_does_not(
    block: bytes, count: int
) -> None:
    size = len(block) - 1
    assert len(SSEDecoder(max_event_bytes=size).feed(block * count)) == count
    larger = block.replace(b": 12", b": 123")
    decoder = SSEDecoder(max_event_bytes=size)
    with pytest.raises(EventTooLargeError) as caught:
        decoder.feed(block * (count - 1) + larger)
    assert len(caught.value.events) == count - 1
    with pytest.raises(EventTooLargeError):
        SSEDecoder(max_event_bytes=size - 1).feed(block * count)


def test_a_broken_event_is_reported_before_a_later_one_that_is_too_large() -> None:
    decoder = SSEDecoder(int, max_event_bytes=20)
    with pytest.raises(EventDecodeError):
        decoder.feed(b"data: x\n\ndata: " + b"1" * 30)
    with pytest.raises(EventTooLargeError):
        decoder.feed(b"")


@pytest.mark.parametrize("line", [b": ", b"foo: ", b"retry: ", b"x"])
def test_an_endless_line_is_too_large_whatever_it_is(line: bytes) -> None:
    decoder = SSEDecoder(max_event_bytes=1000)
    with pytest.raises(EventTooLargeError):
        feed_all(decoder, [line, *[b"1" * 100] * 11])  # type: ignore[arg-type]


def test_comments_and_unknown_lines_do_not_add_up() -> None:
    decoder = SSEDecoder(str, max_event_bytes=40)
    decoder.feed(b'data: "a"\n')
    for _ in range(1000):
        assert decoder.feed(b": ping\nfoo: bar\n") == []
    assert decoder.feed(b"\n") == ["a"]


def test_heartbeats_for_ever_take_no_memory() -> None:
    decoder = SSEDecoder(str)
    decoder.feed(b": ping\n")

    def heartbeats() -> None:
        for _ in range(20_000):
            decoder.feed(b": ping\n")

    assert peak(heartbeats) < 10_000
    assert not decoder.pending


def test_a_large_event_in_small_chunks_takes_its_size_and_its_text() -> None:
    size = 4 * MEGABYTE
    stream = b'data: "' + b"x" * size + b'"\n\n'
    chunks = [stream[place : place + 1024] for place in range(0, len(stream), 1024)]
    for decoder in (SSEDecoder(str), SSEDecoder()):
        assert peak(lambda decoder=decoder: feed_all(decoder, chunks)) < 2.2 * size  # type: ignore[misc]


def test_a_large_event_in_one_chunk_is_not_copied() -> None:
    size = 4 * MEGABYTE
    stream = b'data: "' + b"x" * size + b'"\n\n'
    assert peak(lambda: SSEDecoder(str).feed(stream)) < 1.1 * size


def test_many_small_data_lines_take_little_more_than_their_size() -> None:
    lines = b"data:1\n" * 100
    decoder = SSEDecoder(str)

    def long_block() -> None:
        for _ in range(2000):
            decoder.feed(lines)

    assert peak(long_block) < 2000 * len(lines)


@pytest.mark.parametrize("end", [b"", b"\n"], ids=["within a line", "behind a line"])
def test_an_unfinished_event_does_not_keep_its_chunk_alive(end: bytes) -> None:
    decoder = SSEDecoder(str)
    others = (b'data: "' + b"x" * MEGABYTE + b'"\n\n') * 3
    rest = b'id: 1\ndata: "' + b"y" * 100_000 + b'"'
    tracemalloc.start()
    try:
        chunk = others + rest + end
        decoder.feed(chunk)
        del chunk
        assert tracemalloc.get_traced_memory()[0] < 1.5 * len(rest)
    finally:
        tracemalloc.stop()
    assert decoder.feed(b"\n\n") == ["y" * 100_000]


def test_a_stream_of_many_events_takes_no_memory() -> None:
    decoder = SSEDecoder(int)
    chunk = b"event: a\nid: 5\ndata: 1\n\n" * 100
    decoder.feed(chunk[:-3])

    def stream() -> None:
        for _ in range(1000):
            decoder.feed(chunk[-3:] + chunk[:-3])

    assert peak(stream) < 100_000


def test_time_is_linear_in_an_event_of_many_small_pieces() -> None:
    """Copying at each piece what came before would take minutes, all of it once a moment."""
    body = b"data: " + b"x" * (16 * MEGABYTE) + b"\n\n"
    decoder = SSEDecoder()
    with time_limit(HANG_SECONDS):
        events = [
            event
            for start in range(0, len(body), 64)
            for event in decoder.feed(body[start : start + 64])
        ]
    assert [len(event.data) for event in events] == [16 * MEGABYTE]
