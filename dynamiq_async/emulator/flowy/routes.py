"""The endpoints of Flowy, and of the host that its links lead to."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..core.service import Service
from . import api, generations_api, links

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..core.service import Route
    from .state import Flowy

_ENDPOINTS: Sequence[Route[Flowy]] = [
    ("GET", re.compile("/apps"), api.scoped("apps:read", api.list_apps)),
    ("GET", re.compile("/apps/([^/]+)"), api.scoped("apps:read", api.get_app)),
    ("POST", re.compile("/apps/([^/]+)/runs"), api.scoped("runs:write", api.start_run)),
    ("GET", re.compile("/runs/([^/]+)"), api.scoped("runs:read", api.get_run)),
    (
        "POST",
        re.compile("/generations"),
        api.scoped("generations:write", generations_api.start_generation),
    ),
    (
        "GET",
        re.compile("/generations/([^/]+)"),
        api.scoped("generations:read", generations_api.get_generation),
    ),
    ("GET", re.compile("/credits"), api.scoped("credits:read", generations_api.get_credits)),
    ("GET", re.compile("/assets"), api.scoped("assets:read", generations_api.list_assets)),
    ("GET", re.compile("/assets/([^/]+)"), api.scoped("assets:read", generations_api.get_asset)),
    # Other paths count for the rate limit too.
    *((method, re.compile("/.*"), api.not_found) for method in ("GET", "POST", "DELETE")),
]


def flowy_service(state: Flowy) -> Service[Flowy]:
    """Flowy's API."""
    return Service(state=state, routes=_ENDPOINTS, authorize=api.authorize, refusal=api.refusal)


def links_service(state: Flowy) -> Service[Flowy]:
    """The host that links to outputs lead to."""
    outputs = [("GET", re.compile("/([^/]+)/([^/]+)/[^/]+"), links.download)]
    return Service(state=state, routes=outputs, authorize=links.authorize)
