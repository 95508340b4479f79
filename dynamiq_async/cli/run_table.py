"""Runs in a list: a table for people, JSON lines for programs."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from dynamiq_async.cli import output

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dynamiq_async.runs.models import Run

_STYLES = {
    "completed": "green",
    "failed": "red",
    "canceled": "dim",
    "awaiting_input": "bold yellow",
}


def print_runs(runs: Sequence[Run]) -> None:
    """Print runs: a table on a terminal, one run's JSON a line anywhere else."""
    if not output.is_terminal():
        for run in runs:
            output.write(msgspec.json.encode(run) + b"\n")
    elif runs:
        _print_table(runs)
    else:
        output.remark("no runs")


def _print_table(runs: Sequence[Run]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("id", no_wrap=True)
    for name in ("status", "started", "ended", "user", "session"):
        table.add_column(name, overflow="fold")
    for run in runs:
        table.add_row(
            Text(output.visible(run.id)),
            Text(output.visible(run.status), _STYLES.get(run.status, "cyan")),
            *(
                Text(output.visible(text or ""))
                for text in (
                    _local(run.started_at),
                    _local(run.ended_at),
                    run.user_id,
                    run.session_id,
                )
            ),
        )
    output.console().print(table)


def _local(time: str | None) -> str | None:
    """A time in the local zone, to the second; a text that is no time as it is."""
    try:
        return f"{datetime.fromisoformat(time or '').astimezone():%Y-%m-%d %H:%M:%S}"
    except ValueError:
        return time
