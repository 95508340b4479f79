"""The emulator: a server on loopback, and what a test sees of it."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from .app.named_apps import named_apps
from .app.names import AppNames
from .app.projects import Projects
from .app.recovery import restore
from .app.settings import Settings
from .app.state import AppState
from .core.browsers import ANY_ORIGIN
from .core.callers import Callers
from .core.fault_rules import FaultRules
from .core.fault_script import Script
from .core.listener import Listener
from .core.log import Log
from .core.request_record import RequestRecord
from .deployed import management_of
from .flowy.state import Flowy
from .request_handler import RequestHandler
from .routes import all_services
from .tape import Player, Recorder
from .ui.inspector import Inspector

if TYPE_CHECKING:
    import os
    import ssl
    from collections import Counter
    from collections.abc import Callable, Collection, Mapping

    from .app.callbacks import Delivery
    from .app.execution import Execution
    from .app.outputs import Outputs
    from .app.projects import Project
    from .app.requirements import Requirements
    from .app.run_context import App
    from .app.runs import Run
    from .core.fault_script import Match
    from .core.faults import Fault
    from .management.apps import Management

DEFAULT_KEY = "dynamiq_acc_emulator"


class Emulator:
    """The whole service, on a port of this machine.

    ```python
    async with Emulator("llm") as emulator:
        async with AsyncApp(emulator.url, access_key=emulator.access_key) as app:
            await app.invoke({"question": "…"})
        assert emulator.executions[0].input == {"question": "…"}
    ```

    Args:
        app: the App at the root: an async function (see `dynamiq_async.emulator.app.run_context`)
            or the name of a built-in one (`echo`, `llm`, `agent`, `parallel`, `failing`,
            `canceled`, `approval`, `feedback`).
        apps: more Apps by name, beside the built-in ones. `support` is at the path `/support`, and
            at the hostname `support.localhost`.
        access_key: what clients must send; None: the Apps are public.
        host, port: where to listen; port 0 is any free one. On this machine's own addresses only
            requests for them and for `localhost` and `*.localhost` are served (else 421), so that
            no web page can reach the emulator by a name of its own. Elsewhere every `Host` is.
        allow_hosts: more names that requests may be for; where the emulator is reached from other
            machines, no others are.
        allow_origins: the web pages that may call, as CORS has it, by their origins (such as
            `https://shop.example`); those of this machine always may. By default any, as the
            vendor's chat widget needs it of Apps.
        ssl_context: serve HTTPS with it.
        pace: seconds between the events of a run.
        heartbeat: seconds of silence after which a stream of the Runs API has a comment.
        root_heartbeat: the same for streams of the root endpoint; the vendor documents none there.
        newline: the line ends of event streams.
        event_line: whether the root endpoint's events have an `event:` line, as the vendor's
            example servers send it and the chat widget reads it.
        outputs: what callers get, and what a run's `output` is: what the workflow's Output node
            gives, or the map of nodes (see `dynamiq_async.emulator.app.outputs`).
        quota: how many invocations are allowed before `subscription_limit_reached`.
        allow_loopback_callbacks: accept callback URLs on this machine, http too.
        callback_deliveries: how often each callback is delivered; receivers must tolerate
            repetition.
        callback_ssl: verifies the receivers of callbacks; by default with what the system trusts.
        event_window: keep only so many of a run's newest events, so that memory stays flat; the App
            waits for a stream that is further behind. By default all are kept.
        max_file_bytes: the largest file that can be uploaded.
        list_lag: seconds that a new run is missing in the list of runs, as where lists are read
            from a copy of the database.
        keepalive_timeout: seconds after which an idle connection is closed, or one whose next
            request has not come whole.
        read_timeout: seconds that the first request of a connection may take to come, and as many
            for the body of each request (else 408). None: without end.
        log_limit: how many requests and executions are remembered.
        clock: gives the Unix time by which Flowy works and signed links expire.
        db: a file that keeps runs, their events, files and history over restarts, made if it is
            not there; see `dynamiq_async.emulator.app.recovery`. None: they end with this object.
        faults: a TOML file of faults (see `FaultRules.load`). What `script` says goes before.
        inspector: whether there is a page at `/_ui` that shows what happens; None: where only this
            machine can reach the emulator. True: whoever can call the emulator may look and act.
        projects: those beside the default one, whose Apps want their keys instead of `access_key`.
    """

    def __init__(
        self,
        app: str | App = "llm",
        *,
        apps: Mapping[str, str | App] | None = None,
        access_key: str | None = DEFAULT_KEY,
        host: str = "127.0.0.1",
        port: int = 0,
        allow_hosts: Collection[str] = (),
        allow_origins: Collection[str] = ANY_ORIGIN,
        ssl_context: ssl.SSLContext | None = None,
        pace: float = 0.0,
        heartbeat: float | None = 15.0,
        root_heartbeat: float | None = None,
        newline: Literal["\n", "\r\n", "\r"] = "\n",
        event_line: bool = True,
        outputs: Outputs = "output_node",
        quota: int | None = None,
        allow_loopback_callbacks: bool = False,
        callback_deliveries: int = 1,
        callback_ssl: ssl.SSLContext | None = None,
        event_window: int | None = None,
        max_file_bytes: int = 128 * 1024 * 1024,
        list_lag: float = 0.0,
        keepalive_timeout: float = 75.0,
        read_timeout: float | None = 60.0,
        log_limit: int = 10_000,
        clock: Callable[[], float] = time.time,
        db: str | os.PathLike[str] | None = None,
        faults: str | os.PathLike[str] | None = None,
        inspector: bool | None = None,
        projects: Collection[Project] = (),
    ) -> None:
        self.settings: Settings = Settings(
            access_key=access_key,
            pace=pace,
            heartbeat=heartbeat,
            root_heartbeat=root_heartbeat,
            newline=newline,
            event_line=event_line,
            outputs=outputs,
            quota=quota,
            allow_loopback_callbacks=allow_loopback_callbacks,
            callback_deliveries=callback_deliveries,
            callback_ssl=callback_ssl,
            event_window=event_window,
            max_file_bytes=max_file_bytes,
            list_lag=list_lag,
        )
        deployments = named_apps(app, apps or {})
        self._names = AppNames(deployments, {host, *allow_hosts})
        self._callers = Callers(host, allow_hosts, allow_origins)
        self._requests: Log[RequestRecord] = Log(log_limit)
        self._script = Script()
        self._rules = FaultRules(lambda: {each.name for each in deployments.values()}, faults)
        self._apps = AppState(self.settings, deployments, log_limit=log_limit)
        self._apps.projects = Projects(projects, deployments, access_key)
        self._management = management_of(self._apps, clock)
        self._flowy = Flowy(clock=clock)
        self._ui = Inspector(self._apps, self._requests, self._rules, self._callers, inspector)
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._db = None if db is None else Path(db)
        services = all_services(self._apps, self._management, self._flowy, self._ui)
        handler = RequestHandler(services, self._apps, self._names, self._callers, self._requests)
        handler.script, handler.rules = self._script, self._rules
        self._listener = handler.listener = Listener(
            handler.handle,
            self._apps.changes,
            host=host,
            port=port,
            ssl_context=ssl_context,
            keepalive_timeout=keepalive_timeout,
            read_timeout=read_timeout,
        )

    # --- its life ------------------------------------------------------------------------------

    async def __aenter__(self) -> Emulator:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def start(self) -> None:
        """Listen. After `aclose`: listen again, on the same port, with the runs and logs kept.

        Raises `DatabaseError` where `db` cannot be used.
        """
        if self._listener.running:
            raise RuntimeError("the emulator is running")
        go_on = None if self._db is None else restore(self._apps, self._db)
        try:
            await self._listener.start()
        except BaseException:
            self._apps.close()
            raise
        self._folder = tempfile.TemporaryDirectory(prefix="dynamiq-emulator-")
        self._apps.folder = Path(self._folder.name)
        self._callers.on_loopback = self._listener.on_loopback
        if go_on is not None:
            go_on()

    async def aclose(self) -> None:
        """Stop at once, and cancel everything that runs. May be called twice."""
        folder, self._folder = self._folder, None
        if folder is not None:
            try:
                self._apps.close()  # what is canceled now goes on when it is started again
            finally:
                await self._listener.aclose(self._apps.tasks.running)
                folder.cleanup()

    # --- tapes ---------------------------------------------------------------------------------

    record = Recorder
    """`Emulator.record(url, "tape.jsonl")`: a proxy in front of a real App, which records it."""

    replay = Player
    """`Emulator.replay("tape.jsonl")`: a server that responds as a tape says."""

    # --- what a test or a program sees -----------------------------------------------------------

    @property
    def url(self) -> str:
        """The URL of the default App."""
        return self._listener.url

    @property
    def host(self) -> str:
        """Where it listens."""
        return self._listener.host

    @property
    def port(self) -> int:
        """The port it listens at; once it has started, the one that it was given."""
        return self._listener.port

    def url_for(self, name: str, *, hostname: bool = False) -> str:
        """The URL of the App with this name: that of its path or, if `hostname`, of its own host,
        `http://<name>.localhost:<port>`, which our clients, browsers and curl reach without DNS.

        Raises:
            KeyError: there is no such App.
            ValueError: its name is no name of a host.
        """
        return self._names.url_for(name, self.url, hostname=hostname)

    def key_for(self, name: str) -> str | None:
        """The Access Key that the App with this name wants; None: none."""
        return self._apps.key_for(name)

    @property
    def inspector_url(self) -> str | None:
        """The page that shows what happens; None: there is none."""
        return f"{self.url}/_ui" if self._ui.on else None

    @property
    def management_url(self) -> str:
        """The URL of the management API; its token is `management.token`."""
        return f"{self.url}/~management"

    @property
    def management(self) -> Management:
        """What the management API lists; by default the emulator's own Apps."""
        return self._management

    @property
    def requirements(self) -> Requirements:
        """What the Apps need of their end users; by default nothing."""
        return self._apps.requirements

    @property
    def flowy_url(self) -> str:
        """The base URL of Flowy; its key is `flowy_key`."""
        return f"{self.url}/~flowy"

    @property
    def flowy_key(self) -> str:
        """A secret key of Flowy."""
        return self.flowy.key

    @property
    def flowy(self) -> Flowy:
        """Flowy's apps and runs, and how it behaves."""
        return self._flowy

    @property
    def access_key(self) -> str | None:
        """The Access Key that clients must send; None: none."""
        return self.settings.access_key

    @property
    def requests(self) -> Log[RequestRecord]:
        """Every request, in the order in which their bodies were complete."""
        return self._requests

    @property
    def executions(self) -> Log[Execution]:
        """Every execution of an App."""
        return self._apps.executions

    @property
    def execution_counts(self) -> Counter[str | None]:
        """How many executions each session had; None: those without one. `reset` clears it."""
        return self._apps.execution_counts

    @property
    def deliveries(self) -> Log[Delivery]:
        """Every delivery of a callback, also those that failed."""
        return self._apps.deliveries

    @property
    def runs(self) -> dict[str, Run]:
        """The runs of the Runs API by their ids, oldest first."""
        return self._apps.runs

    @property
    def connections(self) -> int:
        """How many connections were ever made."""
        return self._listener.connections.made

    @property
    def open_connections(self) -> int:
        """How many of them are open."""
        return len(self._listener.connections.open)

    async def wait_until(
        self, condition: Callable[[], object], *, timeout: float | None = 5.0
    ) -> None:
        """Wait until `condition()` is true. It is called whenever something happens here.

        Raises `TimeoutError` after `timeout` seconds.
        """
        await self._apps.changes.wait_until(condition, timeout)

    async def wait_for_requests(self, count: int, *, timeout: float | None = 5.0) -> None:
        """Wait until there have been `count` requests."""
        await self.wait_until(lambda: self.requests.total >= count, timeout=timeout)

    async def wait_for_executions(self, count: int, *, timeout: float | None = 5.0) -> None:
        """Wait until `count` executions have ended."""

        def ended() -> bool:
            running = sum(execution.status == "running" for execution in self.executions)
            return self.executions.total - running >= count

        await self.wait_until(ended, timeout=timeout)

    def script(self, *faults: Fault, match: Match = None, times: int | None = 1) -> None:
        """Make the next matching requests meet these faults, one after another.

        Args:
            faults: one for each request; `Fault()` leaves its request alone.
            match: the path within the App, with wildcards, and optionally a method before it:
                "/v1/runs", "POST /v1/runs", "GET /v1/runs/*/stream"; or a function of the
                `RequestRecord`. Without it every request matches.
            times: how often the whole sequence is played; None: without end.
        """
        self._script.add(faults, match, times)

    @property
    def faults(self) -> FaultRules:
        """Faults by rules: those of the file, and more. A request that a script matches meets what
        that says, and is counted by the rules all the same."""
        return self._rules

    @property
    def pending_faults(self) -> int:
        """How many scripted faults no request has met yet."""
        return self._script.pending

    def clear_script(self) -> None:
        """Forget the scripted faults."""
        self._script.clear()

    def reset(self) -> None:
        """Forget the logs, the script and the use of the quota. Runs and files stay, and the rules
        of faults, which count anew."""
        self.requests.clear()
        self.executions.clear()
        self.execution_counts.clear()
        self.deliveries.clear()
        self.clear_script()
        self._rules.restart()
        self._apps.recent.clear()
        self._apps.invocations = 0
