"""Printing values: for people on a terminal, for programs anywhere else.

Bytes go to stdout as UTF-8, whatever the locale. What comes from outside is shown on a terminal
without the characters by which it could steer the terminal, or seem to say something else; a
program gets it as it is.
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
        *(0x00AD, 0x200B, *range(0x2060, 0x2065), 0xFEFF, *range(0xE0000, 0xE0080)),  # not seen
        *range(0xD800, 0xE000),
    ),
    0xFFFD,
)

NARROWEST = 20
"""Columns below which a terminal is taken for one that does not know its width."""

_writers: dict[object, Writer] = {}


def visible(text: str) -> str:
    """`text` with its control characters, but line breaks and tabs, replaced by pictures, and
    what is not seen or turns the direction of writing by U+FFFD."""
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
    """Write to the streams that the process has now."""
    while _writers:
        _writers.popitem()[1].close()
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # else what is opened next, such as a journal, would become this stream
            os.open(os.devnull, os.O_RDWR)


def check() -> None:
    """Raise OSError if stdout is closed: before there is something to be lost."""
    writer()


def writer(name: str = "stdout") -> Writer:
    """What writes to stdout or stderr. The two are one writer where they are one file.

    Raises:
        OSError: the stream is closed.
    """
    stream = getattr(sys, name)
    if stream is None or stream.closed:
        raise OSError(errno.EBADF, "it is closed", name)
    try:
        number = stream.fileno()
        found = os.fstat(number)
    except OSError:  # it is no file of the system
        identity: object = id(stream)
        write: Any = partial(_write_stream, stream)
    else:
        identity, write = (found.st_dev, found.st_ino), partial(write_all, number)
    if identity not in _writers:
        _writers[identity] = Writer(name, lambda: write)
    return _writers[identity]


def write(data: bytes) -> None:
    """Write to stdout: at once, or in an event loop as soon as it is read; see `drain`.

    Raises:
        OSError: it, or something before it, cannot be written.
    """
    if is_terminal():
        data = visible(data.decode("utf-8", "replace")).encode()
    _put("stdout", data)


async def drain(*, whole: bool = False) -> None:
    """Wait while more than a little of what was written to stdout was not read, or any of it.

    Raises:
        OSError: it cannot be written.
    """
    await writer().drain(0 if whole or is_terminal() else ROOM)


def flush() -> None:
    """Wait until everything that was printed is written, or nobody reads it.

    Raises:
        OSError: it cannot be written.
    """
    for each in list(_writers.values()):
        each.flush(PATIENCE if each.name == "stderr" else None)


def give_up() -> None:
    """`flush`, for a moment only."""
    for each in list(_writers.values()):
        with contextlib.suppress(OSError):  # nobody is left to be told
            each.flush(PATIENCE)


def unwritten() -> int:
    """How many bytes of what was printed nobody has read yet."""
    return sum(each.unwritten for each in _writers.values())


def write_line(text: str) -> None:
    """Write a line to stdout."""
    write(text.encode("utf-8", "replace") + b"\n")


def json_line(value: Any) -> bytes:
    """`value` as JSON on a line of its own. What cannot be UTF-8 becomes U+FFFD."""
    try:
        line = msgspec.json.encode(value)
    except UnicodeEncodeError:
        line = _json.repair(json.dumps(msgspec.to_builtins(value)).encode())
    if b"\n" in line or b"\r" in line:  # between tokens: within strings they are escaped
        line = msgspec.json.format(line, indent=-1)
    return line + b"\n"


def print_json(value: Any) -> None:
    """`value` as JSON: for people on a terminal, on one line anywhere else."""
    if is_terminal():
        print_pretty(value)
    else:
        write(json_line(value))


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
def working(what: str) -> Iterator[None]:
    """Show on a terminal what is going on."""
    from rich.text import Text

    with console(stderr=True).status(Text(visible(what))):
        yield


def waiting_for(what: str) -> contextlib.AbstractContextManager[None]:
    """Show on a terminal what is being waited for."""
    return working(f"waiting for {what}") if is_terminal() else contextlib.nullcontext()


def console(*, stderr: bool = False) -> Console:
    """A console on stdout or stderr, which is written as all the rest is."""
    from rich.console import Console

    class PlainConsole(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    text = cast("IO[str]", _Text("stderr" if stderr else "stdout"))
    console = PlainConsole(file=text, highlight=False, markup=False, emoji=False)
    if console.width < NARROWEST:  # or COLUMNS says so
        console.width = NARROWEST
    return console


class _Text(io.TextIOBase):
    """A standard stream, as rich writes to it. What is said on a stderr that is gone is lost."""

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
