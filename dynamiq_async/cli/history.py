"""The commands that show past calls of an App, by the management API: `traces`, `sessions`,
`runs artifacts`."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import cyclopts
from cyclopts import Parameter
from cyclopts.validators import Number

from dynamiq_async.app import URL_VARIABLE
from dynamiq_async.cli import output, tables
from dynamiq_async.cli.apps import DEFAULT_MANAGEMENT, Management
from dynamiq_async.cli.files import progress_bar
from dynamiq_async.cli.options import CALL, CONNECTION, OUTPUT, RunId, commands
from dynamiq_async.downloads import DEFAULT_MAX_BYTES
from dynamiq_async.errors import InvalidArgumentError
from dynamiq_async.management import MAX_PAGE_SIZE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dynamiq_async.management import (
        App,
        Artifact,
        AsyncManagement,
        Session,
        SessionMessage,
        Trace,
    )

T = TypeVar("T")

_STYLES = {"succeeded": "green", "failed": "red", "canceled": "dim"}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

traces_app: cyclopts.App = commands(
    "traces", "What calls of an App were given, how they ended, what they cost."
)
sessions_app: cyclopts.App = commands(
    "sessions", "The conversations of an App, and what was said in them."
)

AppName = Annotated[
    str | None,
    Parameter(
        name="--app",
        env_var=URL_VARIABLE,
        group=CONNECTION,
        help="The App's name, id or hostname.",
    ),
]
Limit = Annotated[int, Parameter(validator=Number(gte=1), help="The most to list. [default: 25]")]


def _run(
    management: Management, name: str | None, call: Callable[[AsyncManagement, App], Awaitable[T]]
) -> T:
    """Call `call` with a client and the App, and return its result."""
    if not name:
        raise InvalidArgumentError(
            f"no App: name it with --app, or set {URL_VARIABLE}", argument="host_or_url"
        )

    async def run() -> T:
        async with management.open() as client:
            try:
                app = await client.find(name)
            except InvalidArgumentError as error:
                if error.argument == "app":
                    error.argument = "host_or_url"  # which is `--app` on the command line
                raise
            return await call(client, app)

    return asyncio.run(run())


# --- traces --------------------------------------------------------------------------------------


@traces_app.command(name="list")
def list_traces(
    *,
    since: Annotated[
        str | None,
        Parameter(help="Only calls that started then or later: a time, or as `2h` or `7d` ago."),
    ] = None,
    until: Annotated[
        str | None, Parameter(help="Only calls that started then or earlier, written as --since.")
    ] = None,
    status: Annotated[
        tuple[str, ...],
        Parameter(help="Only calls of this status, such as succeeded or failed. May be repeated."),
    ] = (),
    limit: Limit = 25,
    app: AppName = None,
    management: Management = DEFAULT_MANAGEMENT,
) -> None:
    """List an App's traces: as a table on a terminal, one trace's JSON a line anywhere else.

    A time without a zone is in this machine's zone.

    ```
    dynamiq-async traces list --app 'Support bot' --since 24h --status failed
    dynamiq-async traces list --since 7d --limit 10000 | jq -s 'map(.usage.cost) | add'
    ```
    """
    after, before = _time(since, "since"), _time(until, "until")

    async def fetch(client: AsyncManagement, app: App) -> list[Trace]:
        pages = client.traces.list(
            app,
            since=after,
            until=before,
            status=status,
            page_size=min(limit + 1, MAX_PAGE_SIZE),
        )
        return await tables.beginning(pages, limit)

    names = ("id", "status", "started", "ended", "tokens", "US$")
    found = _run(management, app, fetch)
    tables.print_list(found, names, _trace_row, none="no traces", limit=limit)


@traces_app.command(name="get")
def get_trace(
    trace_id: Annotated[
        str, Parameter(name="ID", help="The id of a trace, or of a submitted call.")
    ],
    /,
    *,
    app: AppName = None,
    management: Management = DEFAULT_MANAGEMENT,
) -> None:
    """Print a trace, with its input, its output and its usage.

    A submitted call has a trace too, so you can get its result even if the callback was lost.

    ```
    dynamiq-async traces get "$(dynamiq-async submit @input.json | jq -r .id)" | jq .output
    ```
    """
    output.print_json(_run(management, app, lambda client, app: client.traces.get(app, trace_id)))


def _trace_row(trace: Trace) -> list[tables.Cell]:
    usage = trace.usage
    tokens = usage.total_tokens if usage is not None else None
    cost = usage.cost if usage is not None else None
    return [
        trace.id,
        (trace.status or "", _STYLES.get(trace.status or "", "cyan")),
        *map(tables.local_time, (trace.started_at, trace.ended_at)),
        None if tokens is None else str(tokens),
        None if cost is None else f"{cost:.4g}",
    ]


def _time(given: str | None, argument: str) -> datetime | None:
    """A point in time from the command line."""
    if given is None:
        return None
    if match := _DURATION.fullmatch(given):
        ago = timedelta(**{_UNITS[match[2]]: float(match[1])})
        return datetime.now(UTC) - ago
    try:
        return datetime.fromisoformat(given).astimezone()
    except (ValueError, OverflowError):
        raise InvalidArgumentError(
            f"{argument} must be a time, such as 2026-01-31T12:00, or how long ago, such as 2h or "
            f"7d, not {given!r}",
            argument=argument,
        ) from None


# --- sessions ------------------------------------------------------------------------------------


@sessions_app.command(name="list")
def list_sessions(
    *,
    limit: Limit = 25,
    app: AppName = None,
    management: Management = DEFAULT_MANAGEMENT,
) -> None:
    """List an App's conversations: as a table on a terminal, one's JSON a line anywhere else.

    ```
    dynamiq-async sessions list --app 'Support bot' | jq -r .id
    ```
    """

    async def fetch(client: AsyncManagement, app: App) -> list[Session]:
        pages = client.sessions.list(app, page_size=min(limit + 1, MAX_PAGE_SIZE))
        return await tables.beginning(pages, limit)

    def row(session: Session) -> list[tables.Cell]:
        times = map(tables.local_time, (session.created_at, session.updated_at))
        return [session.id, session.user_id, *times]

    names = ("id", "user", "created", "updated")
    found = _run(management, app, fetch)
    tables.print_list(found, names, row, none="no sessions", limit=limit)


@sessions_app.command
def messages(
    session_id: Annotated[str, Parameter(name="SESSION_ID", help="The conversation's id.")],
    /,
    *,
    limit: Limit = 25,
    app: AppName = None,
    management: Management = DEFAULT_MANAGEMENT,
) -> None:
    """Print the messages of a conversation: as a table on a terminal, JSON lines anywhere else.

    ```
    dynamiq-async sessions messages SESSION_ID | jq -c '[.input, .output]'
    ```
    """

    async def fetch(client: AsyncManagement, app: App) -> list[SessionMessage]:
        pages = client.sessions.messages(app, session_id, page_size=min(limit + 1, MAX_PAGE_SIZE))
        return await tables.beginning(pages, limit)

    def row(message: SessionMessage) -> list[tables.Cell]:
        said = (tables.short_json(message.input), tables.short_json(message.output))
        return [tables.local_time(message.created_at), *said, message.trace_id]

    names = ("when", "input", "output", "trace")
    found = _run(management, app, fetch)
    tables.print_list(found, names, row, none="no messages", limit=limit)


# --- artifacts -----------------------------------------------------------------------------------


def artifacts(
    run_id: RunId,
    /,
    *,
    save: Annotated[
        Path | None,
        Parameter(group=OUTPUT, help="Download them to this folder, which is made if need be."),
    ] = None,
    max_bytes: Annotated[
        int,
        Parameter(
            group=CALL, validator=Number(gte=1), help="The most bytes that one of them may have."
        ),
    ] = DEFAULT_MAX_BYTES,
    app: AppName = None,
    management: Management = DEFAULT_MANAGEMENT,
) -> None:
    """List the files that a run has made, or download them and print their paths.

    On a terminal: a table. Anywhere else: one file's JSON a line, with a link that works for
    a short time, for anybody who has it. The command uses the management API, with its token. In
    a folder, a download never overwrites a file.

    ```
    dynamiq-async runs artifacts RUN_ID --app 'Support bot'
    dynamiq-async runs artifacts RUN_ID --save reports
    ```
    """
    if save is not None:
        _make_folder(save)

    async def fetch(client: AsyncManagement, app: App) -> list[Artifact]:
        pages = client.artifacts.list(app, run_id, page_size=MAX_PAGE_SIZE)
        async with pages as listed:
            found = [artifact async for artifact in listed]
        if save is not None:
            await _save(found, save, max_bytes)
        return found

    found = _run(management, app, fetch)
    if save is None or not found:
        names = ("name", "bytes", "type", "saved", "id")
        tables.print_list(found, names, _artifact_row, none="no artifacts")


async def _save(found: list[Artifact], folder: Path, max_bytes: int) -> None:
    for artifact in found:
        with progress_bar(artifact.name or artifact.id or "artifact") as progress:
            path = await artifact.save(folder, max_bytes=max_bytes, progress=progress)
        output.write_line(str(path))


def _artifact_row(artifact: Artifact) -> list[tables.Cell]:
    return [
        artifact.name,
        None if artifact.size is None else str(artifact.size),
        artifact.mime_type,
        tables.local_time(artifact.saved_at),
        artifact.id,
    ]


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidArgumentError(f"save cannot be used: {error}", argument="save") from error
