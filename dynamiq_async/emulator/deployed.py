"""The emulator's Apps as the management API lists, deploys and deletes them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from .app.names import can_be_named
from .app.state import Deployment
from .management.apps import DEFAULT_ORG, ManagedApp, Management

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .app.projects import Projects
    from .app.state import AppState


def management_of(apps: AppState, clock: Callable[[], float]) -> Management:
    """The management API of these Apps and their projects."""
    public = apps.settings.access_key is None
    management = Management(
        host=Deployed(apps.deployments, apps.projects),
        apps=managed_apps(apps.deployments, public=public),
        executions=apps.history,
        clock=clock,
    )
    for project in apps.projects.all:
        shown = {"id": project.id, "name": project.name, "org_id": DEFAULT_ORG}
        management.projects.append(shown)
        for app in management.apps:
            if app.app in project.apps:
                app.project_id = project.id
                app.access_type = "private" if project.access_key else "public"
    return management


def managed_apps(deployments: Mapping[str, Deployment], *, public: bool) -> list[ManagedApp]:
    """The emulator's Apps for the management API. The default App is left out if it also has a
    path: its calls at the root are listed under that App."""
    default = deployments[""]
    named = [deployment.app for name, deployment in deployments.items() if name]
    return [
        ManagedApp(
            name=deployment.name,
            app=name,
            id=deployment.id,
            other_ids=(default.id,) if deployment.app is default.app else (),
            access_type="public" if public else "private",
        )
        for name, deployment in deployments.items()
        if name or deployment.app not in named
    ]


class Deployed:
    """Changes which Apps the emulator serves.

    Args:
        deployments: the Apps by their paths. A removed App keeps its path until another App takes
            it, so that requests for it do not reach the default App.
        projects: the projects whose keys the Apps require.
    """

    def __init__(self, deployments: dict[str, Deployment], projects: Projects) -> None:
        self._deployments = deployments
        self._projects = projects

    def program(self, path: str) -> Any:
        """The program that runs at a path; None if there is none."""
        deployment = self._deployments.get(path)
        return None if deployment is None or deployment.removed else deployment.app

    def add(self, name: str, program: Any, *, id: str, project_id: str, public: bool) -> str:
        """Serve an App. Returns its path, which is derived from its name."""
        path = plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "app"
        number = 1
        while self.program(path) is not None or not can_be_named(path):
            number += 1
            path = f"{plain}-{number}"
        self._deployments[path] = Deployment(name, program, id=id, public=public)
        self._projects.put(path, project_id)
        return path

    def replace(self, path: str, program: Any) -> None:
        """Replace the program at a path. Runs in progress continue with the old one."""
        self._deployments[path].app = program

    def remove(self, path: str) -> None:
        """Stop serving the App at a path. Runs in progress continue."""
        if path in self._deployments:
            self._deployments[path].removed = True
