"""A client of an emulator for each test, and what it told OpenTelemetry."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.runs.conftest import _held_to_it, serve, waits
from tests.support.spans import Recorded

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["_held_to_it", "serve", "waits"]


@pytest.fixture
def recorded() -> Iterator[Recorded]:
    found = Recorded()
    yield found
    found.close()
