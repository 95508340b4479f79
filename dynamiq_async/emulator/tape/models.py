"""A tape: a text file of JSON lines, one for the tape itself and one for each request.

The lines are in the order in which the exchanges ended; `number` is that of their requests. Times
are in seconds since the request had come. A body is text where it is UTF-8, else base64.
"""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from .responses import Framing

if TYPE_CHECKING:
    from pathlib import Path

VERSION = 1

MAX_REQUEST = 1024 * 1024
"""Bytes. Of a longer request body, a file that is uploaded, only size and hash are kept."""

_MAX_FIRST_LINE = 64 * 1024

Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
Bytes = Annotated[int, msgspec.Meta(ge=0, lt=1 << 60)]
Pair = tuple[
    Annotated[str, msgspec.Meta(pattern=r"\A[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")],
    Annotated[str, msgspec.Meta(pattern=r"\A[^\r\n\0]*\Z")],
]

End = Literal["whole", "cut", "reset", "error", "left"]
"""How a response ended: as HTTP asks for; by the end of the connection; by its reset; the App could
not be reached or made no sense; the client left before."""


class Header(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The first line of a tape.

    Attributes:
        tape: the version of the format.
        app: the URL of the App that was recorded.
        recorded_at: when, as RFC 3339.
        masked: the names of the fields whose values are not on it.
    """

    tape: int
    app: str
    recorded_at: str
    masked: tuple[str, ...] = ()


class Content(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Bytes, as text where they are text. Of a long request body only size and hash."""

    text: str | None = None
    base64: str | None = None
    size: Bytes | None = None
    sha256: str | None = None

    def __post_init__(self) -> None:
        if self.base64 is not None:
            base64.b64decode(self.base64, validate=True)
        if self.text is not None:
            self.text.encode()

    @classmethod
    def of(cls, data: bytes) -> Content:
        """These bytes."""
        try:
            return cls(text=data.decode())
        except UnicodeDecodeError:
            return cls(base64=base64.b64encode(data).decode())

    @classmethod
    def digest(cls, data: bytes, size: int) -> Content:
        """Not these bytes, but what tells them from others."""
        return cls(size=size, sha256=hashlib.sha256(data).hexdigest())

    @property
    def data(self) -> bytes:
        """The bytes; of those that were not kept, what tells them from others."""
        if self.base64 is not None:
            return base64.b64decode(self.base64)
        return (self.text or self.sha256 or "").encode()


class Request(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A request as it came, masked. `path` has the query."""

    method: str
    path: str
    headers: tuple[Pair, ...] = ()
    body: Content = msgspec.field(default_factory=Content)

    def header(self, name: str) -> str:
        """The value of a header; "" without it."""
        return next((value for given, value in self.headers if given.lower() == name), "")


class Piece(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What came at once: of a body, a chunk or a part of one; of a WebSocket, a frame.

    Attributes:
        at: seconds since the request.
        op: of a frame, its first byte (RFC 6455, 5.2), which says what it is and whether it is
            whole.
        client: whether the client sent it; else the App did.
    """

    at: Seconds
    content: Content
    op: Annotated[int, msgspec.Meta(ge=0, le=255)] | None = None
    client: bool = False


class Response(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The head of a response, and when it came. `framing` is how its body says where it ends; its
    length is that of its pieces, whatever `Content-Length` says."""

    at: Seconds
    status: Annotated[int, msgspec.Meta(ge=100, le=999)]
    headers: tuple[Pair, ...]
    framing: Framing


class Ending(msgspec.Struct, kw_only=True, omit_defaults=True):
    """How a response ended, and when.

    Attributes:
        missing: bytes that the last chunk, or the length of the body, had announced and that did
            not come.
        message: what went wrong.
    """

    at: Seconds
    how: End
    missing: Bytes = 0
    message: str | None = None


class Exchange(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A request and what came of it. Without a `response`: nothing, before the end."""

    number: int
    request: Request
    response: Response | None = None
    pieces: tuple[Piece, ...] = ()
    end: Ending


class TapeError(Exception):
    """A file is no tape, or of a version that is not known."""


class _Version(msgspec.Struct):
    tape: int


def read_tape(path: Path) -> tuple[Header, list[Exchange]]:
    """A tape's first line, and its exchanges in the order of their requests.

    Raises `TapeError` for what is no tape, `OSError` where there is no file. A last line that was
    not written to its end, as when the recorder was killed, is left out; so are empty ones.
    """
    with path.open("rb") as file:
        first = file.readline(_MAX_FIRST_LINE)
        try:
            version = msgspec.json.decode(first, type=_Version).tape
            if version != VERSION:
                raise TapeError(f"{path} is a tape of version {version}; this is for {VERSION}")
            header = msgspec.json.decode(first, type=Header)
            found = [exchange for line in file if (exchange := _read_line(line)) is not None]
        except (msgspec.MsgspecError, ValueError) as error:
            raise TapeError(f"{path} is not a tape: {error}") from error
    return header, sorted(found, key=_number)


_EXCHANGE = msgspec.json.Decoder(Exchange)


def _read_line(line: bytes) -> Exchange | None:
    """An exchange; None for an empty line, and for the last one if it was not written whole."""
    try:
        return _EXCHANGE.decode(line) if line.strip() else None
    except msgspec.MsgspecError:
        if line.endswith(b"\n"):
            raise
        return None


def _number(exchange: Exchange) -> int:
    return exchange.number
