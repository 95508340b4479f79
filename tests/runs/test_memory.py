"""A stream holds what it is handing out, and nothing of what it handed out before."""

from __future__ import annotations

import os
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from dynamiq_async.emulator import RunContext

    from .conftest import Serve

EVENTS = int(os.environ.get("DYNAMIQ_TEST_EVENTS", "0"))
WARM_UP = 5_000
MIB = 1024 * 1024


async def talks(input: dict[str, Any], run: RunContext) -> Any:
    data = {"object": "agent.response.delta", "delta": "a few words ", "iteration": 1}
    for _ in range(input["count"]):
        await run.channel.event("agent.response.delta", data)


@pytest.mark.parametrize(
    "count",
    [
        50_000,
        pytest.param(
            EVENTS, marks=pytest.mark.skipif(not EVENTS, reason="DYNAMIQ_TEST_EVENTS says how many")
        ),
    ],
)
async def test_a_long_stream_keeps_memory_flat(serve: Serve, count: int) -> None:
    served = await serve(talks, event_window=2_000)
    stream = served.app.runs.stream({"count": count})
    seen = 0
    before = peak = 0
    try:
        async for event in stream:
            seen += 1
            assert event.sequence == seen
            if seen == WARM_UP:
                tracemalloc.start(1)
            elif seen == 2 * WARM_UP:
                before = tracemalloc.get_traced_memory()[0]
                tracemalloc.reset_peak()
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert seen == count + 2
    assert after - before < MIB
    assert peak - before < 8 * MIB
