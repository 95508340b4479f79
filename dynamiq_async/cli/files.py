"""The commands for an App's files: `files upload`."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter
from cyclopts.types import ExistingFile

from dynamiq_async.cli import output
from dynamiq_async.cli.options import (
    DEFAULT_CONNECTION,
    DEFAULT_LIMITS,
    OUTPUT,
    Connection,
    Limits,
    commands,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dynamiq_async._http.uploads import Progress
    from dynamiq_async.files import File

app: App = commands("files", "The files of an App, which its runs can be given by id.")


@app.command
def upload(
    path: Annotated[ExistingFile, Parameter(help="The file, of at most 128 MiB.")],
    /,
    *,
    name: Annotated[
        str | None, Parameter(help="The name to upload it under. [default: its own]")
    ] = None,
    mime_type: Annotated[
        str | None, Parameter(help="The file's media type. [default: guessed from the name]")
    ] = None,
    json: Annotated[bool, Parameter(group=OUTPUT, help="Print the whole answer as JSON.")] = False,
    limits: Limits = DEFAULT_LIMITS,
    connection: Connection = DEFAULT_CONNECTION,
) -> None:
    """Upload a file to the App and print its id.

    ```
    dynamiq-async files upload report.pdf
    id=$(dynamiq-async files upload scan.bin --name scan.pdf --mime-type application/pdf)
    dynamiq-async runs create '{"question": "What does it say?"}' --file-id "$id"
    ```
    """

    async def upload_file() -> File:
        async with connection.open() as client:
            with progress_bar(path.name) as progress:
                return await client.files.upload(
                    path, name=name, mime_type=mime_type, progress=progress, **limits.arguments()
                )

    file = asyncio.run(upload_file())
    if json:
        output.print_json(file)
    else:
        output.write_line(file.id)


@contextlib.contextmanager
def progress_bar(name: str) -> Iterator[Progress]:
    """A progress bar on stderr, if a terminal can show it."""
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TransferSpeedColumn,
    )

    console = output.console(stderr=True)
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task(output.visible(name), total=None)
        yield lambda sent, size: bar.update(task, completed=sent, total=size)
