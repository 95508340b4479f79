"""What is shown of the results: lines while they come, and a Markdown table of a full run."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from benchmarks._results import Comparison, Goal, Results, Spread

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks._results import Machine

COMMAND = "python -m benchmarks --report"


def number(value: float) -> str:
    """With three significant digits, and no more decimals than that takes."""
    size = abs(value)
    return f"{value:,.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:.2f}"


def spread(measured: Spread) -> str:
    return f"{number(measured.median)} ({number(measured.low)} to {number(measured.high)})"


# --- on the terminal --------------------------------------------------------------------------


def machine_text(machine: Machine) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    return f"{machine.python} on {machine.system}\n{machine.cpu}, {machine.cores} cores\n{packages}"


def line(comparison: Comparison) -> str:
    cells = [f"{name} {cell(comparison, name)}" for name in comparison.columns]
    unit = f" [{comparison.unit}]" if comparison.unit else ""
    return f"{comparison.full_name}{unit}\n    " + "; ".join(cells)


def goals_text(results: Results) -> str:
    return "\n".join(
        f"{'met ' if met else 'NOT ' if met is False else ' -  '} {name}: {goal.what} "
        f"{goal.limit}, measured {spread(measured) if measured else 'nothing'}"
        for name, goal, measured, met in _goals(results)
    )


def _goals(results: Results) -> Iterator[tuple[str, Goal, Spread | None, bool | None]]:
    for comparison in results.comparisons:
        for goal in comparison.goals:
            measured = comparison.measured(goal)
            yield comparison.full_name, goal, measured, goal.met(measured) if measured else None


def cell(comparison: Comparison, contender: str) -> str:
    """Its cost, and how many times the base's it is; or what it got wrong."""
    if contender not in comparison.samples:
        return comparison.notes.get(contender, "not measured")
    cost = comparison.cost(contender)
    if contender == comparison.base:
        half = (cost.high - cost.low) / 2 / cost.median if cost.median else 0.0
        return f"{number(cost.median)} ± {half:.0%}"
    if comparison.base not in comparison.samples or not all(comparison.samples[comparison.base]):
        return number(cost.median)
    return f"{number(cost.median)}, {number(comparison.ratio(contender, comparison.base).median)}x"


# --- as Markdown ------------------------------------------------------------------------------


def write(results: Results, folder: Path) -> None:
    """RESULTS.md and results.svg, which only a full run may change."""
    if not results.complete:
        raise SystemExit("--report needs a full run: neither --quick nor --only nor --uvloop")
    from benchmarks._picture import draw

    (folder / "RESULTS.md").write_text(markdown(results))
    draw(results, folder / "results.svg")


def markdown(results: Results) -> str:
    machine = results.machine
    packages = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    lines = [
        "# Results",
        "",
        f"Made by `{COMMAND}`; do not edit. [How to read it](README.md).",
        "",
        f"{machine.python} on {machine.system}; {machine.cpu}, {machine.cores} cores. {packages}.",
        "",
        "![The results as a picture](results.svg)",
        "",
        "## Goals",
        "",
        "| comparison | ratio of costs | goal | measured (quartiles) | met |",
        "|---|---|---|---|---|",
    ]
    for name, goal, measured, met in _goals(results):
        shown = spread(measured) if measured else "not measured"
        lines.append(
            f"| {name} | {goal.what} | {goal.limit} | {shown} | {'yes' if met else '**no**'} |"
        )
    for area, comparisons in _by_area(results).items():
        lines += ["", f"## {_title(area)}", "", *_table(comparisons)]
    return "\n".join(lines) + "\n"


def _by_area(results: Results) -> dict[str, list[Comparison]]:
    areas: dict[str, list[Comparison]] = {}
    for comparison in results.comparisons:
        areas.setdefault(comparison.area, []).append(comparison)
    return areas


def _title(area: str) -> str:
    from benchmarks.__main__ import areas

    for module in areas():
        tables: dict[str, str] = importlib.import_module(f"benchmarks.{module}").TABLES
        if area in tables:
            return tables[area]
    return area


def _table(comparisons: list[Comparison]) -> Iterator[str]:
    columns = list(dict.fromkeys(name for c in comparisons for name in c.columns))
    if comparisons[0].unit:
        yield f"In {comparisons[0].unit}; the factor is to {comparisons[0].base}."
        yield ""
    yield "| | " + " | ".join(columns) + " |"
    yield "|---|" + "---:|" * len(columns)
    for comparison in comparisons:
        cells = [cell(comparison, name) if name in comparison.columns else "" for name in columns]
        yield f"| {comparison.name} | " + " | ".join(cells) + " |"
