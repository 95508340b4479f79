"""A response is read the same however it is cut, and nonsense is an error."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamiq_async.emulator.tape.responses import ResponseReader

OK = b"HTTP/1.1 200 OK\r\nServer:  one two \r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n1\r\n!\r\n0\r\nT: x\r\n\r\n"
RESPONSES = {
    "chunked": (CHUNKED, [b"hello", b"!"], True),
    "chunk cut": (CHUNKED[: CHUNKED.index(b"lo\r\n1")], [b"hel"], False),
    "length": (OK + b"Content-Length: 6\r\n\r\nhello!behind", [b"hello!"], True),
    "length cut": (OK + b"Content-Length: 6\r\n\r\nhel", [b"hel"], False),
    "length 0": (OK + b"content-length: 0\r\n\r\n", [], True),
    "close": (OK + b"\r\nhello", [b"hello"], False),
    "none": (b"HTTP/1.0 204\r\nContent-Length: 5\r\n\r\n", [], True),
    "socket": (b"HTTP/1.1 101 Yes\r\nUpgrade: websocket\r\n\r\n\x81\x01a", [b"\x81\x01a"], False),
    "after 100": (b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"\r\nhello", [b"hello"], False),
}
FRAMINGS = {"chunk": "chunked", "lengt": "length", "after": "close"}


@pytest.mark.parametrize("name", RESPONSES)
def test_a_response_is_read_the_same_however_it_is_cut(name: str) -> None:
    data, pieces, whole = RESPONSES[name]
    for size in (*range(1, len(data)), len(data)):
        reader, found = ResponseReader("GET"), list[bytes]()
        for start in range(0, len(data), size):
            found += reader.feed(data[start : start + size])
        assert b"".join(found) == b"".join(pieces)
        assert reader.whole is whole
        assert reader.framing == FRAMINGS.get(name[:5], name)
        assert reader.missing == (3 if name == "length cut" else 2 if name == "chunk cut" else 0)
        if size == len(data):
            assert found == pieces
        if data.startswith(OK):
            assert ("Server", "one two") in reader.headers
            assert (reader.header("server"), reader.header("nothing")) == ("one two", "")


def test_the_response_to_a_head_has_no_body() -> None:
    reader = ResponseReader("HEAD")
    assert reader.feed(OK + b"Content-Length: 6\r\n\r\n") == []
    assert (reader.whole, reader.framing, reader.missing) == (True, "none", 0)


NONSENSE = {
    "ICY": b"ICY 200 OK\r\n\r\n",
    "HTTP/2": b"HTTP/2 200\r\n\r\n",
    "no header": b"HTTP/1.1 200 OK\r\nnothing\r\n\r\n",
    "a folded header": b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
    "a header with a line end": b"HTTP/1.1 200 OK\r\nA: b\nc: d\r\n\r\n",
    "a long head": b"HTTP/1.1 200 OK\r\nA: " + b"a" * 70_000,
    "a long whole head": b"HTTP/1.1 200 OK\r\nA: " + b"a" * 70_000 + b"\r\n\r\n",
    "a negative length": OK + b"Content-Length: -5\r\n\r\n",
    "two lengths": OK + b"Content-Length: 5, 5\r\n\r\n",
    "another coding": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
    "no size": OK + b"Transfer-Encoding: chunked\r\n\r\nhello\r\n",
    "a negative size": OK + b"Transfer-Encoding: chunked\r\n\r\n-5\r\n",
    "a long line": OK + b"Transfer-Encoding: chunked\r\n\r\n5;" + b"a" * 5000,
    "too long a chunk": OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n",
}


@pytest.mark.parametrize("data", NONSENSE.values(), ids=NONSENSE)
def test_nonsense_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"response|App"):
        ResponseReader("GET").feed(data)


@given(st.binary(max_size=60), st.integers(1, 9))
def test_nothing_but_the_error_is_raised(rest: bytes, size: int) -> None:
    for head in (b"", b"HTTP/1.1 ", OK, OK + b"Transfer-Encoding: chunked\r\n\r\n"):
        reader, data = ResponseReader("GET"), head + rest
        with contextlib.suppress(ValueError):
            for start in range(0, len(data), size):
                assert all(reader.feed(data[start : start + size]))
