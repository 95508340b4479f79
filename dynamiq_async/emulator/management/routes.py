"""The endpoints of the management API."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..core.service import Service
from . import api

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..core.service import Route
    from .apps import Management

_ENDPOINTS: Sequence[Route[Management]] = [
    ("GET", re.compile("/v1/apps"), api.list_apps),
    ("GET", re.compile("/v1/apps/([^/]+)"), api.get_app),
]


def management_service(state: Management) -> Service[Management]:
    """The management API."""
    return Service(state=state, routes=_ENDPOINTS, authorize=api.authorize)
