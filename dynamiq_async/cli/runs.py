"""The commands for an App's runs: `runs create`, `follow`, `wait`, `answer` and the like."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Group, Parameter
from cyclopts.validators import Number, mutually_exclusive

from dynamiq_async.cli import answers, asking, following, history, inputs, output, tables
from dynamiq_async.cli.options import (
    CALL,
    DEFAULT_CALL,
    DEFAULT_CONNECTION,
    OUTPUT,
    Call,
    Connection,
    Input,
    RunId,
    commands,
)
from dynamiq_async.cli.problems import following as how_to_follow

if TYPE_CHECKING:
    from collections.abc import Callable

    from dynamiq_async.app import AsyncApp
    from dynamiq_async.runs.models import Run
    from dynamiq_async.runs.questions import RunQuestion
    from dynamiq_async.runs.stream import RunStream

_PAGE_SIZE = 100
_STYLES = {
    "completed": "green",
    "failed": "red",
    "canceled": "dim",
    "awaiting_input": "bold yellow",
}

_MODE = Group("Mode", show=False, validator=mutually_exclusive)

app: App = commands(
    "runs", "The runs of an App: they have an id, a history that can be followed, and questions."
)

_FORMAT = Group("Format", show=False, validator=mutually_exclusive)

Events = Annotated[
    bool, Parameter(group=(OUTPUT, _FORMAT), help="One event's JSON a line, also on a terminal.")
]
Text = Annotated[
    bool, Parameter(group=(OUTPUT, _FORMAT), help="Only the answer's text, also on a terminal.")
]


@app.command
def create(
    input: Input,
    /,
    *,
    follow: Annotated[
        bool,
        Parameter(
            name=("--follow", "--stream"),
            group=(CALL, _MODE),
            help="Show the run's events as they come, as `runs follow` does.",
        ),
    ] = False,
    background: Annotated[
        bool, Parameter(group=(CALL, _MODE), help="Return at once, with the run's id.")
    ] = False,
    wait_timeout: Annotated[
        float | None,
        Parameter(
            group=(CALL, _MODE),
            validator=Number(gt=0),
            help="Start it in the background and poll it until it is over, for at most this many "
            "seconds. No connection has to last as long as the run.",
        ),
    ] = None,
    file_id: Annotated[
        tuple[str, ...],
        Parameter(group=CALL, help="The id of a file uploaded before. May be repeated."),
    ] = (),
    dedupe: Annotated[
        bool,
        Parameter(
            group=CALL,
            help="Give this run a session of its own, by which it is found again if the response "
            "to its creation is lost.",
        ),
    ] = False,
    text: Text = False,
    json: Events = False,
    call: Call = DEFAULT_CALL,
    connection: Connection = DEFAULT_CONNECTION,
) -> None:
    """Start a run, wait for its end and print it.

    A run that failed or was canceled is printed too, and the exit code is 1.

    ```
    dynamiq-async runs create '{"question": "What can you do?"}' --follow
    dynamiq-async runs create @input.json --background | jq -r .id
    dynamiq-async runs create @input.json --wait-timeout 3600 --file invoice.pdf
    ```
    """
    output.check()
    value = inputs.read_json(input)
    arguments: dict[str, Any] = {"file_ids": list(file_id) or None, "dedupe": dedupe}
    arguments |= call.arguments()
    if follow:
        _follow(connection, lambda app: app.runs.stream(value, **arguments), text=text, json=json)
        return

    async def create_run() -> Run:
        async with connection.open() as app:
            detached = background or wait_timeout is not None
            with output.waiting_for(app.url):
                run: Run = await app.runs.create(value, background=detached, **arguments)
                return run

    run = asyncio.run(create_run())
    if wait_timeout is not None:
        run = _wait(run.id, wait_timeout, connection)
    _print_end(run)


@app.command
def follow(
    run_id: RunId,
    /,
    *,
    after: Annotated[
        int | None,
        Parameter(
            validator=Number(gte=0), help="Resume after the event with this sequence number."
        ),
    ] = None,
    timeout: Annotated[
        float | None, Parameter(help="Seconds for all of it. [default: no such limit]")
    ] = None,
    text: Text = False,
    json: Events = False,
    connection: Connection = DEFAULT_CONNECTION,
) -> None:
    """Show a run's events from its start, or from a position, until it ends.

    On a terminal: the answer's text, an agent's reasoning (dimmed), its tool calls, and the run's
    questions, which you can answer. Anywhere else: JSON lines, one event a line. After a broken
    connection, the command reconnects, and shows every event once. Ctrl-C does not stop the run,
    and prints where to resume. The exit code is 1 if the run failed or was canceled.

    ```
    dynamiq-async runs follow RUN_ID
    dynamiq-async runs follow RUN_ID --after 120
    dynamiq-async runs follow RUN_ID | jq -c .type
    ```
    """
    arguments: dict[str, Any] = {"after_sequence": after}
    if timeout is not None:
        arguments["timeout"] = timeout
    _follow(
        connection,
        lambda app: app.runs.follow(run_id, **arguments),
        text=text,
        json=json,
        after=after,
    )


def _follow(
    connection: Connection,
    stream: Callable[[AsyncApp], RunStream[Any]],
    *,
    text: bool,
    json: bool,
    after: int | None = None,
) -> None:
    machine = text or json or not output.is_terminal()
    view: following.View
    if text:
        view = following.PlainText()
    else:
        view = following.JSONLines() if machine else following.RunView(output.console())
    asks = not machine and output.is_interactive()
    follower = following.Follower(view, asks=asks, after=after)

    async def show() -> None:
        async with connection.open() as app:
            await follower.show(app, stream(app))

    with follower.detaching():
        asyncio.run(show())


@app.command
def wait(
    run_id: RunId,
    /,
    *,
    timeout: Annotated[
        float,
        Parameter(help="Seconds. A run whose server was killed never ends. [default: 3600]"),
    ] = 3600.0,
    connection: Connection = DEFAULT_CONNECTION,
) -> None:
    """Poll a run until it is over, and print it.

    On a terminal you can answer the run's questions. The exit code is 1 if the run failed, was
    canceled, or was not over in time.

    ```
    dynamiq-async runs wait RUN_ID --timeout 600
    ```
    """
    _print_end(_wait(run_id, timeout, connection))


def _wait(run_id: str, timeout: float, connection: Connection) -> Run:
    async def wait_for_run() -> Run:
        async with connection.open() as app:
            run = app.runs.handle(run_id)

            async def ask(question: RunQuestion) -> None:
                await asking.show_and_ask(run, question)

            on_question = ask if output.is_interactive() else None
            return await run.wait(timeout=timeout, on_question=on_question)

    if output.is_terminal():
        output.remark(f"waiting for run {run_id}")
    try:
        return asyncio.run(wait_for_run())
    except KeyboardInterrupt:
        output.remark(f"detached; {how_to_follow(run_id, None)}")
        raise


def _print_end(run: Run) -> None:
    """Print a run. Raise if it failed or was canceled."""
    output.print_json(run)
    if run.is_terminal:
        run.unwrap()


@app.command
def get(run_id: RunId, /, *, connection: Connection = DEFAULT_CONNECTION) -> None:
    """Print a run as it is now, with the questions that wait for an answer.

    ```
    dynamiq-async runs get RUN_ID | jq .input_requests
    ```
    """

    async def fetch() -> Run:
        async with connection.open() as app:
            return await app.runs.get(run_id)

    output.print_json(asyncio.run(fetch()))


@app.command(name="list")
def list_(
    *,
    status: Annotated[
        tuple[str, ...],
        Parameter(
            help="Only runs of this status: created, started, paused, awaiting_input, completed, "
            "failed, canceled. May be repeated."
        ),
    ] = (),
    user_id: Annotated[str | None, Parameter(help="Only runs of this user.")] = None,
    session_id: Annotated[str | None, Parameter(help="Only runs of this conversation.")] = None,
    sort: Annotated[
        str | None,
        Parameter(
            allow_leading_hyphen=True,
            help="Fields, separated by commas; `-` before one for descending. "
            "[default: newest first]",
        ),
    ] = None,
    limit: Annotated[
        int, Parameter(validator=Number(gte=1), help="The most to list. [default: 25]")
    ] = 25,
    connection: Connection = DEFAULT_CONNECTION,
) -> None:
    """List the App's runs: as a table on a terminal, one run's JSON a line anywhere else.

    ```
    dynamiq-async runs list --status failed --status canceled --limit 100
    dynamiq-async runs list --status awaiting_input --sort started_at | jq -r .id
    ```
    """

    async def fetch() -> list[Run]:
        async with connection.open() as app:
            pages = app.runs.list(
                status=status,
                user_id=user_id,
                session_id=session_id,
                sort=sort,
                page_size=min(limit + 1, _PAGE_SIZE),
            )
            return await tables.beginning(pages, limit)

    names = ("id", "status", "started", "ended", "user", "session")
    tables.print_list(asyncio.run(fetch()), names, _row, none="no runs", limit=limit)


def _row(run: Run) -> list[tables.Cell]:
    return [
        run.id,
        (run.status, _STYLES.get(run.status, "cyan")),
        *map(tables.local_time, (run.started_at, run.ended_at)),
        run.user_id,
        run.session_id,
    ]


@app.command
def events(run_id: RunId, /, *, connection: Connection = DEFAULT_CONNECTION) -> None:
    """Print the events of a run that are stored so far, one event's JSON a line.

    ```
    dynamiq-async runs events RUN_ID | jq -c '[.sequence, .type]'
    ```
    """
    lines = following.JSONLines()

    async def show() -> None:
        async with connection.open() as app:
            async for event in app.runs.events(run_id, prefetch=True):
                lines.show(event)
                await output.drain()

    asyncio.run(show())


@app.command
def cancel(run_id: RunId, /, *, connection: Connection = DEFAULT_CONNECTION) -> None:
    """Cancel a run, and print its new state. A run that is over does not change.

    ```
    dynamiq-async runs cancel RUN_ID
    ```
    """

    async def cancel_run() -> Run:
        async with connection.open() as app:
            await app.runs.cancel(run_id)
            return await app.runs.get(run_id)

    output.print_json(asyncio.run(cancel_run()))


app.command(answers.answer)
app.command(history.artifacts)
