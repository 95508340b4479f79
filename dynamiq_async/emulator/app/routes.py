"""The endpoints of an App, and of the links that its end users open."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..core.refusals import RefusalError
from ..core.service import Service
from . import files_api, requirements_api, root_endpoint, runs_api, websocket
from .requirements_api import guarded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..core.service import Route
    from .state import AppExchange, AppState

_NOT_ACCESS_KEYS = ("dyn_pat_", "uak_")

_ENDPOINTS: Sequence[Route[AppState]] = [
    ("POST", re.compile("/"), guarded(root_endpoint.invoke)),
    ("GET", re.compile("/"), websocket.serve),
    ("POST", re.compile("/v1/files"), files_api.upload),
    ("POST", re.compile("/v1/runs"), guarded(runs_api.create)),
    ("GET", re.compile("/v1/runs"), runs_api.list_runs),
    ("GET", re.compile("/v1/runs/([^/]+)"), runs_api.get),
    ("POST", re.compile("/v1/runs/([^/]+)/cancel"), runs_api.cancel),
    ("POST", re.compile("/v1/runs/([^/]+)/input"), runs_api.give_input),
    ("GET", re.compile("/v1/runs/([^/]+)/events"), runs_api.list_events),
    ("GET", re.compile("/v1/runs/([^/]+)/stream"), runs_api.follow),
    ("GET", re.compile("/v1/requirements"), requirements_api.list_requirements),
    ("GET", re.compile("/v1/requirements/status"), requirements_api.status),
    ("DELETE", re.compile("/v1/requirements/([^/]+)/connections"), requirements_api.disconnect),
    ("POST", re.compile("/v1/connect/tokens"), requirements_api.connect_link),
]


def app_service(state: AppState) -> Service[AppState]:
    """The endpoints of every App."""
    return Service(state=state, routes=_ENDPOINTS, authorize=_authorize)


def connect_service(state: AppState) -> Service[AppState]:
    """The links by which end users connect accounts. The link itself is the permission."""
    links = [("GET", re.compile("/([^/]+)"), requirements_api.open_link)]
    return Service(state=state, routes=links, authorize=lambda exchange: None)


def _authorize(exchange: AppExchange) -> None:
    """Refuse a request for an App that does not exist or was deleted (404), and a request for a
    private App without its key (401, 403)."""
    state, app = exchange.state, exchange.record.prefix
    if app not in state.deployments or state.deployments[app].removed:
        raise RefusalError(404, "not_found", "there is no App at this hostname")
    access_key = state.key_for(app)
    if access_key is None:
        return
    scheme, _, token = exchange.record.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token == access_key:
        return
    if token.startswith(_NOT_ACCESS_KEYS):
        raise RefusalError(403, "forbidden", "this is not an Access Key")
    if token and token in (state.settings.access_key, *(p.access_key for p in state.projects.all)):
        raise RefusalError(403, "forbidden", "the Access Key is scoped to another project")
    raise RefusalError(401, "unauthorized", "the Access Key is missing or invalid")
