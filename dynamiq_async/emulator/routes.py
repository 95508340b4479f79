"""Which service a request is for.

The emulator's URL leads to its Apps, by path or, under `.localhost`, by hostname. A service that
the vendor has on another host is at a path that no App can have, such as `/~management`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from .app.routes import app_service, connect_service
from .flowy.routes import flowy_service, links_service
from .management.history import LINKS
from .management.routes import artifacts_service, management_service
from .ui.routes import control_service, page_service

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from .app.names import AppNames
    from .app.state import AppState
    from .core.service import Service
    from .flowy.state import Flowy
    from .management.apps import Management
    from .ui.inspector import Inspector

Services: TypeAlias = (
    "Mapping[str, Service[AppState] | Service[Management] | Service[Flowy] | Service[Inspector]]"
)
"""The services by name; "" is that of the Apps. The path of another service begins with `/~` and
its name; that of the emulator's own, which begin with an underscore, with `/` and the name."""


class Destination(NamedTuple):
    """Where a request leads.

    Attributes:
        service: the name of the service; "" for an App.
        app: the App's name; "" for the default one. An App named by a hostname may not exist.
        endpoint: the path there.
    """

    service: str
    app: str
    endpoint: str


def all_services(
    apps: AppState, management: Management, flowy: Flowy, inspector: Inspector
) -> Services:
    """Everything that the emulator serves."""
    return {
        "": app_service(apps),
        "connect": connect_service(apps),
        "management": management_service(management),
        LINKS: artifacts_service(management),
        "flowy": flowy_service(flowy),
        "flowy-files": links_service(flowy),
        "_ui": page_service(inspector),
        "_emulator": control_service(inspector),
    }


def destination(
    host: str | None, path: str, services: Collection[str], names: AppNames
) -> Destination:
    """Where a request leads, given the names of services and Apps."""
    first, _, rest = path.removeprefix("/").partition("/")
    if first.startswith("~") and first[1:] in services:
        return Destination(first[1:], "", f"/{rest}")
    if first.startswith("_") and first in services:
        return Destination(first, "", f"/{rest}")
    if (app := names.at(host)) is not None:
        return Destination("", app, path)
    if (app := names.of(first)) is not None:
        return Destination("", app, f"/{rest}")
    return Destination("", "", path)
