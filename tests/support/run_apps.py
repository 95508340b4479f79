"""What the emulator's runs do in these tests."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from dynamiq_async.emulator import WorkflowCanceledError, WorkflowFailedError

if TYPE_CHECKING:
    from collections.abc import Collection

    from dynamiq_async import RunEvent
    from dynamiq_async.emulator import Emulator, RunContext

SESSION = "6f9619ff-8b86-4d11-b42d-00cf4fc964ff"


async def numbers(input: dict[str, Any], run: RunContext) -> Any:
    """`count` events, and holes in the numbering before those in `holes`."""
    holes: Collection[int] = input.get("holes", ())
    for number in range(input.get("count", 5)):
        if number in holes:
            run.skip_sequence(2)
        await run.event("custom.number", {"number": number})
    end = input.get("end", "completed")
    if end == "failed":
        raise WorkflowFailedError("it was told to fail")
    if end == "canceled":
        raise WorkflowCanceledError
    return {"node-1": {"status": "success", "input": {}, "output": "done"}}


async def waits(input: dict[str, Any], run: RunContext) -> Any:
    """Never comes to an end."""
    await asyncio.get_running_loop().create_future()


class Gated:
    """An App that says something, waits to be let go, and says something more."""

    def __init__(self) -> None:
        self.go = asyncio.Event()

    async def __call__(self, input: dict[str, Any], run: RunContext) -> Any:
        await run.event("before", {})
        await self.go.wait()
        await run.event("after", {})
        return "done"


def truth(emulator: Emulator) -> list[int]:
    """The sequence numbers of the only run's events."""
    [run] = emulator.runs.values()
    return [event.sequence for event in run.feed.events]


def sequences(events: list[RunEvent]) -> list[int]:
    return [event.sequence for event in events]
