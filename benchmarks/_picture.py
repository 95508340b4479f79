"""The results as one picture, which is to be read on light and dark grounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl

mpl.use("svg")

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from benchmarks._clients import BARE, BYTES
from benchmarks._results import OURS
from benchmarks.decoder import BOUND, LARGE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from benchmarks._results import Comparison, Results

OURS_COLOUR, BASE_COLOUR = "#e8710a", "#2f9e69"
OTHERS = ("#4c8bd6", "#8a63d2", "#c2589a", "#3ba7a7", "#a8862d", "#d0564a", "#7f8a96")
INK = "#7f8793"  # legible on white and on black
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "results",
    "font.family": "sans-serif",
    "font.size": 8,
    "axes.facecolor": "none",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.titlecolor": INK,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 7,
}
BASES = {BOUND, BARE, BYTES, "aiohttp + msgspec"}


def draw(results: Results, path: Path) -> None:
    by_name = {comparison.full_name: comparison for comparison in results.comparisons}
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(11.5, 6.2), layout="constrained")
        above, below = figure.subfigures(2, 1)
        rows: dict[Any, list[Callable[[Any, dict[str, Comparison]], None]]] = {
            above: [_decoder, _streams, _slow],
            below: [_invoke, _large, _growth],
        }
        for row, panels in rows.items():
            for axes, panel in zip(row.subplots(1, 3), panels, strict=True):
                panel(axes, by_name)
        figure.savefig(path, format="svg", transparent=True, metadata={"Date": None})
    # Matplotlib leaves blanks at the ends of lines.
    path.write_text("".join(f"{line.rstrip()}\n" for line in path.read_text().splitlines()))


def _decoder(axes: Any, by_name: dict[str, Comparison]) -> None:
    _bars(axes, by_name["decoder: S1, 16 KB"], "Decoding, 16 KB chunks: µs per event", 1e-3)


def _streams(axes: Any, by_name: dict[str, Comparison]) -> None:
    _bars(axes, by_name["stream: a write per event"], "stream(): µs of CPU per event")


def _slow(axes: Any, by_name: dict[str, Comparison]) -> None:
    comparison = by_name["slow streams: 1,000 streams"]
    _bars(axes, comparison, "1,000 slow streams: % of a core")


def _bars(axes: Any, comparison: Comparison, title: str, scale: float = 1.0) -> None:
    names = sorted(comparison.samples, key=lambda name: -comparison.cost(name).median)
    costs = [comparison.cost(name).median * scale for name in names]
    colours = [_colour(name, OTHERS[-1]) for name in names]
    bars = axes.barh(names, costs, color=colours, height=0.7)
    axes.bar_label(bars, fmt="%.3g", padding=2, fontsize=7, color=INK)
    axes.set_title(title, loc="left")
    axes.margins(x=0.15)
    axes.tick_params(left=False)


def _invoke(axes: Any, by_name: dict[str, Comparison]) -> None:
    start = "invoke: concurrency "
    levels = [
        int(name.removeprefix(start))
        for name in by_name
        if name.startswith(start) and "uvloop" not in name
    ]
    comparisons = [by_name[f"{start}{level}"] for level in levels]
    _lines(axes, levels, comparisons, "invoke(): µs of CPU, by concurrency")


def _large(axes: Any, by_name: dict[str, Comparison]) -> None:
    comparisons = [by_name[f"one large event: {size}"] for size in LARGE]
    sizes = [size / 1e6 for size in LARGE.values()]
    _lines(axes, sizes, comparisons, "ms for one event of so many MB")


def _lines(axes: Any, xs: Sequence[float], comparisons: Sequence[Comparison], title: str) -> None:
    names = list(dict.fromkeys(name for c in comparisons for name in c.samples))
    others = iter(OTHERS)
    for name in names:
        points = [
            (x, comparison.cost(name).median)
            for x, comparison in zip(xs, comparisons, strict=True)
            if name in comparison.samples
        ]
        colour = _colour(name, None) or next(others)
        width = 2.5 if name == OURS else 1.2
        axes.loglog(
            *zip(*points, strict=True), marker=".", color=colour, linewidth=width, label=name
        )
    _finish(axes, title, xs)


def _finish(axes: Any, title: str, xs: Sequence[float]) -> None:
    axes.set_title(title, loc="left")
    axes.set_xticks(xs, [f"{x:,g}" for x in xs])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter("{x:,g}")
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))


def _growth(axes: Any, by_name: dict[str, Comparison]) -> None:
    """The whole cost against the size, both as multiples of the first: linear is the diagonal."""
    others = iter(OTHERS)
    largest = 1.0
    for name, comparison in by_name.items():
        if not name.startswith("scaling: "):
            continue
        sizes = [_size(column) for column in comparison.columns]
        costs = [comparison.cost(column).median for column in comparison.columns]
        growth = [size / sizes[0] for size in sizes]
        whole = [cost / costs[0] * factor for cost, factor in zip(costs, growth, strict=True)]
        label = comparison.area.removeprefix("scaling: ")
        axes.loglog(growth, whole, marker=".", color=next(others), label=label)
        largest = max(largest, growth[-1])
    axes.loglog((1, largest), (1, largest), color=INK, linewidth=0.8, linestyle=":", label="linear")
    _finish(axes, "Cost by size of the work", [10**n for n in range(0, 6, 2)])


def _size(column: str) -> float:
    amount, _, unit = column.replace(",", "").partition(" ")
    return float(amount) * {"": 1, "B": 1, "KB": 1e3, "MB": 1e6}[unit]


def _colour(name: str, other: str | None) -> Any:
    return OURS_COLOUR if name == OURS else BASE_COLOUR if name in BASES else other
