"""`journal`: shows the content of a batch's journal."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from dynamiq_async.batch.journal import Journal, JournalReader, JournalReaders
from dynamiq_async.cli import output
from dynamiq_async.cli.options import OUTPUT
from dynamiq_async.cli.writing import Target


def journal(
    path: Annotated[Path, Parameter(help="The file that --journal named.")],
    /,
    *more: Annotated[Path, Parameter(help="Journals of other shards, to read with it.")],
    out: Annotated[
        str | None,
        Parameter(
            name=("--output", "-o"),
            group=OUTPUT,
            allow_leading_hyphen=True,
            help="Write what the journal has of each input, as JSON lines, to this file, which is "
            "replaced when it is complete, or `-` for stdout. A name that ends in .parquet, .arrow "
            "or .csv is a table's.",
        ),
    ] = None,
    state: Annotated[
        Literal["done", "failed", "running", "unknown"] | None,
        Parameter(
            group=OUTPUT,
            help="Only inputs in this state. `running` is also what was under "
            "way when a batch died.",
        ),
    ] = None,
) -> None:
    """Show how far a batch is, or write what is known of its inputs as JSON lines.

    This works while the batch runs. On a terminal, the command prints how many inputs are in each
    state. Anywhere else, it writes the inputs.

    ```
    dynamiq-async journal job.db
    dynamiq-async journal job.db -o everything.jsonl
    dynamiq-async journal job.db -o everything.parquet
    dynamiq-async journal shard-1.db shard-2.db -o everything.jsonl
    dynamiq-async journal job.db --state failed | jq -r .error.message
    ```
    """
    target = None if out is None else Target(out, may_replace=True, journal=path)
    with Journal.read(path, *more) as reader:
        if out is None and output.is_terminal():
            _print_counts(reader)
        elif target is None or target.path is None:
            for entry in reader.entries(state):
                output.write(output.json_line(entry))
        else:
            count = reader.export(target.given, state=state)
            output.remark(f"{count:,} written to {out}")


def _print_counts(reader: JournalReader | JournalReaders) -> None:
    for journal in [reader] if isinstance(reader, JournalReader) else reader.journals:
        created = datetime.fromtimestamp(journal.created_at).astimezone()
        about = f"mode {journal.mode} at {journal.app_url}"
        output.write_line(f"{about}, since {created:%Y-%m-%d %H:%M}")
    for name, count in reader.counts().items():
        output.write_line(f"{name:8} {count:>10,}")
