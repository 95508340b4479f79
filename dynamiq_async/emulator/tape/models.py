"""A tape: a text file of JSON lines, one for the tape itself and one for each request.

The lines are in the order in which the exchanges ended; `number` is the order of their requests.
Times are in seconds since the request arrived. A body is text if it is UTF-8, else base64.
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
"""Bytes. Of a longer request body, such as an uploaded file, only the size and hash are kept."""

_MAX_FIRST_LINE = 64 * 1024

Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
Bytes = Annotated[int, msgspec.Meta(ge=0, lt=1 << 60)]
Pair = tuple[
    Annotated[str, msgspec.Meta(pattern=r"\A[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")],
    Annotated[str, msgspec.Meta(pattern=r"\A[^\r\n\0]*\Z")],
]

End = Literal["whole", "cut", "reset", "error", "left"]
"""How a response ended: completely; by the end of the connection; by a reset; because the App could
not be reached or sent an invalid response; because the client left."""


class Header(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The first line of a tape.

    Attributes:
        tape: the version of the format.
        app: the URL of the App that was recorded.
        recorded_at: when, as RFC 3339.
        masked: the names of the fields whose values are masked.
    """

    tape: int
    app: str
    recorded_at: str
    masked: tuple[str, ...] = ()


class Content(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Bytes, as text if they are UTF-8. A long request body has only its size and hash."""

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
        """The content for these bytes."""
        try:
            return cls(text=data.decode())
        except UnicodeDecodeError:
            return cls(base64=base64.b64encode(data).decode())

    @classmethod
    def digest(cls, data: bytes, size: int) -> Content:
        """The content for bytes that are not kept: their size and hash."""
        return cls(size=size, sha256=hashlib.sha256(data).hexdigest())

    @property
    def data(self) -> bytes:
        """The bytes, or the hash of bytes that were not kept."""
        if self.base64 is not None:
            return base64.b64decode(self.base64)
        return (self.text or self.sha256 or "").encode()


class Request(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A request as it came, masked. `path` includes the query."""

    method: str
    path: str
    headers: tuple[Pair, ...] = ()
    body: Content = msgspec.field(default_factory=Content)

    def header(self, name: str) -> str:
        """The value of a header; "" without it."""
        return next((value for given, value in self.headers if given.lower() == name), "")


class Piece(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Bytes that came together: a chunk of a body or a part of one, or a frame of a WebSocket.

    Attributes:
        at: seconds since the request.
        op: the first byte of a frame (RFC 6455, 5.2): its type, and whether it is the last of its
            message.
        client: whether the client sent it; else the App did.
    """

    at: Seconds
    content: Content
    op: Annotated[int, msgspec.Meta(ge=0, le=255)] | None = None
    client: bool = False


class Response(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The head of a response, and when it came. `framing` is how the end of the body is marked. The
    length of the body is that of its pieces, whatever `Content-Length` says."""

    at: Seconds
    status: Annotated[int, msgspec.Meta(ge=100, le=999)]
    headers: tuple[Pair, ...]
    framing: Framing


class Ending(msgspec.Struct, kw_only=True, omit_defaults=True):
    """How a response ended, and when.

    Attributes:
        missing: how many bytes did not come, of those that the last chunk or the length of the body
            had announced.
        message: what went wrong.
    """

    at: Seconds
    how: End
    missing: Bytes = 0
    message: str | None = None


class Exchange(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A request and its response. Without a `response` nothing came before the end."""

    number: int
    request: Request
    response: Response | None = None
    pieces: tuple[Piece, ...] = ()
    end: Ending


class TapeError(Exception):
    """A file is not a tape, or has an unknown version."""


class _Version(msgspec.Struct):
    tape: int


def read_tape(path: Path) -> tuple[Header, list[Exchange]]:
    """A tape's first line, and its exchanges in the order of their requests.

    Raises `TapeError` if the file is not a tape, `OSError` if there is no file. Empty lines are
    left out, and so is an incomplete last line, which a killed recorder leaves.
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
    """An exchange; None for an empty line, and for an incomplete last line."""
    try:
        return _EXCHANGE.decode(line) if line.strip() else None
    except msgspec.MsgspecError:
        if line.endswith(b"\n"):
            raise
        return None


def _number(exchange: Exchange) -> int:
    return exchange.number
