"""The rules of the standard, one by one, each cut at every place and at every pair of places."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest

from dynamiq_async.errors import EventDecodeError, InvalidArgumentError
from dynamiq_async.sse import ServerSentEvent, SSEDecoder
from tests.support.sse_driving import cut, read
from tests.support.sse_reference import Reference


def message(data: str, **known: Any) -> ServerSentEvent:
    return ServerSentEvent(data=data, **known)


CASES: dict[str, tuple[bytes, list[ServerSentEvent]]] = {
    "one line": (b"data: a\n\n", [message("a")]),
    "line ends": (
        b"data: a\n\ndata: b\r\rdata: c\r\n\r\ndata: d\r\n\ndata: e\n\r\n",
        [message(letter) for letter in "abcde"],
    ),
    "mixed line ends within a block": (b"data: a\rdata: b\r\ndata: c\n\r", [message("a\nb\nc")]),
    "lone CR at the end counts at once": (b"data: a\r\r", [message("a")]),
    "no other line ends": (
        "data: a\u2028b\u2029c\x0bd\x0ce\x1cf\x1dg\x1eh\x85i\n\n".encode(),
        [message("a\u2028b\u2029c\x0bd\x0ce\x1cf\x1dg\x1eh\x85i")],
    ),
    "a BOM is skipped": (b"\xef\xbb\xbfdata: a\n\n", [message("a")]),
    "one BOM only": (b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\ndata: b\n\n", [message("b")]),
    "a BOM later is text": (b"data: \xef\xbb\xbfa\n\n", [message("\ufeffa")]),
    "half a BOM is text": (b"\xef\xbbdata: a\n\ndata: b\n\n", [message("b")]),
    "comments": (b": x\n\n:\ndata: a\n:y\ndata: b\n\n", [message("a\nb")]),
    "a comment is no event, even after an id": (b"id: 1\n\n: x\n\n", []),
    "no colon": (b"data\nevent\nid\n\n", [message("")]),
    "one space is removed": (
        b"data:a\ndata: b\ndata:  c\ndata:\td\n\n",
        [message("a\nb\n c\n\td")],
    ),
    "colons in a value": (b"data: a:b: c\n\n", [message("a:b: c")]),
    "names are case-sensitive": (b"Data: a\nDATA: b\n\n", []),
    "names are whole": (b"datas: a\n data: b\ndata : c\nevent : d\nid : e\n\n", []),
    "unknown names": (b"foo: a\nbar\ndata: b\n\n", [message("b")]),
    "no data, no event": (b"event: a\nid: 1\nretry: 5\n\n", []),
    "one empty data line is empty data": (b"data\n\ndata:\n\ndata: \n\n", [message("")] * 3),
    "two empty data lines are a line end": (
        b"data\ndata\n\ndata:\ndata: \n\n",
        [message("\n")] * 2,
    ),
    "the type": (b"event: a\ndata: 1\n\n", [message("1", event="a")]),
    "the last type counts": (b"event: a\nevent:b\ndata: 1\n\n", [message("1", event="b")]),
    "an empty type is none": (
        b"event: a\nevent\ndata: 1\n\nevent:\ndata\n\n",
        [message("1"), message("")],
    ),
    "type and data end with the block": (
        b"event: a\n\ndata: 1\n\nevent: b\ndata: 2\n\ndata: 3\n\n",
        [message("1"), message("2", event="b"), message("3")],
    ),
    "the id stays": (
        b"id: 1\ndata: a\n\ndata: b\n\nid:2\n\ndata: c\n\n",
        [message("a", id="1"), message("b", id="1"), message("c", id="2")],
    ),
    "an id behind the data": (b"data: a\nid: 1\n\n", [message("a", id="1")]),
    "an empty id resets": (
        b"id: 1\ndata: a\n\nid\ndata: b\n\nid: 2\ndata: c\n\nid:\ndata: d\n\n",
        [message("a", id="1"), message("b"), message("c", id="2"), message("d")],
    ),
    "an id with NUL is ignored": (
        b"id: 1\ndata: a\n\nid: 2\0\ndata: b\n\n",
        [message("a", id="1"), message("b", id="1")],
    ),
    "retry": (
        b"retry: 10\ndata: a\n\ndata: b\n\nretry:020\ndata: c\n\n",
        [message("a", retry=10), message("b"), message("c", retry=20)],
    ),
    "retry of other than digits": (
        "retry: +1\nretry: 1 \nretry: 0x1\nretry:\nretry\nretry: ٣\nretry: 1_0\n".encode()
        + b"data: a\n\n",
        [message("a")],
    ),
    "not UTF-8": (
        b"event: \xff\nid: \xc3\ndata: \xe2\x82x\xf0\x9f\x98\x80\n\n",
        [message("\ufffdx\U0001f600", event="\ufffd", id="\ufffd")],
    ),
    "the unfinished is dropped": (b"data: a\n\ndata: b\n", [message("a")]),
    "the standard's example": (
        b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\n"
        b"data:  third event\n",
        [message("first event", id="1"), message("second event")],
    ),
}


@pytest.mark.parametrize(("stream", "events"), CASES.values(), ids=CASES)
def test_rule_holds_wherever_the_stream_is_cut(
    stream: bytes, events: list[ServerSentEvent]
) -> None:
    assert [tuple(event) for event in Reference(stream).events] == [
        (event.event, event.data, event.id, event.retry) for event in events
    ], "the reference itself"
    assert read(SSEDecoder(), [stream]) == events
    assert read(SSEDecoder(), [stream[place : place + 1] for place in range(len(stream))]) == events
    for places in combinations(range(len(stream) + 1), 2):
        assert read(SSEDecoder(), cut(stream, places)) == events


def test_an_event_comes_with_the_last_byte_of_its_blank_line() -> None:
    for blank in (b"\n", b"\r", b"\r\n"):
        decoder = SSEDecoder()
        assert decoder.feed(b"data: a" + blank) == []
        assert decoder.feed(blank[:1]) == [message("a")]
        assert decoder.feed(blank[1:]) == []
        assert decoder.feed(b"data: b" + blank + blank) == [message("b")]


def test_any_bytes_like_chunk_may_be_changed_afterwards() -> None:
    for wrap in (bytes, bytearray, lambda data: memoryview(bytearray(data))):
        decoder = SSEDecoder()
        events: list[ServerSentEvent] = []
        for chunk in (b"da", b"ta: a", b"\n", b"\n"):
            buffer = wrap(chunk)
            events += decoder.feed(buffer)
            if not isinstance(buffer, bytes):
                buffer[:] = b"#" * len(buffer)
        assert events == [message("a")]


def test_what_is_not_bytes_is_refused() -> None:
    wrong: Any
    for wrong in ("data: a\n\n", 5, None):
        with pytest.raises(TypeError):
            SSEDecoder().feed(wrong)


def test_last_event_id_is_that_of_the_last_blank_line() -> None:
    decoder = SSEDecoder()
    seen = []
    for line in (
        b"id: 1\n",
        b"data: a\n",
        b"\n",
        b"id: 2\n",
        b"\n",
        b"id: 3\0\n",
        b"\n",
        b"id\n\n",
    ):
        decoder.feed(line)
        seen.append(decoder.last_event_id)
    assert seen == ["", "", "1", "1", "2", "2", "2", ""]


def test_retry_counts_at_once() -> None:
    decoder = SSEDecoder()
    seen = [decoder.retry]
    for line in (b"retry: 1500\n", b"\n", b"retry: soon\n", b"\n", b"retry: 0\n"):
        decoder.feed(line)
        seen.append(decoder.retry)
    assert seen == [None, 1500, 1500, 1500, 1500, 0]


def test_retry_of_thousands_of_digits_is_a_long_time() -> None:
    decoder = SSEDecoder()
    decoder.feed(b"retry: " + b"0" * 5000 + b"25\n")
    assert decoder.retry == 25
    decoder.feed(b"retry: " + b"9" * 5000 + b"\n")
    assert decoder.retry == 10**18 - 1


@pytest.mark.parametrize(
    ("stream", "pending"),
    [
        (b"", False),
        (b"\xef", True),
        (b"\xef\xbb", True),
        (b"\xef\xbb\xbf", False),
        (b"\n", False),
        (b"\r", False),
        (b":", False),
        (b": half a comm", False),
        (b": a comment\n", False),
        (b"foo: bar\n", False),
        (b"foo: b", True),
        (b"d", True),
        (b"data: a", True),
        (b"data: a\r", True),
        (b"data: a\r\n", True),
        (b"data: a\n: x", True),
        (b"data: a\n\n", False),
        (b"data: a\n\n: x", False),
        (b"data: a\n\ndata: b", True),
        (b"event: a\n", True),
        (b"id: a\n", True),
        (b"retry: 5\n", True),
        (b"retry: 5\n\n", False),
    ],
)
def test_pending(stream: bytes, pending: bool) -> None:
    for chunks in ([stream], [stream[place : place + 1] for place in range(len(stream))]):
        decoder = SSEDecoder()
        read(decoder, chunks)
        assert decoder.pending is pending
        assert Reference(stream).pending is pending


def test_json_of_an_event() -> None:
    assert message('{"a": [1]}').json() == {"a": [1]}
    assert message('"\\ud83d"').json() == "\ufffd"
    with pytest.raises(EventDecodeError) as caught:
        message("{").json()
    assert caught.value.data == b"{"


def test_a_limit_below_one_byte_is_refused() -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        SSEDecoder(max_event_bytes=0)
    assert caught.value.argument == "max_event_bytes"
