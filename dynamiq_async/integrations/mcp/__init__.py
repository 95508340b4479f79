"""Apps as tools of an MCP server, over stdio or HTTP. It needs the extra `mcp`.

tools = [AppTool(app, "support_bot", "Asks the support bot.", input=Question)]
await serve_stdio(make_server(tools))
"""

from dynamiq_async.integrations.mcp.server import make_server
from dynamiq_async.integrations.mcp.tools import AppTool, Hints, tool_name
from dynamiq_async.integrations.mcp.transports import serve_http, serve_stdio

__all__ = ["AppTool", "Hints", "make_server", "serve_http", "serve_stdio", "tool_name"]
