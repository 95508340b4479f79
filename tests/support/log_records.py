"""The fields that the records of our logger have for formatters that write them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import logging

NAMES = ("run_id", "sequence", "attempt", "status")


def fields(record: logging.LogRecord) -> dict[str, Any]:
    """Those of a record. Raises AttributeError where it lacks one."""
    return {name: getattr(record, name) for name in NAMES}
