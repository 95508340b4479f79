"""The base of recorder and player: a server in the App's place, which tests can inspect."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, TypedDict, cast

from aiohttp import web

from ..core.body_limits import max_body_bytes
from ..core.browsers import ANY_ORIGIN
from ..core.callers import Callers
from ..core.ids import new_hex
from ..core.json import encode
from ..core.listener import Listener
from ..core.log import Changes, Log
from ..core.refusals import RefusalError
from ..core.request_bodies import parse_into, read_body
from ..core.request_record import RequestRecord
from ..core.server import LocalServer
from ..core.wire import DroppedError
from .models import MAX_REQUEST, Content, Request
from .sockets import can_accept
from .writer import ResponseWriter

if TYPE_CHECKING:
    from collections.abc import Collection

    from ..core.masks import Mask
    from ..core.multipart import Buffer

TAPE_KEY = "dynamiq_acc_tape"
"""An Access Key that clients may send to a tape's server, which requires none."""

_MAX_BODY = max_body_bytes(128 * 1024 * 1024)
_READ_TIMEOUT = 60.0
_LOG_LIMIT = 10_000
_CODINGS = {"", "identity", "gzip", "deflate"}  # aiohttp decodes these


class Serving(TypedDict, total=False):
    """Where a tape is served, and to whom. The options are those of `Emulator`.

    Attributes:
        host, port: where to listen; port 0, the default, is any free port. On this machine's own
            addresses only requests for its names are served.
        allow_hosts: more values of `Host` to serve.
        allow_origins: the origins of web pages that may call, by default any.
    """

    host: str
    port: int
    allow_hosts: Collection[str]
    allow_origins: Collection[str]


class TapeServer(LocalServer):
    """A server in the place of an App."""

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        allow_hosts: Collection[str] = (),
        allow_origins: Collection[str] = ANY_ORIGIN,
    ) -> None:
        self._changes = Changes()
        self._callers = Callers(host, allow_hosts, allow_origins)
        self._listener = Listener(
            self._handle, self._changes, host=host, port=port, read_timeout=_READ_TIMEOUT
        )
        self._requests: Log[RequestRecord] = Log(_LOG_LIMIT)

    async def respond(
        self, request: web.BaseRequest, record: RequestRecord, body: Buffer, writer: ResponseWriter
    ) -> None:
        """Respond to a request that was not refused."""
        raise NotImplementedError

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        handler = cast("asyncio.Task[Any]", asyncio.current_task())
        self._listener.handlers.add(handler)
        record = self._record(request)
        writer = None
        try:
            refused, body = await self._read(request, record)
            writer = ResponseWriter(request, record)
            with contextlib.suppress(DroppedError):
                refused = refused or _unfit(request)
                if refused is None:
                    await self.respond(request, record, body, writer)
                else:
                    await respond_json(request, writer, refused.status, refused.envelope())
            if request.content.exception() is not None:
                request.protocol.force_close()  # aiohttp would read on, and log the error
            return writer.response
        except BaseException:
            record.disconnected = request.transport is None and self._listener.running
            raise
        finally:
            self._listener.handlers.discard(handler)
            record.finish()
            self._changes.notify()

    def _record(self, request: web.BaseRequest) -> RequestRecord:
        return RequestRecord(
            connection=self._listener.connections.heard(request.protocol),
            method=request.method,
            path=request.rel_url.raw_path,
            query=request.rel_url.query,
            headers=request.headers,
            app="",
            service="",
            prefix="",
            endpoint=request.rel_url.raw_path,
            peer=request.remote or "",
            request_id=new_hex(),
        )

    async def _read(
        self, request: web.BaseRequest, record: RequestRecord
    ) -> tuple[RefusalError | None, Buffer]:
        refused = self._callers.refused(record)
        try:
            async with asyncio.timeout(self._listener.read_timeout):
                body = await read_body(request, self._folder, _MAX_BODY, keep=refused is None)
            parse_into(record, body)
            return refused, body
        except RefusalError as too_large:
            return refused or too_large, b""
        except TimeoutError:
            return RefusalError(408, "request_timeout", "the body did not come in time"), b""
        except web.RequestPayloadError as error:
            return refused or RefusalError(
                400, "bad_request", f"the body cannot be read: {error}"
            ), b""
        finally:
            self._requests.add(record)
            self._changes.notify()


def is_socket(request: web.BaseRequest) -> bool:
    """Whether a request asks for a WebSocket."""
    return request.headers.get("Upgrade", "").lower() == "websocket"


def _unfit(request: web.BaseRequest) -> RefusalError | None:
    """Why a tape cannot have this request; None if it can."""
    if not request.rel_url.raw_path.startswith("/"):
        return RefusalError(400, "bad_request", "the target of a request is a path")
    coding = request.headers.get("Content-Encoding", "").lower()
    if coding not in _CODINGS:
        message = f"a body that is compressed by {coding} cannot be looked at"
        return RefusalError(415, "unsupported_media_type", message)
    if is_socket(request) and not can_accept(request):
        return RefusalError(400, "bad_request", "the handshake of the WebSocket makes no sense")
    return None


async def respond_json(
    request: web.BaseRequest, writer: ResponseWriter, status: int, value: Any
) -> None:
    """Respond with JSON that does not come from the App."""
    body = encode(value)
    headers = (("Content-Type", "application/json"), ("Content-Length", str(len(body))))
    writer.start(status, headers, "length")
    if request.method != "HEAD":
        await writer.write(body)
    await writer.end("whole")


def request_of(
    record: RequestRecord, request: web.BaseRequest, body: Buffer, mask: Mask
) -> Request:
    """A request in the form of a tape, masked."""
    mask.learn(record.headers.items())
    kind, size = record.headers.get("Content-Type", ""), len(body)
    data = mask.request(bytes(body), kind)
    content = Content.digest(data, size) if size > MAX_REQUEST else Content.of(data)
    return Request(
        method=record.method,
        path=mask.path(request.rel_url.raw_path_qs),
        headers=tuple(
            (name, mask.content_type(value) if name.lower() == "content-type" else value)
            for name, value in mask.headers(record.headers.items())
            if name.lower() != "content-encoding"
        ),
        body=content,
    )
