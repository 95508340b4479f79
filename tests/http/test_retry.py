"""What may be sent again, when, and what never: one logical call is one run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamiq_async import errors
from dynamiq_async._http.error_responses import status_error
from dynamiq_async._http.retry import RetryPolicy, parse_retry_after
from dynamiq_async._http.status import Outcome, may_repeat, meaning_of

POLICY = RetryPolicy()


def refusal(status: int, retry_after: float | None = None) -> errors.APIStatusError:
    return status_error("POST /", status, {}, b"", retry_after=retry_after)


# Whether the request is repeated: as a POST, as a GET, and as either with a body that cannot be
# rewound.
TABLE: list[tuple[errors.DynamiqError, Outcome, bool, bool, bool]] = [
    (errors.ConnectError(), Outcome.NOT_TAKEN, True, True, True),
    (errors.ConnectTimeoutError(), Outcome.NOT_TAKEN, True, True, True),
    (errors.PoolTimeoutError(), Outcome.NOT_TAKEN, True, True, False),
    (refusal(429), Outcome.NOT_TAKEN, True, True, False),
    (refusal(429, 1.0), Outcome.NOT_TAKEN, True, True, False),
    (refusal(503, 1.0), Outcome.NOT_TAKEN, True, True, False),
    (refusal(503, 0.0), Outcome.NOT_TAKEN, True, True, False),
    (refusal(503), Outcome.UNKNOWN, False, True, False),
    (refusal(502), Outcome.UNKNOWN, False, True, False),
    (refusal(502, 1.0), Outcome.UNKNOWN, False, True, False),
    (refusal(504), Outcome.UNKNOWN, False, True, False),
    (refusal(504, 1.0), Outcome.UNKNOWN, False, True, False),
    (refusal(408), Outcome.TRANSIENT, False, True, False),
    (refusal(500), Outcome.TRANSIENT, False, True, False),
    (refusal(500, 1.0), Outcome.TRANSIENT, False, True, False),
    (errors.APIConnectionError(), Outcome.UNKNOWN, False, True, False),
    (errors.APITimeoutError(), Outcome.UNKNOWN, False, True, False),
    (errors.IdleTimeoutError(), Outcome.UNKNOWN, False, True, False),
    (errors.StreamInterruptedError(), Outcome.UNKNOWN, False, True, False),
    (errors.AmbiguousConnectionError(), Outcome.UNKNOWN, False, True, False),
    (errors.AmbiguousTimeoutError(), Outcome.UNKNOWN, False, True, False),
    *(
        (refusal(status, retry_after), Outcome.FINAL, False, False, False)
        for status in (301, 302, 400, 401, 402, 403, 404, 409, 410, 413, 415, 422, 501, 505)
        for retry_after in (None, 1.0)
    ),
    *(
        (kind(), Outcome.FINAL, False, False, False)
        for kind in (
            errors.DynamiqError,
            errors.InvalidArgumentError,
            errors.ClientClosedError,
            errors.ContentTypeError,
            errors.ResponseDecodeError,
            errors.ResponseTooLargeError,
            errors.RunFailedError,
            errors.StreamClosedError,
            errors.EventDecodeError,
        )
    ),
]


@pytest.mark.parametrize(("error", "known", "post", "get", "unrewindable"), TABLE)
def test_a_request_is_repeated_only_when_that_runs_nothing_twice(
    error: errors.DynamiqError, known: Outcome, post: bool, get: bool, unrewindable: bool
) -> None:
    def repeated(*, idempotent: bool, replayable: bool) -> bool:
        arguments = {"idempotent": idempotent, "replayable": replayable}
        return POLICY.delay(error, retries=0, **arguments) is not None

    assert meaning_of(error).outcome is known
    assert may_repeat(error, idempotent=False) is post
    assert may_repeat(error, idempotent=True) is get
    assert repeated(idempotent=False, replayable=True) is post
    assert repeated(idempotent=True, replayable=True) is get
    assert repeated(idempotent=False, replayable=False) is unrewindable
    assert repeated(idempotent=True, replayable=False) is unrewindable


@pytest.mark.parametrize("error", [row[0] for row in TABLE])
def test_the_retries_are_counted(error: errors.DynamiqError) -> None:
    for policy, retries in ((RetryPolicy(max_retries=0), 0), (POLICY, 2), (POLICY, 3)):
        assert policy.delay(error, retries=retries, idempotent=True, replayable=True) is None


def delay(error: errors.DynamiqError, policy: RetryPolicy = POLICY, **known: Any) -> float | None:
    return policy.delay(error, **({"retries": 0, "idempotent": False, "replayable": True} | known))


@given(st.floats(0, 60))
def test_no_request_is_sent_before_the_time_that_the_server_named(seconds: float) -> None:
    waited = delay(refusal(429, seconds))
    assert waited is not None
    least = max(seconds, 0.5)  # the usual backoff
    assert least <= waited <= least + min(least * 0.25, 2.0)


def test_the_usual_backoff_is_the_least_wait_whatever_the_server_says() -> None:
    exact = RetryPolicy(jitter=0.0, patient=True)
    assert [delay(refusal(429, 0.0), exact, spared=n) for n in range(4)] == [0.5, 1.0, 2.0, 4.0]
    assert delay(refusal(503, 3.0), exact, spared=9) == 8.0


@given(st.floats(0.001, 10), st.floats(0.001, 60), st.integers(0, 5000))
def test_backoff_doubles_up_to_its_cap_and_jitter_only_lengthens(
    base: float, cap: float, retries: int
) -> None:
    waited = RetryPolicy(base=base, cap=cap).backoff(retries)
    least = min(base * 2.0 ** min(retries, 30), cap)
    assert least <= waited <= least * 1.25


def test_calls_that_are_asked_to_wait_equally_long_are_spread() -> None:
    assert len({delay(refusal(429, 10.0)) for _ in range(20)}) > 10
    assert len({POLICY.backoff(0) for _ in range(20)}) > 10


def test_without_jitter_the_delays_are_exact() -> None:
    exact = RetryPolicy(jitter=0.0)
    assert [exact.backoff(n) for n in range(6)] == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0]
    assert delay(refusal(429, 7.0), exact) == 7.0


@pytest.mark.parametrize("asked", [60.001, 3 * 24 * 3600.0, float("inf")])
def test_a_wait_over_the_cap_gives_up_at_once(asked: float) -> None:
    assert delay(refusal(429, asked)) is None
    assert delay(refusal(503, asked), idempotent=True) is None
    assert delay(refusal(429, asked), RetryPolicy(max_wait=asked)) is not None


# --- Retry-After ---------------------------------------------------------------------------------

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)


def parse(value: str) -> float | None:
    """By the server's clock, whatever ours says."""
    return parse_retry_after({"retry-after": value, "date": format_datetime(NOW, usegmt=True)})


@pytest.mark.parametrize("date", [{}, {"date": "yesterday"}])
def test_without_a_date_of_the_response_our_clock_counts(date: dict[str, str]) -> None:
    when = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    seconds = parse_retry_after({"retry-after": when, **date})
    assert seconds is not None
    assert 3500 < seconds <= 3600


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("5", 5.0),
        ("120", 120.0),
        ("1.5", 1.5),
        (" 7 ", 7.0),
        ("007", 7.0),
        ("259200", 259200.0),
        ("Sun, 22 Nov 2026 12:00:30 GMT", 30.0),
        ("Sunday, 22-Nov-26 12:00:30 GMT", 30.0),
        ("Sun Nov 22 12:00:30 2026", 30.0),
        ("Sun, 22 Nov 2026 13:00:30 +0100", 30.0),
        ("Sun, 22 Nov 2026 12:00:30 -0000", 30.0),
        ("Sun, 22 Nov 2026 11:59:00 GMT", 0.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
    ],
)
def test_retry_after_in_all_the_forms_of_http(value: str, seconds: float) -> None:
    assert parse(value) == seconds


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "soon",
        "-1",
        "+1",
        ".",
        "1.2.3",
        "1e3",
        "nan",
        "inf",
        "5s",
        "5, 6",
        "0x10",
        "\u0665",
        "\u00b2",
        "9" * 400,
        "Sun, 99 Nov 2026 12:00:00 GMT",
        "Sun, 22 Nov 99999 12:00:00 GMT",
        "Sun, 22 Nov 2026 25:61:00 GMT",
        "22 Foo 2026 12:00:00",
        "GMT",
    ],
)
def test_retry_after_that_makes_no_sense_is_none(value: str) -> None:
    assert parse(value) is None


def test_retry_after_that_is_absent_is_none() -> None:
    assert parse_retry_after({}) is None


def test_a_date_without_a_zone_is_not_in_the_machines_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setenv("TZ", "Pacific/Auckland")
    time.tzset()
    try:
        assert parse("Sun Nov 22 12:00:30 2026") == 30.0
    finally:
        monkeypatch.undo()
        time.tzset()


@given(st.integers(-(10**6), 10**6), st.integers(-12, 12))
def test_any_date_is_the_seconds_until_then(seconds: int, zone: int) -> None:
    when = NOW + timedelta(seconds=seconds)
    text = format_datetime(when.astimezone(timezone(timedelta(hours=zone))))
    assert parse(text) == max(0.0, seconds)


@given(
    st.text(max_size=30)
    | st.lists(
        st.sampled_from(
            ["Sun", ",", "22", "-", "Nov", "2026", "12:00:00", ":", "-0000", "GMT", "x"]
        )
    ).map(" ".join)
)
def test_no_header_raises(value: str) -> None:
    seconds = parse(value)
    assert seconds is None or 0 <= seconds < float("inf")
