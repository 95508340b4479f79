"""The emulator: a server on this machine, and what tests can inspect and control."""

from __future__ import annotations

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
from .core.server import LocalServer
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


class Emulator(LocalServer):
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
        apps: more Apps by name, beside the built-in ones. An App named `support` is served at the
            path `/support` and at the hostname `support.localhost`.
        access_key: the Access Key that clients must send; None: the Apps are public.
        host, port: the address to listen on; port 0 is any free port. On a loopback address only
            requests for loopback addresses, `localhost` and `*.localhost` are served (else 421), so
            that no web page can reach the emulator through a domain name of its own. On other
            addresses every `Host` is served.
        allow_hosts: more values of `Host` to serve. If other machines can reach the emulator,
            giving any restricts it to these, to `host` and to the names of this machine.
        allow_origins: the origins of the web pages that may call under CORS, such as
            `https://shop.example`; pages of this machine always may. By default any origin may,
            because the vendor's chat widget calls Apps from its customers' pages.
        ssl_context: serve HTTPS with it.
        pace: seconds between the events of a run.
        heartbeat: seconds of silence after which a stream of the Runs API sends a comment.
        root_heartbeat: the same for streams of the root endpoint; the vendor documents none there.
        newline: the line ending of event streams.
        event_line: whether the root endpoint's events have an `event:` line. The vendor's example
            servers send it, and the chat widget reads it.
        outputs: what callers receive, and what a run's `output` is: the result of the workflow's
            Output node, or the map of nodes (see `dynamiq_async.emulator.app.outputs`).
        quota: how many invocations are allowed before `subscription_limit_reached`.
        allow_loopback_callbacks: accept callback URLs on this machine, also with http.
        callback_deliveries: how many times each callback is delivered; receivers must tolerate
            repeated deliveries.
        callback_ssl: verifies the receivers of callbacks; by default with the system's trust store.
        event_window: how many of a run's newest events are kept, so that memory stays bounded. The
            App waits while a stream is further behind. By default all events are kept.
        max_file_bytes: the largest file that can be uploaded.
        list_lag: seconds for which a new run is missing from the list of runs, as in a service that
            reads lists from a replica of its database.
        keepalive_timeout: seconds after which a connection is closed if it is idle, or if its next
            request is still incomplete.
        read_timeout: seconds within which a new connection must send its first request, else it is
            closed, and each request its body, else it gets a 408. None: no limit.
        log_limit: how many entries each log and the history keep.
        clock: returns the Unix time that Flowy and the expiry of signed links use.
        db: a file that keeps runs, their events, files and history across restarts; created if it
            is missing. See `dynamiq_async.emulator.app.recovery`. None: they end with this object.
        faults: a TOML file of fault rules (see `FaultRules.load`). Faults from `script` take
            precedence.
        inspector: whether `/_ui` serves a page that shows what happens. None: only if no other
            machine can reach the emulator. True: everyone may look and act who calls the emulator
            by `host`, by a name in `allow_hosts`, or by a name of this machine.
        projects: projects beside the default one. Their Apps require the key of their project
            instead of `access_key`.
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
        self._changes = self._apps.changes
        self._apps.projects = Projects(projects, deployments, access_key)
        self._management = management_of(self._apps, clock)
        self._flowy = Flowy(clock=clock)
        self._ui = Inspector(self._apps, self._requests, self._rules, self._callers, inspector)
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

    # --- start and end -------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen. After `aclose`, listen again on the same port, with the same runs and logs.

        Raises `DatabaseError` if `db` cannot be used.
        """
        if self._listener.running:
            raise RuntimeError("the emulator is running")
        go_on = None if self._db is None else restore(self._apps, self._db)
        try:
            await super().start()
        except BaseException:
            self._apps.close()
            raise
        self._apps.folder = self._folder
        if go_on is not None:
            go_on()

    async def _stop(self) -> None:
        try:
            self._apps.close()  # so that runs canceled below resume at the next start
        finally:
            await self._listener.aclose(self._apps.tasks.running)

    # --- tapes ---------------------------------------------------------------------------------

    record = Recorder
    """`Emulator.record(url, "tape.jsonl")`: a proxy in front of a real App, which records it."""

    replay = Player
    """`Emulator.replay("tape.jsonl")`: a server that responds as a tape says."""

    # --- what a test or a program sees -----------------------------------------------------------

    def url_for(self, name: str, *, hostname: bool = False) -> str:
        """The URL of the App with this name, with the App's path or, if `hostname`, its own host:
        `http://<name>.localhost:<port>`, which our clients, browsers and curl reach without DNS.

        Raises:
            KeyError: there is no such App.
            ValueError: its name is not a valid hostname.
        """
        return self._names.url_for(name, self.url, hostname=hostname)

    def key_for(self, name: str) -> str | None:
        """The Access Key that the App with this name requires; None if it requires none."""
        return self._apps.key_for(name)

    @property
    def inspector_url(self) -> str | None:
        """The URL of the page that shows what happens; None if it is off."""
        return f"{self.url}/_ui" if self._ui.on else None

    @property
    def management_url(self) -> str:
        """The URL of the management API; its token is `management.token`."""
        return f"{self.url}/~management"

    @property
    def management(self) -> Management:
        """The state of the management API. By default it lists the emulator's own Apps."""
        return self._management

    @property
    def requirements(self) -> Requirements:
        """The accounts that the Apps require of their end users; by default none."""
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
        """The Access Key that clients must send; None if none is required."""
        return self.settings.access_key

    @property
    def executions(self) -> Log[Execution]:
        """Every execution of an App."""
        return self._apps.executions

    @property
    def execution_counts(self) -> Counter[str | None]:
        """Executions by session id; None counts those without a session. `reset` clears it."""
        return self._apps.execution_counts

    @property
    def deliveries(self) -> Log[Delivery]:
        """Every delivery of a callback, including failed ones."""
        return self._apps.deliveries

    @property
    def runs(self) -> dict[str, Run]:
        """The runs of the Runs API by their ids, oldest first."""
        return self._apps.runs

    @property
    def connections(self) -> int:
        """How many connections clients have made so far."""
        return self._listener.connections.made

    @property
    def open_connections(self) -> int:
        """How many connections are open."""
        return len(self._listener.connections.open)

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
            times: how many times the whole sequence is played; None: forever.
        """
        self._script.add(faults, match, times)

    @property
    def faults(self) -> FaultRules:
        """The fault rules: those of the file, and those added later. A request that the script
        matches meets the script's fault, but the rules still count it."""
        return self._rules

    @property
    def pending_faults(self) -> int:
        """How many scripted faults no request has met yet."""
        return self._script.pending

    def clear_script(self) -> None:
        """Forget the scripted faults."""
        self._script.clear()

    def reset(self) -> None:
        """Clear the logs, the script and the used quota. Runs, files and fault rules stay; the
        rules restart their counts."""
        self.requests.clear()
        self.executions.clear()
        self.execution_counts.clear()
        self.deliveries.clear()
        self.clear_script()
        self._rules.restart()
        self._apps.recent.clear()
        self._apps.invocations = 0
