"""`mcp`: the command as MCP's own client starts it, over stdio and over HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters

from dynamiq_async.cli import mcp as command
from dynamiq_async.emulator import DEFAULT_PROJECT, Emulator
from dynamiq_async.errors import InvalidArgumentError
from tests.http.test_once import free_port

if TYPE_CHECKING:
    from pathlib import Path


def environment(emulator: Emulator) -> dict[str, str]:
    return {
        **os.environ,
        "DYNAMIQ_ACCESS_KEY": emulator.access_key or "",
        "DYNAMIQ_API_BASE_URL": emulator.management_url,
        "DYNAMIQ_API_TOKEN": emulator.management.token or "",
        "DYNAMIQ_PROJECT_ID": DEFAULT_PROJECT,
    }


def started(emulator: Emulator, *arguments: str) -> StdioServerParameters:
    return StdioServerParameters(
        command=sys.executable,
        args=["-m", "dynamiq_async", "mcp", *arguments],
        env=environment(emulator),
    )


async def test_over_stdio(tmp_path: Path) -> None:
    schema = tmp_path / "input.json"
    shape = {"type": "object", "properties": {"topic": {"type": "string"}}}
    schema.write_text(json.dumps(shape))
    async with (
        Emulator("echo") as emulator,
        Client(
            started(emulator, "--app", emulator.url, "--name", "bot", "--schema", str(schema))
        ) as client,
    ):
        (tool,) = (await client.list_tools()).tools
        assert (tool.name, tool.input_schema) == ("bot", shape)
        result = await client.call_tool("bot", {"topic": "tea"})
        assert result.structured_content == {"topic": "tea"}


async def test_by_default_every_app_of_the_project_is_a_tool() -> None:
    async with Emulator("echo") as emulator:
        emulator.management.add("Support bot")
        emulator.management.add("Support-bot")
        emulator.management.add("Draft", fields={"hostname": None})  # never deployed
        async with Client(started(emulator)) as client:
            tools = (await client.list_tools()).tools
            assert {"support_bot", "support_bot_2", "agent"} <= {tool.name for tool in tools}


async def test_the_environment_names_the_app() -> None:
    async with Emulator("echo") as emulator:
        start = started(emulator, "--describe", "told")
        start.env = {**(start.env or {}), "DYNAMIQ_APP_URL": emulator.url}
        async with Client(start) as client:
            (tool,) = (await client.list_tools()).tools
            assert tool.description == "told"


async def test_over_http() -> None:
    async with Emulator("echo") as emulator:
        port = free_port()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "dynamiq_async", "mcp", "--app", emulator.url),
            *("--http", str(port), "--name", "bot"),
            env=environment(emulator),
        )
        try:
            await listening(port)
            async with Client(f"http://127.0.0.1:{port}/mcp") as client:
                result = await client.call_tool("bot", {"topic": "tea"})
            assert result.structured_content == {"topic": "tea"}
        finally:
            process.send_signal(signal.SIGINT)
            await asyncio.wait_for(process.wait(), 60)


async def listening(port: int) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                await writer.wait_closed()
                return


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({"app": ("a.example",), "name": ("a", "b")}, "name"),
        ({"app": ("a.example", "b.example"), "describe": ("told",)}, "describe"),
    ],
)
def test_names_go_with_apps(options: dict[str, Any], argument: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        command.mcp(**options)
    assert caught.value.argument == argument


def test_schemas_are_one_or_one_for_each_tool(tmp_path: Path) -> None:
    path = tmp_path / "schemas.json"
    path.write_text('{"bot": {"type": "object"}}')
    schemas = command.Schemas(path)
    assert (schemas.of("bot"), schemas.of("other")) == ({"type": "object"}, None)
    path.write_text("[]")
    with pytest.raises(InvalidArgumentError, match="holds no object"):
        command.Schemas(path)
