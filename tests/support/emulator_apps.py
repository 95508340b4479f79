"""Apps that the emulator's own tests run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dynamiq_async.emulator import RunContext


async def shout(input: dict[str, Any], run: RunContext) -> Any:
    """Streams two messages, and returns what it was told in capitals."""
    await run.text("HO", entity_id="llm-1")
    await run.text("HO", entity_id="llm-1")
    return input["say"].upper()
