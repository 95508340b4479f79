"""The only module that imports the package `mcp`, when a server is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from dynamiq_async.errors import InvalidArgumentError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType


class Library(NamedTuple):
    """The parts of the package that are used."""

    types: ModuleType
    server: Any  # the class of low-level servers
    state: ModuleType
    stdio: Any


def library() -> Library:
    """Import the package.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import mcp_types as types
        from mcp.server import request_state as state
        from mcp.server.lowlevel import Server
        from mcp.server.stdio import stdio_server
    except ImportError as error:
        raise MissingExtraError(
            "an MCP server needs an extra that is not installed, or an older mcp than 2.3 is: "
            "pip install 'dynamiq-async[mcp]'"
        ) from error
    return Library(types, Server, state, stdio_server)


def checker(schema: Mapping[str, Any]) -> Callable[[Any], str | None]:
    """A function that says why arguments do not fit a JSON Schema, or returns None if they fit.
    Referenced schemas are not fetched.

    Raises:
        InvalidArgumentError: it is not a JSON Schema.
    """
    from jsonschema import exceptions, validators
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    kind: Any = validators.validator_for(schema, default=validators.Draft202012Validator)
    try:
        kind.check_schema(schema)
    except exceptions.SchemaError as error:
        raise InvalidArgumentError(
            f"schema is no JSON Schema: {error.message}", argument="schema"
        ) from None
    validator = kind(schema, registry=Registry())

    def complaint(arguments: Any) -> str | None:
        try:
            error = exceptions.best_match(validator.iter_errors(arguments))
        except Unresolvable as missing:
            return f"the schema refers to {missing.ref}, which it does not hold"
        return None if error is None else f"{error.json_path.removeprefix('$.')}: {error.message}"

    return complaint


def web_server() -> Any:
    """uvicorn, on which the package depends."""
    import uvicorn

    return uvicorn
