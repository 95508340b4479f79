"""An emulator of the App `shout`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dynamiq_async.emulator import Emulator
from tests.support.emulator_apps import shout

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    async with Emulator(shout) as running:
        yield running
