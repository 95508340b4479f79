"""What the parts of one emulator share: its settings, its logs, its tasks."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

from ..core.faults import Script
from ..core.log import Changes, Log, RequestRecord
from ..core.request_bodies import RefusalError
from ..flowy.api import Flowy
from ..management.api import Management
from .execution import Execution, execute
from .requirements_api import Requirements

if TYPE_CHECKING:
    import ssl
    from collections.abc import Coroutine, Mapping

    from .callbacks import Delivery
    from .files_api import InputFile
    from .run_context import App, RunContext
    from .runs import Run


@dataclass(kw_only=True)
class Settings:
    """How the emulator behaves; see `Emulator`. May be changed while it runs."""

    access_key: str | None
    pace: float
    heartbeat: float | None
    root_heartbeat: float | None
    newline: Literal["\n", "\r\n", "\r"]
    event_line: bool
    quota: int | None
    allow_loopback_callbacks: bool
    callback_deliveries: int
    callback_ssl: ssl.SSLContext | None
    event_window: int | None
    max_file_bytes: int


@dataclass(eq=False)
class Deployment:
    """An App under its name. Runs and files belong to it by its `id`."""

    name: str
    app: App
    id: str = field(default_factory=lambda: str(uuid4()))


@dataclass(eq=False)
class State:
    """The truth about one emulator."""

    settings: Settings
    log_limit: int
    folder: Path = Path()  # for what does not fit into memory, while the emulator runs
    script: Script = field(default_factory=Script)
    changes: Changes = field(default_factory=Changes)
    invocations: int = 0
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    management: Management = field(default_factory=Management)
    requirements: Requirements = field(default_factory=Requirements)
    flowy: Flowy = field(default_factory=Flowy)

    def __post_init__(self) -> None:
        self.requests: Log[RequestRecord] = Log(self.log_limit)
        self.executions: Log[Execution] = Log(self.log_limit)
        self.deliveries: Log[Delivery] = Log(self.log_limit)
        self.runs: dict[str, Run] = {}
        self.files: dict[str, InputFile] = {}

    def charge(self) -> None:
        """Count an invocation. Raises `RefusalError` (403) when the quota is used up."""
        quota = self.settings.quota
        if quota is not None and self.invocations >= quota:
            message = "the monthly limit of invocations is reached"
            raise RefusalError(403, "subscription_limit_reached", message)
        self.invocations += 1

    async def execute(self, app: App, execution: Execution, context: RunContext) -> None:
        """Run an App, on the record."""
        self.executions.add(execution)
        self.changes.notify()
        try:
            await execute(app, execution, context)
        finally:
            self.changes.notify()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run in the background, at most as long as the emulator."""
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task


async def stop(tasks: set[asyncio.Task[None]]) -> None:
    """Cancel the tasks and wait until they are over."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)


def deployments(default: App, named: Mapping[str, App]) -> dict[str, Deployment]:
    """The Apps by name; the default one's is empty."""
    found = {name: Deployment(name, app) for name, app in named.items()}
    found[""] = Deployment(getattr(default, "__name__", "app"), default)
    return found
