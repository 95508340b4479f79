"""Callbacks for a program that waits for them itself: a small server that keeps results by id."""

from __future__ import annotations

import asyncio
import logging
import secrets
from typing import TYPE_CHECKING, Any, Literal, Self
from urllib.parse import urlsplit

from dynamiq_async._credentials import Secret, check_key, hidden
from dynamiq_async.errors import APITimeoutError, InvalidArgumentError, StreamClosedError
from dynamiq_async.options import check_count, check_seconds
from dynamiq_async.runs.waiting import DEFAULT_WAIT
from dynamiq_async.submission import Callback

from .arrivals import Arrivals
from .receiver import CallbackReceiver
from .stores import MemoryStore
from .verifier import DEFAULT_MAX_BODY_BYTES

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Mapping

    from aiohttp import web

    from .results import CallbackResult

log: logging.Logger = logging.getLogger("dynamiq_async")

MAX_PORT = 65_535
CLOSE_SECONDS = 1.0
"""How long requests under way may still take after the inbox is closed, in seconds."""

BODY_SECONDS = 30.0
"""How long it may take to receive and handle a request's body, in seconds."""


class CallbackInbox:
    """Receives callbacks in the program that submits.

    ```python
    async with CallbackInbox(port=8080, public_url="https://tunnel.example.com/") as inbox:
        accepted = await app.submit({"topic": "sales"}, callbacks=[inbox.callback()])
        result = await inbox.result(accepted.id, timeout=600)
        print(result.unwrap())
    ```

    The inbox also keeps a callback that arrives before `submit` returns. It still keeps a result
    after returning it, so several tasks may ask for the same one.

    `async for result in inbox` yields each kept result, and then each new one as it arrives. The
    iteration ends by a `break`, or with StreamClosedError.

    Args:
        host, port: the address to listen on. Port 0 means any free port.
        public_url: the URL by which Apps reach this server from outside, such as a tunnel's or
            a proxy's, with any path. By default the server's own address, which only an App on this
            machine (the emulator) can use.
        token: the token that callbacks have to carry; by default a random one. With False,
            callbacks need no token, and anybody can post results.
        ssl_context: serves HTTPS with this context.
        max_results: how many results to keep. The oldest are dropped first.
        max_body_bytes: the most bytes of a callback's body.

    Raises:
        InvalidArgumentError: an argument cannot be used.

    Entering the inbox raises OSError if it cannot listen.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        public_url: str | None = None,
        token: str | Literal[False] | None = None,
        ssl_context: ssl.SSLContext | None = None,
        max_results: int = 1000,
        max_body_bytes: int = DEFAULT_MAX_BODY_BYTES,
    ) -> None:
        token = hidden(token)
        if not isinstance(host, str) or not host:
            raise InvalidArgumentError("host must be a name or an address", argument="host")
        self._host = host
        if check_count(port, "port", least=0) > MAX_PORT:
            raise InvalidArgumentError(f"port is at most {MAX_PORT}, not {port}", argument="port")
        self._port = port
        self._public_url = None if public_url is None else _check_url(public_url)
        self._token = _make_token(token)
        self._ssl_context = ssl_context
        self._arrivals = Arrivals(check_count(max_results, "max_results"))
        self._receiver = CallbackReceiver(
            tokens=self._token is not None and self._token.reveal(),
            on_result=self._arrivals.add,
            # It remembers more ids than the inbox keeps results, so no kept result arrives twice.
            store=MemoryStore(max_entries=max(10_000, max_results)),
            max_body_bytes=max_body_bytes,
        )
        self._runner: web.ServerRunner | None = None
        self._closing: asyncio.Future[None] | None = None
        self._entered = False
        self._connections: set[asyncio.Task[Any]] = set()
        self._refused = 0
        self._last_refusal = ""

    # --- starting and stopping ------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        from aiohttp import web

        from ._server import Server

        if self._entered:
            raise StreamClosedError("an inbox is entered once; make a new one")
        self._entered = True
        server = Server(self._serve, access_log=None, logger=_DebugLogger(log))
        runner = web.ServerRunner(server, shutdown_timeout=CLOSE_SECONDS)
        try:
            await _finish(self._start(runner))
        except BaseException:
            await _finish(self._stop(runner))
            raise
        self._port = runner.addresses[0][1]
        self._runner = runner
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop listening, and make waiting tasks raise StreamClosedError. Kept results stay
        available. May be called more than once, and from any task."""
        self._arrivals.close()
        runner, self._runner = self._runner, None
        if runner is not None:
            self._closing = asyncio.ensure_future(self._stop(runner))
        if self._closing is not None:
            await _finish(self._closing)

    async def _start(self, runner: web.ServerRunner) -> None:
        from aiohttp import web

        await runner.setup()
        site = web.TCPSite(runner, self._host, self._port, ssl_context=self._ssl_context)
        await site.start()

    async def _stop(self, runner: web.ServerRunner) -> None:
        await runner.cleanup()
        # aiohttp forgets the task of a client that disconnected while its body was read.
        for task in self._connections:
            task.cancel()
        if self._connections:
            await asyncio.wait(self._connections)

    # --- submitting ------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """The URL that callbacks are sent to.

        Raises:
            StreamClosedError: the inbox was not entered, and has no `public_url`.
        """
        if self._public_url is not None:
            return self._public_url
        if self._runner is None:
            raise StreamClosedError("the inbox has an address inside its `async with` only")
        scheme = "http" if self._ssl_context is None else "https"
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{scheme}://{host}:{self._port}/"

    def callback(self, *, metadata: Mapping[str, Any] | None = None) -> Callback:
        """A `Callback` to pass to `submit`.

        Args:
            metadata: an object that comes back unchanged with the result.

        Raises:
            StreamClosedError: as for `url`.
        """
        token = None if self._token is None else self._token.reveal()
        return Callback(self.url, token, None if metadata is None else dict(metadata))

    # --- results ---------------------------------------------------------------------------------

    async def result(self, id: str, *, timeout: float | None = DEFAULT_WAIT) -> CallbackResult:
        """Wait for the result of the call that was accepted with this id, and return it.

        Args:
            id: from `submit`'s `Accepted`.
            timeout: seconds; None for no limit. Set a limit: it is not documented whether the
                service repeats a callback that it could not deliver.

        Raises:
            APITimeoutError: the result did not arrive in time. The message says what to check.
            StreamClosedError: the inbox was closed, or not entered.
        """
        if not isinstance(id, str) or not id:
            raise InvalidArgumentError("id must be that of an `Accepted`", argument="id")
        check_seconds(timeout, "timeout")
        self._check_entered()
        try:
            async with asyncio.timeout(timeout):
                return await self._arrivals.get(id)
        except TimeoutError as error:
            raise self._timeout_error(id, timeout) from error

    def __aiter__(self) -> AsyncIterator[CallbackResult]:
        self._check_entered()
        return _InboxIterator(self._arrivals)

    def _check_entered(self) -> None:
        if not self._entered:
            raise StreamClosedError("nothing comes to an inbox outside its `async with`")

    async def _serve(self, request: web.BaseRequest) -> web.Response:
        if request.task not in self._connections:
            self._connections.add(request.task)
            request.task.add_done_callback(self._connections.discard)
        response: web.Response
        try:
            async with asyncio.timeout(BODY_SECONDS):
                response = await self._receiver.aiohttp_handler(request)
        except TimeoutError:
            response = _too_slow()
        if response.status >= 400:
            self._refused += 1
            self._last_refusal = f"{response.status} {response.reason}"
        return response

    def _timeout_error(self, id: str, timeout: float | None) -> APITimeoutError:
        where = self._public_url or f"port {self._port} of {self._host}"
        message = (
            f"the callback of run {id} did not come within {timeout} s. Check that the run has "
            f"ended, and that the App reaches {where} from where it is"
        )
        arrivals = self._arrivals
        if self._refused:
            last = self._last_refusal
            message += f"; requests refused: {self._refused}, the last with {last}"
        if arrivals.count:
            message += f"; callbacks of other runs came: {arrivals.count}"
        if arrivals.dropped:
            message += f", of them dropped: {arrivals.dropped}; raise max_results"
        return APITimeoutError(message, limit="total", seconds=timeout, run_id=id)


class _InboxIterator:
    """An iteration over an inbox, with its own position."""

    def __init__(self, arrivals: Arrivals) -> None:
        self._arrivals = arrivals
        self._number = 0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> CallbackResult:
        self._number, result = await self._arrivals.after(self._number)
        return result


class _DebugLogger(logging.LoggerAdapter[logging.Logger]):
    """Logs the server's own messages at DEBUG. They are about requests that are not HTTP, and about
    senders that disconnected. Every open port gets these, so they are not errors of the program."""

    def log(self, level: int, msg: object, *args: object, **options: Any) -> None:
        super().log(logging.DEBUG, msg, *args, **options)


async def _finish(work: Awaitable[None]) -> None:
    """Await `work` to its end even if cancelled, so that no server is left half started."""
    import anyio

    task = asyncio.ensure_future(work)
    with anyio.CancelScope(shield=True):  # an outer scope would cancel again at every await
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            while not task.done():
                try:
                    await asyncio.wait([task])
                except asyncio.CancelledError:  # the first one is raised below
                    continue
            raise


def _too_slow() -> web.Response:
    from aiohttp import web

    response = web.Response(status=408)
    response.force_close()
    return response


def _make_token(token: str | Literal[False] | None) -> Secret | None:
    if token is False:
        return None
    return check_key(secrets.token_urlsafe(32) if token is None else token, "token")


def _check_url(url: str) -> str:
    """`public_url`, checked for all that does not depend on the App. `submit` checks the rest."""
    try:
        parts = urlsplit(url)
    except (ValueError, AttributeError):
        parts = None
    if parts is None or parts.scheme not in ("https", "http") or not parts.hostname:
        raise InvalidArgumentError(
            f"public_url must be an https URL, not {url!r}", argument="public_url"
        )
    return url
