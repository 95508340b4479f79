"""Registers the commands, and turns the end of a command into an exit code."""

from __future__ import annotations

import io
import os
import sys
import traceback
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, CycloptsError, Parameter

from dynamiq_async import __version__
from dynamiq_async.cli import (
    BROKEN_PIPE,
    INTERRUPTED,
    apps,
    calls,
    files,
    flowy,
    history,
    output,
    problems,
    runs,
)
from dynamiq_async.cli.batch.command import batch
from dynamiq_async.cli.batch.journal import journal
from dynamiq_async.cli.demo import demo
from dynamiq_async.cli.mcp import mcp
from dynamiq_async.cli.options import OTHER
from dynamiq_async.cli.serve import serve
from dynamiq_async.cli.whoami import whoami
from dynamiq_async.errors import DynamiqError

if TYPE_CHECKING:
    from collections.abc import Sequence

_HELP = """Call Dynamiq Apps, and emulate them.

```
dynamiq-async demo                    # see it work, without an account
export DYNAMIQ_APP_URL=my-app.apps.us-east-1.getdynamiq.ai
export DYNAMIQ_ACCESS_KEY=dynamiq_acc_…
dynamiq-async stream '{"input": "What can you do?"}'
```
"""

_EXIT_CODES = """Exit codes: **0** success, **1** the call (or one of a batch) failed, **2** wrong \
usage (nothing was sent), **130** interrupted by Ctrl-C, **141** the reader of the output left."""

app: App = App(
    name="dynamiq-async",
    help=_HELP,
    help_epilogue=_EXIT_CODES,
    version=f"dynamiq-async {__version__}",
    version_format="plaintext",
    default_parameter=Parameter(negative=(), show_default=False),
    result_action="return_value",
    exit_on_error=False,
    print_error=False,
    suppress_keyboard_interrupt=False,
)
app.meta.suppress_keyboard_interrupt = False  # it does not inherit this
app["--help"].help = "Show this and exit."
app["--version"].help = "Show the version and exit."
_COMMANDS: tuple[Any, ...] = (
    *(demo, calls.invoke, calls.stream, calls.submit),
    *(batch, journal, runs.app, files.app),
    *(apps.app, history.traces_app, history.sessions_app, whoami, flowy.app, mcp, serve),
)
for _command in _COMMANDS:
    app.command(_command)


@app.meta.default
def _launch(
    *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    debug: Annotated[bool, Parameter(group=OTHER, help="Show the traceback of an error.")] = False,
) -> None:
    try:
        app(tokens)
    except Exception:
        if debug:
            output.console(stderr=True).out(output.visible(traceback.format_exc()), end="")
        raise


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # so that a missing character shows as `?`
    output.begin()
    try:
        return _run_command(arguments)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _silence_stdout()
        return BROKEN_PIPE
    finally:
        output.give_up()


def _run_command(arguments: Sequence[str]) -> int:
    try:
        app.meta(arguments, console=output.console())
        output.flush()
    except BrokenPipeError:
        raise
    except (CycloptsError, DynamiqError, OSError) as error:
        return problems.report(error)
    return 0


def _silence_stdout() -> None:
    """Let Python's flush at exit write to nowhere."""
    if sys.stdout is not None:  # pragma: no branch - else it was a pipe that -o names
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
