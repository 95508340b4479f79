"""The owner of the token, and the organisations and projects that it gives access to.

The paths and fields were seen in the vendor's command line. Our guesses: that a list of projects
needs `org_id`, and that the two lists have no `pagination`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..core.refusals import RefusalError, bad_fields

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..core.exchange import Exchange
    from .apps import Management


async def get_me(exchange: Exchange[Management]) -> None:
    """`GET /v1/me`. The token of a service account, which belongs to no user, gets 403."""
    user = exchange.state.user
    if user is None:
        raise RefusalError(403, "forbidden", "the token belongs to no user")
    await exchange.respond(200, {"data": user})


async def list_orgs(exchange: Exchange[Management]) -> None:
    """`GET /v1/orgs`."""
    await exchange.respond(200, {"data": exchange.state.orgs})


async def get_org(exchange: Exchange[Management], org_id: str) -> None:
    """`GET /v1/orgs/{id}`."""
    await exchange.respond(200, {"data": _find(exchange.state.orgs, org_id, "organisation")})


async def list_projects(exchange: Exchange[Management]) -> None:
    """`GET /v1/projects`."""
    org_id = exchange.record.query.get("org_id")
    if not org_id:
        raise bad_fields({"org_id": "cannot be blank"})
    found = [project for project in exchange.state.projects if project["org_id"] == org_id]
    await exchange.respond(200, {"data": found})


async def get_project(exchange: Exchange[Management], project_id: str) -> None:
    """`GET /v1/projects/{id}`. The vendor's command line also sends an `org_id`."""
    project = _find(exchange.state.projects, project_id, "project")
    if exchange.record.query.get("org_id", project["org_id"]) != project["org_id"]:
        raise RefusalError(404, "not_found", "there is no such project")
    await exchange.respond(200, {"data": project})


def _find(items: Sequence[dict[str, Any]], id: str, what: str) -> dict[str, Any]:
    for item in items:
        if item["id"] == id:
            return item
    raise RefusalError(404, "not_found", f"there is no such {what}")
