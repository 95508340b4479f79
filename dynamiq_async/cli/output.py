"""Printing values: for people on a terminal, for programs anywhere else.

Bytes go to stdout as UTF-8, whatever the locale. What a server sent is shown on a terminal
without the control characters by which it could steer the terminal.
"""

from __future__ import annotations

import contextlib
import shlex
import sys
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

_COLORFUL_BYTES = 256 * 1024  # colouring takes about a second for each MiB

_VISIBLE = {code: 0x2400 + code for code in range(0x20) if chr(code) not in "\n\t"}
_VISIBLE |= dict.fromkeys(range(0x7F, 0xA0), 0xFFFD)


def visible(text: str) -> str:
    """`text` with its control characters, but line breaks and tabs, replaced by pictures."""
    return text.replace("\r\n", "\n").translate(_VISIBLE)


def is_terminal() -> bool:
    """Whether a person reads stdout."""
    return sys.stdout.isatty()


def is_interactive() -> bool:
    """Whether a person reads stdout and can answer on stdin."""
    # A process whose stdin is closed has none.
    return is_terminal() and sys.stdin is not None and sys.stdin.isatty()


def write(data: bytes) -> None:
    """Write to stdout, at once."""
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def write_line(text: str) -> None:
    """Write a line to stdout."""
    write(text.encode("utf-8", "replace") + b"\n")


def print_json(value: Any) -> None:
    """`value` as JSON: for people on a terminal, on one line anywhere else."""
    if is_terminal():
        print_pretty(value)
    else:
        write(msgspec.json.encode(value) + b"\n")


def print_pretty(value: Any) -> None:
    """`value` as JSON, indented, and coloured where colours can be shown."""
    encoded = msgspec.json.encode(value)
    pretty = visible(msgspec.json.format(encoded, indent=2).decode())
    if len(encoded) > _COLORFUL_BYTES:
        write_line(pretty)
        return
    from rich.highlighter import JSONHighlighter
    from rich.text import Text

    text = Text(pretty)
    JSONHighlighter().highlight(text)
    console().print(text, soft_wrap=True)


def remark(text: str) -> None:
    """Say something beside the data, on stderr."""
    console(stderr=True).print(visible(text), style="dim", soft_wrap=True)


def command(*arguments: object) -> str:
    """A command of this program, to be copied to a shell."""
    return shlex.join(("dynamiq-async", *map(str, arguments)))


@contextlib.contextmanager
def waiting_for(what: str) -> Iterator[None]:
    """Show on a terminal what is being waited for."""
    if not is_terminal():
        yield
        return
    with console(stderr=True).status(f"waiting for {visible(what)}"):
        yield


def console(*, stderr: bool = False) -> Console:
    """A console on stdout or stderr that leaves a broken pipe to its caller."""
    from rich.console import Console

    class PlainConsole(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    return PlainConsole(stderr=stderr, highlight=False, markup=False, emoji=False)
