"""The benchmarks' own bookkeeping. Nothing here is timed."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

import pytest

from benchmarks import _report
from benchmarks.__main__ import areas
from benchmarks._measure import Work, expect, measure
from benchmarks._results import Comparison, Goal, Machine, Results, Spread

if TYPE_CHECKING:
    from pathlib import Path


def comparison(**samples: list[float]) -> Comparison:
    return Comparison(
        "area", "name", unit="µs", columns=[*samples, "gone"], base="ours", samples=samples
    )


def test_every_area_says_what_it_is_and_no_two_tables_have_one_name() -> None:
    modules = [importlib.import_module(f"benchmarks.{name}") for name in areas()]
    tables = [table for module in modules for table in module.TABLES]
    assert all(module.__doc__ for module in modules)
    assert len(tables) == len(set(tables)) >= len(modules)


def test_a_ratio_is_taken_round_by_round() -> None:
    drifting = comparison(ours=[1.0, 2.0, 4.0], theirs=[3.0, 6.0, 12.0])
    assert drifting.ratio("theirs", "ours") == Spread(3.0, 3.0, 3.0)


@pytest.mark.parametrize(
    ("goal", "met"),
    [
        (Goal("theirs", "ours", at_least=3.0), True),
        (Goal("theirs", "ours", at_least=3.1), False),
        (Goal("ours", "theirs", at_most=0.3), False),
        (Goal("ours", at_most=2.0), True),
    ],
)
def test_a_goal_is_met_by_the_median(goal: Goal, met: bool) -> None:
    measured = comparison(ours=[1.0, 2.0, 4.0], theirs=[3.0, 6.0, 12.0]).measured(goal)
    assert measured is not None
    assert goal.met(measured) is met


def test_a_goal_about_a_contender_that_is_not_there_is_neither_met_nor_missed() -> None:
    assert comparison(ours=[1.0]).measured(Goal("gone", "ours", at_least=1.0)) is None


def test_a_contender_that_is_wrong_leaves_the_comparison_and_is_said_to_be() -> None:
    def raises() -> None:
        raise ValueError("no such\nthing")

    samples, failed = measure(
        {
            "right": Work(lambda: 3, check=lambda seen: expect(seen, 3)),
            "short": Work(lambda: 2, check=lambda seen: expect(seen, 3)),
            "raises": Work(raises),
        },
        rounds=2,
        seconds=0,
    )
    assert len(samples.pop("right")) == 2
    assert not samples
    assert failed == {"short": "2 of 3 events", "raises": "ValueError: no such thing"}


def test_only_a_full_run_may_be_reported(tmp_path: Path) -> None:
    results = Results(Machine.here(), complete=False)
    with pytest.raises(SystemExit, match="full run"):
        _report.write(results, tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_table_shows_costs_ratios_goals_and_what_is_wrong() -> None:
    shown = comparison(ours=[2.0, 2.0], theirs=[6.0, 6.0])
    shown.goals = [Goal("theirs", "ours", at_least=5.0)]
    shown.notes = {"gone": "not installed"}
    text = _report.markdown(Results(Machine.here(), complete=True, comparisons=[shown]))
    assert "| area: name | theirs ÷ ours | ≥ 5 | 3.00 (3.00 to 3.00) | **no** |" in text
    assert "| name | 2.00 ± 0% | 6.00, 3.00x | not installed |" in text
