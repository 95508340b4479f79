"""How far a batch is: a line that changes on a terminal, a line now and then in a log."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from dynamiq_async.cli import output

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from dynamiq_async.batch.models import BatchProgress

TERMINAL_SECONDS = 0.2
LOG_SECONDS = 5.0


@contextlib.asynccontextmanager
async def show_progress(
    progress: Callable[[], BatchProgress], *, live: bool
) -> AsyncIterator[None]:
    """Show the figures on stderr while the body runs.

    Args:
        live: in a line that changes; else in one now and then.
    """
    task = asyncio.create_task((_on_terminal if live else _log)(progress))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _on_terminal(progress: Callable[[], BatchProgress]) -> None:
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

    figures = progress()
    shape = SpinnerColumn() if figures.total is None else BarColumn(bar_width=20)
    text = TextColumn("{task.description}", markup=False)
    with Progress(shape, text, console=output.console(stderr=True), transient=True) as bar:
        task = bar.add_task(line(figures), total=figures.total)
        while True:
            await asyncio.sleep(TERMINAL_SECONDS)
            figures = progress()
            bar.update(task, completed=figures.done, description=line(figures))


async def _log(progress: Callable[[], BatchProgress]) -> None:
    while True:
        await asyncio.sleep(LOG_SECONDS)
        output.remark(line(progress()))


def line(figures: BatchProgress, *, ended: bool = False) -> str:
    """The figures in one line; when the batch has ended, without those of the moment."""
    done = f"{figures.done:,}"
    if figures.total is not None:
        done += f" of {figures.total:,}"
    parts = [f"{done} done"]
    if figures.skipped:
        parts.append(f"{figures.skipped:,} from the journal")
    if figures.found:
        parts.append(f"{figures.found:,} found")
    if figures.failed:
        parts.append(f"{figures.failed:,} failed")
    if figures.throttled:
        parts.append(f"slowed down {figures.throttled} x")
    if not ended:
        parts.append(f"{figures.in_flight} of {figures.limit} under way")
        if figures.cooldown:
            parts.append(f"asked to wait {figures.cooldown:.0f} s")
        if figures.offline:
            parts.append(f"no connection for {figures.offline:.0f} s")
        if figures.rate:
            parts.append(f"{figures.rate:.1f}/s")
        if figures.eta is not None:
            parts.append(f"{duration(figures.eta)} left")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """Such as 0:07, 12:34 or 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
