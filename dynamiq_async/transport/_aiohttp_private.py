"""All uses of undocumented parts of aiohttp, and their reasons.

They are correct for aiohttp 3.13.0 to 3.14.5. `tests/transport/test_private.py` checks them in the
installed version, and checks that no other module uses undocumented parts.
"""

from __future__ import annotations

import asyncio
from types import FunctionType
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http_parser import HttpResponseParser

if TYPE_CHECKING:
    from collections.abc import Sequence

UNDOCUMENTED = {
    "ClientSession._retry_connection": "`send_once`",
    "ClientSession._middlewares": "`middlewares_of`",
    "ClientRequest._continue": "`wait_for_continue`",
    "BaseConnector._close": "`close_now`",
    "BaseConnector._closed": "`forget`",
    "ClientSession._request": "`is_untouched`",
    "StreamReader._buffer": "`has_arrived` and `whole_of`",
    "StreamReader._read_nowait": "`rest_of`",
    "StreamReader.feed_data": "an upgraded connection is read as a body is",
    "StreamReader.feed_eof": "the same",
    "Connection._protocol": "`protocol_of`",
    "Connection.protocol": "leads to the names below",
    "ResponseHandler._drain_helper": "`drain`",
    "ResponseHandler._drain_waiter": "`drain`",
    "ResponseHandler.closed": "a lost connection whose body aiohttp leaves waiting",
    "ResponseHandler.exception": "which framing was violated",
    "ResponseHandler.set_parser": "receives the bytes of an upgraded connection",
    "ResponseHandler.transport": "writing, and the amount of unsent bytes",
}
"""Class and attribute, with the reason, or the function below that has it."""

INHERITED = {
    "BaseConnector._factory": "makes connections that drop unsolicited bytes",
    "TCPConnector._create_connection": "applies the time limit of a new connection",
    "TCPConnector._resolve_host": "resolves names under .localhost to this machine",
    "BaseConnector.connect": "a request that fails in it was not sent",
    "ResponseHandler._buffer": "responses that were parsed and not yet taken",
    "ResponseHandler._payload": "the body that is being read",
    "ResponseHandler._payload_parser": "set once a connection was upgraded",
    "ResponseHandler._upgraded": "the same, a little earlier",
    "ResponseHandler.connection_lost": "how TLS refused a connection",
    "ResponseHandler.data_received": "sees bytes before they are parsed",
    "ResponseHandler.is_connected": "whether a connection in the pool can be used",
    "ResponseHandler.set_response_params": "called before a request is sent",
}
"""The inherited names that `_aiohttp_connections` uses or overrides."""


def send_once(session: aiohttp.ClientSession) -> None:
    """Stop the session from silently repeating a GET on a stale connection: the client does it."""
    session._retry_connection = False


def middlewares_of(session: aiohttp.ClientSession) -> Sequence[Any]:
    """The session's middlewares, which a request's own middlewares would replace."""
    return session._middlewares


def wait_for_continue(request: aiohttp.ClientRequest, waiter: asyncio.Future[bool]) -> None:
    """Make the body of a request that expects a 100 wait for `waiter`. aiohttp itself waits for the
    interim response without a limit."""
    if request._continue is not None:
        request._continue = waiter


def protocol_of(connection: Any) -> Any:
    """The protocol of a connection. It no longer goes back to the pool when the connection object
    is collected."""
    protocol, connection._protocol = connection._protocol, None
    return protocol


def close_now(connector: aiohttp.BaseConnector) -> None:
    """Close the connector without awaiting, as a finaliser must; `close` would make a task."""
    connector._close()


def forget(connector: aiohttp.BaseConnector) -> None:
    """Stop the connector from closing sockets and from warning: another process owns them."""
    connector._closed = True


def has_arrived(content: aiohttp.StreamReader) -> bool:
    """Whether a part of a body has arrived and is unread."""
    return bool(content._buffer)


def whole_of(content: aiohttp.StreamReader) -> bytes:
    """All bytes of a body that has ended and was not read. It cannot be read afterwards."""
    pieces = content._buffer
    return pieces.popleft() if len(pieces) == 1 else b"".join(pieces)


def rest_of(content: aiohttp.StreamReader) -> bytes:
    """The bytes that arrived before a break. All other ways to read raise the error at once."""
    rest: bytes = content._read_nowait(-1)
    return rest


async def drain(protocol: Any) -> None:
    """Wait until most of the written bytes are sent. Raises OSError if the connection is lost.

    There is no other way to wait on an upgraded connection.
    """
    try:
        await protocol._drain_helper()
    except asyncio.CancelledError:
        # aiohttp 3.13 leaves its future behind, and asyncio would warn about its exception.
        waiter = protocol._drain_waiter
        if waiter is not None:
            waiter.add_done_callback(lambda waiter: waiter.cancelled() or waiter.exception())
        raise


# --- used by calls that bypass the session --------------------------------------------------------

VERSIONS = ("3.13", "3.14")
"""The versions of aiohttp for which everything below was checked."""

BELOW = {
    "BaseConnector._acquired": "connections in use",
    "BaseConnector._cleanup_handle": "closes connections that were kept too long",
    "BaseConnector._closed": "whether the connector is closed",
    "BaseConnector._conns": "connections that are kept, and since when",
    "BaseConnector._keepalive_timeout": "how long they are kept",
    "BaseConnector._release": "keeps or closes a connection",
    "ResponseHandler._buffer": "responses that were parsed and not yet taken",
    "ResponseHandler._exception": "how the connection ended",
    "ResponseHandler._parser": "the reader of a body pauses it",
    "ResponseHandler._payload": "the body that is being read",
    "ResponseHandler._reading_paused": "whether the reader of a body paused it",
    "ResponseHandler._should_close": "the connection takes no more requests",
    "ResponseHandler.resume_reading": "called with each read; parses what was held back",
    "StreamReader.total_bytes": "how much of a body there was",
}
"""The further names that `_direct_connections` uses."""


def owner_of(name: str) -> type:
    """The class of a name in the tables above."""
    owners: tuple[type, ...] = (
        aiohttp.ClientSession,
        aiohttp.ClientRequest,
        aiohttp.BaseConnector,
        aiohttp.TCPConnector,
        aiohttp.StreamReader,
        Connection,
        ResponseHandler,
    )
    return next(kind for kind in owners if kind.__name__ == name.partition(".")[0])


def has(name: str) -> bool:
    """Whether the installed aiohttp has a name of the tables above, on class or instances."""
    kind, attribute = owner_of(name), name.partition(".")[2]
    makers = [vars(base)["__init__"] for base in kind.__mro__ if "__init__" in vars(base)]
    codes = [maker.__code__ for maker in makers if hasattr(maker, "__code__")]
    return hasattr(kind, attribute) or any(attribute in code.co_names for code in codes)


def difference(version: str = aiohttp.__version__, parser: type = HttpResponseParser) -> str:
    """Why calls cannot bypass the session of the installed aiohttp; `""` where they can."""
    if ".".join(version.split(".")[:2]) not in VERSIONS:
        return f"aiohttp {version} is none of those that were looked at ({', '.join(VERSIONS)})"
    if parser.__module__ != "aiohttp._http_parser":
        return "aiohttp is without its compiled parser"
    missing = [name for name in BELOW if not has(name)]
    return f"aiohttp {version} has no {', '.join(missing)}" if missing else ""


DIFFERENCE = difference()
"""The result of `difference` at import."""


class _Genuine:
    """The session's unpatched methods, once they were seen."""

    request: Any = None
    init: Any = None


def is_untouched() -> bool:
    """Whether the session's methods are aiohttp's own, so that bypassing them makes no difference.
    Mocks and tracing agents replace them with functions of their own."""
    request, init = aiohttp.ClientSession._request, aiohttp.ClientSession.__init__
    if request is _Genuine.request and init is _Genuine.init:
        return True
    if not (_is_aiohttp_s(request) and _is_aiohttp_s(init)):
        return False
    _Genuine.request, _Genuine.init = request, init
    return True


def _is_aiohttp_s(function: Any) -> bool:
    if type(function) is not FunctionType:  # a wrapper may have the attributes of a function
        return False
    return function.__code__.co_filename == aiohttp.client.__file__
