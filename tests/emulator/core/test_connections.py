"""What the emulator counts of its connections."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dynamiq_async.emulator import Emulator
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


@pytest.mark.parametrize(
    "nonsense", [b"\x16\x03\x01", b"GET / HTTP/9.9", b"GET / HTTP/1.1\r\na b: c"]
)
async def test_what_is_no_http_is_refused_like_anything_else(
    connect: Any, caplog: pytest.LogCaptureFixture, nonsense: bytes
) -> None:
    async with Emulator("echo") as emulator:
        client = await connect(emulator)
        client.writer.write(nonsense + b"\r\n\r\n")
        refused = await client.read()
        assert (refused.status, refused.error["code"]) == (400, "bad_request")
        assert await client.reader.read() == b""
    assert not caplog.records


async def test_a_handler_that_fails_is_told_of(
    connect: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Emulator("echo") as emulator:

        def fails(*_: Any) -> None:
            raise ValueError("boom")

        monkeypatch.setattr(emulator.requests, "add", fails)
        assert (await (await connect(emulator)).post()).status == 500
    assert "boom" in caplog.text
