"""The state that the emulator's Apps share: settings, runs, files, logs."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import UUID, uuid5

from ..core.exchange import Exchange
from ..core.log import Changes, Log
from ..core.refusals import RefusalError
from ..core.tasks import Tasks
from .execution import Execution, execute
from .projects import Projects
from .recent import RECENT, Recent
from .requirements import Requirements
from .signatures import Signature

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..core.fields import Fields
    from .callbacks import Delivery
    from .input_files import InputFile
    from .run_context import App, RunContext
    from .runs import Run
    from .settings import Settings
    from .storage import Storage

_APPS = UUID("7f0ad2b0-5b0e-4b53-9d0c-3f6f3b9a3c5e")


@dataclass(eq=False)
class Deployment:
    """An App under its name. Its runs and files refer to it by its `id`.

    Attributes:
        public: whether it needs no key, even if other Apps do.
        removed: whether it was deleted. Its path then leads nowhere.
    """

    name: str
    app: App
    id: str
    public: bool = False
    removed: bool = False


def deployments(default: App, named: Mapping[str, App]) -> dict[str, Deployment]:
    """The Apps by name; the name of the default App is empty."""
    found = {name: Deployment(name, app, _id(name)) for name, app in named.items()}
    found[""] = Deployment(getattr(default, "__name__", "app"), default, _id(""))
    return found


def _id(path: str) -> str:
    """The id of the App at a path. It is the same after a restart, even for another App there."""
    return str(uuid5(_APPS, path))


class AppState:
    """The state that the emulator's Apps share.

    Args:
        deployments: the Apps by the part of the path that selects them; "" is the default one.
        log_limit: how many executions and deliveries the logs keep.

    Attributes:
        folder: where uploaded files are stored; it is created when the emulator starts.
        sessions: the runs of each session, because clients often list the runs of one session.
        invocations: how much of the quota is used.
        history: the executions as the service keeps them; resetting the logs does not change it.
        execution_counts: the number of executions of each session, including those that the log
            has dropped.
        storage: keeps runs, files and history across a restart; None: nothing is kept.
        recent: the newest invocations that are not runs.
    """

    def __init__(
        self,
        settings: Settings,
        deployments: dict[str, Deployment],
        *,
        log_limit: int,
    ) -> None:
        self.settings = settings
        self.deployments = deployments
        self.changes: Changes = Changes()
        self.tasks: Tasks = Tasks()
        self.folder: Path = Path()
        self.invocations: int = 0
        self.requirements: Requirements = Requirements()
        self.projects: Projects = Projects()
        self.executions: Log[Execution] = Log(log_limit)
        self.history: Log[Execution] = Log(log_limit)
        self.execution_counts: Counter[str | None] = Counter()
        self.deliveries: Log[Delivery] = Log(log_limit)
        self.recent: deque[Recent] = deque(maxlen=RECENT)
        self.runs: dict[str, Run] = {}
        self.sessions: dict[str, list[Run]] = {}
        self.files: dict[str, InputFile] = {}
        self.storage: Storage | None = None

    @property
    def flush(self) -> Callable[[], None] | None:
        """A function that stores all pending changes; None if nothing is stored."""
        return None if self.storage is None else self.storage.flush

    def close(self) -> None:
        """Store all pending changes, and stop storing."""
        if self.storage is not None:
            self.storage.close()

    def charge(self) -> None:
        """Count an invocation. Raises `RefusalError` (403) when the quota is used up."""
        quota = self.settings.quota
        if quota is not None and self.invocations >= quota:
            message = "the monthly limit of invocations is reached"
            raise RefusalError(403, "subscription_limit_reached", message)
        self.invocations += 1

    def key_for(self, app: str) -> str | None:
        """The Access Key that an App requires; None if it requires none."""
        if self.deployments[app].public:
            return None
        project = self.projects.of(app)
        return project.access_key if project else self.settings.access_key

    async def execute(
        self, app: App, execution: Execution, context: RunContext, *, again: bool = False
    ) -> None:
        """Run an App, and add its execution to the logs; `again` if the history has it already."""
        execution.artifacts, execution.usage = context.artifacts, context.tokens
        self.executions.add(execution)
        if not again:
            self.history.add(execution)
            if self.storage is not None:
                self.storage.add_execution(execution)
        self.execution_counts[execution.session_id] += 1
        self.changes.notify()
        try:
            await execute(app, execution, context, self.settings.outputs)
        finally:
            execution.artifacts = tuple(context.artifacts)
            self.end_execution(execution)
            self.changes.notify()

    def end_execution(self, execution: Execution) -> None:
        """Keep how an execution ended."""
        if self.storage is not None:
            self.storage.end_execution(execution)

    def add_run(self, run: Run) -> None:
        """Add a run, the newest one."""
        self.runs[run.id] = run
        if run.session_id is not None:
            self.sessions.setdefault(run.session_id, []).append(run)


AppExchange: TypeAlias = Exchange[AppState]
"""A request to an App."""


def deployment_of(exchange: AppExchange) -> Deployment:
    """The App that a request is for."""
    return exchange.state.deployments[exchange.record.prefix]


def require_input(exchange: AppExchange, fields: Fields) -> dict[str, Any]:
    """The `input` of a request, which must be there, and must fit the App. Notes complaints."""
    input = fields.require("input", dict)
    if input is None:
        return {}
    signature = Signature.of(deployment_of(exchange).app)
    fields.complaints.update(signature.complaints(input))
    return input
