"""Accounts that end users connect: which an App needs, who has connected them, and the links."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

LINK_MINUTES = 10


@dataclass(eq=False, kw_only=True)
class Requirement:
    """An account that each end user of an App has to connect.

    `users` are the ids of the end users who have connected it.
    """

    title: str
    app: str
    id: str = field(default_factory=lambda: str(uuid4()))
    users: set[str] = field(default_factory=set)

    def public(self) -> dict[str, Any]:
        """The requirement as the API shows it."""
        return {"id": self.id, "title": self.title}


@dataclass(eq=False, kw_only=True)
class Link:
    """A link for one end user. It works once."""

    user_id: str
    requirements: list[Requirement]
    expires_at: datetime = field(
        default_factory=lambda: datetime.now(UTC) + timedelta(minutes=LINK_MINUTES)
    )


class Requirements:
    """What the emulator's Apps need: nothing, unless a test adds something."""

    def __init__(self) -> None:
        self.all: list[Requirement] = []
        self.links: dict[str, Link] = {}

    def add(self, title: str, *, app: str = "") -> Requirement:
        """Make the App of this name need an account; "" is the default App."""
        added = Requirement(title=title, app=app)
        self.all.append(added)
        return added
