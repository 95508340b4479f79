"""The endpoints of the management API, and of the host that its links to artifacts lead to."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..core.service import Service
from . import accounts, api, history

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..core.service import Route
    from .apps import Management

_ENDPOINTS: Sequence[Route[Management]] = [
    ("GET", re.compile("/v1/apps"), api.list_apps),
    ("GET", re.compile("/v1/apps/([^/]+)"), api.get_app),
    ("GET", re.compile("/v1/apps/([^/]+)/runs/([^/]+)/artifacts"), history.list_artifacts),
    ("GET", re.compile("/v1/apps/([^/]+)/traces"), history.list_traces),
    ("GET", re.compile("/v1/apps/([^/]+)/traces/([^/]+)"), history.get_trace),
    ("GET", re.compile("/v1/apps/([^/]+)/sessions"), history.list_sessions),
    ("GET", re.compile("/v1/apps/([^/]+)/sessions/([^/]+)/messages"), history.list_messages),
    ("GET", re.compile("/v1/me"), accounts.get_me),
    ("GET", re.compile("/v1/orgs"), accounts.list_orgs),
    ("GET", re.compile("/v1/orgs/([^/]+)"), accounts.get_org),
    ("GET", re.compile("/v1/projects"), accounts.list_projects),
    ("GET", re.compile("/v1/projects/([^/]+)"), accounts.get_project),
]


def management_service(state: Management) -> Service[Management]:
    """The management API."""
    return Service(state=state, routes=_ENDPOINTS, authorize=api.authorize)


def artifacts_service(state: Management) -> Service[Management]:
    """The host that links to artifacts lead to."""
    files = [("GET", re.compile("/([^/]+)/([^/]+)/[^/]*"), history.download)]
    return Service(state=state, routes=files, authorize=history.authorize_link)
