"""The displays for `progress=`: a bar, lines in the log, or a function of the caller's.

The libraries for bars are imported when a bar is asked for, and are no dependency of this package.
"""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol

from dynamiq_async._telemetry import extra
from dynamiq_async.batch.models import BatchProgress
from dynamiq_async.errors import InvalidArgumentError

if TYPE_CHECKING:
    from dynamiq_async.events import Usage

ShowProgress = bool | Callable[[BatchProgress], object]

BAR_SECONDS = 0.2
BAR_WIDTH = 20
CALL_SECONDS = 0.5
LOG_SECONDS = 10.0

log: logging.Logger = logging.getLogger("dynamiq_async")


class Display(Protocol):
    """Shows the figures of one batch.

    Attributes:
        seconds: between two updates.
    """

    seconds: float

    def update(self, figures: BatchProgress) -> None:
        """Show these."""

    def close(self, figures: BatchProgress) -> None:
        """Show the last ones, and leave no bar."""


def display_of(progress: ShowProgress) -> Display | None:
    """The display for `progress`; None where nothing is shown.

    Raises:
        InvalidArgumentError: `progress` is neither a bool nor a function.
    """
    if progress is True:
        return _bar_or_log()
    if progress is False:
        return None
    if callable(progress):
        return CallDisplay(progress)
    raise InvalidArgumentError(
        f"progress must be True, False or a function of a BatchProgress, not {progress!r}",
        argument="progress",
    )


def _bar_or_log() -> Display:
    notebook = "ipykernel" in sys.modules
    if not (notebook or (sys.stderr is not None and sys.stderr.isatty())):
        return LogDisplay()
    # In a notebook, both libraries draw with ipywidgets, and warn if that is not installed.
    widgets = not notebook or _is_installed("ipywidgets")
    if _is_installed("rich") and widgets:
        return RichDisplay()
    if _is_installed("tqdm"):
        return TqdmDisplay(widgets=notebook and widgets)
    return LogDisplay()


def _is_installed(name: str) -> bool:
    return find_spec(name) is not None


class CallDisplay:
    """Calls a function with the figures."""

    seconds = CALL_SECONDS

    def __init__(self, call: Callable[[BatchProgress], object]) -> None:
        self._call = call

    def update(self, figures: BatchProgress) -> None:
        """Call the function."""
        self._call(figures)

    def close(self, figures: BatchProgress) -> None:
        """Call the function once more."""
        self._call(figures)


class LogDisplay:
    """Logs a line now and then, and one at the end."""

    seconds = LOG_SECONDS

    def __init__(self) -> None:
        self._began = False

    def update(self, figures: BatchProgress) -> None:
        """Log a line."""
        if self._began:  # at the beginning there is nothing to report
            log.info("batch: %s", line(figures), extra=extra())
        self._began = True

    def close(self, figures: BatchProgress) -> None:
        """Log the last line."""
        log.info("batch: %s", line(figures, ended=True), extra=extra())


class RichDisplay:
    """A bar by rich, in a terminal or a notebook."""

    seconds = BAR_SECONDS

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

        text = TextColumn("{task.description}", markup=False)
        console = Console(stderr=True)
        self._bar = Progress(SpinnerColumn(), BarColumn(BAR_WIDTH), text, console=console)
        self._room = console.width - BAR_WIDTH - 4  # beside the spinner
        self._task: Any = None

    def update(self, figures: BatchProgress, *, ended: bool = False) -> None:
        """Draw the bar."""
        if self._task is None:
            self._bar.start()
            self._task = self._bar.add_task("", total=figures.total)
        self._bar.update(
            self._task,
            completed=figures.done,
            total=figures.total,
            description=line(figures, ended=ended, room=self._room),
        )

    def close(self, figures: BatchProgress) -> None:
        """Draw the bar as it stays."""
        self.update(figures, ended=True)
        self._bar.stop()


class TqdmDisplay:
    """A bar by tqdm.

    Args:
        widgets: draw it with a notebook's widgets.
    """

    seconds = BAR_SECONDS

    def __init__(self, *, widgets: bool) -> None:
        self._widgets = widgets
        self._bar: Any = None

    def update(self, figures: BatchProgress, *, ended: bool = False) -> None:
        """Draw the bar."""
        if self._bar is None:
            module = import_module("tqdm.notebook" if self._widgets else "tqdm")
            self._bar = module.tqdm(total=figures.total, bar_format=f"{{bar:{BAR_WIDTH}}} {{desc}}")
        self._bar.total = figures.total
        self._bar.n = figures.done
        self._bar.set_description_str(line(figures, ended=ended))

    def close(self, figures: BatchProgress) -> None:
        """Draw the bar as it stays."""
        self.update(figures, ended=True)
        self._bar.close()


# The parts that a line that is too long leaves out, the least important first.
_LEFT_OUT = ("usage", "throttled", "found", "skipped", "in_flight", "rate")


def line(figures: BatchProgress, *, ended: bool = False, room: float = math.inf) -> str:
    """The figures in one line of at most `room` characters. The number of inputs, the reason for
    waiting and the time left are always shown. A line for a batch that has `ended` leaves out the
    figures of the moment."""
    done = f"{figures.done:,}"
    if figures.total is not None:
        done += f" of {figures.total:,}"
    parts = {"done": f"{done} done"}
    if figures.skipped:
        parts["skipped"] = f"{figures.skipped:,} from the journal"
    if figures.found:
        parts["found"] = f"{figures.found:,} found"
    if figures.failed:
        parts["failed"] = f"{figures.failed:,} failed"
    if figures.throttled:
        parts["throttled"] = f"slowed down {figures.throttled} x"
    if figures.usage is not None and (consumed := _consumed(figures.usage)):
        parts["usage"] = ", ".join(consumed)
    if not ended:
        parts |= _of_the_moment(figures)
    for name in _LEFT_OUT:
        if len(", ".join(parts.values())) <= room:
            break
        parts.pop(name, None)
    return ", ".join(parts.values())


def _of_the_moment(figures: BatchProgress) -> dict[str, str]:
    parts = {"in_flight": f"{figures.in_flight} of {figures.limit} under way"}
    if figures.cooldown:
        parts["cooldown"] = f"asked to slow down for {figures.cooldown:.0f} s"
    if figures.offline:
        parts["offline"] = f"cannot connect for {figures.offline:.0f} s"
    if figures.rate:
        parts["rate"] = f"{figures.rate:.1f}/s"
    if figures.eta is not None:
        parts["eta"] = f"{duration(figures.eta)} left"
    return parts


def _consumed(usage: Usage) -> list[str]:
    parts = []
    if usage.total_tokens is not None:
        parts.append(f"{usage.total_tokens:,} tokens")
    if usage.cost is not None:
        parts.append(f"${usage.cost:,.2f}")
    return parts


def duration(seconds: float) -> str:
    """Such as 0:07, 12:34 or 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
