"""What is used of aiohttp beyond its documentation is in one place, and is still there."""

from __future__ import annotations

import ast
import asyncio
import inspect
from pathlib import Path

import aiohttp
import pytest
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection

from dynamiq_async.transport import _aiohttp_private

ROOM = Path(_aiohttp_private.__file__).parent
OWNERS = {
    kind.__name__: kind
    for kind in (
        aiohttp.ClientSession,
        aiohttp.BaseConnector,
        aiohttp.ClientRequest,
        aiohttp.TCPConnector,
        aiohttp.StreamReader,
        Connection,
        ResponseHandler,
    )
}
NAMES = {name.partition(".")[2] for name in _aiohttp_private.UNDOCUMENTED}


USED = _aiohttp_private.UNDOCUMENTED | _aiohttp_private.INHERITED


@pytest.mark.parametrize("name", USED)
def test_the_installed_aiohttp_has_it(name: str) -> None:
    owner, _, attribute = name.partition(".")
    kind = OWNERS[owner]
    assert hasattr(kind, attribute) or f"self.{attribute}" in inspect.getsource(kind)
    assert USED[name]


def private_attributes(path: Path) -> set[str]:
    """Names with an underscore that are used on anything but `self` and what this room defines."""
    tree = ast.parse(path.read_text())
    own = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    }
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr.startswith("_")
        and not node.attr.startswith("__")
        and node.attr not in own
        and ast.unparse(node.value) != "super()"  # `INHERITED`
    }


@pytest.mark.parametrize("path", sorted(ROOM.glob("*.py")), ids=lambda path: path.stem)
def test_nothing_private_is_used_elsewhere(path: Path) -> None:
    used = private_attributes(path) - {"_get_running_loop", "_replace", "_asdict"}  # documented
    assert used == ({n for n in NAMES if n.startswith("_")} if "private" in path.stem else set())


def test_what_is_used_of_a_connection_is_listed() -> None:
    """A protocol's attributes are undocumented whatever they are called."""
    used = {
        node.attr
        for path in ROOM.glob("*aiohttp*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value).endswith("protocol")
    }
    assert used <= NAMES
    assert {"set_parser", "transport", "closed", "_drain_helper"} <= used


@pytest.mark.parametrize("left", [True, False])
async def test_a_drain_that_is_cancelled_leaves_nothing_to_warn(left: bool) -> None:
    """aiohttp 3.13 leaves its future behind; it may also have it resolved in the same turn."""
    loop = asyncio.get_running_loop()

    class Protocol:
        _drain_waiter: asyncio.Future[None] | None = None

        async def _drain_helper(self) -> None:
            self._drain_waiter = waiter if left else None
            await asyncio.shield(waiter)

    waiter: asyncio.Future[None] = loop.create_future()
    draining = asyncio.ensure_future(_aiohttp_private.drain(Protocol()))
    await asyncio.sleep(0)
    draining.cancel()
    with pytest.raises(asyncio.CancelledError):
        await draining
    if left:
        waiter.set_exception(ConnectionResetError())
    else:
        waiter.set_result(None)
    await asyncio.sleep(0)
