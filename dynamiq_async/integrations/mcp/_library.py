"""The one module that knows the package `mcp`, imported where a server is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from dynamiq_async.errors import MissingExtraError

if TYPE_CHECKING:
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


def web_server() -> Any:
    """uvicorn, which comes with the package."""
    import uvicorn

    return uvicorn
