"""What is masked is not on a tape, wherever and however deep it is quoted; all else stays."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamiq_async.emulator.core.masks import Mask, Secrets

SECRET = "s3cr3t-value-0123"


def quoted(value: Any, times: int = 1) -> Any:
    """JSON in a text of JSON, so many times."""
    for _ in range(times):
        value = {"text": json.dumps(value)}
    return value


@pytest.mark.parametrize(
    ("given", "masked"),
    [
        ({"email": "a@b.c", "other": "a"}, {"email": "***", "other": "a"}),
        ({"EMail": 'quo"ted\\'}, {"EMail": "***"}),
        ({"email": -12.5e3, "n": 1}, {"email": 0, "n": 1}),
        ({"email": True, "b": True}, {"email": False, "b": True}),
        ({"email": None}, {"email": None}),
        ({"email": []}, {"email": []}),
        (
            {"a": [{"email": ["x", {"y": "z", "n": [1, True, None]}]}]},
            {"a": [{"email": ["***", {"y": "***", "n": [0, False, None]}]}]},
        ),
        ({"emails": "stays", "mail": "stays"}, {"emails": "stays", "mail": "stays"}),
        ({"text": "email: stays"}, {"text": "email: stays"}),
        ({"é-post": "a@b.c"}, {"é-post": "***"}),
        ({"É-POST": "a@b.c"}, {"É-POST": "***"}),
    ],
)
@pytest.mark.parametrize("times", [0, 1, 2, 3])
@pytest.mark.parametrize("options", [{}, {"indent": 2}, {"ensure_ascii": False}])
def test_a_field_is_masked_at_any_depth(
    given: Any, masked: Any, times: int, options: dict[str, Any]
) -> None:
    mask = Mask(["email", "é-post"])
    for _ in range(times):
        given, masked = ({"text": json.dumps(value, **options)} for value in (given, masked))
    data = json.dumps(given, **options).encode()
    assert json.loads(b"".join(mask.pieces([data]))) == masked
    assert json.loads(mask.request(data)) == masked


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(VALUES, st.text(max_size=5), st.integers(0, 3), st.booleans(), st.data())
def test_whatever_is_in_a_field_is_masked_and_the_rest_stays(
    value: Any, around: str, times: int, ascii: bool, data: st.DataObject
) -> None:
    document = {"before": around, "secret": value, "after": [around, 7]}
    text: Any = document
    for _ in range(times):
        text = [json.dumps(text, ensure_ascii=ascii)]
    whole = json.dumps(text, ensure_ascii=ascii).encode("utf-8", "surrogatepass")
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=4)))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    masked = Mask(["secret"]).pieces(pieces)
    assert len(masked) == len(pieces)
    found: Any = b"".join(masked).decode("utf-8", "surrogatepass")
    for _ in range(times):
        found = json.loads(found)[0]
    found = json.loads(found)
    assert (found["before"], found["after"]) == (around, [around, 7])
    assert found["secret"] == blank(value)


def blank(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: blank(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [blank(inner) for inner in value]
    if isinstance(value, bool):
        return False
    return {str: "***", int: 0, float: 0}.get(type(value))


EVENTS = (
    b'event: data\ndata: {"name": "Ann", "text": "stays"}\n\n'
    b'data: {\ndata:  "name": [\ndata:   "Bob",\ndata:   3\ndata:  ]\ndata: }\n\n'
    b'data: {"inner": "{\\"name\\": {\\"first\\": \\"Cy\\"}, \\"n\\": 1}"}\n\n'
)
MASKED_EVENTS = (
    b'event: data\ndata: {"name": "***", "text": "stays"}\n\n'
    b'data: {\ndata:  "name": [\ndata:   "***",\ndata:   0\ndata:  ]\ndata: }\n\n'
    b'data: {"inner": "{\\"name\\": {\\"first\\": \\"***\\"}, \\"n\\": 1}"}\n\n'
)


def test_events_are_masked_however_they_are_cut() -> None:
    for cut in range(len(EVENTS) + 1):
        for other in (cut, (cut * 7) % (len(EVENTS) + 1)):
            first, second = sorted((cut, other))
            pieces = [EVENTS[:first], EVENTS[first:second], EVENTS[second:]]
            masked = Mask(["name"]).pieces(pieces)
            assert (len(masked), b"".join(masked)) == (3, MASKED_EVENTS)
            # What is before the value stays in its piece, so that the events keep their times.
            assert masked[0].startswith(EVENTS[: min(first, 20)])


@pytest.mark.parametrize("length", range(1, len(EVENTS)))
def test_what_was_cut_is_masked_as_far_as_it_goes(length: int) -> None:
    masked = b"".join(Mask(["name"]).pieces([EVENTS[:length]]))
    assert not any(name in masked for name in (b"Ann", b"An", b"Bob", b"Bo", b"Cy"))


@pytest.mark.parametrize(
    "data",
    [
        b'{"name": "Ann\n\ndata: {"text": "stays"}',  # a text that does not end in its line
        b'{"name": }, "text": "stays"}',
        b'{"name": ?, "text": "stays"}',
        b'{"text": "{\\"name\\": ", "n": "stays"}',  # the outer text ends first
        b'{"text": "{\\"name\\": \\"An", "n": "stays"}',
        b'{"name": [1, 2, "text": "stays"}',
    ],
)
def test_json_that_is_broken_is_masked_with_care(data: bytes) -> None:
    masked = b"".join(Mask(["name"]).pieces([data]))
    assert b"An" not in masked
    assert b"stays" in masked or b"[" in data


# --- keys, cookies, signatures -------------------------------------------------------------------

HEADERS = (
    ("Authorization", f"Bearer {SECRET}"),
    ("X-Api-Key", "another-s3cr3t"),
    ("Cookie", "session=cookie-s3cr3t; short=1"),
    ("Idempotency-Key", "stays-as-it-is"),
    ("Sec-WebSocket-Key", "c2VjcmV0"),
    ("X-Note", f"says {SECRET}"),
    ("email", "ann@shop.example"),
)


def test_keys_and_cookies_are_masked_in_headers_and_wherever_they_come_back() -> None:
    mask = Mask(["Email"])
    mask.learn(HEADERS)
    assert dict(mask.headers(HEADERS)) == {
        "Authorization": "***",
        "X-Api-Key": "***",
        "Cookie": "***",
        "Idempotency-Key": "stays-as-it-is",
        "Sec-WebSocket-Key": "***",
        "X-Note": "says ***",
        "email": "***",
    }
    body = f"the key {SECRET}, another-s3cr3t, the cookie cookie-s3cr3t, 1".encode()
    assert b"".join(mask.pieces([body])) == b"the key ***, ***, the cookie ***, 1"
    assert mask.request(body) == b"the key ***, ***, the cookie ***, 1"
    assert mask.path(f"/v1/{SECRET}?a=1") == "/v1/***?a=1"


def test_of_a_cookie_that_is_set_the_value_is_secret_and_its_attributes_are_not() -> None:
    mask = Mask([])
    mask.learn([("Set-Cookie", "id=abcdefgh; Path=/dashboard; HttpOnly; Max-Age=1000000")])
    body = b"abcdefgh at /dashboard, HttpOnly, 1000000"
    assert mask.pieces([body]) == [b"*** at /dashboard, HttpOnly, 1000000"]


def test_how_to_log_in_is_no_secret() -> None:
    mask = Mask([])
    headers = [("WWW-Authenticate", 'Bearer realm="apps"')]
    assert mask.headers(headers) == tuple(headers)


def test_the_token_of_a_callback_is_masked_and_where_it_comes_back_too() -> None:
    mask = Mask([])
    auth = {"type": "bearer", "token": SECRET}
    request = {"input": {"q": 1}, "callbacks": [{"url": "https://a.example", "auth": auth}]}
    masked = json.loads(mask.request(json.dumps(request).encode()))
    assert masked["callbacks"][0]["auth"] == {"type": "bearer", "token": "***"}
    assert masked["input"] == {"q": 1}
    # A model's tokens are the App's, and stay.
    response = json.dumps({"token": "Hel", "echo": SECRET}).encode()
    assert json.loads(mask.pieces([response])[0]) == {"token": "Hel", "echo": "***"}


def test_what_a_masked_field_of_the_request_says_is_masked_where_it_is_repeated() -> None:
    mask = Mask(["name"])
    mask.request(b'{"name": "Ann Smith", "n": "ab"}')
    assert mask.pieces([b"Hello Ann ", b"Smith! ab"]) == [b"Hello ***", b"! ab"]


def test_the_newest_secrets_are_looked_for() -> None:
    secrets = Secrets()
    assert secrets.pattern.search(b"") is None
    for number in range(300):
        secrets.add(b"secret-%03d" % number)
        secrets.add(b"secret-000")  # said again, it is new again
    mask = Mask([], secrets)
    body = b"secret-000 secret-001 secret-100 secret-101 secret-299"
    assert mask.pieces([body]) == [b"*** secret-001 secret-100 *** ***"]


@pytest.mark.parametrize("sign", ["?", "&", "\\u0026"])
@pytest.mark.parametrize("name", ["X-Amz-Signature", "sig", "signature", "token", "access_key"])
def test_the_signatures_of_links_are_masked(sign: str, name: str) -> None:
    link = f'{{"url": "https://files.example/a.pdf{sign}{name}=abc123%2F&expires=9"}}'.encode()
    masked = link.replace(b"abc123%2F", b"***")
    assert Mask([]).pieces([link]) == [masked]
    assert Mask([]).request(link) == masked


def test_parameters_of_the_query_are_masked() -> None:
    path = "/v1/runs?limit=5&Access_Key=abcdefgh&email=a%40b&x="
    assert Mask(["email"]).path(path) == "/v1/runs?limit=5&Access_Key=***&email=***&x="
    assert Mask(["email"]).path("/v1/runs?b=%2F&a=1") == "/v1/runs?b=%2F&a=1"


# --- forms ---------------------------------------------------------------------------------------


def form(boundary: str, *, cut: bool = False) -> bytes:
    parts = (
        'name="input"\r\n\r\n{"email": "ann@shop.example", "q": "hi"}',
        'name="email"\r\nContent-Type: text/plain\r\n\r\nann@shop.example\r\nand more',
        'name="files"; filename="email"\r\n\r\nstays, email=stays',
        "name=token\r\n\r\nabcdef-token",
    )
    body = "".join(f"--{boundary}\r\nContent-Disposition: form-data; {part}\r\n" for part in parts)
    return (body[:-2] if cut else f"{body}--{boundary}--\r\n").encode()


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("boundary", ["abc", "----WebKitFormBoundary7MA4YWxkTrZu0gW"])
@pytest.mark.parametrize("quote", ['"', ""])
def test_forms_are_masked_and_have_one_delimiter(boundary: str, quote: str, cut: bool) -> None:
    mask = Mask(["email"])
    kind = f"multipart/form-data; boundary={quote}{boundary}{quote}"
    masked = mask.request(form(boundary, cut=cut), kind).decode()
    assert mask.content_type(kind) == "multipart/form-data; boundary=boundary-of-the-tape"
    assert "ann@" not in masked
    assert "and more" not in masked
    assert "abcdef-token" not in masked
    assert '{"email": "***", "q": "hi"}' in masked
    assert "stays, email=stays" in masked
    assert masked.count("--boundary-of-the-tape") == 4 + (not cut)
    # What was masked once is the same masked again: a tape and a request are compared so.
    again = Mask(["email"]).request(masked.encode(), mask.content_type(kind))
    assert again.decode() == masked


def test_a_form_of_a_query_is_masked() -> None:
    kind = "application/x-www-form-urlencoded; charset=utf-8"
    masked = Mask(["email"]).request(b"email=ann%40shop.example&q=hi", kind)
    assert masked == b"email=***&q=hi"


SIZE = 1_000_000
HEAVY = {
    "backslashes": b"\\" * SIZE,
    "escaped quotes": b'\\"' * (SIZE // 2),
    "names": b'"name":' * (SIZE // 7),
    "texts that do not end": b'"name":"' * (SIZE // 8),
    "names in texts": b'\\"name\\":\\"' * (SIZE // 11),
    "depth": b'"name":' + b"[" * SIZE,
    "spaces": b'"name"' + b" " * SIZE,
    "escaped spaces": b'"name":' + b"\\n" * (SIZE // 2),
    "a name and backslashes": b'"name":' + b"\\" * SIZE,
    "links": b"?token=" * (SIZE // 7),
    "parts": b'; name="name"\r\n' * (SIZE // 15),
}


@pytest.mark.parametrize("data", HEAVY.values(), ids=HEAVY)
def test_the_time_is_linear_in_the_bytes(data: bytes) -> None:
    """Else each of these takes hours, and the suite's limit ends it."""
    mask = Mask(["name"])
    assert len(mask.pieces([data])) == 1
    assert mask.request(data, "multipart/form-data; boundary=x")


@given(st.binary(max_size=200), st.lists(st.text(max_size=4), max_size=3))
def test_any_bytes_can_be_masked(data: bytes, names: list[str]) -> None:
    mask = Mask(names)
    mask.learn([("Authorization", data.decode("utf-8", "surrogateescape"))])
    assert len(mask.pieces([data[:50], data[50:]])) == 2
    masked = mask.request(data, "multipart/form-data; boundary=x")
    assert isinstance(masked, bytes)


@pytest.mark.parametrize(
    "name", ["access_token", "apiKey", "clientSecret", "passwd", "private_key", "refreshToken"]
)
def test_what_is_called_like_a_secret_is_masked_in_bodies_and_links(name: str) -> None:
    mask = Mask(())
    assert mask.request(f'{{"{name}": "s3cret-value"}}'.encode()) == f'{{"{name}": "***"}}'.encode()
    body = f'{{"{name}": "another-value"}}'.encode()
    assert b"".join(mask.pieces([body[:9], body[9:]])) == f'{{"{name}": "***"}}'.encode()
    assert mask.path(f"/a?{name}=third-value") == f"/a?{name}=***"


@pytest.mark.parametrize("name", ["X-Session", "X-JWT", "X-Functions-Key", "X-Passwd"])
def test_headers_that_are_called_like_a_secret_are_masked(name: str) -> None:
    assert Mask(()).headers([(name, "s3cret-value")]) == ((name, "***"),)


def test_the_user_of_a_link_is_masked_and_an_address_is_not() -> None:
    mask = Mask(())
    body = b'{"link": "https://ann:pw@app.example/a?b=c", "mail": "ann@app.example"}'
    wanted = body.replace(b"ann:pw@", b"***@")
    assert mask.request(body) == wanted
    assert b"".join(mask.pieces([body])) == wanted
    assert mask.headers([("Location", "https://ann:pw@app.example")]) == (
        ("Location", "https://***@app.example"),
    )
