"""Shows how far a batch is: a changing line on a terminal, a line now and then in a log."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from dynamiq_async.batch.displays import BAR_WIDTH, line
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
        live: show a line that changes, instead of a new line now and then.
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
    shape = SpinnerColumn() if figures.total is None else BarColumn(BAR_WIDTH)
    text = TextColumn("{task.description}", markup=False)
    console = output.console(stderr=True)
    room = console.width - BAR_WIDTH - 2
    with Progress(shape, text, console=console, transient=True) as bar:
        task = bar.add_task(line(figures, room=room), total=figures.total)
        while True:
            await asyncio.sleep(TERMINAL_SECONDS)
            figures = progress()
            bar.update(task, completed=figures.done, description=line(figures, room=room))


async def _log(progress: Callable[[], BatchProgress]) -> None:
    while True:
        await asyncio.sleep(LOG_SECONDS)
        output.remark(line(progress()))
