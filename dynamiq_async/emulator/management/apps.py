"""The Apps that the management API knows, and the organisations and projects they are in.

By default these are the emulator's own Apps, in one project, under hostnames that lead to them.
`Emulator.management` is where a test adds others.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, Protocol
from uuid import uuid4

from ..core.refusals import RefusalError

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


@dataclass(eq=False, kw_only=True)
class ManagedApp:
    """An App as the management API knows it.

    Attributes:
        app: the emulator's App that its hostname leads to, by name; "" is the default one.
        other_ids: ids that calls have which belong to it, beside its own.
        archived_at: when it was archived; None: it was not.
        fields: replace or add fields of the response, for one of another shape.
    """

    name: str
    app: str = ""
    id: str = field(default_factory=lambda: str(uuid4()))
    other_ids: Sequence[str] = ()
    project_id: str = DEFAULT_PROJECT
    workflow_id: str = field(default_factory=lambda: str(uuid4()))
    access_type: Literal["private", "public"] = "private"
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    archived_at: datetime | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)

    def public(self, url: str) -> dict[str, Any]:
        """The App as the API shows it. `url` is the URL of the emulator."""
        version = f"{self.workflow_id[:8]}-v1"
        times = {"created_at": self.created_at, "updated_at": self.created_at}
        return {
            "id": self.id,
            "name": self.name,
            "description": "",
            "project_id": self.project_id,
            "hostname": f"{url}/{self.app}".rstrip("/"),
            "runtime_id": "runtime-1",
            "workflow_id": self.workflow_id,
            "workflow_version_id": version,
            "latest_deployment_id": f"{self.id[:8]}-d1",
            "deployment_config": {"deployment_type": "serverless", "config": {}},
            "access_control": {"access_type": self.access_type},
            **times,
            "created_by": "emulator",
            "updated_by": "emulator",
            "archived_at": self.archived_at,
            "archived_by": "emulator" if self.archived_at else None,
            "runtime": {"id": "runtime-1", "version": "1.0", "label": "Emulator"},
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
        token: what clients must send; None: nothing.
        apps: in the order in which they were added.
        executions: the past calls of Apps, the oldest first: traces, sessions and artifacts are
            made of them.
        user: whom the token belongs to, as the API shows it; None: to a service account.
        orgs, projects: what the token reaches, as the API shows it.
        link_seconds: how long a link to an artifact works.
        clock: gives the Unix time, by which links expire.
    """

    token: str | None = DEFAULT_TOKEN
    apps: list[ManagedApp] = field(default_factory=list)
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

    def find(self, name: str) -> ManagedApp:
        """The first App of this name. Raises KeyError when there is none."""
        for app in self.apps:
            if app.name == name:
                return app
        raise KeyError(name)
