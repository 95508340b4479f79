"""Any stream, cut anywhere, against the slow reference."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dynamiq_async.sse import SSEDecoder
from tests.support.sse_driving import BLOCKS, STREAMS, TOO_LARGE, cut, read
from tests.support.sse_reference import Event, Reference, overflow

PLACES = st.lists(st.integers(0, 1000), max_size=8)
pytestmark = pytest.mark.usefixtures("sizes")
anyhow = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@anyhow
@given(st.one_of(st.builds(cut, STREAMS, PLACES), BLOCKS))
def test_after_each_chunk_all_is_as_the_reference_has_it(chunks: list[bytes]) -> None:
    decoder = SSEDecoder()
    got: list[Event] = []
    read_so_far = b""
    for chunk in chunks:
        got += [
            Event(event.event, event.data, event.id, event.retry) for event in decoder.feed(chunk)
        ]
        read_so_far += chunk
        reference = Reference(read_so_far)
        assert got == reference.events
        assert decoder.last_event_id == reference.last_event_id
        assert decoder.retry == reference.retry
        assert decoder.pending == reference.pending


@pytest.mark.parametrize(
    "regular", [b"data: a\n\n", b"event: a\ndata: b\n\n", b"id: 1\nevent: a\ndata: b\n\n"]
)
@pytest.mark.parametrize(
    "odd",
    [
        *(
            b"\n",
            b": ping\n\n",
            b"data: 1\ndata: 2\n\n",
            b"data:1\n\n",
            b"data: 1\r\n\r\n",
            b"data\n\n",
        ),
        *(
            b"id: 2\n",
            b"id: 2\0\nevent: a\ndata: b\n\n",
            b"event: b\n\n",
            b"datum: 1\n\n",
            b"retry: 5\n",
        ),
    ],
)
def test_one_odd_block_among_many_regular_ones(regular: bytes, odd: bytes) -> None:
    for stream in (odd + regular * 40, regular * 20 + odd + regular * 20, regular * 40 + odd):
        got = [
            (event.event, event.data, event.id, event.retry)
            for event in read(SSEDecoder(), [stream])
        ]
        assert got == Reference(stream).events


@anyhow
@given(st.binary(max_size=60), PLACES)
def test_no_bytes_are_refused(stream: bytes, places: list[int]) -> None:
    got = [
        (event.event, event.data, event.id, event.retry)
        for event in read(SSEDecoder(), cut(stream, places))
    ]
    assert got == Reference(stream).events


@anyhow
@given(st.one_of(st.builds(cut, STREAMS, PLACES), BLOCKS), st.integers(1, 40))
def test_an_event_is_too_large_wherever_it_is_cut(chunks: list[bytes], limit: int) -> None:
    stream = b"".join(chunks)
    position = overflow(stream, limit)
    wanted = list[object](Reference(stream[:position]).events)
    if position is not None:
        wanted.append(TOO_LARGE)
    for pieces in ([stream], chunks, [stream[i : i + 1] for i in range(len(stream))]):
        got = [
            outcome
            if outcome == TOO_LARGE
            else (outcome.event, outcome.data, outcome.id, outcome.retry)
            for outcome in read(SSEDecoder(max_event_bytes=limit), pieces)
        ]
        assert got == wanted
