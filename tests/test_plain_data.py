"""Secrets, callbacks and time limits: small values that must not leak or lie."""

from __future__ import annotations

import copy
import pickle
import traceback
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamiq_async import Accepted, Callback, Timeout
from dynamiq_async._credentials import MASK, Secret
from dynamiq_async._http.response import ResponseInfo
from dynamiq_async.errors import InvalidArgumentError
from dynamiq_async.options import DEFAULT_TIMEOUT, NO_TIMEOUT, as_timeout, check_seconds

KEY = "dynamiq_acc_s3cr3t"
LIMITS = ["connect", "pool", "first_byte", "idle", "total"]


# --- the key -------------------------------------------------------------------------------------


def test_a_secret_shows_only_when_it_is_revealed() -> None:
    secret = Secret(KEY)
    assert secret.reveal() == KEY
    for shown in (
        repr(secret),
        str(secret),
        f"{secret}",
        f"{secret!r:>9}",
        [secret],
    ):
        assert "s3cr3t" not in str(shown)
        assert MASK in str(shown)


@pytest.mark.parametrize("leave", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_secret_is_not_pickled_or_copied(leave: Any) -> None:
    with pytest.raises(TypeError, match="not pickled") as caught:
        leave(Secret(KEY))
    assert "s3cr3t" not in "".join(traceback.format_exception(caught.value))


def test_a_secret_has_no_attributes_to_dump() -> None:
    with pytest.raises(TypeError):
        vars(Secret(KEY))


# --- callbacks -----------------------------------------------------------------------------------


def test_a_callbacks_token_is_in_no_repr() -> None:
    callback = Callback("https://x.example/hook", token="s3cr3t", metadata={"a": 1})
    rich = dict(callback.__rich_repr__())
    for shown in (repr(callback), str(callback), str([callback]), str(rich)):
        assert "s3cr3t" not in shown
        assert "https://x.example/hook" in shown
    assert rich == {"url": callback.url, "token": MASK, "metadata": {"a": 1}}
    assert callback.token == "s3cr3t"


def test_a_callback_without_a_token_says_so() -> None:
    callback = Callback("https://x.example")
    assert repr(callback) == "Callback(url='https://x.example', token=None, metadata=None)"


def test_accepted_reads_the_vendors_response() -> None:
    body = b'{"id": "run-1", "status": "accepted", "new": 1}'
    assert msgspec.json.decode(body, type=Accepted) == Accepted("run-1", "accepted")
    assert Accepted("x").status == "accepted"


def test_what_is_known_of_a_response() -> None:
    info = ResponseInfo(status=200)
    assert (info.headers, info.request_id, info.attempts) == ({}, None, 1)
    assert info.headers is not ResponseInfo(status=200).headers


# --- time limits ---------------------------------------------------------------------------------


def test_long_streams_are_not_cut_by_default() -> None:
    assert Timeout() == DEFAULT_TIMEOUT
    assert Timeout().total is None
    assert all(getattr(Timeout(), limit) for limit in LIMITS if limit != "total")
    assert list(Timeout.__struct_fields__) == LIMITS
    assert [getattr(NO_TIMEOUT, limit) for limit in LIMITS] == [None] * 5


BAD_SECONDS = [0, -1, -0.5, float("nan"), float("inf"), -float("inf"), 10**400]
NO_SECONDS = ["5", True, False, b"1", [], object()]


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("value", BAD_SECONDS + NO_SECONDS)
def test_a_limit_is_a_positive_number_or_none(limit: str, value: Any) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        Timeout(**{limit: value})
    assert caught.value.argument == f"timeout.{limit}"
    with pytest.raises(InvalidArgumentError):
        check_seconds(value, "x")
    with pytest.raises(InvalidArgumentError) as caught:
        as_timeout(value, DEFAULT_TIMEOUT)
    assert caught.value.argument == "timeout"


@given(st.floats(min_value=0, exclude_min=True, allow_infinity=False) | st.integers(1, 2**40))
def test_any_positive_number_is_a_limit(value: float) -> None:
    assert Timeout(idle=value).idle == value
    base = Timeout(idle=3.0, pool=None)
    assert as_timeout(value, base) == Timeout(idle=3.0, pool=None, total=value)


def test_none_is_no_limit_of_any_kind_and_a_timeout_is_itself() -> None:
    assert as_timeout(None, DEFAULT_TIMEOUT) == NO_TIMEOUT
    own = Timeout(connect=1.0)
    assert as_timeout(own, DEFAULT_TIMEOUT) is own
