"""The cost of one event in each format of a relay, without a network.

"raw bytes" frames what came, without a look at it. "pydantic-ai" is that library's adapter for the
AI SDK, whole: from its own event of a text's piece, which is decoded already.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import msgspec

from benchmarks._measure import Settings, Work, expect, measure
from benchmarks._results import OURS, Goal, compared
from benchmarks.peers import optional
from dynamiq_async import StreamEvent
from dynamiq_async.relay.formats import Context, FormatName, format_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

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
    if (adapter := _pydantic_ai(settings, count)) is not None:
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


def _pydantic_ai(settings: Settings, count: int) -> Callable[[], Any] | None:
    """The library's adapter, from its own events to the bytes of the AI SDK's wire."""
    library, messages = optional("pydantic_ai.ui.vercel_ai"), optional("pydantic_ai.messages")
    if library is None:
        return None
    runner = next(iter(settings.runners.values()))
    body = b'{"trigger":"submit-message","id":"c","messages":[]}'
    asked = library.VercelAIAdapter.build_run_input(body)
    start = messages.PartStartEvent(index=0, part=messages.TextPart("Hello f"))
    piece = messages.PartDeltaEvent(index=0, delta=messages.TextPartDelta("Hello f"))

    async def told() -> AsyncIterator[Any]:
        yield start
        for _ in range(count):
            yield piece

    async def adapt() -> list[str]:
        stream = library.VercelAIEventStream(run_input=asked)
        return [frame async for frame in stream.encode_stream(stream.transform_stream(told()))]

    def work() -> list[str]:
        frames: list[str] = runner.run(adapt())
        expect(len(frames) > count, True, "as whether everything was told")
        return frames

    return work
