"""What is used of aiohttp beyond its documentation: all of it, and why.

It is as said here in aiohttp 3.13.0 to 3.14.5. `tests/transport/test_private.py` looks for it in
the version that is installed, and for more of the kind in the other modules.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    import aiohttp

UNDOCUMENTED = {
    "ClientSession._retry_connection": "`send_once`",
    "ClientSession._middlewares": "`middlewares_of`",
    "ClientRequest._continue": "`wait_for_continue`",
    "BaseConnector._close": "`close_now`",
    "BaseConnector._closed": "`forget`",
    "StreamReader._read_nowait": "`rest_of`",
    "StreamReader.feed_data": "an upgraded connection is read as a body is",
    "StreamReader.feed_eof": "the same",
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


def close_now(connector: aiohttp.BaseConnector) -> None:
    """Close it without awaiting, as a finaliser has to; `close` would make a task."""
    connector._close()


def forget(connector: aiohttp.BaseConnector) -> None:
    """Have it close nothing and not warn: its sockets are another process's."""
    connector._closed = True


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
