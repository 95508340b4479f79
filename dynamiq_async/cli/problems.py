"""Prints errors for people: one block on stderr that says what happened and what to do.

The SDK keeps the access key out of its errors, and this module adds nothing that could contain it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cyclopts import CycloptsError, UnusedCliTokensError

from dynamiq_async import errors
from dynamiq_async.app import KEY_VARIABLE, URL_VARIABLE
from dynamiq_async.cli import FAILED, USAGE, output
from dynamiq_async.management.settings import TOKEN_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Iterator

_OPTIONS = {
    "host_or_url": "--app",
    "app": "APP",
    "files": "--file",
    "callbacks": "--callback",
    "input": "INPUT",
    "inputs": "INPUTS",
    "path": "PATH",
    "api_key": "FLOWY_KEY",
    "verify": "--ca-file",
    "run_id": "RUN_ID",
    "content": "PATH",
    "after_sequence": "--after",
    "token": TOKEN_VARIABLE,
    "access_key": KEY_VARIABLE,
}

_SWITCH = re.compile(r"\b(\w+)=True\b")  # how the SDK's messages name a switch
_GO_ON = re.compile(r"\. Go on with runs\.follow\(.*\)$", re.DOTALL)

_ADVICE: tuple[tuple[type[errors.DynamiqError], str], ...] = (
    (
        errors.AuthenticationError,
        f"the key of {KEY_VARIABLE} or --key-file has to be one of this App",
    ),
    (
        errors.NotFoundError,
        f"--app (or {URL_VARIABLE}) is the hostname of a deployed App, "
        "and only that App knows its runs and files",
    ),
    (errors.ConnectError, "check --app, the network, and whether --proxy or --ca-file is needed"),
)

_ADVICE_ATTRIBUTE = "_advice"

# Not paths of an App: Flowy's paths begin with /api.
_MANAGEMENT = re.compile(r"(?<!/api)/v1/(apps|me|orgs|projects)(/.*)?$")
_MANAGEMENT_ADVICE: tuple[tuple[type[errors.DynamiqError], str], ...] = (
    (
        errors.AuthenticationError,
        f"set {TOKEN_VARIABLE}: the management API has a token of its own",
    ),
    (
        errors.NotFoundError,
        "dynamiq-async apps list shows the Apps there are; if it cannot, check --base-url",
    ),
    (errors.ConnectError, "check --base-url, the network, and whether --proxy is needed"),
)


def report(error: CycloptsError | errors.DynamiqError | OSError) -> int:
    """Print `error` to stderr, and return the exit code it means."""
    from rich.text import Text

    headline, found, advice = _parts(error)
    rows = [(output.visible(name), output.visible(value)) for name, value in found]
    block = Text.assemble(("error: ", "bold red"), output.visible(headline))
    width = max((len(name) for name, _ in rows), default=0)
    for name, value in rows:
        block.append(f"\n  {name:<{width}}  ", "dim")
        block.append(value)
    if advice:
        block.append("\n  → ", "bold")
        block.append(output.visible(advice))
    output.console(stderr=True).print(block, soft_wrap=True)
    return USAGE if isinstance(error, CycloptsError | errors.InvalidArgumentError) else FAILED


def _parts(
    error: CycloptsError | errors.DynamiqError | OSError,
) -> tuple[str, list[tuple[str, str]], str]:
    """The headline, a row for each known fact, and the advice."""
    if isinstance(error, CycloptsError):
        command = " ".join(("dynamiq-async", *(error.command_chain or ()), "--help"))
        said = _too_many(error) if isinstance(error, UnusedCliTokensError) else str(error)
        return said, [], f"{command} explains"
    if isinstance(error, errors.DynamiqError):
        return _headline(error), list(_rows(error)), _advice(error)
    said = error.strerror or str(error)
    return f"{error.filename}: {said}" if error.filename is not None else said, [], ""


def _too_many(error: UnusedCliTokensError) -> str:
    """A message about arguments that are left over. An unknown option in front of them was taken
    for an argument."""
    first = (error.unused_tokens or [""])[0]
    given = list(error.root_input_tokens or ())
    before = given[given.index(first, 1) - 1] if first in given[1:] else ""
    if before.startswith("--") and error.app is not None:
        known = {name for each in error.app.assemble_argument_collection() for name in each.names}
        if before not in known:
            return f"there is no option {before}, or {first} is one argument too many"
    return f"{first} is one argument too many"


def advise(error: errors.DynamiqError, advice: str) -> None:
    """Set the advice that `report` prints in place of its advice for Apps."""
    vars(error)[_ADVICE_ATTRIBUTE] = advice


def _advice(error: errors.DynamiqError) -> str:
    """What the user can do. A run goes on if its reader loses the connection."""
    given: str | None = vars(error).get(_ADVICE_ATTRIBUTE)
    if given is not None:
        return given
    at_root = isinstance(error, errors.StreamError) and error.sequence is None  # cannot be resumed
    broken = isinstance(error, errors.APIConnectionError | errors.APITimeoutError)
    if error.run_id and broken and not at_root:
        return following(error.run_id, error.sequence)
    known = _MANAGEMENT_ADVICE if _MANAGEMENT.search(error.url or "") else _ADVICE
    return next((text for kind, text in known if isinstance(error, kind)), "")


def following(run_id: str, sequence: int | None) -> str:
    """The command that follows a run from after an event."""
    position = ("--after", sequence) if sequence else ()
    return f"go on with: {output.command('runs', 'follow', run_id, *position)}"


def _headline(error: errors.DynamiqError) -> str:
    """The message in the command line's terms, without the facts that are shown below it."""
    message = _GO_ON.sub("", error.message.removesuffix(f" [request id {error.request_id}]"))
    argument = getattr(error, "argument", None)
    if argument and message.startswith(argument):
        message = option_name(argument) + message.removeprefix(argument)
    message = _SWITCH.sub(lambda match: option_name(match[1]), message)
    if error.details:
        complaints = ", ".join(f"{name}: {value}" for name, value in error.details.items())
        message = message.replace(f" ({complaints})", "")
    return message


def _rows(error: errors.DynamiqError) -> Iterator[tuple[str, str]]:
    if argument := getattr(error, "argument", None):
        yield "argument", option_name(argument)
    if error.status is not None:
        yield "status", str(error.status)
    if error.code is not None:
        yield "code", error.code
    for name, complaint in (error.details or {}).items():
        yield f"details.{name}", str(complaint)
    if error.run_id is not None:
        yield "run id", error.run_id
    if error.sequence is not None:
        yield "last sequence", str(error.sequence)
    if error.attempts is not None and error.attempts > 1:
        yield "attempts", str(error.attempts)
    if error.retry_after is not None:
        yield "retry after", f"{error.retry_after:g} s"
    if error.request_id is not None:
        yield "request id", error.request_id


def option_name(argument: str) -> str:
    """The command line's name for an argument of the SDK."""
    return _OPTIONS.get(argument) or f"--{argument.replace('_', '-')}"
