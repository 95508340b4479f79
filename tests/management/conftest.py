"""A management client of an emulator for each test, with nothing configured around it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from dynamiq_async import AsyncManagement
from dynamiq_async._http.retry import RetryPolicy
from dynamiq_async.emulator import DEFAULT_PROJECT, Emulator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

TOKEN = "dyn_pat_s3cr3t-0123456789"
KEY = "dynamiq_acc_s3cr3t-9876543210"


@pytest.fixture(autouse=True)
def _held_to_it(quick_collections: None, leaves_nothing: None) -> None:
    """In all tests of this part."""


@pytest.fixture(autouse=True)
def config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder of the vendor's command line, which is empty, as is the environment."""
    for name in [name for name in os.environ if name.startswith("DYNAMIQ_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    folder = tmp_path / "dynamiq"
    folder.mkdir()
    return folder


@pytest.fixture(autouse=True)
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries come at once."""
    monkeypatch.setattr(RetryPolicy, "lengthen", lambda _, seconds: 0.0)


@pytest_asyncio.fixture
async def emulator(leaves_nothing: None) -> AsyncIterator[Emulator]:
    async with Emulator("llm", access_key=KEY) as emulator:
        emulator.management.token = TOKEN
        yield emulator


@pytest_asyncio.fixture
async def management(emulator: Emulator) -> AsyncIterator[AsyncManagement]:
    async with AsyncManagement(
        emulator.management_url, token=TOKEN, project_id=DEFAULT_PROJECT
    ) as management:
        yield management
        assert management._api.sender.limiter.in_flight == 0
