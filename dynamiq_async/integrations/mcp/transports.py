"""Serves over stdio or HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dynamiq_async.integrations.mcp._library import library, web_server

if TYPE_CHECKING:
    from mcp.server.lowlevel import Server


async def serve_stdio(server: Server[Any]) -> None:
    """Serve a client over this process's standard input and output, until it disconnects."""
    async with library().stdio() as (read, write):
        await server.run(read, write, server.create_initialization_options())


async def serve_http(server: Server[Any], port: int, *, host: str = "127.0.0.1") -> None:
    """Serve HTTP at the path `/mcp`, until the process is told to stop.

    Args:
        host: the address to listen on. Anybody who can reach it can call the Apps with this
            process's key, so put an authenticating proxy in front of it. On loopback, pages of
            other sites are refused.
    """
    uvicorn = web_server()
    app = server.streamable_http_app(host=host)
    config = uvicorn.Config(app, host=host, port=port, log_level="warning")
    await uvicorn.Server(config).serve()
