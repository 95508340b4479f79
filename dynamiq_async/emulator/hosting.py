"""The Apps of an emulator: what they are called, and in which projects they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .app.builtin import BUILTIN
from .app.names import check_name
from .app.projects import Projects
from .app.signatures import check_app
from .app.state import deployments
from .management.apps import DEFAULT_ORG

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from .app.projects import Project
    from .app.run_context import App
    from .app.state import AppState, Deployment
    from .management.apps import Management


def find_apps(app: str | App, apps: Mapping[str, str | App]) -> dict[str, Deployment]:
    """The Apps by name, the built-in ones too; the default one's is empty.

    Raises:
        NotAnAppError: one of them cannot be an App.
        ValueError: there is no such built-in App, or one cannot be called so.
    """
    for name in apps:
        check_name(name)
    named = {name: _find(given) for name, given in apps.items()}
    return deployments(_find(app), {**BUILTIN, **named})


def _find(given: str | App) -> App:
    if not isinstance(given, str):
        check_app(given)
        return given
    if given not in BUILTIN:
        raise ValueError(f"no such App: {given!r}; there are {', '.join(BUILTIN)}")
    return BUILTIN[given]


def place(projects: Collection[Project], apps: AppState, management: Management) -> None:
    """Put Apps in projects, for those who call them and for the management API.

    Raises ValueError where it is not clear what belongs to what.
    """
    apps.projects = Projects(list(projects))
    apps.projects.check(apps.deployments, apps.settings.access_key)
    for project in projects:
        shown = {"id": project.id, "name": project.name, "org_id": DEFAULT_ORG}
        management.projects.append(shown)
        for app in management.apps:
            if app.app in project.apps:
                app.project_id = project.id
                app.access_type = "private" if project.access_key else "public"
