"""The management API: which Apps there are, and where they are called."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING

from ..core.fields import is_uuid
from ..core.pages import respond_page, sort_items
from ..core.refusals import RefusalError, bad_fields

if TYPE_CHECKING:
    from ..core.exchange import Exchange
    from .apps import Management

_SORT_KEYS = {name: itemgetter(name) for name in ("name", "created_at", "updated_at", "id")}


def authorize(exchange: Exchange[Management]) -> None:
    """Refuse (401) a request without the token."""
    token = exchange.state.token
    given = exchange.record.headers.get("Authorization", "")
    if token is not None and given != f"Bearer {token}":
        raise RefusalError(401, "unauthorized", "the token is missing or invalid")


async def list_apps(exchange: Exchange[Management]) -> None:
    """`GET /v1/apps`.

    Our guess: `archived=true` lists archived Apps only. Without it, and without `include_archived`,
    archived Apps are left out.
    """
    query, management = exchange.record.query, exchange.state
    project_id = query.get("project_id")
    if not project_id:
        raise bad_fields({"project_id": "cannot be blank"})
    if not is_uuid(project_id):
        raise bad_fields({"project_id": "must be a valid UUID"})
    archived = query.get("archived")
    every = query.get("include_archived") == "true"
    found = [
        app.public(exchange.url)
        for app in management.apps
        if app.project_id == project_id
        and query.get("workflow_id", app.workflow_id) == app.workflow_id
        and (every or (app.archived_at is not None) == (archived == "true"))
    ]
    sort_items(found, query.get("sort", "name"), _SORT_KEYS)
    await respond_page(exchange, found, lambda app: app)


async def get_app(exchange: Exchange[Management], app_id: str) -> None:
    """`GET /v1/apps/{id}`."""
    await exchange.respond(200, {"data": exchange.state.get(app_id).public(exchange.url)})
