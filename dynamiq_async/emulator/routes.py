"""Which of the services a request is for, and what answers it there.

A deployed App is what the emulator's own URL leads to. The services that have hosts of their own
are found under a path that no App can have: `/~management`, say.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .app import files_api as files
from .app import requirements_api as requirements
from .app import root_endpoint as root
from .app import runs_api, websocket
from .core.request_bodies import RefusalError
from .flowy import api as flowy
from .flowy import links as flowy_links
from .management import api as management

if TYPE_CHECKING:
    from .core.exchange import Exchange
    from .core.log import RequestRecord

_NOT_ACCESS_KEYS = ("dyn_pat_", "uak_")

Handler = Callable[..., Awaitable[None]]
Route = tuple[str, re.Pattern[str], Handler]


@dataclass(frozen=True, kw_only=True)
class Service:
    """What one host serves.

    Attributes:
        routes: a method, a path whose groups are arguments of the handler, and the handler.
        authorize: raises `RefusalError` unless the request may be answered.
        refusal: the body of an answer that says no.
    """

    routes: Sequence[Route]
    authorize: Callable[[Exchange], None]
    refusal: Callable[[RefusalError], Any] = RefusalError.envelope

    def route(self, record: RequestRecord) -> tuple[Handler, tuple[str, ...]]:
        """The handler for a request, and the variable parts of its path."""
        known = False
        for method, pattern, handler in self.routes:
            if match := pattern.fullmatch(record.endpoint):
                if method == record.method:
                    return handler, match.groups()
                known = True
        if known:
            raise RefusalError(405, "method_not_allowed", f"{record.method} is not possible here")
        raise RefusalError(404, "not_found", "there is nothing here")


def _authorize(exchange: Exchange) -> None:
    """Refuse (401, 403) what does not carry the key of a private App."""
    access_key = exchange.state.settings.access_key
    if access_key is None:
        return
    scheme, _, token = exchange.record.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token == access_key:
        return
    if token.startswith(_NOT_ACCESS_KEYS):
        raise RefusalError(403, "forbidden", "this is not an Access Key")
    raise RefusalError(401, "unauthorized", "the Access Key is missing or invalid")


APP = Service(
    routes=[
        ("POST", re.compile("/"), requirements.guarded(root.invoke)),
        ("GET", re.compile("/"), websocket.serve),
        ("POST", re.compile("/v1/files"), files.upload),
        ("POST", re.compile("/v1/runs"), requirements.guarded(runs_api.create)),
        ("GET", re.compile("/v1/runs"), runs_api.list_runs),
        ("GET", re.compile("/v1/runs/([^/]+)"), runs_api.get),
        ("POST", re.compile("/v1/runs/([^/]+)/cancel"), runs_api.cancel),
        ("POST", re.compile("/v1/runs/([^/]+)/input"), runs_api.give_input),
        ("GET", re.compile("/v1/runs/([^/]+)/events"), runs_api.list_events),
        ("GET", re.compile("/v1/runs/([^/]+)/stream"), runs_api.follow),
        ("GET", re.compile("/v1/requirements"), requirements.list_requirements),
        ("GET", re.compile("/v1/requirements/status"), requirements.status),
        ("DELETE", re.compile("/v1/requirements/([^/]+)/connections"), requirements.disconnect),
        ("POST", re.compile("/v1/connect/tokens"), requirements.connect_link),
    ],
    authorize=_authorize,
)

MANAGEMENT = Service(
    routes=[
        ("GET", re.compile("/v1/apps"), management.list_apps),
        ("GET", re.compile("/v1/apps/([^/]+)"), management.get_app),
    ],
    authorize=management.authorize,
)

CONNECT = Service(
    routes=[("GET", re.compile("/([^/]+)"), requirements.open_link)],
    authorize=lambda exchange: None,  # the link is what one needs
)

FLOWY = Service(
    routes=[
        ("GET", re.compile("/apps"), flowy.list_apps),
        ("GET", re.compile("/apps/([^/]+)"), flowy.get_app),
        ("POST", re.compile("/apps/([^/]+)/runs"), flowy.start_run),
        ("GET", re.compile("/runs/([^/]+)"), flowy.get_run),
        # These too are counted, and told how many requests are left.
        *((method, re.compile("/.*"), flowy.not_found) for method in ("GET", "POST", "DELETE")),
    ],
    authorize=flowy.authorize,
    refusal=flowy.refusal,
)

FLOWY_FILES = Service(
    routes=[("GET", re.compile("/([^/]+)/([^/]+)/[^/]+"), flowy_links.download)],
    authorize=flowy_links.authorize,
)

SERVICES = {
    "": APP,
    "management": MANAGEMENT,
    "connect": CONNECT,
    "flowy": FLOWY,
    "flowy-files": FLOWY_FILES,
}
"""By name; the path of all but the App's begins with `/~` and the name."""


def service_of(path: str) -> tuple[str, str]:
    """The name of the service that a path leads to, and the path there."""
    first, _, rest = path.removeprefix("/").partition("/")
    name = first.removeprefix("~")
    return (name, f"/{rest}") if first[:1] == "~" and name in SERVICES else ("", path)
