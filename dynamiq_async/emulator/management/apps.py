"""The Apps that the management API knows, and their organisations and projects.

By default these are the emulator's own Apps, in one project, with hostnames that lead to them. A
test adds others with `Emulator.management`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, Protocol
from urllib.parse import quote

from ..core.clock import utc_now
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
    """One deployment of an App, from a version of a workflow."""

    id: str
    workflow_id: str
    version_id: str
    runtime_id: str
    created_at: datetime


@dataclass(eq=False, kw_only=True)
class ManagedApp:
    """An App as the management API knows it.

    Attributes:
        app: the name of the emulator's App that its hostname leads to; "" is the default one.
        other_ids: further App ids. Calls with these ids belong to it too.
        archived_at: when it was archived; None if it was not.
        deployment_config: the configuration of the request that made it, shown unchanged.
        deployments: its deployments, the newest first.
        fields: fields that are added to the response, or replace others, to change its shape.
    """

    name: str
    app: str = ""
    id: str = field(default_factory=new_id)
    other_ids: Sequence[str] = ()
    project_id: str = DEFAULT_PROJECT
    workflow_id: str = field(default_factory=new_id)
    access_type: Literal["private", "public"] = "private"
    created_at: datetime = field(default_factory=utc_now)
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
        """Note a deployment, at the time `at` or now."""
        self.workflow_id = workflow_id
        deployment = AppDeployment(
            id=f"{self.id[:8]}-d{len(self.deployments) + 1}",
            workflow_id=workflow_id,
            version_id=version_id,
            runtime_id=runtime_id or _RUNTIME,
            created_at=at or utc_now(),
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
    """The id of the first version of the workflow that belongs to an App from the start."""
    return f"{workflow_id[:8]}-v1"


class Host(Protocol):
    """What serves the Apps, each at a path."""

    def program(self, path: str) -> Any:
        """The program that runs at a path; None if there is none."""

    def add(self, name: str, program: Any, *, id: str, project_id: str, public: bool) -> str:
        """Serve an App. Returns its path."""

    def replace(self, path: str, program: Any) -> None:
        """Replace the program that runs at a path."""

    def remove(self, path: str) -> None:
        """Stop serving the App at a path."""


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
    """The state of the management API. May be changed while the emulator runs.

    Attributes:
        host: serves the Apps.
        token: the token that clients must send; None: no token is needed.
        apps: the Apps, in the order in which they were added.
        workflows: the workflows by id, including those of Apps that are deleted by now.
        executions: the past calls of Apps, the oldest first. Traces, sessions and artifacts are
            made from them.
        user: the owner of the token, as the API shows it; None: a service account owns it.
        orgs, projects: those that the token gives access to, as the API shows them.
        link_seconds: how long a link to an artifact works.
        clock: returns the Unix time by which links expire.
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
        """Delete an App, and stop serving it. Its workflow stays."""
        self.all_workflows()
        self.apps.remove(app)
        self.host.remove(app.app)

    def all_workflows(self) -> list[ManagedWorkflow]:
        """All workflows. The workflow that belongs to an App from the start has its program."""
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
