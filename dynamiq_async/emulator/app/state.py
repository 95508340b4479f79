"""What the emulator's Apps share: settings, runs, files, logs."""

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
    """An App under its name. Runs and files belong to it by its `id`.

    Attributes:
        public: whether it takes requests without a key, where others want one.
        removed: whether it was deleted: its path leads nowhere then.
    """

    name: str
    app: App
    id: str
    public: bool = False
    removed: bool = False


def deployments(default: App, named: Mapping[str, App]) -> dict[str, Deployment]:
    """The Apps by name; the default one's is empty."""
    found = {name: Deployment(name, app, _id(name)) for name, app in named.items()}
    found[""] = Deployment(getattr(default, "__name__", "app"), default, _id(""))
    return found


def _id(path: str) -> str:
    """The id of the App at a path: the same after a restart, whichever App is there then."""
    return str(uuid5(_APPS, path))


class AppState:
    """What the emulator's Apps share.

    Args:
        deployments: the Apps by the part of the path that chooses them; "" is the default one.
        log_limit: how many executions and deliveries are remembered.

    Attributes:
        folder: where uploaded files are stored; it is made when the emulator starts.
        sessions: the runs of each session; lists of one session are asked for often.
        invocations: how many of the quota are used up.
        history: the executions as the service keeps them: no reset of the logs touches it.
        execution_counts: how many executions each session had; the log forgets, these do not.
        storage: keeps runs, files and history over a restart; None: nothing does.
        recent: the newest invocations that are no runs.
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
        """What keeps everything that is to be kept; None where nothing is."""
        return None if self.storage is None else self.storage.flush

    def close(self) -> None:
        """Keep what was to be kept, and from now on nothing more."""
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
        """The Access Key that an App wants; None: none."""
        if self.deployments[app].public:
            return None
        project = self.projects.of(app)
        return project.access_key if project else self.settings.access_key

    async def execute(
        self, app: App, execution: Execution, context: RunContext, *, again: bool = False
    ) -> None:
        """Run an App, and keep its execution in the log; `again` if the history has it already."""
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
