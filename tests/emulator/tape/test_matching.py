"""Which request of a tape is the nearest, and what is said of the difference."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dynamiq_async.emulator.core.masks import Mask
from dynamiq_async.emulator.tape.matching import Asked, difference, explain
from dynamiq_async.emulator.tape.models import Content, Ending, Exchange, Request

INPUT = {"input": {"question": "hi", "n": 1}, "stream": True}


def asked(method: str = "POST", path: str = "/", body: Any = None, *names: str) -> Asked:
    data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    request = Request(method=method, path=path, body=Content.of(data))
    return Asked.of(request, Mask(names))


def other(**changes: Any) -> dict[str, Any]:
    return {**INPUT, "input": {**INPUT["input"], **changes}}  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("here", "there", "said"),
    [
        (asked("GET"), asked("PUT"), "the method is 'GET', on the tape 'PUT'"),
        (asked(path="/a"), asked(path="/b"), "the path is '/a', on the tape '/b'"),
        (asked(path="/?a=1"), asked(path="/"), "the query is (('a', '1'),), on the tape ()"),
        (
            asked(body=other(question="hi!")),
            asked(body=INPUT),
            "the body at input.question is 'hi!', on the tape 'hi'",
        ),
        (
            asked(body=other(more=1)),
            asked(body=INPUT),
            "the body at input has 'more', on the tape it has not",
        ),
        (
            asked(body={"input": {}}),
            asked(body={"input": {"n": 1}}),
            "the body at input has no 'n', on the tape it has",
        ),
        (asked(body=[1]), asked(body=[2]), "the body is [1], on the tape [2]"),
        (asked(body=1), asked(body=1.0), "the body is 1, on the tape 1.0"),
        (
            asked(body={"n": 1}),
            asked(body={"n": 1.0}),
            "the body is {'n': 1}, on the tape {'n': 1.0}",
        ),
        (asked(body=b"\xff"), asked(body=b"b"), "the body is b'\\xff', on the tape b'b'"),
        (
            asked(body={"a": "x" * 100}),
            asked(body={"a": 1}),
            f"the body at a is '{'x' * 59}…, on the tape 1",
        ),
    ],
)
def test_the_first_difference_is_told(here: Asked, there: Asked, said: str) -> None:
    assert difference(here, there) == said


@pytest.mark.parametrize(
    ("here", "there"),
    [
        (asked(body=b'{"a": 1, "b":2}'), asked(body=b'{"b":2,"a":1}')),
        (asked(path="/?a=1&b=2"), asked(path="/?b=2&a=1")),
        (asked(path="/?token=a"), asked(path="/?token=b")),
        (asked("POST", "/", other(n=5), "n"), asked("POST", "/", other(n=6), "n")),
        (
            asked("GET", "/v1/abcdef-1?id=abcdef-1", {"id": "abcdef-1"}, "id"),
            asked("GET", "/v1/abcdef-2?id=abcdef-2", {"id": "abcdef-2"}, "id"),
        ),
    ],
)
def test_what_does_not_count_makes_no_difference(here: Asked, there: Asked) -> None:
    assert here == there


@pytest.mark.parametrize(
    "body", [b"[" * 100_000, b'{"a":' * 2000 + b"1" + b"}" * 2000, b"1" * 400, b'"\\ud800"', b"NaN"]
)
def test_json_that_cannot_be_put_in_order_is_compared_as_it_is(body: bytes) -> None:
    here = asked(body=body)
    assert here == asked(body=body)
    assert difference(here, asked(body=b"{}")).startswith("the body is ")
    assert difference(asked(body={"a": 1}), here).startswith("the body ")


def exchange(number: int, of: Asked) -> tuple[Exchange, Asked]:
    request = Request(method=of.method, path=of.path)
    return Exchange(number=number, request=request, end=Ending(at=0, how="whole")), of


TAPED = [
    exchange(1, asked("GET", "/v1/runs/r-1")),
    exchange(2, asked("POST", "/v1/runs", {"input": {"question": "What is the weather?"}})),
    exchange(3, asked("POST", "/v1/runs", {"input": {"question": "Who are you?"}})),
    exchange(4, asked("POST", "/", {"input": {"question": "Who are you?"}})),
]


@pytest.mark.parametrize(
    ("of", "nearest"),
    [
        (asked("GET", "/v1/runs/r-2"), 1),
        (asked("POST", "/v1/runs", {"input": {"question": "How is the weather?"}}), 2),
        (asked("POST", "/v1/runs", {"input": {"question": "Who are they?"}}), 3),
        (asked("POST", "/", {"input": {"question": "Why?"}}), 4),
    ],
)
def test_the_nearest_request_is_named(of: Asked, nearest: int) -> None:
    said = explain(of, TAPED)
    assert said.startswith(f"the tape does not know {of.method} {of.path}; the nearest is request ")
    assert f"request {nearest}, " in said


def test_a_tape_without_requests_has_no_nearest() -> None:
    said = explain(asked("GET", "/?a=b"), [])
    assert said == "the tape does not know GET /?a=b: it is empty"


def test_of_many_requests_only_the_likeliest_have_their_bodies_looked_at() -> None:
    some = [exchange(n, asked("GET", f"/other/{n}", {"a": "x" * 3000})) for n in range(200)]
    assert "request 3, " in explain(asked("POST", "/v1/runs", {"input": {"question": "?"}}), [
        *some, *TAPED[2:],
    ])  # fmt: skip
