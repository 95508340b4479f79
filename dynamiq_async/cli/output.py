"""Printing values: for people on a terminal, for programs anywhere else.

Bytes go to stdout as UTF-8, whatever the locale. On a terminal, text from outside is shown without
the characters that could control the terminal or disguise the text. A program gets the text
unchanged.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import json
import os
import shlex
import sys
from functools import partial
from typing import TYPE_CHECKING, Any, TextIO, cast

import msgspec

from dynamiq_async import _json
from dynamiq_async.cli.writing import PATIENCE, ROOM, Writer, write_all

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO

    from rich.console import Console

_COLORFUL_BYTES = 256 * 1024  # colouring takes about a second for each MiB

_VISIBLE = {code: 0x2400 + code for code in range(0x20) if chr(code) not in "\n\t"}
_VISIBLE |= dict.fromkeys(
    (
        *range(0x7F, 0xA0),
        *(0x061C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A)),  # direction
        *(0x00AD, 0x200B, *range(0x2060, 0x2065), 0xFEFF, *range(0xE0000, 0xE0080)),  # invisible
        *range(0xD800, 0xE000),
    ),
    0xFFFD,
)

NARROWEST = 20
"""A terminal that reports fewer columns than this probably does not know its width."""

_writers: dict[object, Writer] = {}


def visible(text: str) -> str:
    """`text` without characters that could deceive: control characters except line breaks and tabs
    become pictures, and invisible or direction-changing characters become U+FFFD."""
    return text.replace("\r\n", "\n").translate(_VISIBLE)


def is_terminal(name: str = "stdout") -> bool:
    """Whether a person reads stdout, or stderr."""
    stream = getattr(sys, name)
    return stream is not None and stream.isatty()


def is_interactive() -> bool:
    """Whether a person reads stdout and can answer on stdin."""
    # A process whose stdin is closed has none.
    return is_terminal() and sys.stdin is not None and sys.stdin.isatty()


def begin() -> None:
    """Use the standard streams that the process has now."""
    while _writers:
        _writers.popitem()[1].close()
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # else the next opened file, such as a journal, would be it
            os.open(os.devnull, os.O_RDWR)


def check() -> None:
    """Raise OSError if stdout is closed, before there is output to lose."""
    writer()


def writer(name: str = "stdout") -> Writer:
    """The writer of stdout or stderr. If both are the same file, they share one writer.

    Raises:
        OSError: the stream is closed.
    """
    stream = getattr(sys, name)
    if stream is None or stream.closed:
        raise OSError(errno.EBADF, "it is closed", name)
    try:
        number = stream.fileno()
        found = os.fstat(number)
    except OSError:  # it is not a file of the system
        identity: object = id(stream)
        write: Any = partial(_write_stream, stream)
    else:
        identity, write = (found.st_dev, found.st_ino), partial(write_all, number)
    if identity not in _writers:
        _writers[identity] = Writer(name, lambda: write)
    return _writers[identity]


def write(data: bytes) -> None:
    """Write to stdout: at once, or in an event loop as soon as the reader takes it; see `drain`.

    Raises:
        OSError: this text or an earlier one cannot be written.
    """
    if is_terminal():
        data = visible(data.decode("utf-8", "replace")).encode()
    _put("stdout", data)


async def drain(*, whole: bool = False) -> None:
    """Wait until stdout's reader has taken all that was written, or all but a little.

    Raises:
        OSError: the output cannot be written.
    """
    await writer().drain(0 if whole or is_terminal() else ROOM)


def flush() -> None:
    """Wait until all output is written, or until nobody reads it.

    Raises:
        OSError: the output cannot be written.
    """
    for each in list(_writers.values()):
        each.flush(PATIENCE if each.name == "stderr" else None)


def give_up() -> None:
    """`flush`, but wait for a moment only."""
    for each in list(_writers.values()):
        with contextlib.suppress(OSError):  # nobody is left to tell
            each.flush(PATIENCE)


def unwritten() -> int:
    """How many bytes of the output nobody has read yet."""
    return sum(each.unwritten for each in _writers.values())


def write_line(text: str) -> None:
    """Write a line to stdout."""
    write(text.encode("utf-8", "replace") + b"\n")


def json_line(value: Any) -> bytes:
    """`value` as JSON on one line. Characters that UTF-8 cannot encode become U+FFFD."""
    try:
        line = msgspec.json.encode(value)
    except UnicodeEncodeError:
        line = _json.repair(json.dumps(msgspec.to_builtins(value)).encode())
    if b"\n" in line or b"\r" in line:  # these are between tokens: within strings they are escaped
        line = msgspec.json.format(line, indent=-1)
    return line + b"\n"


def print_json(value: Any) -> None:
    """Print `value` as JSON: formatted on a terminal, on one line anywhere else."""
    if is_terminal():
        print_pretty(value)
    else:
        write(json_line(value))


def print_pretty(value: Any) -> None:
    """Print `value` as indented JSON, with colours if stdout can show them."""
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
    """Print a message to stderr, apart from the data."""
    console(stderr=True).print(visible(text), style="dim", soft_wrap=True)


def command(*arguments: object) -> str:
    """A command of this program, for the user to copy to a shell."""
    return shlex.join(("dynamiq-async", *map(str, arguments)))


@contextlib.contextmanager
def working(what: str) -> Iterator[None]:
    """Show on a terminal what the command is doing."""
    from rich.text import Text

    with console(stderr=True).status(Text(visible(what))):
        yield


def waiting_for(what: str) -> contextlib.AbstractContextManager[None]:
    """Show on a terminal what the command is waiting for."""
    return working(f"waiting for {what}") if is_terminal() else contextlib.nullcontext()


def console(*, stderr: bool = False) -> Console:
    """A rich console on stdout or stderr, which uses the same writer as all other output."""
    from rich.console import Console

    class PlainConsole(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    text = cast("IO[str]", _Text("stderr" if stderr else "stdout"))
    console = PlainConsole(file=text, highlight=False, markup=False, emoji=False)
    if console.width < NARROWEST:  # or COLUMNS sets the width
        console.width = NARROWEST
    return console


class _Text(io.TextIOBase):
    """A standard stream for rich. If stderr is gone, what is written to it is lost."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._stream = getattr(sys, name)

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(self._stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        return self._stream is not None and self._stream.isatty()

    def write(self, text: str) -> int:
        with contextlib.suppress(*((OSError,) if self._name == "stderr" else ())):
            _put(self._name, text.encode(self.encoding, "replace"))
        return len(text)


def _put(name: str, data: bytes) -> None:
    out = writer(name)
    in_loop = asyncio._get_running_loop() is not None
    if name == "stderr" and out.unwritten > ROOM:
        return  # nobody reads it
    out.put(data)
    if not in_loop:
        out.flush(PATIENCE if name == "stderr" else None)


def _write_stream(stream: TextIO, data: bytes) -> None:
    if hasattr(stream, "buffer"):
        stream.buffer.write(data)
    else:
        stream.write(data.decode())
    stream.flush()
