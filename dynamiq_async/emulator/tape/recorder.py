"""Records a tape: a proxy in front of a real App, which passes everything on and writes it down."""

from __future__ import annotations

import base64
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, Unpack

import msgspec
from aiohttp import web
from yarl import URL

from ..core.clock import utc_now
from ..core.masks import Mask, Secrets
from .models import VERSION, Header
from .proxy import relay
from .server import Serving, TapeServer, is_socket, request_of
from .sockets import OF_HANDSHAKE
from .takes import Take
from .upstream import Upstream
from .writer import HOP

if TYPE_CHECKING:
    import ssl
    from collections.abc import Collection

    from ..core.multipart import Buffer
    from ..core.request_record import RequestRecord
    from .writer import ResponseWriter

_CONNECT_SECONDS = 30.0
_MOST_NOTES = 10_000
# aiohttp has already decompressed the body of a request.
_NOT_PASSED = {*HOP, "host", "content-length", "accept-encoding", "content-encoding", "expect"}


class Recorder(TapeServer):
    """Passes requests on to an App, and writes requests and responses to a tape.

    ```python
    async with Recorder("https://my-app.example", "tape.jsonl", mask=["email"]) as recorder:
        ...  # clients talk to recorder.url, with the App's own key
    ```

    The key of the client goes to the App, but not to the tape. Cookies, tokens of callbacks and
    signatures of links are kept off the tape too. The recorder asks the App for responses without
    compression, so that it can mask them. It decompresses a response that comes with gzip or
    deflate nevertheless. With any other compression it passes the body on, but does not record it.

    Args:
        app: the URL of the App.
        to: the file of the tape, which must not exist yet.
        mask: names of fields whose values are masked on the tape (see `Mask`).
        access_key: the key that clients should send; the recorder only shows it.
        trust: verifies the App's certificate; by default with the system's trust store.
        host, port, allow_hosts, allow_origins: where to listen, and who may call, as for the
            emulator (see `Serving`).

    Attributes:
        app: its URL, without a password or query.
        masked: the names of the masked fields.
        recorded: how many requests are on the tape.
        problems: what went wrong with requests, as the tape has it.

    Raises ValueError for a text that is not the URL of an App.
    """

    def __init__(
        self,
        app: str,
        to: str | Path,
        *,
        mask: Collection[str] = (),
        access_key: str | None = None,
        trust: ssl.SSLContext | None = None,
        **serving: Unpack[Serving],
    ) -> None:
        super().__init__(**serving)
        self.app: URL = _app_url(app)
        self.access_key = access_key
        self.path: Path = Path(to)
        self.masked: tuple[str, ...] = tuple(sorted(mask))
        self.recorded: int = 0
        self.problems: list[str] = []
        self._secrets = Secrets()
        self._trust = trust
        self._file: TextIO | None = None
        self._count = 0

    def __str__(self) -> str:
        return f"Recording {self.app} to {self.path}"

    async def start(self) -> None:
        """Create the tape, and listen. Raises `FileExistsError` if the file exists, `OSError` if it
        cannot be written."""
        # The tape may hold what people said, so only its user may read it.
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._file = os.fdopen(descriptor, "w", encoding="utf-8", newline="\n")
        now = utc_now().isoformat(timespec="seconds")
        self._put(Header(tape=VERSION, app=str(self.app), recorded_at=now, masked=self.masked))
        try:
            await super().start()
        except BaseException:
            self._file.close()
            self.path.unlink()
            raise

    async def aclose(self) -> None:
        """Stop at once. Responses in progress are on the tape as far as they came."""
        await super().aclose()
        if self._file is not None:
            self._file.close()

    def _put(self, line: msgspec.Struct) -> None:
        if self._file is not None:  # pragma: no branch - there are no requests before `start`
            self._file.write(f"{msgspec.json.encode(line).decode()}\n")
            self._file.flush()

    async def respond(
        self, request: web.BaseRequest, record: RequestRecord, body: Buffer, writer: ResponseWriter
    ) -> None:
        """Pass a request on, and its response back. However it ends, the tape gets a line."""
        self._count += 1
        mask = Mask(self.masked, self._secrets)
        take = Take(self._count, request_of(record, request, body, mask), mask)
        try:
            await self._pass(request, body, writer, take)
        finally:
            left = request.transport is None  # then the client ended it, and not the recording
            exchange = take.exchange(stopped=not self.running and not left)
            self._put(exchange)
            self.recorded += 1
            if exchange.end.message and len(self.problems) < _MOST_NOTES:
                self.problems.append(exchange.end.message)

    async def _pass(
        self, request: web.BaseRequest, body: Buffer, writer: ResponseWriter, take: Take
    ) -> None:
        try:
            upstream = await Upstream.open(self.app, self._trust, _CONNECT_SECONDS)
        except OSError as error:
            take.finish("error", message=f"{type(error).__name__}: {error}")
            await writer.drop("cut")
        try:
            async with upstream.sending(self._head(request, len(body)), memoryview(body)):
                await relay(request, upstream, writer, take)
        finally:
            upstream.close()

    def _head(self, request: web.BaseRequest, size: int) -> bytes:
        """The head of a request as the App gets it."""
        path = f"{self.app.raw_path.rstrip('/')}{request.rel_url.raw_path_qs}"
        lines = [
            f"{request.method} {path} HTTP/1.1",
            f"Host: {self.app.host_port_subcomponent}",
            "Accept-Encoding: identity",
        ]
        socket = is_socket(request)
        left_out = _NOT_PASSED | (OF_HANDSHAKE if socket else set())
        lines += (
            f"{name}: {value}"
            for name, value in request.headers.items()
            if name.lower() not in left_out
        )
        if socket:
            key = base64.b64encode(secrets.token_bytes(16)).decode()
            lines += ("Connection: Upgrade", "Upgrade: websocket")
            lines += ("Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}")
        else:
            lines.append("Connection: close")
            if size or request.method in ("POST", "PUT", "PATCH"):
                lines.append(f"Content-Length: {size}")
        return "\r\n".join((*lines, "", "")).encode("utf-8", "surrogateescape")


def _app_url(app: str) -> URL:
    """The URL of an App, without a password, which must not be on a tape."""
    url = URL(app)
    if url.scheme not in ("http", "https") or not url.raw_host:
        raise ValueError(f"{app!r} is not the URL of an App")
    return url.with_user(None).with_query(None).with_fragment(None)
