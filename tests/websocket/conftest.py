"""What every test of the WebSocket is held to: it leaves nothing behind."""

from __future__ import annotations

import pytest

from tests.support.network import app_for, clock, no_backoff, serve

__all__ = ["app_for", "clock", "no_backoff", "serve"]


@pytest.fixture(autouse=True)
def _held_to_it(quick_collections: None, leaves_nothing: None) -> None:
    """In all tests of this part."""
