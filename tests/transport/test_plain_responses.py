"""What is plain enough to be read without a parser, and that everything else is left to it."""

from __future__ import annotations

import pytest

from dynamiq_async.transport._headers import Headers
from dynamiq_async.transport._plain_responses import plain_response

START = b"HTTP/1.1 200 OK\r\n"
LENGTH = b"Content-Length: 7\r\n"
BODY = b'{"a":1}'


def whole(*lines: bytes, start: bytes = START, body: bytes = BODY) -> bytes:
    return start + b"".join(lines) + b"\r\n" + body


@pytest.mark.parametrize(
    "data",
    [
        whole(LENGTH),
        whole(b"content-length:7\t\r\n", b"X: \xe4 \xff\r\n", start=b"HTTP/1.1 201 \r\n"),
        whole(b"A: b\r\n", LENGTH, start=b"HTTP/1.1 200\r\n"),
        whole(LENGTH, b"Connection: keep-alive\r\n"),
        whole(b"connection:Keep-Alive \r\n", LENGTH),
    ],
)
def test_plain(data: bytes) -> None:
    found = plain_response(data)
    assert found is not None
    assert found[0] in (200, 201)
    assert found[2] == BODY


@pytest.mark.parametrize(
    "data",
    [
        b"",
        whole(LENGTH)[:-1],
        whole(LENGTH) + b"x",
        whole(LENGTH, LENGTH),
        whole(b"Content-Length: 7, 7\r\n"),
        whole(b"Content-Length: +7\r\n"),
        whole(b"Content-Length: 0\r\n", body=b""),
        whole(b"Content-Length : 7\r\n"),
        whole(b"X-Content-Length: 7\r\n"),
        whole(b"X: content-length: 7\r\n"),
        whole(LENGTH, b"Transfer-Encoding: chunked\r\n"),
        whole(LENGTH, b"X: transfer-encoding\r\n"),
        whole(LENGTH, b"Content-Encoding: gzip\r\n"),
        whole(LENGTH, b"Upgrade: x\r\n"),
        whole(LENGTH, b"Connection: close\r\n"),
        whole(LENGTH, b"Connection: keep-alive, close\r\n"),
        whole(LENGTH, b"Connection: keep-alive\r\n", b"Connection: close\r\n"),
        whole(LENGTH, b"Folded: a\r\n b\r\n"),
        whole(LENGTH, b"Zero: \0\r\n"),
        whole(LENGTH, b"Bare: a\rb\r\n"),
        whole(LENGTH, b"Bare: a\nb: c\r\n"),
        whole(LENGTH, b"no colon\r\n"),
        whole(LENGTH, b": no name\r\n"),
        whole(LENGTH, b"X: " + b"x" * 9000 + b"\r\n"),
        whole(LENGTH, start=b"HTTP/1.0 200 OK\r\n"),
        whole(LENGTH, start=b"HTTP/1.1 204 No Content\r\n"),
        whole(LENGTH, start=b"HTTP/1.1 206 Partial\r\n"),
        whole(LENGTH, start=b"HTTP/1.1 100 Continue\r\n\r\n" + START),
        whole(LENGTH).replace(b"\r\n", b"\n"),
        whole(LENGTH, b"Trailer: x\r\n"),
    ],
)
def test_not_plain(data: bytes) -> None:
    assert plain_response(data) is None


def test_headers_are_those_that_the_parser_gives() -> None:
    found = plain_response(whole(LENGTH, b"Via: a\r\n", b"VIA:\tb \r\n", b"X: caf\xe9\r\n"))
    assert found is not None
    headers = Headers(found[1], None)
    assert headers["via"] == "a, b"
    assert headers["x"] == "caf\ufffd"
    assert set(headers) == {"Content-Length", "VIA", "X"} or len(headers) == 3
    assert "y" not in headers
