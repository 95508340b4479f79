"""A chunk of many blocks that ends within one: what is known of the stream at that point."""

from __future__ import annotations

from typing import Any

import pytest

from dynamiq_async.sse import SSEDecoder

REGULAR = b"event: a\nid: %d\ndata: %d\n\n"
BEFORE = b"".join(REGULAR % (number, number) for number in range(50))
LAST = [
    REGULAR % (50, 50),
    b"event: a\nretry: 70\ndata: 50\n\n",
    b"data: 50\n\ndata: 51\n\n",
    b": a comment\n\nevent: b\ndata: 52\n\n",
    b"event: a\nid: 50\ndata: [1,\ndata: 2]\n\n",
]


def known(decoder: SSEDecoder[Any]) -> tuple[bool, str, int | None]:
    return decoder.pending, decoder.last_event_id, decoder.retry


@pytest.mark.parametrize("last", LAST)
@pytest.mark.parametrize("type_", [None, Any], ids=["text", "JSON"])
def test_it_is_what_byte_after_byte_would_have_told(last: bytes, type_: Any) -> None:
    for end in range(len(last) + 1):
        slow: SSEDecoder[Any] = SSEDecoder(type_)
        fast: SSEDecoder[Any] = SSEDecoder(type_)
        unasked: SSEDecoder[Any] = SSEDecoder(type_)
        before = [e for i in range(len(BEFORE)) for e in slow.feed(BEFORE[i : i + 1])]
        before += [e for i in range(end) for e in slow.feed(last[i : i + 1])]
        assert fast.feed(BEFORE + last[:end]) == unasked.feed(BEFORE + last[:end]) == before
        assert fast.retry == slow.retry
        assert known(fast) == known(slow)
        rest = slow.feed(last[end:] + BEFORE)
        assert fast.feed(last[end:] + BEFORE) == unasked.feed(last[end:] + BEFORE) == rest
        assert known(fast) == known(unasked) == known(slow)


def test_a_large_line_behind_it_joins_it() -> None:
    decoder: SSEDecoder[str] = SSEDecoder(str)
    text = "x" * 200_000
    blocks = b'event: a\nid: 1\ndata: ""\n\n' * 20
    assert decoder.feed(blocks + b"event: a\nid: 2\n") == [""] * 20
    assert decoder.feed(b'data: "%b"\n\n' % text.encode()) == [text]
    assert decoder.last_event_id == "2"
