"""Accounts that end users connect: which ones an App needs, who has connected them, and links."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from ..core.clock import utc_now
from ..core.ids import new_id

LINK_HOURS = 24
"""Documented by the vendor."""

_JWT_HEADER = {"alg": "none", "typ": "JWT"}


@dataclass(eq=False, kw_only=True)
class Requirement:
    """An account that each end user of an App has to connect.

    Attributes:
        required: whether a run needs it. Without an optional account only tools are missing.
        users: the ids of the end users who have connected it.
    """

    title: str
    app: str
    description: str = ""
    required: bool = True
    type: str = "connection"
    name: str = "account"
    spec: dict[str, Any] = field(default_factory=lambda: {"type": "dynamiq.connections.OpenAI"})
    workflow_id: str = field(default_factory=new_id)
    id: str = field(default_factory=new_id)
    users: set[str] = field(default_factory=set)

    def public(self) -> dict[str, Any]:
        """The requirement as the API shows it."""
        return {
            "id": self.id,
            "type": self.type,
            "form": {"title": self.title, "description": self.description},
            "spec": {"type": self.type, "data": self.spec},
            "workflow_id": self.workflow_id,
            "name": self.name,
        }


@dataclass(eq=False, kw_only=True)
class Link:
    """A link for one end user. It works repeatedly: the vendor does not say that it works once."""

    user_id: str
    requirements: list[Requirement]
    expires_at: datetime = field(default_factory=lambda: utc_now() + timedelta(hours=LINK_HOURS))


class Requirements:
    """The accounts that the emulator's Apps need: none, unless a test adds some.

    Attributes:
        lists_optional: whether the list of unsatisfied requirements includes optional ones. The
            vendor does not say.
        links: the links by their tokens.
    """

    def __init__(self) -> None:
        self.all: list[Requirement] = []
        self.links: dict[str, Link] = {}
        self.lists_optional = True

    def add(self, title: str, *, app: str = "", **more: Any) -> Requirement:
        """Make the App of this name need an account; "" is the default App.

        `more` are other attributes of the `Requirement`.
        """
        added = Requirement(title=title, app=app, **more)
        self.all.append(added)
        return added

    def link(self, user_id: str, requirements: list[Requirement]) -> tuple[str, Link]:
        """A new link, and its token: an unsigned JWT."""
        link = Link(user_id=user_id, requirements=requirements)
        claims = {"user_id": user_id, "exp": int(link.expires_at.timestamp()), "jti": uuid4().hex}
        token = f"{_part(_JWT_HEADER)}.{_part(claims)}."
        self.links[token] = link
        return token, link


def _part(content: dict[str, Any]) -> str:
    text = base64.urlsafe_b64encode(json.dumps(content).encode()).decode()
    return text.rstrip("=")
