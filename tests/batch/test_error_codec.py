"""Errors as JSON, and back: what a journal hands out is of the class that was raised."""

from __future__ import annotations

import json
import math

import pytest

from dynamiq_async import errors
from dynamiq_async.batch.journal import error_codec
from dynamiq_async.runs.models import Run

KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.DynamiqError)
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_error_comes_back_as_what_it_was(kind: type[errors.DynamiqError]) -> None:
    error = kind("what happened")
    for name in vars(error):
        if name not in ("message", "events"):
            setattr(error, name, {"status": 500, "details": {"a": "b"}}.get(name, "text"))
    if isinstance(error, errors.RunError):
        error.run = Run(id="r", status="failed", error={"message": "no"})
    if isinstance(error, errors.EventDecodeError):
        error.data = b"\xff"
    back = error_codec.decode(error_codec.encode(error))
    assert type(back) is kind
    assert (str(back), vars(back)) == (str(error), vars(error))


def test_other_errors_come_back_with_their_names() -> None:
    class OwnError(errors.DynamiqError):
        pass

    for error, message in (
        (OwnError("mine"), "OwnError: mine"),
        (KeyError("x"), "KeyError: 'x'"),
        (TimeoutError(), "TimeoutError"),
        (ValueError("\ud83d"), "ValueError: \ufffd"),
    ):
        back = error_codec.decode(error_codec.encode(error))
        assert (type(back), back.message) == (errors.DynamiqError, message)
    assert (
        error_codec.decode(b'{"type": "annotations", "message": "m"}').message == "annotations: m"
    )


def test_what_json_cannot_hold_is_described() -> None:
    error = errors.RunFailedError("no", run=object(), details={1: math.inf, "o": object})
    described = json.loads(error_codec.encode(error))
    assert described["run"].startswith("<object object")
    back = error_codec.decode(error_codec.encode(error))
    assert (type(back), back.message) == (errors.RunFailedError, "no")
