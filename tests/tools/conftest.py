"""A client of an emulator for each test, as in the tests of runs."""

from tests.runs.conftest import _held_to_it, serve, waits

__all__ = ["_held_to_it", "serve", "waits"]
