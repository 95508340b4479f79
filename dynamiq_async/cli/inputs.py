"""Reads the inputs of commands: JSON from an argument, a file or stdin, and secrets from
variables."""

from __future__ import annotations

import codecs
import os
import sys
from pathlib import Path
from typing import Any

import msgspec

from dynamiq_async.cli.problems import option_name
from dynamiq_async.cli.writing import named
from dynamiq_async.errors import InvalidArgumentError

_EXAMPLE = """; quote it like '{"question": "What can you do?"}'"""


def read_json(given: str, argument: str = "input") -> Any:
    """The JSON in `given`, in the file named by `@FILE`, or on stdin for `-`.

    Call this before an event loop runs: while it reads stdin, a loop would not notice Ctrl-C.

    Raises:
        InvalidArgumentError: it is not JSON, or the file cannot be read.
    """
    if given == "-":
        if sys.stdin is None:
            raise InvalidArgumentError("stdin is closed", argument=argument)
        with named("stdin"):
            data, place = sys.stdin.buffer.read(), "stdin"
    elif given.startswith("@"):
        data, place = read_file(Path(given[1:]), argument), given[1:]
    else:
        data, place = os.fsencode(given), option_name(argument)
    try:
        return msgspec.json.decode(data.removeprefix(codecs.BOM_UTF8))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        example = _EXAMPLE if place == option_name("input") else ""
        raise InvalidArgumentError(
            f"{place} is not JSON: {error}{example}", argument=argument
        ) from error


def read_file(path: Path, argument: str) -> bytes:
    """The file's content.

    Raises:
        InvalidArgumentError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidArgumentError(
            f"{path} cannot be read: {error.strerror}", argument=argument
        ) from error


def read_variable(name: str, argument: str) -> str:
    """The environment variable `name`.

    Raises:
        InvalidArgumentError: it is not set, or empty.
    """
    value = os.environ.get(name)
    if not value:
        raise InvalidArgumentError(f"the environment variable {name} is not set", argument=argument)
    return value
