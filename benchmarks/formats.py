"""The cost of one event in each format of a relay, without a network.

"raw bytes" frames what came, without a look at it. "pydantic-ai" is that library's adapter for the
AI SDK, given its own event of a text's piece.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import msgspec

from benchmarks._measure import Settings, Work, measure
from benchmarks._results import OURS, Goal, compared
from benchmarks.peers import optional
from dynamiq_async import StreamEvent
from dynamiq_async.relay.formats import Context, FormatName, format_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks._results import Comparison

TABLES = {"formats": "One event of a language model in each format of a relay"}

RAW = "raw bytes"
SSE = "sse"
AGUI = "ag-ui"
PYDANTIC_AI = "pydantic-ai"


def run(settings: Settings) -> Iterator[Comparison]:
    count = 50 if settings.quick else 1_000
    message = {
        "wf_run_id": "w",
        "entity_id": "llm-1",
        "event": "data",
        "data": {"choices": [{"index": 0, "finish_reason": None, "delta": {"content": "Hello f"}}]},
        "source": {"id": "llm-1", "name": "LLM", "group": "llms", "type": "llm"},
    }
    data = msgspec.json.encode(message)
    events = [msgspec.json.decode(data, type=StreamEvent) for _ in range(count)]
    works = {
        RAW: Work(lambda: [b"data: %b\n\n" % data for _ in events], count),
        OURS: Work(_formatting("ui-message-stream", events), count),
        AGUI: Work(_formatting("ag-ui", events), count),
        SSE: Work(_formatting("sse", events), count),
    }
    if (adapter := _pydantic_ai(count)) is not None:
        works[PYDANTIC_AI] = Work(adapter, count)
    yield compared(
        "formats",
        "a piece of text",
        measure(works, rounds=settings.rounds(11), seconds=settings.seconds(0.05)),
        unit="µs of CPU per event",
        per_second=1e6,
        columns=[RAW, SSE, OURS, AGUI, PYDANTIC_AI],
        base=OURS,
        goals=[Goal(PYDANTIC_AI, OURS, at_least=2.0)],
    )


def _formatting(name: FormatName, events: list[StreamEvent]) -> Callable[[], Any]:
    upstream: Any = SimpleNamespace(
        start=None,
        restarts=True,
        of_run=False,
        run_id=None,
        end=None,
        position_of=lambda event: None,
    )

    def work() -> list[bytes]:
        format, context = format_of(name), Context(upstream, heartbeat=None, retry=None)
        frames = [format.opening(context)]
        for event in events:
            context.event = event
            frames.append(format.event(event))
        return frames

    return work


def _pydantic_ai(count: int) -> Callable[[], Any] | None:
    """The library's encoder, without the loop around it: it has less to do than ours."""
    library = optional("pydantic_ai.ui.vercel_ai.response_types")
    if library is None:
        return None
    chunk = cast("Any", library).TextDeltaChunk

    def work() -> list[str]:
        return [f"data: {chunk(id='t', delta='Hello f').encode(6)}\n\n" for _ in range(count)]

    return work
