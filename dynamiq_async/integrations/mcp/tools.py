"""What an MCP server offers: one tool for each App."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypedDict

from dynamiq_async.errors import InvalidArgumentError
from dynamiq_async.options import OnLeave, check_one_of
from dynamiq_async.tools import Inputs, check_name, inputs_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from dynamiq_async.app import AsyncApp

_ANY_OBJECT = {"type": "object", "properties": {}}


class Hints(TypedDict, total=False):
    """What a tool does, as far as the App's owner knows: hints that clients show."""

    read_only_hint: bool
    destructive_hint: bool
    idempotent_hint: bool


class AppTool:
    """An App as a tool of an MCP server.

    Args:
        app: a client of the App. It stays yours to close.
        name: what the model calls it.
        description: what the model is told of it.
        input: the fields of the App's input, as for `AsyncApp.tool`. Arguments are checked.
        schema: in its place, a JSON Schema of an object, by which arguments are checked. Without
            either, any object is taken.
        hints: what the tool does. That it reaches into an open world is always told.
        on_leave: what becomes of the run of a call that the client cancels: "detach" lets it go on,
            "cancel" cancels it.
        timeout: seconds for each call, from a question's answer on anew; None for the client's.

    Raises:
        InvalidArgumentError: an argument cannot be used.
    """

    def __init__(
        self,
        app: AsyncApp,
        name: str,
        description: str,
        *,
        input: Any = None,
        schema: Mapping[str, Any] | None = None,
        hints: Hints | None = None,
        on_leave: OnLeave = "detach",
        timeout: float | None = None,
    ) -> None:
        check_name(name)
        check_one_of(on_leave, ("detach", "cancel"), "on_leave")
        if input is not None and schema is not None:
            raise InvalidArgumentError(
                "input and schema say the same; give one of the two", argument="schema"
            )
        self.inputs: Inputs | None = None if input is None else inputs_of(input)
        if self.inputs is not None:
            schema = self.inputs.schema()
        self.schema: dict[str, Any] = dict(_ANY_OBJECT if schema is None else schema)
        if self.schema.get("type") != "object":
            raise InvalidArgumentError(
                "schema must be the JSON Schema of an object", argument="schema"
            )
        self.app = app
        self.name = name
        self.description = description
        self.hints: Hints = hints or {}
        self.on_leave: OnLeave = on_leave
        self.timeout = timeout


def tool_name(app: str, taken: Collection[str] = ()) -> str:
    """A tool's name for an App's, one that is not taken."""
    name = re.sub(r"[^a-z0-9]+", "_", app.lower()).strip("_")[:60] or "app"
    if name[0].isdigit():
        name = f"app_{name}"
    found, number = name, 2
    while found in taken:
        found, number = f"{name}_{number}", number + 1
    return found
