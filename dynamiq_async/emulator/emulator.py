"""The emulator itself: a server on loopback, its routes, and what a test sees of it."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast
from uuid import uuid4

from aiohttp import web

from .app.builtin import BUILTIN
from .app.state import Settings, State, deployments, stop
from .core.exchange import Exchange
from .core.log import Connections, Log, RequestRecord
from .core.request_bodies import RefusalError, parse_into, read_body
from .core.wire import DroppedError, Nowhere, Wire, pause
from .management.api import Management, own_apps
from .routes import SERVICES, service_of

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Mapping

    from .app.callbacks import Delivery
    from .app.execution import Execution
    from .app.requirements_api import Requirements
    from .app.run_context import App
    from .app.runs import Run
    from .core.faults import Fault, Match
    from .flowy.api import Flowy

DEFAULT_KEY = "dynamiq_acc_emulator"

_FORM_BYTES = 1024 * 1024  # that a multipart body may have beside its file


class Emulator:
    """The whole service, on a port of this machine.

    ```python
    async with Emulator("llm") as emulator:
        async with AsyncApp(emulator.url, access_key=emulator.access_key) as app:
            await app.invoke({"question": "…"})
        assert emulator.executions[0].input == {"question": "…"}
    ```

    Args:
        app: the App at the root: an async function (see `dynamiq_async.emulator.apps`) or the
            name of a built-in one (`echo`, `llm`, `agent`, `parallel`, `failing`, `canceled`,
            `approval`, `feedback`).
        apps: more Apps by name, each under the path `/<name>`. The built-in ones are there anyway.
        access_key: what clients must send; None: the Apps are public.
        host, port: where to listen; port 0 is any free one.
        ssl_context: serve HTTPS with it.
        pace: seconds between the events of a run.
        heartbeat: seconds of silence after which a stream of the Runs API has a comment.
        root_heartbeat: the same for streams of the root endpoint, where none is documented.
        newline: the line ends of event streams.
        event_line: whether the root endpoint's events have an `event:` line.
        quota: how many invocations there are before `subscription_limit_reached`.
        allow_loopback_callbacks: accept callback URLs on this machine, http too.
        callback_deliveries: how often each callback is delivered: receivers must bear repetition.
        callback_ssl: trusted for callbacks; by default what the system trusts.
        event_window: keep only so many of a run's newest events: then memory stays flat, and the
            App waits for a stream that is further behind. By default all are kept.
        max_file_bytes: the largest file that can be uploaded.
        keepalive_timeout: seconds after which an idle connection is closed.
        log_limit: how many requests and executions are remembered.
        clock: gives the Unix time that Flowy goes by.
    """

    def __init__(
        self,
        app: str | App = "llm",
        *,
        apps: Mapping[str, str | App] | None = None,
        access_key: str | None = DEFAULT_KEY,
        host: str = "127.0.0.1",
        port: int = 0,
        ssl_context: ssl.SSLContext | None = None,
        pace: float = 0.0,
        heartbeat: float | None = 15.0,
        root_heartbeat: float | None = None,
        newline: Literal["\n", "\r\n", "\r"] = "\n",
        event_line: bool = False,
        quota: int | None = None,
        allow_loopback_callbacks: bool = False,
        callback_deliveries: int = 1,
        callback_ssl: ssl.SSLContext | None = None,
        event_window: int | None = None,
        max_file_bytes: int = 128 * 1024 * 1024,
        keepalive_timeout: float = 75.0,
        log_limit: int = 10_000,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.host = host
        self.port = port
        self.settings = Settings(
            access_key=access_key,
            pace=pace,
            heartbeat=heartbeat,
            root_heartbeat=root_heartbeat,
            newline=newline,
            event_line=event_line,
            quota=quota,
            allow_loopback_callbacks=allow_loopback_callbacks,
            callback_deliveries=callback_deliveries,
            callback_ssl=callback_ssl,
            event_window=event_window,
            max_file_bytes=max_file_bytes,
        )
        named = {**BUILTIN, **{name: _app(given) for name, given in (apps or {}).items()}}
        self._deployments = deployments(_app(app), named)
        self._ssl = ssl_context
        self._keepalive_timeout = keepalive_timeout
        self._state = State(self.settings, log_limit)
        self._state.management.url = lambda: self.url
        self._state.management.apps += own_apps(self._deployments, public=access_key is None)
        self._state.flowy.url = lambda: self.url
        self._state.flowy.clock = clock
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._listener: asyncio.Server | None = None
        self._connections = Connections(self._state.changes.notify)
        self._handlers: set[asyncio.Task[Any]] = set()

    # --- its life ------------------------------------------------------------------------------

    async def __aenter__(self) -> Emulator:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def start(self) -> None:
        """Listen. After `aclose` it listens again, on the same port, with what it knows."""
        if self._listener is not None:
            raise RuntimeError("the emulator is running")
        server = _Server(self._handle, self._connections, keepalive_timeout=self._keepalive_timeout)
        self._listener = await asyncio.get_running_loop().create_server(
            server, self.host, self.port, ssl=self._ssl, backlog=1024
        )
        self._folder = tempfile.TemporaryDirectory(prefix="dynamiq-emulator-")
        self._state.folder = Path(self._folder.name)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def aclose(self) -> None:
        """Stop at once, whatever is going on. May be called twice."""
        listener, self._listener = self._listener, None
        if listener is None or self._folder is None:
            return
        listener.close()
        for _ in range(3):  # as many turns of the loop as a connection takes from accept to known
            await asyncio.sleep(0)
        await stop(self._state.tasks | self._handlers)
        self._connections.abort()
        await self.wait_until(lambda: not self.open_connections, timeout=None)
        await listener.wait_closed()
        self._folder.cleanup()

    # --- what a test or a program sees of it -----------------------------------------------------

    @property
    def url(self) -> str:
        """The URL of the default App."""
        if self._listener is None:
            raise RuntimeError("the emulator is not running")
        scheme = "https" if self._ssl else "http"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{self.port}"

    def url_for(self, name: str) -> str:
        """The URL of the App with this name."""
        if name not in self._deployments:
            raise KeyError(name)
        return f"{self.url}/{name}"

    @property
    def management_url(self) -> str:
        """The URL of the management API; `management.token` is what it takes."""
        return f"{self.url}/~management"

    @property
    def management(self) -> Management:
        """What the management API knows; by default the emulator's own Apps."""
        return self._state.management

    @property
    def requirements(self) -> Requirements:
        """What the Apps need of their end users; by default nothing."""
        return self._state.requirements

    @property
    def flowy_url(self) -> str:
        """The base URL of Flowy; `flowy_key` is what it takes."""
        return f"{self.url}/~flowy"

    @property
    def flowy_key(self) -> str:
        """A secret key of Flowy."""
        return self.flowy.key

    @property
    def flowy(self) -> Flowy:
        """What Flowy knows, and how it behaves."""
        return self._state.flowy

    @property
    def access_key(self) -> str | None:
        """What clients must send; None: nothing."""
        return self.settings.access_key

    @property
    def requests(self) -> Log[RequestRecord]:
        """Every request, in the order in which their bodies were complete."""
        return self._state.requests

    @property
    def executions(self) -> Log[Execution]:
        """Every time an App really ran."""
        return self._state.executions

    @property
    def deliveries(self) -> Log[Delivery]:
        """Every callback delivered, or tried to."""
        return self._state.deliveries

    @property
    def runs(self) -> dict[str, Run]:
        """The runs of the Runs API by their ids, oldest first."""
        return self._state.runs

    @property
    def connections(self) -> int:
        """How many connections were ever made."""
        return self._connections.made

    @property
    def open_connections(self) -> int:
        """How many of them are open."""
        return len(self._connections.open)

    async def wait_until(
        self, condition: Callable[[], object], *, timeout: float | None = 5.0
    ) -> None:
        """Wait until `condition()` is true; it is looked at whenever something happened here.

        Raises `TimeoutError` after `timeout` seconds.
        """
        await self._state.changes.wait_until(condition, timeout)

    async def wait_for_requests(self, count: int, *, timeout: float | None = 5.0) -> None:
        """Wait until so many requests have come."""
        await self.wait_until(lambda: self.requests.total >= count, timeout=timeout)

    async def wait_for_executions(self, count: int, *, timeout: float | None = 5.0) -> None:
        """Wait until so many runs have ended."""

        def ended() -> bool:
            running = sum(execution.status == "running" for execution in self.executions)
            return self.executions.total - running >= count

        await self.wait_until(ended, timeout=timeout)

    def script(self, *faults: Fault, match: Match = None, times: int | None = 1) -> None:
        """Have the next matching requests meet these faults, one after another.

        Args:
            faults: `Fault()` among them is a request that nothing happens to.
            match: "/v1/runs", "POST /v1/runs", "GET /v1/runs/*/stream": the path within the App,
                with wildcards, perhaps behind a method; or a function of the `RequestRecord`.
                Without it every request matches.
            times: how often the whole sequence is played; None: again and again.
        """
        self._state.script.add(faults, match, times)

    @property
    def pending_faults(self) -> int:
        """How many scripted faults nothing has met yet."""
        return self._state.script.pending

    def reset(self) -> None:
        """Forget the logs, the script and the quota's use. Runs and files stay."""
        self.requests.clear()
        self.executions.clear()
        self.deliveries.clear()
        self._state.script.clear()
        self._state.invocations = 0

    # --- requests ------------------------------------------------------------------------------

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        handler = cast("asyncio.Task[Any]", asyncio.current_task())
        self._handlers.add(handler)
        record = self._record(request)
        try:
            refusal = await self._read(request, record)
            wire = Wire(request, record)
            with contextlib.suppress(DroppedError):
                await self._respond(request, record, wire, refusal)
            return wire.response
        except BaseException:
            record.disconnected = request.transport is None and self._listener is not None
            raise
        finally:
            self._handlers.discard(handler)
            record.finished = True
            self._state.changes.notify()

    def _record(self, request: web.BaseRequest) -> RequestRecord:
        path = request.rel_url.raw_path
        service, path_there = service_of(path)
        first, _, rest = path_there.removeprefix("/").partition("/")
        named = first if not service and first in self._deployments else ""
        return RequestRecord(
            connection=self._connections.number(request.protocol),
            method=request.method,
            path=path,
            query=request.rel_url.query,
            headers=request.headers,
            app=self._deployments[named].name,
            service=service,
            prefix=named,
            endpoint=f"/{rest}" if named else path_there,
            request_id=uuid4().hex,
        )

    async def _read(self, request: web.BaseRequest, record: RequestRecord) -> RefusalError | None:
        try:
            limit = self.settings.max_file_bytes + _FORM_BYTES
            parse_into(record, await read_body(request, self._state.folder, limit))
            record.fault = self._state.script.take(record)
            return None
        except RefusalError as refusal:
            return refusal
        finally:
            self.requests.add(record)
            self._state.changes.notify()

    async def _respond(
        self,
        request: web.BaseRequest,
        record: RequestRecord,
        wire: Wire,
        refusal: RefusalError | None,
    ) -> None:
        fault = record.fault
        await pause(fault.delay)
        if not fault.replaces_answer:
            await self._dispatch(record, wire, refusal)
            return
        if fault.executes:
            await self._dispatch(record, Nowhere(request, record), refusal)
        if fault.drop and not fault.positioned:
            await wire.drop(fault.drop)
        status, kind, body = fault.answer()
        await wire.start(status, {"Content-Type": kind}, length=len(body))
        await wire.write(body)
        await wire.finish()

    async def _dispatch(
        self, record: RequestRecord, wire: Wire, refusal: RefusalError | None
    ) -> None:
        exchange = Exchange(self._state, self._deployments[record.prefix], record, wire)
        service = SERVICES[record.service]
        try:
            if refusal is not None:
                raise refusal
            handler, arguments = service.route(record)
            service.authorize(exchange)
            await handler(exchange, *arguments)
        except RefusalError as error:
            await exchange.answer(error.status, service.refusal(error))


class _Server(web.Server):
    """aiohttp's server, which reads the requests, with its connections counted."""

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        connections: Connections,
        *,
        keepalive_timeout: float,
    ) -> None:
        super().__init__(
            handler,
            handler_cancellation=True,
            access_log=None,
            keepalive_timeout=keepalive_timeout,
        )
        self._counted = connections

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        self._counted.add(handler, transport)

    def connection_lost(
        self, handler: web.RequestHandler, exc: BaseException | None = None
    ) -> None:
        super().connection_lost(handler, exc)
        self._counted.remove(handler)


def _app(given: str | App) -> App:
    if not isinstance(given, str):
        return given
    if given not in BUILTIN:
        raise ValueError(f"no such App: {given!r}; there are {', '.join(BUILTIN)}")
    return BUILTIN[given]
