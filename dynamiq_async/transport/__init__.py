"""The interface to the network: what a client needs from the transport that speaks HTTP for it.

`AsyncApp`, `AsyncManagement` and `AsyncFlowy` take a `transport=` of your own: an adapter for
another HTTP library, or a double in your tests. The client still does retries, limits, time limits,
streams and errors. A transport sends requests, for many tasks at once.

    class Fixed:
        async def send(self, request, *, connect_timeout):
            return Canned(b'{"answer": 42}')

        async def aclose(self):
            pass

    class Canned:
        status, framed, headers = 200, True, {"content-type": "application/json"}

        def __init__(self, *pieces):
            self.pieces = iter(pieces)

        async def read(self):
            return next(self.pieces, b"")

        def close(self):
            pass

    async with AsyncApp("https://app.example", access_key="key", transport=Fixed()) as app:
        assert await app.invoke({}) == {"answer": 42}

**What is sent** is the request as it is: follow no redirect, and add no header, cookie or
credential. A transport also gets requests for other hosts than the client's, such as those for
Flowy's outputs.

**Errors.** `send` raises `dynamiq_async.errors.ConnectError` (or `ConnectTimeoutError`) if no
connection was made: nothing was sent, so every request may be sent again. It raises
`APIConnectionError` if the connection broke; `read` raises only this one. Other errors of this
package pass unchanged. Any other exception becomes an `APIConnectionError` that names it; then it
is unknown whether the server took the request. The exception is not chained, because the errors of
HTTP libraries hold the request's headers, and with them the key.

**Time and cancellation.** The client's time limits cancel the task in which `send` or `read` waits.
Let the `CancelledError` through, and leave the connection closed. The only limit that a transport
keeps is `connect_timeout`. A transport reports by `Request.sent` whether it has sent anything.

**Who closes what.** The client closes every response. It never closes your transport, which may
serve several clients: call its `aclose()` when all of them are closed.

**WebSockets** need `upgrade`, which is optional: see `Upgrades`.
"""

from dynamiq_async.transport.base import (
    Body,
    Connection,
    Request,
    Response,
    Transport,
    Upgrades,
)

__all__ = ["Body", "Connection", "Request", "Response", "Transport", "Upgrades"]
