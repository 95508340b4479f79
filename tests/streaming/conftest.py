"""The tests of this part use raw sockets, and leave nothing behind."""

from tests.support.network import (
    _held_to_it,
    app_for,
    clock,
    no_backoff,
    pytest_generate_tests,
    serve,
    transport_kind,
)

__all__ = [
    "_held_to_it",
    "app_for",
    "clock",
    "no_backoff",
    "pytest_generate_tests",
    "serve",
    "transport_kind",
]
