"""The Apps that the management API knows, and the organisations and projects they are in.

By default these are the emulator's own Apps, in one project, under hostnames that lead to them.
`Emulator.management` is where a test adds others.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, Protocol
from urllib.parse import quote

from ..core.ids import new_id
from ..core.refusals import RefusalError
from .workflows import ManagedWorkflow, WorkflowVersion

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


DEFAULT_TOKEN = "dyn_pat_emulator"  # noqa: S105 - nothing real is behind it
DEFAULT_PROJECT = "00000000-0000-4000-8000-000000000001"
DEFAULT_ORG = "00000000-0000-4000-8000-0000000000f1"
DEFAULT_USER = {
    "id": "00000000-0000-4000-8000-0000000000a1",
    "email": "ann@emulator.example",
    "first_name": "Ann",
    "last_name": "Emulator",
}


_RUNTIME = "runtime-1"


@dataclass(frozen=True, kw_only=True)
class AppDeployment:
    """One time that an App was deployed, from a version of a workflow."""

    id: str
    workflow_id: str
    version_id: str
    runtime_id: str
    created_at: datetime


@dataclass(eq=False, kw_only=True)
class ManagedApp:
    """An App as the management API knows it.

    Attributes:
        app: the emulator's App that its hostname leads to, by name; "" is the default one.
        other_ids: ids that calls have which belong to it, beside its own.
        archived_at: when it was archived; None: it was not.
        deployment_config: what was asked for when it was made, shown as it came.
        deployments: the times that it was deployed, the newest first.
        fields: replace or add fields of the response, for one of another shape.
    """

    name: str
    app: str = ""
    id: str = field(default_factory=new_id)
    other_ids: Sequence[str] = ()
    project_id: str = DEFAULT_PROJECT
    workflow_id: str = field(default_factory=new_id)
    access_type: Literal["private", "public"] = "private"
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    archived_at: datetime | None = None
    description: str = ""
    deployment_config: Mapping[str, Any] = field(
        default_factory=lambda: {"deployment_type": "serverless", "config": {}}
    )
    deployments: list[AppDeployment] = field(init=False, default_factory=list)
    fields: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.deployed(self.workflow_id, first_version(self.workflow_id), at=self.created_at)

    def deployed(
        self,
        workflow_id: str,
        version_id: str,
        *,
        runtime_id: str | None = None,
        at: datetime | None = None,
    ) -> None:
        """Note that it was deployed, now unless `at` says when."""
        self.workflow_id = workflow_id
        deployment = AppDeployment(
            id=f"{self.id[:8]}-d{len(self.deployments) + 1}",
            workflow_id=workflow_id,
            version_id=version_id,
            runtime_id=runtime_id or _RUNTIME,
            created_at=at or datetime.now(UTC),
        )
        self.deployments.insert(0, deployment)

    def public(self, url: str) -> dict[str, Any]:
        """The App as the API shows it. `url` is the URL of the emulator."""
        newest = self.deployments[0]
        version, runtime = newest.version_id, newest.runtime_id
        times = {"created_at": self.created_at, "updated_at": newest.created_at}
        return {
            "id": self.id,
            "name": self.name,
            "description": self.description,
            "project_id": self.project_id,
            "hostname": f"{url}/{quote(self.app, safe='')}".rstrip("/"),
            "runtime_id": runtime,
            "workflow_id": self.workflow_id,
            "workflow_version_id": version,
            "latest_deployment_id": newest.id,
            "deployment_config": self.deployment_config,
            "access_control": {"access_type": self.access_type},
            **times,
            "created_by": "emulator",
            "updated_by": "emulator",
            "archived_at": self.archived_at,
            "archived_by": "emulator" if self.archived_at else None,
            "runtime": {"id": runtime, "version": "1.0", "label": "Emulator"},
            "workflow": {
                "id": self.workflow_id,
                "name": self.name,
                "description": "",
                "status": "active",
                "project_id": self.project_id,
                **times,
            },
            "workflow_version": {
                "id": version,
                "version": "1",
                "description": "",
                "workflow_id": self.workflow_id,
                **times,
            },
            **self.fields,
        }


def first_version(workflow_id: str) -> str:
    """The id of the first version of a workflow that an App came with."""
    return f"{workflow_id[:8]}-v1"


class Host(Protocol):
    """What serves the Apps, each at a path."""

    def program(self, path: str) -> Any:
        """What runs there; None where nothing does."""

    def add(self, name: str, program: Any, *, id: str, project_id: str, public: bool) -> str:
        """Serve an App. Returns its path."""

    def replace(self, path: str, program: Any) -> None:
        """Have another program run at a path."""

    def remove(self, path: str) -> None:
        """Serve nothing there any more."""


class Artifact(Protocol):
    """A file that a run made."""

    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def content(self) -> bytes: ...
    @property
    def mime_type(self) -> str: ...
    @property
    def saved_at(self) -> datetime: ...


class Execution(Protocol):
    """A past call of an App, as the Apps keep it."""

    @property
    def id(self) -> str: ...
    @property
    def app_id(self) -> str: ...
    @property
    def input(self) -> Any: ...
    @property
    def output(self) -> Any: ...
    @property
    def error(self) -> str | None: ...
    @property
    def status(self) -> str: ...
    @property
    def user_id(self) -> str | None: ...
    @property
    def session_id(self) -> str | None: ...
    @property
    def started_at(self) -> datetime: ...
    @property
    def ended_at(self) -> datetime | None: ...
    @property
    def usage(self) -> Mapping[str, int]: ...
    @property
    def artifacts(self) -> Sequence[Artifact]: ...


@dataclass(eq=False)
class Management:
    """What the management API knows. May be changed while the emulator runs.

    Attributes:
        host: what serves the Apps.
        token: what clients must send; None: nothing.
        apps: in the order in which they were added.
        workflows: by their ids, also those that Apps came with which are deleted by now.
        executions: the past calls of Apps, the oldest first: traces, sessions and artifacts are
            made of them.
        user: whom the token belongs to, as the API shows it; None: to a service account.
        orgs, projects: what the token reaches, as the API shows it.
        link_seconds: how long a link to an artifact works.
        clock: gives the Unix time, by which links expire.
    """

    host: Host
    token: str | None = DEFAULT_TOKEN
    apps: list[ManagedApp] = field(default_factory=list)
    workflows: dict[str, ManagedWorkflow] = field(default_factory=dict)
    executions: Sequence[Execution] = ()
    user: dict[str, Any] | None = field(default_factory=lambda: dict(DEFAULT_USER))
    orgs: list[dict[str, Any]] = field(
        default_factory=lambda: [{"id": DEFAULT_ORG, "name": "Emulator"}]
    )
    projects: list[dict[str, Any]] = field(
        default_factory=lambda: [{"id": DEFAULT_PROJECT, "name": "Default", "org_id": DEFAULT_ORG}]
    )
    link_seconds: float = 600.0
    clock: Callable[[], float] = time.time

    def add(self, name: str, **more: Any) -> ManagedApp:
        """Add an App; `more` are the attributes of `ManagedApp`."""
        added = ManagedApp(name=name, **more)
        self.apps.append(added)
        return added

    def get(self, id: str) -> ManagedApp:
        """The App with this id. Raises `RefusalError` (404) when there is none."""
        for app in self.apps:
            if id in (app.id, *app.other_ids):
                return app
        raise RefusalError(404, "not_found", "there is no such App")

    def delete(self, app: ManagedApp) -> None:
        """Forget an App, and serve it no more. Its workflow stays."""
        self.all_workflows()
        self.apps.remove(app)
        self.host.remove(app.app)

    def all_workflows(self) -> list[ManagedWorkflow]:
        """The workflows. One that an App came with runs what the App runs."""
        for app in self.apps:
            if app.workflow_id not in self.workflows:
                self.workflows[app.workflow_id] = ManagedWorkflow(
                    id=app.workflow_id,
                    name=app.name,
                    project_id=app.project_id,
                    program=self.host.program(app.app),
                    versions=[WorkflowVersion(id=first_version(app.workflow_id), number=1)],
                    created_at=app.created_at,
                )
        return list(self.workflows.values())

    def workflow(self, id: str) -> ManagedWorkflow | None:
        """The workflow with this id, if there is one."""
        self.all_workflows()
        return self.workflows.get(id)

    def find(self, name: str) -> ManagedApp:
        """The first App of this name. Raises KeyError when there is none."""
        for app in self.apps:
            if app.name == name:
                return app
        raise KeyError(name)
