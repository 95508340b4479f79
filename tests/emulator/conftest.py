"""A client of sockets only shows what the emulator puts on the wire."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.support.raw_http import RawClients

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def connect() -> AsyncIterator[RawClients]:
    """Opens connections to an emulator."""
    clients = RawClients()
    yield clients
    clients.close()
    await asyncio.sleep(0)
