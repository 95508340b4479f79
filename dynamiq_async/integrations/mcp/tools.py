"""The tools of an MCP server: one for each App."""

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
    """Hints about what a tool does, which clients show."""

    read_only_hint: bool
    destructive_hint: bool
    idempotent_hint: bool


class AppTool:
    """An App as a tool of an MCP server.

    Args:
        app: a client of the App. You have to close it yourself.
        name: the tool's name for the model.
        description: the tool's description for the model.
        input: the fields of the App's input, as for `AsyncApp.tool`. Arguments are checked.
        schema: in place of `input`, a JSON Schema of an object, which arguments are checked
            against. Without either, the tool accepts any object.
        hints: what the tool does. The hint that it reaches an open world is always set.
        on_leave: when a client cancels a call, "detach" lets its run go on, and "cancel" cancels
            it.
        timeout: seconds for each call, which start again after an answer; None for the client's
            timeout.

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
    """A tool's name, made from the App's name. It is not taken yet."""
    name = re.sub(r"[^a-z0-9]+", "_", app.lower()).strip("_")[:60] or "app"
    if name[0].isdigit():
        name = f"app_{name}"
    found, number = name, 2
    while found in taken:
        found, number = f"{name}_{number}", number + 1
    return found
