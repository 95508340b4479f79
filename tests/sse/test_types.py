"""What a type checker makes of a decoder.

`assert_type` does nothing at run time; the type checker that reads the tests complains.
"""

from __future__ import annotations

from typing import Any, assert_type

import msgspec

from dynamiq_async.sse import ServerSentEvent, SSEDecoder


class Point(msgspec.Struct):
    x: int


def recover(data: bytes, error: Exception) -> Point | None:
    return None


def test_events_are_typed_after_the_argument() -> None:
    assert_type(SSEDecoder(), SSEDecoder[ServerSentEvent])
    assert_type(SSEDecoder(max_event_bytes=10).feed(b""), list[ServerSentEvent])
    assert_type(SSEDecoder(Point), SSEDecoder[Point])
    assert_type(SSEDecoder(type=Point).feed(b'data: {"x":1}\n\n'), list[Point])
    assert_type(SSEDecoder(Point, recover=recover).feed(b""), list[Point])
    assert_type(SSEDecoder(Point | int), SSEDecoder[Any])
    assert SSEDecoder(Point | int).feed(b'data: {"x":1}\n\ndata: 2\n\n') == [Point(1), 2]
