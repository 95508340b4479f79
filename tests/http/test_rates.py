"""The adaptive limit, and what callers may set."""

from __future__ import annotations

from typing import Any

import pytest

from dynamiq_async._http.rates import CATCH_UP, AdaptiveLimit, RateLimit
from dynamiq_async.errors import InvalidArgumentError
from dynamiq_async.options import Adaptive, rate_interval


def play(limit: AdaptiveLimit, capacity: int, *, rounds: int, seconds: float = 0.1) -> list[int]:
    """Rounds of requests against a service that takes `capacity` at a time; the limits met."""
    now, met = 0.0, []
    for _ in range(rounds):
        sent = limit.limit
        met.append(sent)
        if sent > capacity:
            limit.refused(now, sent)
            now += 1.0
        else:
            for _ in range(sent):
                limit.succeeded(now, max(sent, limit.limit))
            now += seconds
    return met


def test_it_doubles_with_every_round_until_the_first_refusal() -> None:
    limit = AdaptiveLimit(Adaptive(max=200, start=4))
    assert play(limit, 1000, rounds=7) == [4, 8, 16, 32, 64, 128, 200]


def test_it_falls_at_once_and_then_grows_by_one_with_every_round() -> None:
    met = play(AdaptiveLimit(Adaptive(max=64, start=16)), 20, rounds=10)
    assert met[:4] == [16, 32, 24, 18]
    assert met[4:8] == [18, 19, 20, 21]
    assert met[8] == 15


@pytest.mark.parametrize("capacity", [1, 2, 5, 20, 63, 64])
def test_it_settles_at_what_the_service_takes(capacity: int) -> None:
    met = play(AdaptiveLimit(Adaptive(max=64)), capacity, rounds=2000)
    settled = met[200:]
    assert sum(settled) / len(settled) >= 0.85 * capacity
    assert sum(sent > capacity for sent in settled) <= 8  # since the delay doubles


def test_it_stays_within_its_bounds() -> None:
    limit = AdaptiveLimit(Adaptive(min=3, max=9, start=9))
    for now in range(20):
        limit.refused(float(now), 9)
    assert limit.limit == 3
    assert max(play(AdaptiveLimit(Adaptive(max=9)), 1000, rounds=50)) == 9


def test_it_finds_room_that_comes_later_in_growing_steps() -> None:
    limit = AdaptiveLimit(Adaptive(max=500, start=16))
    play(limit, 10, rounds=50)
    assert limit.limit <= 10
    assert play(limit, 400, rounds=3000)[-1] >= 300


def test_what_is_not_used_up_proves_nothing() -> None:
    limit = AdaptiveLimit(Adaptive(max=64, start=8))
    for _ in range(100):
        assert not limit.succeeded(0.0, 7)
    assert limit.limit == 8


def starts(pace: RateLimit, until: float, *, late: float = 0.0, began: float = 5.0) -> list[float]:
    """When requests start that are always waited for, with timers that are late."""
    now, found = began, []
    while now < began + until:
        found.append(now)
        pace.record_start(now)
        if delay := pace.delay(now):
            now += delay + late
    return found


def test_in_no_minute_are_there_more_than_a_minutes_requests() -> None:
    pace = RateLimit(1.0)
    assert len(starts(pace, 60.0)) == 60
    assert len(starts(pace, 60.0, began=500.0)) == 60  # idle time is not saved up


@pytest.mark.parametrize("rate", [5, 50, 1000])
def test_a_rate_is_kept_though_timers_are_late(rate: int) -> None:
    found = starts(RateLimit(1 / rate), 10.0, late=CATCH_UP / 4)
    assert 0.97 * 10 * rate <= len(found) <= 10 * rate + CATCH_UP * rate + 1


@pytest.mark.parametrize(
    ("given", "argument"),
    [
        ({"min": 0}, "adaptive.min"),
        ({"min": 5, "max": 4}, "adaptive.max"),
        ({"max": 4, "start": 5}, "adaptive.start"),
        ({"min": 4, "start": 3}, "adaptive.start"),
        ({"max": 2.5}, "adaptive.max"),
        ({"start": True}, "adaptive.start"),
    ],
)
def test_bounds_that_make_no_sense_are_refused_by_name(given: Any, argument: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        Adaptive(**given)
    assert caught.value.argument == argument


def test_the_start_lies_within_the_bounds() -> None:
    assert Adaptive().start == 8
    assert Adaptive(max=3).start == 3
    assert Adaptive(min=20).start == 20
    assert Adaptive(start=100).start == 100


@pytest.mark.parametrize(
    ("rate", "interval"),
    [
        (None, 0.0),
        (4, 0.25),
        (0.5, 2.0),
        ("60/m", 1.0),
        ("120 / min", 0.5),
        ("10/s", 0.1),
        ("7200/hour", 0.5),
        ("0.5/second", 2.0),
    ],
)
def test_a_rate_is_a_number_a_second_or_says_its_period(rate: Any, interval: float) -> None:
    assert rate_interval(rate, "rate") == pytest.approx(interval)


@pytest.mark.parametrize(
    "rate", [0, -1, True, "", "60", "60/d", "/m", "0/m", "-5/s", float("nan"), float("inf"), [1]]
)
def test_what_is_no_rate_is_refused_by_name(rate: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="60/m") as caught:
        rate_interval(rate, "rate")
    assert caught.value.argument == "rate"
