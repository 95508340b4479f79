"""The one module that knows the package `mcp`, imported where a server is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from dynamiq_async.errors import InvalidArgumentError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType


class Library(NamedTuple):
    """What is used of it."""

    types: ModuleType
    server: Any  # the class of low-level servers
    state: ModuleType
    stdio: Any


def library() -> Library:
    """The package, imported.

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
    """A function that tells why arguments do not fit a JSON Schema; None where they do. Schemas
    that it refers to are not fetched.

    Raises:
        InvalidArgumentError: it is no JSON Schema.
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
    """uvicorn, which comes with the package."""
    import uvicorn

    return uvicorn
