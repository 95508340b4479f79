"""The errors are plain data: one family, with what is known, through pickles and copies."""

from __future__ import annotations

import copy
import inspect
import pickle
from typing import Any

import pytest

from dynamiq_async import DynamiqError, StreamEvent, errors
from dynamiq_async.events.app_events import stream_event

CLASSES = [
    value
    for value in vars(errors).values()
    if inspect.isclass(value) and issubclass(value, DynamiqError)
]
KNOWN: dict[str, Any] = {
    "status": 502,
    "code": "bad_gateway",
    "details": {"input": "cannot be blank"},
    "request_id": "req-1",
    "body": "<html>",
    "run_id": "run-1",
    "sequence": 12,
    "attempts": 3,
    "retry_after": 1.5,
}
OWN: dict[str, Any] = {
    "argument": "input",
    "limit": "idle",
    "seconds": 3.0,
    "events": [stream_event(b'{"data": {"a": 1}, "event": "data"}')],
    "data": b"{\xff",
}


def full(kind: type[DynamiqError]) -> DynamiqError:
    """An error of `kind` with a value for all that it can hold."""
    arguments: dict[str, Any] = {}
    for base in kind.__mro__:
        if issubclass(base, DynamiqError):
            arguments |= {
                name: (KNOWN | OWN).get(name, f"a {name}")
                for name, parameter in inspect.signature(base).parameters.items()
                if parameter.kind is inspect.Parameter.KEYWORD_ONLY
            }
        if kind is errors.InvalidArgumentError:
            break
    return kind("what happened", **arguments)


def test_there_are_errors_to_test() -> None:
    assert len(CLASSES) > 40


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize(
    "through",
    [
        *(
            pytest.param(lambda e, p=p: pickle.loads(pickle.dumps(e, p)), id=f"pickle{p}")
            for p in range(pickle.HIGHEST_PROTOCOL + 1)
        ),
        copy.copy,
        copy.deepcopy,
    ],
)
def test_every_error_survives_with_all_it_holds(kind: type[DynamiqError], through: Any) -> None:
    error = full(kind)
    twin = through(error)
    assert type(twin) is kind
    assert str(twin) == str(error) == "what happened"
    assert vars(twin) == vars(error)
    assert twin.args == error.args


@pytest.mark.parametrize("kind", CLASSES)
def test_what_is_not_known_is_none(kind: type[DynamiqError]) -> None:
    error = kind("what happened")
    assert {name: getattr(error, name) for name in KNOWN} == dict.fromkeys(KNOWN)
    assert error.message == "what happened"
    assert kind().message == ""
    assert str(kind()) == ""


@pytest.mark.parametrize("kind", CLASSES)
def test_every_class_says_what_it_means(kind: type[DynamiqError]) -> None:
    assert kind.__doc__
    assert kind.__doc__ != kind.__mro__[1].__doc__


@pytest.mark.parametrize(
    ("kind", "also"),
    [
        (errors.InvalidArgumentError, ValueError),
        (errors.MissingExtraError, ImportError),
        (errors.APITimeoutError, TimeoutError),
        (errors.ConnectTimeoutError, errors.ConnectError),
        (errors.ConnectTimeoutError, errors.APIConnectionError),
        (errors.PoolTimeoutError, errors.APITimeoutError),
        (errors.AmbiguousConnectionError, errors.APIConnectionError),
        (errors.AmbiguousTimeoutError, errors.APITimeoutError),
        (errors.AmbiguousStatusError, errors.InternalServerError),
        (errors.QuotaExceededError, errors.PermissionDeniedError),
        (errors.StreamInterruptedError, errors.APIConnectionError),
        (errors.IdleTimeoutError, errors.APITimeoutError),
    ],
)
def test_an_error_is_also_what_a_caller_would_look_for(kind: type, also: type) -> None:
    assert issubclass(kind, also)


def test_a_timeout_is_not_an_unknown_outcome_by_itself() -> None:
    for kind in (errors.PoolTimeoutError, errors.ConnectTimeoutError, errors.IdleTimeoutError):
        assert not issubclass(kind, errors.AmbiguousOutcomeError)


def test_events_before_an_error_are_a_list_of_their_own() -> None:
    events = ("a", "b")
    error = errors.SSEError("x", events=events)
    assert error.events == ["a", "b"]
    assert errors.SSEError("x").events is not errors.SSEError("x").events


def test_events_survive_a_pickle_as_events() -> None:
    twin = pickle.loads(pickle.dumps(full(errors.EventDecodeError)))
    assert isinstance(twin.events[0], StreamEvent)
    assert twin.events[0].data == {"a": 1}
