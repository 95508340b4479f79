"""The endpoints of the management API, and of the host that its links to artifacts lead to."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..core.service import Service
from . import absent, accounts, api, deploying, history, workflows_api

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..core.service import Route
    from .apps import Management

_WORKFLOW = "/v1/workflows/(?!test$)([^/]+)"

_ENDPOINTS: Sequence[Route[Management]] = [
    ("GET", re.compile("/v1/apps"), api.list_apps),
    ("POST", re.compile("/v1/apps"), deploying.deploy_app),
    ("GET", re.compile("/v1/apps/([^/]+)"), api.get_app),
    ("DELETE", re.compile("/v1/apps/([^/]+)"), deploying.delete_app),
    ("POST", re.compile("/v1/apps/([^/]+)/deploy"), deploying.redeploy_app),
    ("GET", re.compile("/v1/apps/([^/]+)/deployments"), deploying.list_deployments),
    ("GET", re.compile("/v1/apps/([^/]+)/triggers"), absent.list_triggers),
    ("GET", re.compile("/v1/workflows"), workflows_api.list_workflows),
    ("POST", re.compile("/v1/workflows"), workflows_api.create_workflow),
    ("GET", re.compile(_WORKFLOW), workflows_api.get_workflow),
    ("PUT", re.compile(_WORKFLOW), workflows_api.update_workflow),
    ("POST", re.compile(f"{_WORKFLOW}/save"), workflows_api.save_workflow),
    ("POST", re.compile(f"{_WORKFLOW}/release"), workflows_api.release_workflow),
    ("GET", re.compile(f"{_WORKFLOW}/versions"), workflows_api.list_versions),
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
    *absent.ABSENT,
]


def management_service(state: Management) -> Service[Management]:
    """The management API."""
    return Service(state=state, routes=_ENDPOINTS, authorize=api.authorize)


def artifacts_service(state: Management) -> Service[Management]:
    """The host that links to artifacts lead to."""
    files = [("GET", re.compile("/([^/]+)/([^/]+)/[^/]*"), history.download)]
    return Service(state=state, routes=files, authorize=history.authorize_link)
