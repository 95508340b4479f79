"""Events decoded straight into a type: what comes through, what is broken, what is recovered."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dynamiq_async.errors import DynamiqError, EventDecodeError, SSEError
from dynamiq_async.sse import SSEDecoder
from dynamiq_async.sse import decoder as decoder_module
from tests.support.sse_driving import BLOCKS, STREAMS, cut, read
from tests.support.sse_reference import Reference

BROKEN = "broken"


class Point(msgspec.Struct):
    x: int
    y: int = 0


def expected(stream: bytes, wanted: type) -> list[Any]:
    """What `json` makes of the reference's events, lone surrogates being U+FFFD."""
    outcomes: list[Any] = []
    for event in Reference(stream).events:
        try:
            value = json.loads(event.data, parse_constant=lambda name: float(name + "!"))
            if wanted is not object and type(value) is not wanted:
                raise ValueError
            value = json.loads(json.dumps(value).replace("\\ud83d", "\\ufffd"))
        except ValueError:
            outcomes.append(BROKEN)
        else:
            outcomes.append(value)
    return outcomes


@pytest.mark.usefixtures("sizes")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(st.builds(cut, STREAMS, st.lists(st.integers(0, 1000), max_size=8)), BLOCKS),
    st.sampled_from([object, int, dict]),
)
def test_as_json_has_it_wherever_the_stream_is_cut(chunks: list[bytes], wanted: type) -> None:
    stream = b"".join(chunks)
    whole = read(SSEDecoder(wanted), [stream])
    assert [BROKEN if isinstance(event, tuple) else event for event in whole] == expected(
        stream, wanted
    )
    assert read(SSEDecoder(wanted), chunks) == whole
    assert read(SSEDecoder(wanted), [stream[i : i + 1] for i in range(len(stream))]) == whole


def test_into_a_struct() -> None:
    assert SSEDecoder(Point).feed(b'data: {"x":1}\n\ndata:{"x":2,\ndata: "y":3}\n\n') == [
        Point(1),
        Point(2, 3),
    ]


def test_one_event_a_chunk() -> None:
    decoder = SSEDecoder(Point)
    got = [
        decoder.feed(b'event: a\nid: %d\ndata: {"x":%d}\n\n' % (number, number))
        for number in range(5)
    ]
    assert got == [[Point(number)] for number in range(5)]
    assert decoder.last_event_id == "4"
    with pytest.raises(EventDecodeError) as caught:
        decoder.feed(b"id: 5\ndata: {\n\n")
    assert (caught.value.data, caught.value.events) == (b"{", [])
    assert decoder.last_event_id == "5"
    assert decoder.feed(b'data: {"x":6}\n\n') == [Point(6)]


def test_an_event_waits_for_what_an_error_has_left() -> None:
    decoder = SSEDecoder(int)
    assert decoder.feed(b"data: 1\n\n") == [1]
    with pytest.raises(EventDecodeError):
        decoder.feed(b"data: {\n\ndata: 2\n\n")
    assert decoder.feed(b"data: 3\n\n") == [2, 3]


def test_a_cr_behind_an_event_takes_only_the_lf_that_follows_it() -> None:
    decoder = SSEDecoder(int)
    chunks = [b"data: 1\n\n", b"data: 2\n\r", b"data: 3\n", b"\n", b"data: 4\n\r", b"\ndata: 5\n\n"]
    assert [decoder.feed(chunk) for chunk in chunks] == [[1], [2], [], [3], [4], [5]]


def test_null_is_an_event() -> None:
    assert SSEDecoder[Any](Any).feed(b"data: null\n\n" * 50) == [None] * 50


def test_lone_surrogates_and_wrong_utf8_come_through() -> None:
    stream = b'data: "\\ud83d"\n\ndata: "a\xffb"\n\n'
    assert SSEDecoder(str).feed(stream * 20) == ["\ufffd", "a\ufffdb"] * 20


@pytest.mark.parametrize(
    "data", [b"{", b"", b'"x"', b"[" * 100_000 + b"]" * 100_000, b"NaN", b"1 2", b'{"x":"\\q"}']
)
def test_broken_data(data: bytes) -> None:
    decoder = SSEDecoder(list[Any])
    with pytest.raises(EventDecodeError) as caught:
        decoder.feed(b"data: [1]\n\ndata: " + data + b"\n\ndata: [2]\n\n")
    assert caught.value.data == data
    assert caught.value.events == [[1]]
    assert isinstance(caught.value.__cause__, Exception)
    assert decoder.feed(b"") == [[2]]


def test_a_raw_line_end_between_tokens_is_not_hidden_by_its_being_json_whitespace() -> None:
    stream = b"data: [1]\n\n" * 40 + b"data: [1,\n2]\n\n" + b"data: [3]\n\n" * 40
    outcomes = read(SSEDecoder(list[int]), [stream])
    assert outcomes == [[1]] * 40 + [("broken", b"[1,")] + [[3]] * 40


def test_nothing_is_lost_or_doubled_around_broken_events() -> None:
    blocks = [
        b"event: a\ndata: %d\n\n" % n if n % 7 else b"event: a\ndata: {\n\n" for n in range(500)
    ]
    wanted = [n if n % 7 else ("broken", b"{") for n in range(500)]
    stream = b"".join(blocks) + b"data: 5"
    for size in (1, 100, 4096, len(stream)):
        decoder = SSEDecoder(int)
        chunks = [stream[place : place + size] for place in range(0, len(stream), size)]
        assert read(decoder, chunks) == wanted
        assert decoder.pending
        assert decoder.feed(b"\n\n") == [5]
        assert not decoder.pending


def test_pending_while_an_error_has_left_something() -> None:
    decoder = SSEDecoder(int)
    with pytest.raises(EventDecodeError):
        decoder.feed(b"data: {\n\ndata: 1\n\n")
    assert decoder.pending
    with pytest.raises(EventDecodeError) as caught:
        decoder.feed(b"data: 2\n\ndata: {\n\n")
    assert caught.value.events == [1, 2]
    assert not decoder.pending


def test_the_last_event_id_is_that_of_the_broken_event() -> None:
    decoder = SSEDecoder(int)
    with pytest.raises(EventDecodeError):
        decoder.feed(b"id: 1\ndata: 1\n\nid: 2\ndata: {\n\nid: 3\ndata: 3\n\n")
    assert decoder.last_event_id == "2"
    assert decoder.feed(b"") == [3]
    assert decoder.last_event_id == "3"


def test_recover_puts_an_event_in_place() -> None:
    def recover(data: bytes, error: Exception) -> Point | None:
        assert isinstance(error, msgspec.MsgspecError)
        return Point(-1) if data == b"{" else None

    stream = b'data: {"x":1}\n\ndata: {\n\ndata: [DONE]\n\ndata: {"x":2}\n\n'
    assert SSEDecoder(Point, recover=recover).feed(stream) == [Point(1), Point(-1), Point(2)]


def test_recover_is_called_once_an_event() -> None:
    seen = []

    def recover(data: bytes, error: Exception) -> None:
        seen.append(data)

    stream = b"data: 1\n\n" * 50 + b"data: a\n\n" + b"data: 1\n\n" * 50 + b"data: b\n\n"
    assert SSEDecoder(int, recover=recover).feed(stream) == [1] * 100
    assert seen == [b"a", b"b"]


def test_an_sse_error_of_recover_carries_the_earlier_events() -> None:
    def recover(data: bytes, error: Exception) -> int:
        raise EventDecodeError("mine", data=data, events=[99])

    decoder = SSEDecoder(int, recover=recover)
    with pytest.raises(SSEError, match="mine") as caught:
        decoder.feed(b"data: 1\n\ndata: {\n\ndata: 2\n\n")
    assert caught.value.events == [1, 99]
    assert decoder.feed(b"data: 3\n\n") == [2, 3]


def test_after_another_error_of_recover_the_next_call_has_the_earlier_events() -> None:
    def recover(data: bytes, error: Exception) -> int:
        raise LookupError

    decoder = SSEDecoder(int, recover=recover)
    with pytest.raises(LookupError):
        decoder.feed(b"data: 1\n\ndata: {\n\ndata: 2\n\n")
    assert decoder.feed(b"") == [1, 2]


def test_after_an_error_of_a_types_own_hook_the_next_call_has_the_earlier_events() -> None:
    class Picky(msgspec.Struct):
        x: int

        def __post_init__(self) -> None:
            if self.x == 13:
                raise LookupError
            if self.x == 14:
                raise ValueError("unlucky")

    blocks = [b'data: {"x":%d}\n\n' % n for n in range(40)]
    decoder = SSEDecoder(Picky)
    with pytest.raises(LookupError):
        decoder.feed(b"".join(blocks))
    with pytest.raises(EventDecodeError, match="unlucky") as caught:
        decoder.feed(b"")
    assert [event.x for event in caught.value.events] == list(range(13))
    assert [event.x for event in decoder.feed(b"")] == list(range(15, 40))


def test_raw_fields_keep_their_bytes() -> None:
    """`Raw` is a window on the buffer that was decoded: that one must not change any more."""

    class Envelope(msgspec.Struct):
        data: msgspec.Raw

    payloads = [b'"%b"' % (b"%d" % n * size) for n, size in enumerate([1, 100, 70_000, 200_000, 3])]
    stream = b"".join(b'data: {"data":%b}\n\n' % payload for payload in payloads)
    for size in (1000, 66_000, len(stream)):
        decoder = SSEDecoder(Envelope)
        events = []
        for place in range(0, len(stream), size):
            chunk = bytearray(stream[place : place + size])
            events += decoder.feed(chunk)
            chunk[:] = b"#" * len(chunk)
        assert [bytes(event.data) for event in events] == payloads


def test_every_error_is_ours() -> None:
    with pytest.raises(DynamiqError):
        SSEDecoder(int).feed(b"data: x\n\n")


def test_long_data_in_every_form(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines over the size from which they are read in place, in all fields and with errors."""
    monkeypatch.setattr(decoder_module, "LARGE", 16)
    long = b"x" * 40
    stream = (
        b'data: "' + long + b'"\n\ndata:"' + long + b'"\n\n: ' + long + b"\n"
        b"event: " + long + b"\nid: " + long + b'\ndata: "' + long + b'",\n\n'
        b'data: [1,\ndata: "' + long + b'"]\n\n' + long + b"\n\n"
    )
    text = long.decode()
    wanted = [text, text, ("broken", b'"' + long + b'",'), [1, text]]
    for size in (1, 7, 30, 60, 100, len(stream)):
        decoder = SSEDecoder(object)
        assert read(decoder, [stream[i : i + size] for i in range(0, len(stream), size)]) == wanted
        assert decoder.last_event_id == text
