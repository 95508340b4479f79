"""The paths of the inspector: its page at `/_ui`, and its endpoints at `/_emulator`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..core.service import Service
from . import access, actions, faults_api, live, page

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..core.service import Route
    from .inspector import Inspector

_ENDPOINTS: Sequence[Route[Inspector]] = [
    ("GET", re.compile("/events"), live.follow),
    ("GET", re.compile("/requests/([^/]+)"), actions.get_request),
    ("POST", re.compile("/runs/([^/]+)/answers"), actions.answer),
    ("POST", re.compile("/runs/([^/]+)/cancel"), actions.cancel),
    ("GET", re.compile("/faults"), faults_api.list_faults),
    ("POST", re.compile("/faults"), faults_api.add),
    ("PATCH", re.compile("/faults/([0-9]{1,9})"), faults_api.change),
    ("DELETE", re.compile("/faults/([0-9]{1,9})"), faults_api.remove),
]


def page_service(inspector: Inspector) -> Service[Inspector]:
    """The page."""
    routes = [("GET", re.compile("/"), page.show)]
    return Service(state=inspector, routes=routes, authorize=access.may_look)


def control_service(inspector: Inspector) -> Service[Inspector]:
    """The endpoints for the data and the actions of the page."""
    return Service(state=inspector, routes=_ENDPOINTS, authorize=access.may_act)
