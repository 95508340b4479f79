"""The Apps that the management API knows.

By default these are the emulator's own Apps, in one project, under hostnames that lead to them.
`Emulator.management` is where a test adds others.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_TOKEN = "dyn_pat_emulator"  # noqa: S105 - nothing real is behind it
DEFAULT_PROJECT = "00000000-0000-4000-8000-000000000001"


@dataclass(eq=False, kw_only=True)
class ManagedApp:
    """An App as the management API knows it.

    Attributes:
        app: the emulator's App that its hostname leads to, by name; "" is the default one.
        archived_at: when it was archived; None: it was not.
        fields: replace or add fields of the response, for one of another shape.
    """

    name: str
    app: str = ""
    id: str = field(default_factory=lambda: str(uuid4()))
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


@dataclass(eq=False)
class Management:
    """What the management API knows. May be changed while the emulator runs.

    Attributes:
        token: what clients must send; None: nothing.
        apps: in the order in which they were added.
    """

    token: str | None = DEFAULT_TOKEN
    apps: list[ManagedApp] = field(default_factory=list)

    def add(self, name: str, **more: Any) -> ManagedApp:
        """Add an App; `more` are the attributes of `ManagedApp`."""
        added = ManagedApp(name=name, **more)
        self.apps.append(added)
        return added

    def find(self, name: str) -> ManagedApp:
        """The first App of this name. Raises KeyError when there is none."""
        for app in self.apps:
            if app.name == name:
                return app
        raise KeyError(name)
