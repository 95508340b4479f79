"""What the commands for Flowy share: the client, its advice, and downloads."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

from cyclopts import Parameter
from cyclopts.validators import Number

from dynamiq_async import errors
from dynamiq_async.cli import output, problems
from dynamiq_async.cli.files import progress_bar
from dynamiq_async.cli.options import CALL, CONNECTION, DEFAULT_NETWORK, OUTPUT, Network
from dynamiq_async.flowy import KEY_VARIABLE, URL_VARIABLE, AsyncFlowy

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from dynamiq_async.flowy.models import FlowyOutput

T = TypeVar("T")

_ADVICE: tuple[tuple[type[errors.DynamiqError], str], ...] = (
    (errors.AuthenticationError, f"set {KEY_VARIABLE}"),
    (errors.NotFoundError, "dynamiq-async flowy apps shows the apps there are"),
    (
        errors.PaymentRequiredError,
        "the cap is lifted at the next UTC day, or by whoever set it; what credits are left: "
        "dynamiq-async flowy credits",
    ),
    (errors.ConnectError, "check --base-url, the network, and whether --proxy is needed"),
)


@Parameter(name="*", group=CONNECTION)
@dataclass(frozen=True)
class Flowy:
    """Flowy's address. The key is never an argument."""

    base_url: Annotated[
        str | None, Parameter(help=f"Flowy's URL. [default: {URL_VARIABLE}, or the vendor's own]")
    ] = None
    network: Network = DEFAULT_NETWORK

    def run(self, call: Callable[[AsyncFlowy], Awaitable[T]], *, get: str = "get") -> T:
        """Call `call` with a client, and return its result. Errors get advice for Flowy.

        `get` is the command that shows the run that was started.
        """

        async def run_call() -> T:
            async with AsyncFlowy(None, self.base_url, **self.network.arguments()) as client:
                return await call(client)

        try:
            return asyncio.run(run_call())
        except errors.DynamiqError as error:
            problems.advise(error, _advice(error, get))
            raise


def _advice(error: errors.DynamiqError, get: str) -> str:
    if error.run_id and isinstance(error, errors.APIConnectionError | TimeoutError):
        return f"go on with: {output.command('flowy', get, error.run_id, '--wait')}"
    if isinstance(error, errors.NotFoundError) and "/apps" not in (error.url or ""):
        return ""  # there is no such run, or no such file
    return next((text for kind, text in _ADVICE if isinstance(error, kind)), "")


DEFAULT_FLOWY = Flowy()

Folder = Annotated[Path, Parameter(help="A folder, or the file for the only output.")]
MaxBytes = Annotated[
    int,
    Parameter(group=CALL, validator=Number(gte=1), help="The most bytes that an output may have."),
]
Wait = Annotated[
    bool, Parameter(group=CALL, negative="--no-wait", help="Wait for the end of it (default).")
]
Save = Annotated[
    Path | None,
    Parameter(group=OUTPUT, help="Download the outputs to this folder, made if need be."),
]
Timeout = Annotated[
    float, Parameter(group=CALL, validator=Number(gt=0), help="Seconds to wait. [default: an hour]")
]


def make_folder(path: Path) -> None:
    """Make the folder before the run starts, so that paid outputs can be saved."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise errors.InvalidArgumentError(
            f"save cannot be used: {error}", argument="save"
        ) from error


@contextmanager
def hint_on_error(*command: object) -> Iterator[None]:
    """If an error or Ctrl-C ends the body, print the command that goes on with the run."""
    try:
        yield
    except BaseException as error:
        if not getattr(error, "run_id", None):  # otherwise the report of the error says it
            output.remark(f"go on with: {output.command('flowy', *command)}")
        raise


async def save_outputs(outputs: Sequence[FlowyOutput], path: Path, max_bytes: int) -> None:
    """Download outputs to a folder or file, with a progress bar for each, and print their paths."""
    for one in outputs:
        name = f"{one.name or one.node_id or one.asset_id} ({one.kind})"
        with progress_bar(name) as progress:
            saved_to = await one.save(path, max_bytes=max_bytes, progress=progress)
        output.write_line(str(saved_to))
