"""What the emulator counts of its connections."""

from __future__ import annotations

import asyncio

from dynamiq_async.emulator.core.connections import Connections


async def test_a_request_of_a_closed_connection_has_no_number() -> None:
    changes: list[int] = []
    connections = Connections(lambda: changes.append(len(connections.open)), head_timeout=None)
    first = object()
    connections.add(first, asyncio.Transport())
    assert connections.heard(first) == 1
    connections.remove(first)
    assert connections.heard(first) == 0
    assert changes == [1, 0]
