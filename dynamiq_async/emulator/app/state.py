"""What the emulator's Apps share: settings, runs, files, logs."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias
from uuid import uuid4

from ..core.exchange import Exchange
from ..core.log import Changes, Log
from ..core.refusals import RefusalError
from ..core.tasks import Tasks
from .execution import Execution, execute
from .recent import RECENT, Recent
from .requirements import Requirements

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .callbacks import Delivery
    from .input_files import InputFile
    from .run_context import App, RunContext
    from .runs import Run
    from .settings import Settings


@dataclass(eq=False)
class Deployment:
    """An App under its name. Runs and files belong to it by its `id`."""

    name: str
    app: App
    id: str = field(default_factory=lambda: str(uuid4()))


def deployments(default: App, named: Mapping[str, App]) -> dict[str, Deployment]:
    """The Apps by name; the default one's is empty."""
    found = {name: Deployment(name, app) for name, app in named.items()}
    found[""] = Deployment(getattr(default, "__name__", "app"), default)
    return found


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
        recent: the newest invocations that are no runs.
    """

    def __init__(
        self,
        settings: Settings,
        deployments: Mapping[str, Deployment],
        *,
        changes: Changes,
        tasks: Tasks,
        log_limit: int,
    ) -> None:
        self.settings = settings
        self.deployments = deployments
        self.changes = changes
        self.tasks = tasks
        self.folder = Path()
        self.invocations = 0
        self.requirements = Requirements()
        self.executions: Log[Execution] = Log(log_limit)
        self.history: Log[Execution] = Log(log_limit)
        self.execution_counts: Counter[str | None] = Counter()
        self.deliveries: Log[Delivery] = Log(log_limit)
        self.recent: deque[Recent] = deque(maxlen=RECENT)
        self.runs: dict[str, Run] = {}
        self.sessions: dict[str, list[Run]] = {}
        self.files: dict[str, InputFile] = {}

    def charge(self) -> None:
        """Count an invocation. Raises `RefusalError` (403) when the quota is used up."""
        quota = self.settings.quota
        if quota is not None and self.invocations >= quota:
            message = "the monthly limit of invocations is reached"
            raise RefusalError(403, "subscription_limit_reached", message)
        self.invocations += 1

    async def execute(self, app: App, execution: Execution, context: RunContext) -> None:
        """Run an App, and keep its execution in the log."""
        execution.artifacts, execution.usage = context.artifacts, context.usage
        self.executions.add(execution)
        self.history.add(execution)
        self.execution_counts[execution.session_id] += 1
        self.changes.notify()
        try:
            await execute(app, execution, context, self.settings.outputs)
        finally:
            self.changes.notify()


AppExchange: TypeAlias = Exchange[AppState]
"""A request to an App."""


def deployment_of(exchange: AppExchange) -> Deployment:
    """The App that a request is for."""
    return exchange.state.deployments[exchange.record.prefix]
