"""The commands for Flowy's apps and their runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from dynamiq_async import errors
from dynamiq_async.cli import flowy_made, inputs, output, tables
from dynamiq_async.cli.flowy_client import (
    DEFAULT_FLOWY,
    Flowy,
    Folder,
    MaxBytes,
    Save,
    Timeout,
    Wait,
    hint_on_error,
    make_folder,
    save_outputs,
)
from dynamiq_async.cli.options import CALL, RunId, commands
from dynamiq_async.downloads import DEFAULT_MAX_BYTES
from dynamiq_async.flowy import DEFAULT_WAIT, InputsForm
from dynamiq_async.flowy.schema import find_named

if TYPE_CHECKING:
    from dynamiq_async.flowy import AsyncFlowy
    from dynamiq_async.flowy.models import FlowyOutput, FlowyRun
    from dynamiq_async.flowy.schema import FlowyApp

app: App = commands("flowy", "The apps of Flowy: run them, and download what they make.")
app.command(flowy_made.generate)
app.command(flowy_made.generation)
app.command(flowy_made.assets)
app.command(flowy_made.credits)


@app.command
def apps(
    app_id: Annotated[str | None, Parameter(name="APP", help="Its id or slug.")] = None,
    /,
    *,
    flowy: Flowy = DEFAULT_FLOWY,
) -> None:
    """List the apps, or show one with its inputs and outputs.

    On a terminal: a table. Anywhere else: one app's JSON a line. The key comes from FLOWY_KEY.

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
            help="Texts and URLs, or lists of them, by the inputs' names, labels or node ids: a "
            "JSON object, `@FILE`, or `-` for stdin.",
        ),
    ] = "{}",
    /,
    *,
    wait: Wait = True,
    check: Annotated[
        bool,
        Parameter(
            group=CALL,
            negative="--no-check",
            help="Compare the inputs with what the app takes, before a run is started (default).",
        ),
    ] = True,
    inputs_form: Annotated[
        InputsForm,
        Parameter(
            group=CALL,
            help="The body that starts the run: an array by the inputs' names, or a map by node "
            "id. [default: the array where they have names]",
        ),
    ] = "auto",
    save: Save = None,
    timeout: Timeout = DEFAULT_WAIT,
    max_bytes: MaxBytes = DEFAULT_MAX_BYTES,
    flowy: Flowy = DEFAULT_FLOWY,
) -> None:
    """Run an app, wait for the end of the run and print it.

    With --save, the command downloads the outputs, and prints their paths instead. A failed run is
    printed too, and the exit code is 1.

    ```
    dynamiq-async flowy run product-poster '{"Slogan": "Fresh every day"}' --save posters
    dynamiq-async flowy run haiku @inputs.json | jq -r '.outputs[].text'
    dynamiq-async flowy run clip '{"Scene": "Rain"}' --no-wait | jq -r .runId
    dynamiq-async flowy run collage @photos.json --inputs-form array
    ```
    """
    output.check()
    values = inputs.read_json(given, "inputs")
    if save is not None:
        make_folder(save)

    async def run_app(client: AsyncFlowy) -> FlowyRun:
        flowy_run = await client.run(
            app_id, values, wait=False, check=check, inputs_form=inputs_form, timeout=timeout
        )
        if not wait and save is None:
            return flowy_run
        with hint_on_error("get", flowy_run.run_id, "--wait"), output.waiting_for(app_id):
            flowy_run = await client.runs.wait(flowy_run.run_id, timeout=timeout)
        if save is not None:
            outputs = flowy_run.unwrap()
            with hint_on_error("download", flowy_run.run_id, save):
                await save_outputs(outputs, save, max_bytes)
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
    node: Annotated[
        str | None, Parameter(help="Only the output with this name, label or node id.")
    ] = None,
    max_bytes: MaxBytes = DEFAULT_MAX_BYTES,
    flowy: Flowy = DEFAULT_FLOWY,
) -> None:
    """Download the outputs of a completed run, and print the paths of the files.

    In a folder, a download never overwrites a file.

    ```
    dynamiq-async flowy download RUN_ID
    dynamiq-async flowy download RUN_ID poster.png --node out-1
    ```
    """

    async def fetch_and_save(client: AsyncFlowy) -> None:
        flowy_run = await client.runs.get(run_id)
        outputs = flowy_run.unwrap()
        if node is not None or not path.is_dir():
            outputs = [await _find_output(client, flowy_run, node)]
        await save_outputs(outputs, path, max_bytes)

    flowy.run(fetch_and_save)


async def _find_output(client: AsyncFlowy, flowy_run: FlowyRun, name: str | None) -> FlowyOutput:
    """The output of this name. If it may be a label, fetch the app, since only the app has
    labels."""
    try:
        return flowy_run.output(name)
    except errors.OutputMissingError:
        if name is None or flowy_run.app_id is None:
            raise
        specs = find_named((await client.apps.get(flowy_run.app_id)).outputs or [], name)
        if len(specs) != 1:
            raise
    return flowy_run.output(specs[0].node_id)


def _print_run(flowy_run: FlowyRun) -> None:
    """Print a run; raise if it failed or was canceled."""
    if output.is_terminal() and flowy_run.outputs:
        rows = [
            (one.name or one.node_id, one.kind, one.text or one.url) for one in flowy_run.outputs
        ]
        tables.print_table(("node", "kind", "content"), rows)
        output.remark(f"run {flowy_run.run_id} is {flowy_run.status}")
    else:
        output.print_json(flowy_run)
    if flowy_run.is_terminal:
        flowy_run.unwrap()
