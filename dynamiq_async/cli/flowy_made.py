"""The commands for Flowy's generations, assets and credits: `flowy generate`, `generation`,
`assets` and `credits`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from dynamiq_async.cli import output, tables
from dynamiq_async.cli.flowy_client import (
    DEFAULT_FLOWY,
    Flowy,
    MaxBytes,
    Save,
    Timeout,
    Wait,
    hint_on_error,
    make_folder,
    save_outputs,
)
from dynamiq_async.cli.options import CALL
from dynamiq_async.downloads import DEFAULT_MAX_BYTES
from dynamiq_async.flowy import DEFAULT_WAIT

if TYPE_CHECKING:
    from pathlib import Path

    from dynamiq_async.flowy import AsyncFlowy
    from dynamiq_async.flowy.models import FlowyAsset, FlowyGeneration

_PAGE_SIZE = 100


def generate(
    type: Annotated[str, Parameter(help="What to generate: `image`, `video`, `audio`, …")],
    prompt: Annotated[str, Parameter(help="What it is to be.", allow_leading_hyphen=True)],
    /,
    *,
    model: Annotated[str | None, Parameter(group=CALL, help="The model that makes it.")] = None,
    input_media: Annotated[
        tuple[str, ...],
        Parameter(group=CALL, negative=(), help="The URL of a source. May be repeated."),
    ] = (),
    aspect_ratio: Annotated[str | None, Parameter(group=CALL, help="Such as 16:9.")] = None,
    resolution: Annotated[str | None, Parameter(group=CALL, help="Such as 1080p.")] = None,
    duration_seconds: Annotated[
        float | None, Parameter(group=CALL, help="The length of a video or a sound.")
    ] = None,
    wait: Wait = True,
    save: Save = None,
    timeout: Timeout = DEFAULT_WAIT,
    max_bytes: MaxBytes = DEFAULT_MAX_BYTES,
    flowy: Flowy = DEFAULT_FLOWY,
) -> None:
    """Generate something from a prompt, wait for the end and print the generation.

    With --save, the command downloads the files, and prints their paths instead. A failed
    generation is printed too, and the exit code is 1.

    ```
    dynamiq-async flowy generate image "A cat in the rain" --aspect-ratio 16:9 --save pictures
    dynamiq-async flowy generate video "Rain" --no-wait | jq -r .generationId
    ```
    """
    output.check()
    if save is not None:
        make_folder(save)

    async def make(client: AsyncFlowy) -> FlowyGeneration:
        made = await client.generations.start(
            type,
            prompt,
            model=model,
            input_media=list(input_media) or None,
            aspect_ratio=aspect_ratio,
            resolution=resolution,
            duration_seconds=duration_seconds,
            timeout=timeout,
        )
        if not wait and save is None:
            return made
        with (
            hint_on_error("generation", made.generation_id, "--wait"),
            output.waiting_for(type),
        ):
            made = await client.generations.wait(made.generation_id, timeout=timeout)
        await _save(made, save, max_bytes)
        return made

    made = flowy.run(make, get="generation")
    _print(made, save)


def generation(
    generation_id: Annotated[str, Parameter(help="The generation's id.")],
    /,
    *,
    wait: Annotated[bool, Parameter(group=CALL, help="Wait until it is over.")] = False,
    save: Save = None,
    timeout: Timeout = DEFAULT_WAIT,
    max_bytes: MaxBytes = DEFAULT_MAX_BYTES,
    flowy: Flowy = DEFAULT_FLOWY,
) -> None:
    """Print a generation as it is now, or once it is over.

    ```
    dynamiq-async flowy generation GENERATION_ID --wait --save pictures
    ```
    """
    output.check()
    if save is not None:
        make_folder(save)

    async def fetch(client: AsyncFlowy) -> FlowyGeneration:
        if wait:
            with output.waiting_for(generation_id):
                made = await client.generations.wait(generation_id, timeout=timeout)
        else:
            made = await client.generations.get(generation_id)
        await _save(made, save, max_bytes)
        return made

    _print(flowy.run(fetch, get="generation"), save)


def assets(
    asset_id: Annotated[str | None, Parameter(name="ASSET", help="Its id.")] = None,
    /,
    *,
    limit: Annotated[
        int, Parameter(validator=Number(gte=1), help="The most to list. [default: 25]")
    ] = 25,
    save: Save = None,
    max_bytes: MaxBytes = DEFAULT_MAX_BYTES,
    flowy: Flowy = DEFAULT_FLOWY,
) -> None:
    """List the assets, or show one with a fresh link.

    On a terminal: a table. Anywhere else: one asset's JSON a line. With --save, the command
        downloads
    the asset, or all that it lists, and prints the paths of the files.

    ```
    dynamiq-async flowy assets --limit 100 | jq -r .url
    dynamiq-async flowy assets ASSET --save pictures
    ```
    """
    output.check()
    if save is not None:
        make_folder(save)

    async def fetch(client: AsyncFlowy) -> list[FlowyAsset]:
        if asset_id is not None:
            found = [await client.assets.get(asset_id)]
        else:
            pages = client.assets.list(page_size=min(limit + 1, _PAGE_SIZE))
            found = await tables.beginning(pages, limit)
        if save is not None:
            await save_outputs([asset.output for asset in found[:limit]], save, max_bytes)
        return found

    found = flowy.run(fetch)
    if save is not None:
        return
    if asset_id is not None:
        output.print_json(found[0].data)
    elif output.is_terminal():
        names = ("id", "kind", "name", "created")
        tables.print_list(found, names, _row, none="no assets", limit=limit)
    else:
        told = [asset.data for asset in found]
        tables.print_list(told, (), lambda _: (), none="", limit=limit)


def credits(*, flowy: Flowy = DEFAULT_FLOWY) -> None:
    """Print the credits of the workspace.

    ```
    dynamiq-async flowy credits | jq .available
    ```
    """
    output.print_json(flowy.run(lambda client: client.credits()))


def _row(asset: FlowyAsset) -> list[tables.Cell]:
    return [asset.id, asset.kind, asset.name, asset.created_at]


async def _save(made: FlowyGeneration, save: Path | None, max_bytes: int) -> None:
    if save is not None:
        outputs = made.unwrap()
        with hint_on_error("generation", made.generation_id, "--save", save):
            await save_outputs(outputs, save, max_bytes)


def _print(made: FlowyGeneration, save: Path | None) -> None:
    """Print a generation, unless its files were saved. Raise if it failed."""
    if save is not None:
        return
    if output.is_terminal() and made.outputs:
        rows = [(one.asset_id, one.kind, one.text or one.url) for one in made.outputs]
        tables.print_table(("asset", "kind", "content"), rows)
        output.remark(f"generation {made.generation_id} is {made.status}")
    else:
        output.print_json(made)
    if made.is_terminal:
        made.unwrap()
