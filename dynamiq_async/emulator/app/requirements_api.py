"""The requirements API: what end users must connect before they can run an App.

The vendor documents the responses of `status` and `connect/tokens`, and that a run is refused while
a required account is missing. The rest is our guess: how the list is wrapped, the status of a user
who has connected everything, and the error for a refused run (`UNSATISFIED`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.clock import utc_now
from ..core.fields import Fields
from ..core.refusals import RefusalError, bad_fields

if TYPE_CHECKING:
    from ..core.service import Handler
    from .requirements import Requirement
    from .state import AppExchange, AppState

UNSATISFIED = (400, "requirements_unsatisfied")
"""The status and code that refuse a run for an end user who has not connected everything."""


def of_app(exchange: AppExchange) -> list[Requirement]:
    """The requirements of the App that the request is for."""
    app = exchange.record.prefix
    return [needed for needed in exchange.state.requirements.all if needed.app == app]


async def list_requirements(exchange: AppExchange) -> None:
    """`GET /v1/requirements`."""
    await exchange.respond(200, {"data": [needed.public() for needed in of_app(exchange)]})


async def status(exchange: AppExchange) -> None:
    """`GET /v1/requirements/status`."""
    user_id = _user_id(exchange)
    left = [needed for needed in of_app(exchange) if user_id not in needed.users]
    complete = not any(needed.required for needed in left)
    if not exchange.state.requirements.lists_optional:
        left = [needed for needed in left if needed.required]
    shown = {
        "status": "complete" if complete else "incomplete",
        "unsatisfied": [needed.public() for needed in left],
    }
    await exchange.respond(200, shown)


async def connect_link(exchange: AppExchange) -> None:
    """`POST /v1/connect/tokens`."""
    fields = Fields.of(exchange.record)
    user_id = fields.require("user_id", str)
    ids = fields.get("requirement_ids", list)
    wanted = of_app(exchange)
    if ids is not None:
        known = {needed.id: needed for needed in wanted}
        if unknown := [str(id) for id in ids if id not in known]:
            fields.complaints["requirement_ids"] = f"there is no {', '.join(unknown)}"
        wanted = [known[id] for id in ids if id in known]
    fields.check()
    token, link = exchange.state.requirements.link(user_id or "", wanted)
    url = f"{exchange.url}/~connect/{token}"
    await exchange.respond(200, {"token": token, "url": url, "expires_at": link.expires_at})


async def disconnect(exchange: AppExchange, requirement_id: str) -> None:
    """`DELETE /v1/requirements/{id}/connections`."""
    user_id = _user_id(exchange)
    for needed in of_app(exchange):
        if needed.id == requirement_id:
            needed.users.discard(user_id)
            await exchange.wire.start(204, {}, length=0)
            await exchange.wire.finish()
            return
    raise RefusalError(404, "not_found", "there is no such requirement")


async def open_link(exchange: AppExchange, token: str) -> None:
    """`GET` a link, as the end user's browser does: it connects everything."""
    link = exchange.state.requirements.links.get(token)
    if link is None or link.expires_at <= utc_now():
        raise RefusalError(410, "gone", "this link has expired")
    for needed in link.requirements:
        needed.users.add(link.user_id)
    await exchange.respond(200, {"message": "connected"})


def guarded(handler: Handler[AppState]) -> Handler[AppState]:
    """Wrap a handler that starts a run. It refuses end users who have not connected everything."""

    async def checked(exchange: AppExchange, *arguments: str) -> None:
        if needs := of_app(exchange):
            user_id = Fields.of(exchange.record).get("user_id", str)
            left = {
                needed.id: needed.title
                for needed in needs
                if needed.required and user_id not in needed.users
            }
            if left:
                who = f"user {user_id}" if user_id else "this run, which has no user_id,"
                message = f"{who} has not connected {', '.join(left.values())}"
                raise RefusalError(*UNSATISFIED, message, left)
        await handler(exchange, *arguments)

    return checked


def _user_id(exchange: AppExchange) -> str:
    user_id = exchange.record.query.get("user_id")
    if not user_id:
        raise bad_fields({"user_id": "cannot be blank"})
    return user_id
