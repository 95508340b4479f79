"""The endpoints of Flowy, and of the host that its links lead to."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..core.service import Service
from . import api, links

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..core.service import Route
    from .state import Flowy

_ENDPOINTS: Sequence[Route[Flowy]] = [
    ("GET", re.compile("/apps"), api.list_apps),
    ("GET", re.compile("/apps/([^/]+)"), api.get_app),
    ("POST", re.compile("/apps/([^/]+)/runs"), api.start_run),
    ("GET", re.compile("/runs/([^/]+)"), api.get_run),
    # Other paths count for the rate limit too, and their responses have its headers.
    *((method, re.compile("/.*"), api.not_found) for method in ("GET", "POST", "DELETE")),
]


def flowy_service(state: Flowy) -> Service[Flowy]:
    """Flowy's API."""
    return Service(state=state, routes=_ENDPOINTS, authorize=api.authorize, refusal=api.refusal)


def links_service(state: Flowy) -> Service[Flowy]:
    """The host that links to outputs lead to."""
    outputs = [("GET", re.compile("/([^/]+)/([^/]+)/[^/]+"), links.download)]
    return Service(state=state, routes=outputs, authorize=links.authorize)
