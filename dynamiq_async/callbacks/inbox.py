"""Callbacks for a program that waits for them itself: a small server, and its results by id."""

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
"""How long requests that are under way may take when the inbox is closed."""

BODY_SECONDS = 30.0
"""How long a request's body may take to come and to be handled."""


class CallbackInbox:
    """Receives callbacks in the program that submits.

    ```python
    async with CallbackInbox(port=8080, public_url="https://tunnel.example.com/") as inbox:
        accepted = await app.submit({"topic": "sales"}, callbacks=[inbox.callback()])
        result = await inbox.result(accepted.id, timeout=600)
        print(result.unwrap())
    ```

    A callback that comes before `submit` returns is kept like any other. A result is still kept
    after it was asked for, so several tasks may ask for it.

    Iterating the inbox gives each result that is kept, and then each as it comes:
    `async for result in inbox`. It ends by a `break`, or with StreamClosedError.

    Args:
        host, port: where to listen; port 0 is any free one.
        public_url: the URL by which Apps reach this server from outside, such as a tunnel's or
            a proxy's, with any path. By default the server's own address, which only an App on this
            machine (the emulator) can use.
        token: the token that callbacks have to carry; by default a random one. False: none, and
            anybody can post results.
        ssl_context: serve HTTPS with it.
        max_results: how many results are kept; the oldest are dropped first.
        max_body_bytes: the most that a callback's body may have.

    Raises:
        InvalidArgumentError: an argument cannot be used.

    Entering the inbox raises OSError where it cannot listen.
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
            # It remembers more ids than results are kept, so no kept result comes a second time.
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
        """Stop listening, and make tasks that wait raise StreamClosedError. Results that are kept
        stay available. May be called twice, and from any task."""
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
        # aiohttp forgets the task of a client that left before its body was read to the end.
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
        """A `Callback` to hand to `submit`.

        Args:
            metadata: an object that the result carries unchanged.

        Raises:
            StreamClosedError: as for `url`.
        """
        token = None if self._token is None else self._token.reveal()
        return Callback(self.url, token, None if metadata is None else dict(metadata))

    # --- results ---------------------------------------------------------------------------------

    async def result(self, id: str, *, timeout: float | None = DEFAULT_WAIT) -> CallbackResult:
        """The result of the call that was accepted with this id, now or when it comes.

        Args:
            id: from `submit`'s `Accepted`.
            timeout: seconds; None for no limit. Have one: whether a callback that could not be
                delivered is delivered again is not documented.

        Raises:
            APITimeoutError: it did not come in time. The message says what to check.
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
    """An iteration over an inbox, at a position of its own."""

    def __init__(self, arrivals: Arrivals) -> None:
        self._arrivals = arrivals
        self._number = 0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> CallbackResult:
        self._number, result = await self._arrivals.after(self._number)
        return result


class _DebugLogger(logging.LoggerAdapter[logging.Logger]):
    """Logs the server's own messages at DEBUG. They are about requests that are no HTTP and senders
    that disconnected. Any open port gets these; they are no errors of the program that waits."""

    def log(self, level: int, msg: object, *args: object, **options: Any) -> None:
        super().log(logging.DEBUG, msg, *args, **options)


async def _finish(work: Awaitable[None]) -> None:
    """Await `work` to its end also when cancelled, so that no server is left half started."""
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
    """`public_url`, checked as far as that does not depend on the App: `submit` checks the rest."""
    try:
        parts = urlsplit(url)
    except (ValueError, AttributeError):
        parts = None
    if parts is None or parts.scheme not in ("https", "http") or not parts.hostname:
        raise InvalidArgumentError(
            f"public_url must be an https URL, not {url!r}", argument="public_url"
        )
    return url
