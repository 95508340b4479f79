"""What the tests of the decoder share: streams worth trying, ways to cut them, one way to read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from dynamiq_async.errors import EventDecodeError, EventTooLargeError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dynamiq_async.sse import SSEDecoder

TOO_LARGE = "too large"

# Pieces that streams are made of, whole blocks as well as what breaks them.
FRAGMENTS = [
    *(b"\n", b"\r", b"\r\n", b"\n\n", b":", b" ", b"\0", b"x", b"7"),
    *(b"data", b"data:", b"data: ", b"data:  ", b"Data: 1", b"datas: 1", b"data: {"),
    *(b"event", b"event:", b"event: a", b"event:b", b"events: c"),
    *(b"id", b"id:", b"id: 1", b"id:2", b"id: 3\0", b"ids: 4"),
    *(b"retry", b"retry:", b"retry: 10", b"retry:007", b"retry: -1", b"retry: 1.5", b"retry:  5"),
    *(b"\xef\xbb\xbf", b"\xef", b"\xbb", b"\xc3\xa9", b"\xf0\x9f", b"\x98\x80", b"\xff"),
    *(b"\xe2\x80\xa8", b"\xc2\x85", b"\x0b", b"\x0c", b"\x1c"),
    *(b"[1,", b"2]", b"null", b'"\\ud83d"', b'{"a":[1,2]}', b"\ndata: [1,\n2]\n\n"),
    *(
        b": ping\n\n",
        b"data: 1\n\n",
        b"data:2\n\n",
        b'data: "\xff"\n\n',
        b"data: {\n\n",
        b"data\n\n",
    ),
    *(b"event: a\ndata: 1\n\n", b"event: b\r\ndata: 2\r\n\r\n", b"id: 3\nevent: a\ndata: 4\n\n"),
]

# Whole blocks over and over, now and then something else: what the fast paths look for.
REGULAR = st.builds(
    lambda block, count, odd, others: b"".join(
        odd if place in others else block for place in range(count)
    ),
    st.sampled_from(
        [
            b"data: 1\n\n",
            b"data: [1]\r\n\r\n",
            b"event: a\ndata: 2\n\n",
            b"id: 1\nevent: \xc3\xa9\ndata: 3\n\n",
            b"data: 4\nid: 5\n\n",
            b"event: a\nid: 6\n\n",
            b"data: 7\ndata: 8\n\n",
            b"data:9\n\n",
        ]
    ),
    st.integers(2, 12),
    st.sampled_from([*FRAGMENTS, b"id: 9\0\ndata: 1\n\n", b"data: {\n\n", b"\n"]),
    st.sets(st.integers(0, 12), max_size=2),
)
STREAMS = st.builds(
    lambda bom, parts: bom + b"".join(parts),
    st.sampled_from([b"", b"", b"\xef\xbb\xbf", b"\xef\xbb\xbf\xef\xbb\xbf"]),
    st.lists(st.one_of(st.sampled_from(FRAGMENTS), REGULAR), max_size=12),
)

# Chunks as a server that flushes after each event sends them, now and then cut or run together.
BLOCKS = st.lists(
    st.one_of(
        st.sampled_from(
            [
                *(b"data: 1\n\n", b"data: [1]\r\n\r\n", b"data: 1\n\r", b"\ndata: 2\n\n"),
                *(b"event: a\ndata: 3\n\n", b"id: 1\nevent: \xff\ndata: 4\n\n"),
                *(b"id:2\nevent:b\nid: 3\nevent: c\ndata: 5\n\n", b"id: 4\0\ndata: 6\n\n"),
                *(b"id: data: 7\n\n", b"data:1\n\n"),
                *(b"event: data: 7\n\n", b"event: data: 7\ndata: 8\n\n", b"ids: 5\ndata: 9\n\n"),
                *(b"data: {\n\n", b"id: 6\ndata: {\n\n", b'data: "\xff"\n\n', b"data: [1,\n2]\n\n"),
                *(b"data: 1\n", b"id: 7\n", b": data: 1\n\n", b"\xef\xbb\xbfdata: 1\n\n"),
            ]
        ),
        st.sampled_from(FRAGMENTS),
    ),
    max_size=12,
)


def cut(stream: bytes, places: Iterable[int]) -> list[bytes]:
    """The stream in chunks, cut at these places (taken modulo its length)."""
    ends = sorted({place % (len(stream) + 1) for place in places} | {len(stream)})
    return [stream[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def read(decoder: SSEDecoder[Any], chunks: Iterable[bytes]) -> list[Any]:
    """Everything that the chunks bring, in order: events, and what stands for each error."""
    outcomes: list[Any] = []
    for chunk in chunks:
        feed: bytes | None = chunk
        while feed is not None:
            try:
                outcomes += decoder.feed(feed)
                feed = None
            except EventDecodeError as error:
                outcomes += [*error.events, ("broken", error.data)]
                feed = b""
            except EventTooLargeError as error:
                return [*outcomes, *error.events, TOO_LARGE]
    return outcomes
