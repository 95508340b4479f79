"""Accounts that end users connect: what an App needs, who has it, and the links in between.

Only the paths are known, that a status lists what is `unsatisfied`, and that a link has a `url`.
The guesses are in one place each: the envelopes in the handlers, the refusal of a run in
`UNSATISFIED`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from ..core.request_bodies import Fields, RefusalError, bad_fields

if TYPE_CHECKING:
    from ..core.exchange import Exchange
    from ..routes import Handler

LINK_MINUTES = 10

UNSATISFIED = (400, "requirements_unsatisfied")
"""The status and code that answer a run for a user who has not connected everything."""


@dataclass(eq=False, kw_only=True)
class Requirement:
    """An account that each end user of an App has to connect.

    `users` are the ids of those who have.
    """

    title: str
    app: str
    id: str = field(default_factory=lambda: str(uuid4()))
    users: set[str] = field(default_factory=set)

    def public(self) -> dict[str, Any]:
        """What the API shows of it."""
        return {"id": self.id, "title": self.title}


@dataclass(eq=False, kw_only=True)
class Link:
    """A link for one user; it works once."""

    user_id: str
    requirements: list[Requirement]
    expires_at: datetime = field(
        default_factory=lambda: datetime.now(UTC) + timedelta(minutes=LINK_MINUTES)
    )


class Requirements:
    """What the emulator's Apps need; nothing, unless a test adds something."""

    def __init__(self) -> None:
        self.all: list[Requirement] = []
        self.links: dict[str, Link] = {}

    def add(self, title: str, *, app: str = "") -> Requirement:
        """Have the App of this name (the default one's is "") need an account."""
        added = Requirement(title=title, app=app)
        self.all.append(added)
        return added


def of_app(exchange: Exchange) -> list[Requirement]:
    """What the App needs that the request is for."""
    app = exchange.record.prefix
    return [needed for needed in exchange.state.requirements.all if needed.app == app]


async def list_requirements(exchange: Exchange) -> None:
    """`GET /v1/requirements`."""
    await exchange.answer(200, {"data": [needed.public() for needed in of_app(exchange)]})


async def status(exchange: Exchange) -> None:
    """`GET /v1/requirements/status`."""
    user_id = _user_id(exchange)
    left = [needed.public() for needed in of_app(exchange) if user_id not in needed.users]
    await exchange.answer(200, {"data": {"satisfied": not left, "unsatisfied": left}})


async def connect_link(exchange: Exchange) -> None:
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
    token = uuid4().hex
    link = Link(user_id=user_id or "", requirements=wanted)
    exchange.state.requirements.links[token] = link
    url = f"{exchange.state.management.url()}/~connect/{token}"
    await exchange.answer(200, {"url": url, "expires_at": link.expires_at})


async def disconnect(exchange: Exchange, requirement_id: str) -> None:
    """`DELETE /v1/requirements/{id}/connections`."""
    user_id = _user_id(exchange)
    for needed in of_app(exchange):
        if needed.id == requirement_id:
            needed.users.discard(user_id)
            await exchange.wire.start(204, {}, length=0)
            await exchange.wire.finish()
            return
    raise RefusalError(404, "not_found", "there is no such requirement")


async def open_link(exchange: Exchange, token: str) -> None:
    """What the end user's browser does with the link: they connect everything, and it is used."""
    link = exchange.state.requirements.links.pop(token, None)
    if link is None or link.expires_at <= datetime.now(UTC):
        raise RefusalError(410, "gone", "this link was used, or has expired")
    for needed in link.requirements:
        needed.users.add(link.user_id)
    await exchange.answer(200, {"message": "connected"})


def guarded(handler: Handler) -> Handler:
    """The handler of what starts a run, which one with something unsatisfied does not reach."""

    async def checked(exchange: Exchange, *arguments: str) -> None:
        if needs := of_app(exchange):
            user_id = Fields.of(exchange.record).get("user_id", str)
            left = {needed.id: needed.title for needed in needs if user_id not in needed.users}
            if left:
                who = f"user {user_id}" if user_id else "this run, which has no user_id,"
                message = f"{who} has not connected {', '.join(left.values())}"
                raise RefusalError(*UNSATISFIED, message, left)
        await handler(exchange, *arguments)

    return checked


def _user_id(exchange: Exchange) -> str:
    user_id = exchange.record.query.get("user_id")
    if not user_id:
        raise bad_fields({"user_id": "cannot be blank"})
    return user_id
