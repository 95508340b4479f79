"""The same events as httpx-sse, where that follows the standard.

It does not in these: it hands out a block without data as an event when there is an `event`,
`retry` or earlier `id`; takes `retry: -1` and other things that `int` reads; keeps a BOM; and
leaves the event's type empty where the standard has `"message"`. A CR at a chunk's end it keeps
back until the next chunk. So the streams here keep to what both do the same, and the type is
compared as "none".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import httpx_sse
from hypothesis import given
from hypothesis import strategies as st

from dynamiq_async.sse import SSEDecoder
from tests.support.sse_driving import cut, read

if TYPE_CHECKING:
    from collections.abc import Iterable

LINES = st.one_of(
    st.builds("data: {}".format, st.text("ab:é\u2028 \x0b{}", max_size=5)),
    st.sampled_from(
        ["data", "data:1", ": comment", ":", "foo: bar", "foo", "event: b", "retry: 7"]
    ),
)
BLOCKS = st.builds(
    lambda first, lines: ["data: " + first, *lines, ""],
    st.text("xyé", max_size=3),
    st.lists(LINES, max_size=3),
)


@given(
    st.lists(BLOCKS, max_size=6),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.booleans(),
    st.lists(st.integers(0, 1000), max_size=8),
)
def test_same_events(blocks: list[list[str]], end: str, ids: bool, places: list[int]) -> None:
    lines = [line for block in blocks for line in ([f"id: {len(block)}"] * ids + block)]
    chunks = cut("".join(line + end for line in lines).encode(), places)
    ours = [
        (event.event, event.data, event.id, event.retry) for event in read(SSEDecoder(), chunks)
    ]
    assert ours == [
        (event.event or "message", event.data, event.id, event.retry)
        for event in read_httpx_sse(chunks)
    ]
    assert len(ours) == len(blocks)


def read_httpx_sse(chunks: Iterable[bytes]) -> list[httpx_sse.ServerSentEvent]:
    response = httpx.Response(
        200, headers={"content-type": "text/event-stream; charset=utf-8"}, content=iter(chunks)
    )
    return list(httpx_sse.EventSource(response).iter_sse())
