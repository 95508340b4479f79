"""`CallbackResult`: what came is what one gets."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from dynamiq_async import errors
from dynamiq_async.callbacks import CallbackResult, CallbackVerifier
from tests.support.callback_senders import callback


def parsed(**fields: Any) -> CallbackResult:
    body = msgspec.json.encode(callback(**fields))
    return CallbackVerifier(tokens=False).verify({}, body)


def without_output(**fields: Any) -> CallbackResult:
    body = {name: value for name, value in callback(**fields).items() if name != "output"}
    return CallbackVerifier(tokens=False).verify({}, msgspec.json.encode(body))


class Answer(msgspec.Struct):
    answer: int


def test_what_came_is_there() -> None:
    result = parsed(metadata={"order": [1, None]})
    assert result.id == "run-1"
    assert result.status == "succeeded"
    assert result.output == {"answer": 42}
    assert result.metadata == {"order": [1, None]}
    assert result.error is None


def test_the_output_is_decoded_to_a_type() -> None:
    class Model(BaseModel):
        answer: int

    result = parsed()
    assert result.decode(Answer) == Answer(42)
    assert result.unwrap(Answer) == Answer(42)
    assert result.decode(Model) == Model(answer=42)
    assert result.unwrap() == {"answer": 42}


def test_an_output_is_decoded_from_its_bytes_without_losing_digits() -> None:
    body = b'{"id":"r","status":"succeeded","output":0.1234567890123456789}'
    result = CallbackVerifier(tokens=False).verify({}, body)
    assert result.decode(Decimal) == Decimal("0.1234567890123456789")


@pytest.mark.parametrize("output", ["text", [1], None, 3, {"answer": "no number"}])
def test_an_output_that_does_not_fit_says_so(output: Any) -> None:
    with pytest.raises(errors.ResponseDecodeError, match="run run-1 does not fit Answer") as caught:
        parsed(output=output).unwrap(Answer)
    assert caught.value.run_id == "run-1"


def test_a_type_that_nothing_can_be_decoded_to_is_refused() -> None:
    with pytest.raises(errors.InvalidArgumentError) as caught:
        parsed().decode(complex)
    assert caught.value.argument == "output_type"


def test_an_output_with_a_number_that_python_refuses_can_still_be_had_as_bytes() -> None:
    body = b'{"id":"r","status":"succeeded","output":%s}' % (b"9" * 5000)
    result = CallbackVerifier(tokens=False).verify({}, body)
    with pytest.raises(errors.ResponseDecodeError):
        _ = result.output
    assert bytes(result.raw_output) == b"9" * 5000


def test_a_lone_surrogate_in_the_output_comes_as_a_replacement_character() -> None:
    body = b'{"id":"r","status":"succeeded","output":"broken \\ud83d emoji"}'
    assert CallbackVerifier(tokens=False).verify({}, body).output == "broken \ufffd emoji"


def test_a_missing_output_is_none() -> None:
    result = without_output()
    assert result.output is None
    assert result.unwrap() is None
    assert result.decode(dict | None) is None


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"error": "the model is down"}, "the model is down"),
        ({"error": {"message": "too long"}}, "too long"),
        ({"output": {"error": "a node failed"}}, "a node failed"),
        ({}, "no reason given"),
    ],
)
def test_a_failed_run_raises_like_a_run_does(fields: dict[str, Any], why: str) -> None:
    result = without_output(status="failed") if "output" not in fields else parsed(status="failed")
    result = msgspec.structs.replace(
        result,
        error=fields.get("error"),
        raw_output=msgspec.Raw(msgspec.json.encode(fields.get("output"))),
    )
    with pytest.raises(errors.RunFailedError, match=f"run run-1 failed: {why}") as caught:
        result.unwrap(Answer)
    assert caught.value.run_id == "run-1"
    assert caught.value.run.status == "failed"
    assert caught.value.run.ended_at == result.timestamp


def test_a_status_nobody_knows_comes_through_and_is_no_success() -> None:
    result = parsed(status="expired")
    assert result.status == "expired"
    with pytest.raises(errors.RunError, match="expired"):
        result.unwrap()
    with pytest.raises(errors.RunCanceledError):
        parsed(status="canceled").unwrap()
    assert parsed(status="completed").unwrap() == {"answer": 42}  # the Runs API's own word


def test_a_result_survives_a_pickle() -> None:
    result = parsed(metadata={"a": 1})
    assert pickle.loads(pickle.dumps(result)) == result


def test_a_repr_is_short() -> None:
    assert repr(parsed()) == (
        """CallbackResult(id='run-1', status='succeeded', output={"answer":42})"""
    )
    assert len(repr(parsed(output="x" * 10_000))) < 300


# --- time ----------------------------------------------------------------------------------------


def test_nanoseconds_are_kept() -> None:
    result = parsed(timestamp="2026-05-04T03:02:01.123456789Z")
    assert result.timestamp == "2026-05-04T03:02:01.123456789Z"
    assert result.time == datetime(2026, 5, 4, 3, 2, 1, 123456, UTC)
    assert result.time_ns == 1777863721_123456789


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01t00:00:00.5z", 500_000_000),
        ("1970-01-01 00:00:01.000000001+00:00", 1_000_000_001),
        ("1970-01-01T01:30:00+01:30", 0),
        ("1969-12-31T23:00:00.1-01:00", 100_000_000),
        ("1969-12-31T23:59:59.999999999Z", -1),
        ("1970-01-01T00:00:00.0000000019999Z", 1),
        ("2016-12-31T23:59:60Z", 1_483_228_800_000_000_000),
        ("1970-01-01T00:00:00-00:00", 0),
    ],
)
def test_every_form_of_rfc_3339_is_read(text: str, nanoseconds: int) -> None:
    assert parsed(timestamp=text).time_ns == nanoseconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2026-05-04",
        "2026-05-04T03:02:01",
        "2026-13-04T03:02:01Z",
        "2026-02-30T03:02:01Z",
        "2026-05-04T24:02:01Z",
        "2026-05-04T03:02:61Z",
        "2026-05-04T03:02:01+24:00",
        "2026-05-04T03:02:01.Z",
        "2026-05-04T03:02:01Z\n",
        "٢٠٢٦-05-04T03:02:01Z",
        1777863721,
        None,
    ],
)
def test_a_time_that_is_none_does_not_lose_the_result(text: Any) -> None:
    result = parsed(timestamp=text)
    assert result.time is None
    assert result.time_ns is None
    assert result.output == {"answer": 42}


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:60Z"])
def test_a_time_beyond_what_a_datetime_holds_is_still_a_number(text: str) -> None:
    result = parsed(timestamp=text)
    assert result.time is None
    assert result.time_ns is not None


@given(st.datetimes(timezones=st.just(UTC)), st.integers(0, 999))
def test_a_time_is_read_back_as_it_was_written(moment: datetime, nanos: int) -> None:
    text = f"{moment.replace(tzinfo=None).isoformat(timespec='microseconds')}{nanos:03}Z"
    result = CallbackResult(id="r", status="succeeded", timestamp=text)
    assert result.time == moment
    assert result.time_ns is not None
    assert result.time_ns % 1000 == nanos


@given(st.text())
def test_no_text_breaks_the_reading_of_a_time(text: str) -> None:
    result = CallbackResult(id="r", status="succeeded", timestamp=text)
    assert (result.time is None) == (result.time_ns is None)
