"""The management API: which Apps there are, where they are called, and what became of them.

By default the emulator's own Apps are listed, in one project, under hostnames that lead to them.
`Emulator.management` is where a test adds others.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

from ..app.runs_api import answer_page, is_uuid
from ..core.request_bodies import RefusalError, bad_fields

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..app.state import Deployment
    from ..core.exchange import Exchange

DEFAULT_TOKEN = "dyn_pat_emulator"  # noqa: S105 - nothing real is behind it
DEFAULT_PROJECT = "00000000-0000-4000-8000-000000000001"

_SORT_KEYS = ("name", "created_at", "updated_at", "id")


@dataclass(eq=False, kw_only=True)
class ManagedApp:
    """An App, as the management API knows it.

    Attributes:
        app: the emulator's App that its hostname leads to, by name; "" is the default one.
        archived_at: when it was archived; None: it was not.
        fields: laid over what is answered, for an answer of another shape.
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
        """What the API shows of it; `url` is where the emulator is."""
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
        url: where the emulator is.
    """

    token: str | None = DEFAULT_TOKEN
    apps: list[ManagedApp] = field(default_factory=list)
    url: Callable[[], str] = str

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


def own_apps(deployments: Mapping[str, Deployment], *, public: bool) -> list[ManagedApp]:
    """The emulator's Apps; the default one among them, unless it also has a path of its own."""
    named = [deployment.app for name, deployment in deployments.items() if name]
    return [
        ManagedApp(
            name=deployment.name,
            app=name,
            id=deployment.id,
            access_type="public" if public else "private",
        )
        for name, deployment in deployments.items()
        if name or deployment.app not in named
    ]


def authorize(exchange: Exchange) -> None:
    """Refuse (401) what does not carry the token."""
    token = exchange.state.management.token
    given = exchange.record.headers.get("Authorization", "")
    if token is not None and given != f"Bearer {token}":
        raise RefusalError(401, "unauthorized", "the token is missing or invalid")


async def list_apps(exchange: Exchange) -> None:
    """`GET /v1/apps`. That `archived` is true for archived Apps only, and that these are left out
    without it and without `include_archived`, is a guess."""
    query, management = exchange.record.query, exchange.state.management
    project_id = query.get("project_id")
    if not project_id:
        raise bad_fields({"project_id": "cannot be blank"})
    if not is_uuid(project_id):
        raise bad_fields({"project_id": "must be a valid UUID"})
    archived = query.get("archived")
    every = query.get("include_archived") == "true"
    found = [
        app.public(management.url())
        for app in management.apps
        if app.project_id == project_id
        and query.get("workflow_id", app.workflow_id) == app.workflow_id
        and (every or (app.archived_at is not None) == (archived == "true"))
    ]
    for key in reversed(query.get("sort", "name").split(",")):
        name = key.strip().removeprefix("-")
        if name not in _SORT_KEYS:
            raise bad_fields({"sort": f"cannot sort by {name}"})
        found.sort(key=itemgetter(name), reverse=key.strip().startswith("-"))
    await answer_page(exchange, found, lambda app: app)


async def get_app(exchange: Exchange, app_id: str) -> None:
    """`GET /v1/apps/{id}`."""
    management = exchange.state.management
    for app in management.apps:
        if app.id == app_id:
            await exchange.answer(200, {"data": app.public(management.url())})
            return
    raise RefusalError(404, "not_found", "there is no such App")
