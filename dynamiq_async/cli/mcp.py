"""`mcp`: Apps as tools of an MCP server, over stdio or HTTP."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from dynamiq_async.app import URL_VARIABLE
from dynamiq_async.cli import inputs
from dynamiq_async.cli.options import (
    DEFAULT_NETWORK,
    Connection,
    Network,
)
from dynamiq_async.errors import InvalidArgumentError
from dynamiq_async.management.client import AsyncManagement

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from dynamiq_async.integrations.mcp import AppTool


def mcp(
    *,
    app: Annotated[
        tuple[str, ...],
        Parameter(
            help="An App's hostname, URL, name or id; by default that in DYNAMIQ_APP_URL, else all "
            "Apps of the project. Repeatable."
        ),
    ] = (),
    name: Annotated[
        tuple[str, ...],
        Parameter(help="The name of the tool for each --app, in the same order."),
    ] = (),
    describe: Annotated[
        tuple[str, ...],
        Parameter(help="The description of the tool for each --app, in the same order."),
    ] = (),
    schema: Annotated[
        Path | None,
        Parameter(
            help="A file with the JSON Schema of the input; of several Apps, an object of them by "
            "the tools' names."
        ),
    ] = None,
    http: Annotated[
        int | None,
        Parameter(
            validator=Number(gte=1, lte=65535),
            help="Serve HTTP at this port and the path /mcp. [default: stdio]",
        ),
    ] = None,
    host: Annotated[str, Parameter(help="The address to listen at.")] = "127.0.0.1",
    cancel: Annotated[
        bool, Parameter(help="If the client cancels a call, cancel its run.")
    ] = False,
    timeout: Annotated[float | None, Parameter(help="Seconds for each call.")] = None,
    key_file: Annotated[Path | None, Parameter(help="A file that holds the access key.")] = None,
    public: Annotated[bool, Parameter(help="The Apps are public: send no access key.")] = False,
    network: Network = DEFAULT_NETWORK,
) -> None:
    """Serve Apps as MCP tools, until the client leaves or Ctrl-C.

    ```
    dynamiq-async mcp --app my-app.apps.us-east-1.getdynamiq.ai --schema input.json
    dynamiq-async mcp --http 8000
    ```
    """
    from dynamiq_async.integrations.mcp import make_server, serve_http, serve_stdio

    if not app and URL_VARIABLE in os.environ:
        app = (os.environ[URL_VARIABLE],)
    options: dict[str, Any] = {"on_leave": "cancel" if cancel else "detach", "timeout": timeout}
    for given, argument in ((name, "name"), (describe, "describe")):
        if given and len(given) != len(app):
            raise InvalidArgumentError(f"--{argument} goes with each --app", argument=argument)
    read = Schemas(schema)

    async def run() -> None:
        async with AsyncExitStack() as stack:
            tools: list[AppTool] = []
            async for client, called, told in _apps(stack, app, key_file, public, network):
                at = len(tools)
                tools.append(
                    _tool(
                        client,
                        name[at] if name else _named(called, tools),
                        describe[at] if describe else told,
                        read,
                        options,
                    )
                )
            server = make_server(tools)
            if http is None:
                await serve_stdio(server)
            else:
                await serve_http(server, http, host=host)

    asyncio.run(run())


async def _apps(
    stack: AsyncExitStack,
    given: tuple[str, ...],
    key_file: Path | None,
    public: bool,
    network: Network,
) -> AsyncIterator[tuple[Any, str, str]]:
    """For each App, a client, its name and its description."""
    for one in given:
        connection = Connection(app=one, key_file=key_file, public=public, network=network)
        client = await stack.enter_async_context(connection.open())
        called = one.partition("://")[2] or one
        yield client, called.partition(".")[0], f"Calls the Dynamiq App {one}."
    if given:
        return
    key = Connection(key_file=key_file, public=public, network=network).key
    async with AsyncManagement(**network.arguments()) as management:
        async for found in management.apps.list():
            if found.hostname and not found.is_archived:
                opening = management.open(found, access_key=key(public=found.is_public))
                client = await stack.enter_async_context(opening)
                named = found.name or found.id or "app"
                yield client, named, found.description or f"Calls the Dynamiq App {named}."


def _named(called: str, tools: list[AppTool]) -> str:
    from dynamiq_async.integrations.mcp import tool_name

    return tool_name(called, [tool.name for tool in tools])


def _tool(client: Any, name: str, told: str, read: Schemas, options: Mapping[str, Any]) -> AppTool:
    from dynamiq_async.integrations.mcp import AppTool

    return AppTool(client, name, told, schema=read.of(name), **options)


class Schemas:
    """The schemas in a file: one, or one for each tool."""

    def __init__(self, path: Path | None) -> None:
        self._found: Any = None
        if path is not None:
            self._found = inputs.read_json(f"@{path}", "schema")
            if not isinstance(self._found, dict):
                raise InvalidArgumentError(f"{path} holds no object", argument="schema")

    def of(self, name: str) -> Any:
        """The schema for an App, by its name. None if there is none."""
        if self._found is None or self._found.get("type") == "object":
            return self._found
        return self._found.get(name)
