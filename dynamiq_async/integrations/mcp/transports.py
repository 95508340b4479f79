"""A server on stdio, or as HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dynamiq_async.integrations.mcp._library import library, web_server

if TYPE_CHECKING:
    from mcp.server.lowlevel import Server


async def serve_stdio(server: Server[Any]) -> None:
    """Serve the client at this process's standard input and output, until it leaves."""
    async with library().stdio() as (read, write):
        await server.run(read, write, server.create_initialization_options())


async def serve_http(server: Server[Any], port: int, *, host: str = "127.0.0.1") -> None:
    """Serve HTTP at the path `/mcp`, until the process is told to stop.

    Args:
        host: the address to listen at. Anybody who can reach it can call the Apps with this
            process's key: put a check of who calls before it. On loopback, other sites' pages
            are refused.
    """
    uvicorn = web_server()
    app = server.streamable_http_app(host=host)
    config = uvicorn.Config(app, host=host, port=port, log_level="warning")
    await uvicorn.Server(config).serve()
