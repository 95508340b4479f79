"""What is measured: durations, first chunks, calls under way, cooldowns, items of batches."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from dynamiq_async import errors
from dynamiq_async.emulator import Fault
from tests.support.run_apps import Gated

if TYPE_CHECKING:
    from pathlib import Path

    from tests.runs.conftest import Serve
    from tests.support.spans import Recorded


def measured(recorded: Recorded) -> dict[str, Any]:
    """The option without a tracer."""
    return {"open_telemetry": {"meter_provider": recorded.meters}}


async def test_durations_and_first_chunks(serve: Serve, recorded: Recorded) -> None:
    served = await serve("llm", client=measured(recorded))
    await served.app.invoke({})
    async for _ in served.app.stream({}):
        pass
    served.emulator.script(Fault(status=400))
    with pytest.raises(errors.BadRequestError):
        await served.app.invoke({})
    found = recorded.metrics()
    duration = found["gen_ai.client.operation.duration"]
    counts = {point.attributes.get("error.type"): point.count for point in duration}
    assert counts == {None: 2, "BadRequestError": 1}
    assert duration[0].attributes["gen_ai.provider.name"] == "dynamiq"
    assert duration[0].explicit_bounds[0] == 0.01
    assert duration[0].explicit_bounds[-1] == 81.92
    (first,) = found["gen_ai.client.operation.time_to_first_chunk"]
    assert first.count == 1
    assert not recorded.spans


async def test_calls_under_way(serve: Serve, recorded: Recorded) -> None:
    gated = Gated()
    served = await serve(gated, client=measured(recorded))
    call = asyncio.create_task(served.app.invoke({}))
    await served.emulator.wait_until(lambda: len(served.emulator.requests) == 1, timeout=30)
    (point,) = recorded.metrics()["dynamiq.client.in_flight"]
    assert point.value == 1
    gated.go.set()
    await call
    (point,) = recorded.metrics()["dynamiq.client.in_flight"]
    assert point.value == 0


async def test_cooldowns(serve: Serve, recorded: Recorded) -> None:
    served = await serve("echo", client=measured(recorded))
    served.emulator.script(Fault(status=429, headers={"Retry-After": "1"}))
    await served.app.invoke({})
    (point,) = recorded.metrics()["dynamiq.client.cooldown"]
    assert point.count == 1
    assert point.sum >= 1


async def test_items_of_batches(serve: Serve, recorded: Recorded, tmp_path: Path) -> None:
    served = await serve("echo", client={**measured(recorded), "max_retries": 0})
    served.emulator.script(Fault(), Fault(status=400), Fault(drop="reset"))
    journal = str(tmp_path / "job.db")
    inputs = [{"n": n} for n in range(3)]
    await served.app.batch(inputs, concurrency=1, journal=journal)
    await served.app.batch(inputs[:1], concurrency=1, journal=journal)
    points = recorded.metrics()["dynamiq.batch.items"]
    found = {point.attributes["dynamiq.batch.outcome"]: point.value for point in points}
    assert found == {"done": 1, "failed": 1, "unknown": 1, "from_journal": 1}
    assert not recorded.spans
