"""The frontends' own clients, as processes of Node that are driven by lines of JSON."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import pytest
import pytest_asyncio

from tests.support.chats import Backend

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

FOLDER = Path(__file__).parent.parent.parent / ".ci" / "frontends"
NODE = FOLDER / "node_modules" / "node" / "bin" / "node"
REQUIRED = os.environ.get("DYNAMIQ_TEST_FRONTENDS") == "required"
PATIENCE = 30.0


@pytest.fixture(autouse=True)
def _installed() -> None:
    if NODE.exists():
        return
    reason = f"the frontends' clients are not installed ({FOLDER.name}/install.sh does it)"
    if REQUIRED:
        pytest.fail(f"DYNAMIQ_TEST_FRONTENDS is 'required', but {reason}")
    pytest.skip(f"no test with real clients: {reason}")


class Page:
    """A client without a page around it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def do(self, name: str, **options: Any) -> dict[str, Any]:
        """Have it do something, and wait until it is idle. Returns its state."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(msgspec.json.encode({"do": name, **options}) + b"\n")
        async with asyncio.timeout(PATIENCE):
            await stdin.drain()
            line = await stdout.readline()
        assert line, "the client has crashed"
        state: dict[str, Any] = msgspec.json.decode(line)
        return state


class Open(Protocol):
    async def __call__(self, script: str, library: str, url: str, chat: str = ...) -> Page: ...


@asynccontextmanager
async def _page(script: str, library: str, url: str, chat: str) -> AsyncIterator[Page]:
    process = await asyncio.create_subprocess_exec(
        str(NODE),
        str(FOLDER / script),
        library,
        url,
        chat,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=2**22,
        cwd=FOLDER,
    )
    try:
        yield Page(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest_asyncio.fixture
async def page(_installed: None) -> AsyncIterator[Open]:
    """Opens pages."""
    async with AsyncExitStack() as stack:

        async def open_(script: str, library: str, url: str, chat: str = "chat-1") -> Page:
            return await stack.enter_async_context(_page(script, library, url, chat))

        yield open_


@pytest_asyncio.fixture
async def backend() -> AsyncIterator[Backend]:
    """A chat's backend before an emulator."""
    async with Backend() as backend:
        yield backend
