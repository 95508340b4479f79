"""What is used of aiohttp beyond its documentation: all of it, and why.

It is as said here in aiohttp 3.13.0 to 3.14.5. `tests/transport/test_private.py` looks for it in
the version that is installed, and for more of the kind in the other modules.
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
    "Connection.protocol": "the way to all that follows",
    "ResponseHandler._drain_helper": "`drain`",
    "ResponseHandler._drain_waiter": "`drain`",
    "ResponseHandler.closed": "tells a lost connection whose body aiohttp leaves waiting",
    "ResponseHandler.exception": "says which framing was violated",
    "ResponseHandler.set_parser": "hands out the bytes of an upgraded connection",
    "ResponseHandler.transport": "writes to it, says how much is unsent, and drops that",
}
"""Class and attribute, and what for, or the function below that tells."""

INHERITED = {
    "BaseConnector._factory": "makes connections that drop what comes unasked",
    "TCPConnector._create_connection": "has the limit of time for a new connection",
    "TCPConnector._resolve_host": "leads names under .localhost to this machine",
    "BaseConnector.connect": "what fails in it was not sent",
    "ResponseHandler._buffer": "responses that were parsed and not yet taken",
    "ResponseHandler._payload": "the body that is being read",
    "ResponseHandler._payload_parser": "set once a connection was upgraded",
    "ResponseHandler._upgraded": "the same, a little earlier",
    "ResponseHandler.connection_lost": "tells how TLS refused a connection",
    "ResponseHandler.data_received": "sees what comes before it is parsed",
    "ResponseHandler.is_connected": "is asked whether a connection in the pool can be used",
    "ResponseHandler.set_response_params": "is called when a request is about to be sent",
}
"""What `_aiohttp_connections` uses or overrides of what it inherits."""


def send_once(session: aiohttp.ClientSession) -> None:
    """Keep it from repeating a GET on a stale connection unseen: the client repeats it, counted."""
    session._retry_connection = False


def middlewares_of(session: aiohttp.ClientSession) -> Sequence[Any]:
    """Those of all its requests, which one request's own would replace."""
    return session._middlewares


def wait_for_continue(request: aiohttp.ClientRequest, waiter: asyncio.Future[bool]) -> None:
    """Have the body of a request that expects a 100 wait for `waiter`; by itself it waits for the
    interim response alone, however long."""
    if request._continue is not None:
        request._continue = waiter


def protocol_of(connection: Any) -> Any:
    """The protocol of a connection, which is no more given back when that is collected."""
    protocol, connection._protocol = connection._protocol, None
    return protocol


def close_now(connector: aiohttp.BaseConnector) -> None:
    """Close it without awaiting, as a finaliser has to; `close` would make a task."""
    connector._close()


def forget(connector: aiohttp.BaseConnector) -> None:
    """Have it close nothing and not warn: its sockets are another process's."""
    connector._closed = True


def has_arrived(content: aiohttp.StreamReader) -> bool:
    """Whether some of a body waits to be read."""
    return bool(content._buffer)


def whole_of(content: aiohttp.StreamReader) -> bytes:
    """A body that has ended, and of which nothing was read. It is read no more."""
    pieces = content._buffer
    return pieces.popleft() if len(pieces) == 1 else b"".join(pieces)


def rest_of(content: aiohttp.StreamReader) -> bytes:
    """What had arrived ahead of a break: all other ways to read raise the break at once."""
    rest: bytes = content._read_nowait(-1)
    return rest


async def drain(protocol: Any) -> None:
    """Wait until most of what was written is sent. Raises OSError if the connection is lost.

    A connection that was upgraded has no other way to wait.
    """
    try:
        await protocol._drain_helper()
    except asyncio.CancelledError:
        # aiohttp 3.13 leaves behind what was waited for, and asyncio warns of its failure.
        waiter = protocol._drain_waiter
        if waiter is not None:
            waiter.add_done_callback(lambda waiter: waiter.cancelled() or waiter.exception())
        raise


# --- what calls stand on that go below the session ------------------------------------------------

VERSIONS = ("3.13", "3.14")
"""Those of aiohttp in which all that follows was looked at."""

BELOW = {
    "BaseConnector._acquired": "connections in use",
    "BaseConnector._cleanup_handle": "closes connections that were kept too long",
    "BaseConnector._closed": "the connector is",
    "BaseConnector._conns": "connections that are kept, with the times since when",
    "BaseConnector._keepalive_timeout": "how long they are",
    "BaseConnector._release": "keeps or closes a connection",
    "ResponseHandler._buffer": "responses that were parsed and not yet taken",
    "ResponseHandler._exception": "how the connection ended",
    "ResponseHandler._parser": "is asked to pause by the reader of a body",
    "ResponseHandler._payload": "the body that is being read",
    "ResponseHandler._reading_paused": "the reader of a body asked for it",
    "ResponseHandler._should_close": "the connection takes no more requests",
    "ResponseHandler.resume_reading": "is asked with each read, and parses what was held back",
    "StreamReader.total_bytes": "how much of a body there was",
}
"""What `_direct_connections` uses, beside the above."""


def owner_of(name: str) -> type:
    """The class of a name above."""
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
    """Whether the installed aiohttp has what a name above says, on the class or its instances."""
    kind, attribute = owner_of(name), name.partition(".")[2]
    makers = [vars(base)["__init__"] for base in kind.__mro__ if "__init__" in vars(base)]
    codes = [maker.__code__ for maker in makers if hasattr(maker, "__code__")]
    return hasattr(kind, attribute) or any(attribute in code.co_names for code in codes)


def difference(version: str = aiohttp.__version__, parser: type = HttpResponseParser) -> str:
    """Why calls cannot go below the session of the installed aiohttp; `""` where they can."""
    if ".".join(version.split(".")[:2]) not in VERSIONS:
        return f"aiohttp {version} is none of those that were looked at ({', '.join(VERSIONS)})"
    if parser.__module__ != "aiohttp._http_parser":
        return "aiohttp is without its compiled parser"
    missing = [name for name in BELOW if not has(name)]
    return f"aiohttp {version} has no {', '.join(missing)}" if missing else ""


DIFFERENCE = difference()
"""The same, found at import."""


class _Genuine:
    """The session's methods where nobody has patched them, once they were seen."""

    request: Any = None
    init: Any = None


def is_untouched() -> bool:
    """Whether a request to the session goes the way that aiohttp made, so that going below it makes
    no difference. Mocks and tracing agents put functions of theirs in its place."""
    request, init = aiohttp.ClientSession._request, aiohttp.ClientSession.__init__
    if request is _Genuine.request and init is _Genuine.init:
        return True
    if not (_is_aiohttp_s(request) and _is_aiohttp_s(init)):
        return False
    _Genuine.request, _Genuine.init = request, init
    return True


def _is_aiohttp_s(function: Any) -> bool:
    if type(function) is not FunctionType:  # what wraps one may look like it otherwise
        return False
    return function.__code__.co_filename == aiohttp.client.__file__
