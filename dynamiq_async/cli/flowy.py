"""The commands for Flowy: `flowy apps`, `run`, `get` and `download`."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

from cyclopts import Parameter
from cyclopts.validators import Number

from dynamiq_async import errors
from dynamiq_async.cli import inputs, output, problems, tables
from dynamiq_async.cli.files import progress_bar
from dynamiq_async.cli.options import (
    CALL,
    CONNECTION,
    DEFAULT_NETWORK,
    OUTPUT,
    Network,
    RunId,
    commands,
)
from dynamiq_async.flowy import DEFAULT_WAIT, KEY_VARIABLE, URL_VARIABLE, AsyncFlowy
from dynamiq_async.flowy.models import DEFAULT_MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from dynamiq_async.flowy.models import FlowyOutput, FlowyRun
    from dynamiq_async.flowy.schema import FlowyApp

T = TypeVar("T")

app = commands("flowy", "The apps of Flowy: run them, and download what they make.")

_ADVICE: tuple[tuple[type[errors.DynamiqError], str], ...] = (
    (errors.AuthenticationError, f"set {KEY_VARIABLE}"),
    (errors.NotFoundError, "dynamiq-async flowy apps shows the apps there are"),
    (errors.PaymentRequiredError, "the cap is lifted at the next UTC day, or by whoever set it"),
    (errors.ConnectError, "check --base-url, the network, and whether --proxy is needed"),
)


@Parameter(name="*", group=CONNECTION)
@dataclass(frozen=True)
class Flowy:
    """Where Flowy is. Its key is never an argument."""

    base_url: Annotated[
        str | None, Parameter(help=f"Flowy's URL. [default: {URL_VARIABLE}, or the vendor's own]")
    ] = None
    network: Network = DEFAULT_NETWORK

    def run(self, call: Callable[[AsyncFlowy], Awaitable[T]]) -> T:
        """The result of `call` with a client. Its errors get advice that is right for Flowy."""

        async def run_call() -> T:
            async with AsyncFlowy(None, self.base_url, **self.network.arguments()) as client:
                return await call(client)

        try:
            return asyncio.run(run_call())
        except errors.DynamiqError as error:
            problems.advise(error, _advice(error))
            raise


def _advice(error: errors.DynamiqError) -> str:
    if error.run_id and isinstance(error, errors.APIConnectionError | TimeoutError):
        return f"go on with: {output.command('flowy', 'get', error.run_id, '--wait')}"
    if isinstance(error, errors.NotFoundError) and "/apps" not in (error.url or ""):
        return ""  # there is no such run, or no such file
    return next((text for kind, text in _ADVICE if isinstance(error, kind)), "")


DEFAULT_FLOWY = Flowy()

Folder = Annotated[Path, Parameter(help="A folder, or the file for the only output.")]
MaxBytes = Annotated[
    int,
    Parameter(group=CALL, validator=Number(gte=1), help="The most that an output may have."),
]
Timeout = Annotated[
    float, Parameter(group=CALL, validator=Number(gt=0), help="Seconds to wait. [default: an hour]")
]


@app.command
def apps(
    app_id: Annotated[str | None, Parameter(name="APP", help="Its id or slug.")] = None,
    /,
    *,
    flowy: Flowy = DEFAULT_FLOWY,
) -> None:
    """List the apps, or show one with what it takes and makes.

    On a terminal: a table. Anywhere else: one app's JSON a line. The key is taken from FLOWY_KEY.

    ```
    dynamiq-async flowy apps
    dynamiq-async flowy apps product-poster | jq .inputs
    ```
    """
    if app_id is not None:
        one = app_id
        output.print_json(flowy.run(lambda client: client.apps.get(one)))
        return

    async def list_apps(client: AsyncFlowy) -> list[FlowyApp]:
        return list(await client.apps.list())

    tables.print_list(
        flowy.run(list_apps),
        ("id", "slug", "title", "description"),
        lambda each: (each.id, each.slug, each.title, each.description),
        none="no apps",
    )


@app.command
def run(
    app_id: Annotated[str, Parameter(name="APP", help="The app's id or slug.")],
    given: Annotated[
        str,
        Parameter(
            name="INPUTS",
            allow_leading_hyphen=True,
            help="Texts and URLs by label or node id: a JSON object, `@FILE`, or `-` for stdin.",
        ),
    ] = "{}",
    /,
    *,
    wait: Annotated[
        bool,
        Parameter(group=CALL, negative="--no-wait", help="Wait for the end of the run (default)."),
    ] = True,
    check: Annotated[
        bool,
        Parameter(
            group=CALL,
            negative="--no-check",
            help="Compare the inputs with what the app takes, before a run is started (default).",
        ),
    ] = True,
    save: Annotated[
        Path | None,
        Parameter(group=OUTPUT, help="Download the outputs to this folder, made if need be."),
    ] = None,
    timeout: Timeout = DEFAULT_WAIT,
    max_bytes: MaxBytes = DEFAULT_MAX_BYTES,
    flowy: Flowy = DEFAULT_FLOWY,
) -> None:
    """Run an app, wait for the end of the run and print it.

    With --save, the paths of its outputs are printed in place of it. A run that failed is printed
    all the same, and the exit code is 1.

    ```
    dynamiq-async flowy run product-poster '{"Slogan": "Fresh every day"}' --save posters
    dynamiq-async flowy run haiku @inputs.json | jq -r '.outputs[].text'
    dynamiq-async flowy run clip '{"Scene": "Rain"}' --no-wait | jq -r .runId
    ```
    """
    output.check()
    values = inputs.read_json(given, "inputs")
    if save is not None:
        _make_folder(save)

    async def run_app(client: AsyncFlowy) -> FlowyRun:
        flowy_run = await client.run(app_id, values, wait=False, check=check, timeout=timeout)
        if not wait and save is None:
            return flowy_run
        with _hint_on_error("get", flowy_run.run_id, "--wait"), output.waiting_for(app_id):
            flowy_run = await client.runs.wait(flowy_run.run_id, timeout=timeout)
        if save is not None:
            outputs = flowy_run.unwrap()
            with _hint_on_error("download", flowy_run.run_id, save):
                await _save(outputs, save, max_bytes)
        return flowy_run

    flowy_run = flowy.run(run_app)
    if save is None:
        _print_run(flowy_run)


@app.command
def get(
    run_id: RunId,
    /,
    *,
    wait: Annotated[bool, Parameter(group=CALL, help="Wait until it is over.")] = False,
    timeout: Timeout = DEFAULT_WAIT,
    flowy: Flowy = DEFAULT_FLOWY,
) -> None:
    """Print a run as it is now, or once it is over.

    ```
    dynamiq-async flowy get RUN_ID | jq -r .status
    dynamiq-async flowy get RUN_ID --wait --timeout 600
    ```
    """

    async def fetch(client: AsyncFlowy) -> FlowyRun:
        if not wait:
            return await client.runs.get(run_id)
        with output.waiting_for(run_id):
            return await client.runs.wait(run_id, timeout=timeout)

    _print_run(flowy.run(fetch))


@app.command
def download(
    run_id: RunId,
    path: Folder = Path(),
    /,
    *,
    node: Annotated[str | None, Parameter(help="Only the output of the node with this id.")] = None,
    max_bytes: MaxBytes = DEFAULT_MAX_BYTES,
    flowy: Flowy = DEFAULT_FLOWY,
) -> None:
    """Download the outputs of a completed run, and print the paths of the files.

    In a folder, a file never takes the place of another.

    ```
    dynamiq-async flowy download RUN_ID
    dynamiq-async flowy download RUN_ID poster.png --node out-1
    ```
    """

    async def save_outputs(client: AsyncFlowy) -> None:
        flowy_run = await client.runs.get(run_id)
        outputs = flowy_run.unwrap()
        if node is not None or not path.is_dir():
            outputs = [flowy_run.output(node)]
        await _save(outputs, path, max_bytes)

    flowy.run(save_outputs)


def _make_folder(path: Path) -> None:
    """Make the folder before the run starts, so that outputs that are paid for have a place."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise errors.InvalidArgumentError(
            f"save cannot be used: {error}", argument="save"
        ) from error


@contextmanager
def _hint_on_error(*command: object) -> Iterator[None]:
    """If the body is left by an error or Ctrl-C, print the command that goes on with the run."""
    try:
        yield
    except BaseException as error:
        if not getattr(error, "run_id", None):  # else the error's report says it
            output.remark(f"go on with: {output.command('flowy', *command)}")
        raise


async def _save(outputs: Sequence[FlowyOutput], path: Path, max_bytes: int) -> None:
    for one in outputs:
        name = f"{one.node_id} ({one.kind})"
        with progress_bar(name) as progress:
            saved_to = await one.save(path, max_bytes=max_bytes, progress=progress)
        output.write_line(str(saved_to))


def _print_run(flowy_run: FlowyRun) -> None:
    """Print a run; raise if it failed or was canceled."""
    if output.is_terminal() and flowy_run.outputs:
        rows = [(one.node_id, one.kind, one.text or one.url) for one in flowy_run.outputs]
        tables.print_table(("node", "kind", "content"), rows)
        output.remark(f"run {flowy_run.run_id} is {flowy_run.status}")
    else:
        output.print_json(flowy_run)
    if flowy_run.is_terminal:
        flowy_run.unwrap()
