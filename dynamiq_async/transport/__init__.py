"""The seam to the network: what a client asks of whatever speaks HTTP for it.

`AsyncApp`, `AsyncManagement` and `AsyncFlowy` take a `transport=` of your own: an adapter for
another HTTP library, or a double in your tests. Retries, limits, time limits, streams and errors
stay the client's. A transport sends requests, for many tasks at once.

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

**What is sent** is the request as it is: no redirect is followed, and no header, cookie or
credential added. Requests for other hosts than the client's come through here too, such as those
for Flowy's outputs.

**Errors.** `send` raises `dynamiq_async.errors.ConnectError` (or `ConnectTimeoutError`) where no
connection came about, so that nothing was sent and every request may be sent again, and
`APIConnectionError` where it broke; `read` raises the latter. Other errors of this package pass as
they are. Any other exception becomes an `APIConnectionError` that names it: whether the request was
taken is unknown then. It is not chained, because the errors of HTTP libraries hold the request's
headers, and with them the key.

**Time and cancellation.** The client's time limits cancel the task in which `send` or `read` waits.
Let the `CancelledError` through, and leave the connection closed. The only limit that a transport
keeps is `connect_timeout`. `Request.sent` is where it can tell how far a request came.

**Who closes what.** The client closes every response. It never closes a transport of yours: it
stays yours, may serve several clients, and `aclose()` is for you to call when they are closed.

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
