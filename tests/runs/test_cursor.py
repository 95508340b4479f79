"""The cursor by itself: what is new, what is a repetition, and what may be missing."""

from __future__ import annotations

import random

from dynamiq_async import RunEvent
from dynamiq_async.runs.resumption import SPARSE_AFTER, Cursor, Gap, Hole


def events(*numbers: int, type: str = "custom") -> list[RunEvent]:
    return [RunEvent(type=type, sequence=number) for number in numbers]


def numbers(found: list[RunEvent]) -> list[int]:
    return [event.sequence for event in found]


def hole_of(cursor: Cursor, *batch: int) -> Hole:
    _, hole = cursor.take(events(*batch))
    assert hole is not None
    return hole


def test_what_is_new_comes_through_once() -> None:
    cursor = Cursor()
    fresh, hole = cursor.take(events(1, 2, 2, 1, 3))
    assert (numbers(fresh), hole, cursor.sequence) == ([1, 2, 3], None, 3)
    assert cursor.take(events(1, 3)) == ([], None)


def test_a_jump_is_a_hole_in_front_of_the_rest() -> None:
    cursor = Cursor(4)
    fresh, hole = cursor.take(events(5, 8, 9))
    assert (numbers(fresh), cursor.sequence) == ([5], 5)
    assert hole == Hole(6, 7, False, events(8, 9))


def test_a_stream_may_start_with_any_number_if_it_is_the_runs_start() -> None:
    fresh, hole = Cursor().take(events(7, type="run.started"))
    assert (numbers(fresh), hole) == ([7], None)
    assert hole_of(Cursor(), 7)[:3] == (1, 6, False)
    assert Cursor().take(events(1))[1] is None


def test_after_a_break_the_first_new_event_is_suspicious() -> None:
    cursor = Cursor(3)
    cursor.attached()
    assert hole_of(cursor, 2, 3, 5).after_break
    cursor.take(events(4))
    assert not hole_of(cursor, 6).after_break
    fresh = Cursor()
    fresh.attached()
    assert not hole_of(fresh, 5).after_break


def test_what_is_stored_fills_a_hole_in_order_and_once() -> None:
    cursor = Cursor(1)
    hole = hole_of(cursor, 9)
    found = cursor.fill(hole, events(7, 3, 3, 1, 9, 4))
    assert (numbers(found), cursor.sequence) == ([3, 4, 7], 8)
    assert cursor.gaps == [Gap(2, 2, True), Gap(5, 6, True), Gap(8, 8, True)]
    assert numbers(cursor.take(hole.rest)[0]) == [9]


def test_a_hole_that_is_passed_over_is_not_confirmed() -> None:
    cursor = Cursor(1)
    cursor.pass_over(hole_of(cursor, 4))
    assert (cursor.gaps, cursor.sequence) == ([Gap(2, 3, False)], 3)


def test_a_numbering_with_holes_is_believed_until_a_break() -> None:
    cursor = Cursor(0)
    for number in range(SPARSE_AFTER):
        assert cursor.fill(hole_of(cursor, 10 * (number + 1)), []) == []
        cursor.take(events(10 * (number + 1)))
    fresh, hole = cursor.take(events(100, 200, 300))
    assert (numbers(fresh), hole) == ([100, 200, 300], None)
    cursor.attached()
    cursor.fill(hole_of(cursor, 400), events(350))
    assert hole_of(cursor, 400, 500) is not None


def test_whatever_comes_each_event_comes_through_once_and_in_order() -> None:
    for seed in range(500):
        rng = random.Random(seed)
        stored = sorted(rng.sample(range(1, 40), 25))
        cursor, found = Cursor(), []
        while cursor.sequence is None or cursor.sequence < stored[-1]:
            cursor.attached()
            rest = rng.sample(stored, rng.randint(1, 25))
            while rest:
                fresh, hole = cursor.take(events(*rest))
                found += numbers(fresh)
                rest = []
                if hole is not None:
                    found += numbers(cursor.fill(hole, events(*stored)))
                    rest = numbers(list(hole.rest))
        assert found == stored[: len(found)], seed
        assert found == stored, seed
