"""The App's host is told of the trace, and nobody else is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import baggage, context
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from dynamiq_async import AsyncFlowy, AsyncManagement
from dynamiq_async.emulator import Fault
from tests.support.spans import Recorded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.runs.conftest import Serve


@pytest.fixture
def carried() -> Iterator[None]:
    """The program carries baggage."""
    token = context.attach(baggage.set_baggage("user", "ann"))
    yield
    context.detach(token)


async def test_every_attempt_tells_the_app_the_same_span(
    serve: Serve, recorded: Recorded, carried: None
) -> None:
    served = await serve("echo", client={"open_telemetry": recorded.options})
    served.emulator.script(Fault(status=429))
    await served.app.invoke({})
    span = recorded.span().context
    assert span is not None
    expected = f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"
    found = [seen.headers for seen in served.emulator.requests]
    assert [headers["traceparent"] for headers in found] == [expected, expected]
    assert not [headers for headers in found if "baggage" in headers]


async def test_streams_runs_and_their_resumption_tell_it(serve: Serve, recorded: Recorded) -> None:
    served = await serve("llm", client={"open_telemetry": recorded.options})
    served.emulator.script(Fault(after_events=1, drop="reset"), match="POST /v1/runs")
    async for _ in served.app.stream({}):
        pass
    async for _ in served.app.runs.stream({}):
        pass
    spans = [f"{span.context.span_id:016x}" for span in recorded.spans if span.context]
    found = [seen.headers["traceparent"].split("-")[2] for seen in served.emulator.requests]
    assert found == [spans[0], spans[1], spans[1]]


async def test_baggage_goes_along_where_that_is_asked_for(
    serve: Serve, recorded: Recorded, carried: None
) -> None:
    options = {**recorded.options, "baggage": True}
    served = await serve("echo", client={"open_telemetry": options})
    await served.app.invoke({})
    (seen,) = served.emulator.requests
    assert seen.headers["baggage"] == "user=ann"


async def test_what_the_caller_sends_stays(serve: Serve, recorded: Recorded) -> None:
    served = await serve("echo", client={"open_telemetry": recorded.options})
    await served.app.invoke({}, extra_headers={"traceparent": "mine"})
    (seen,) = served.emulator.requests
    assert seen.headers["traceparent"] == "mine"


async def test_other_services_are_told_nothing(serve: Serve, recorded: Recorded) -> None:
    emulator = (await serve("echo")).emulator
    emulator.management.add("bot")
    options: Any = recorded.options
    async with AsyncManagement(
        emulator.management_url,
        token=emulator.management.token,
        project_id="00000000-0000-0000-0000-000000000001",
        open_telemetry=options,
    ) as management:
        await management.apps.list()
    async with AsyncFlowy(
        base_url=emulator.flowy_url, api_key=emulator.flowy_key, open_telemetry=options
    ) as flowy:
        await flowy.apps.list()
    names = [span.name for span in recorded.spans]
    assert names == ["dynamiq.apps.list", "dynamiq.flowy.apps.list"]
    assert not [seen for seen in emulator.requests if "traceparent" in seen.headers]


async def test_a_span_that_is_not_sampled_is_told_as_such(serve: Serve) -> None:
    recorded = Recorded(ALWAYS_OFF)
    served = await serve("echo", client={"open_telemetry": recorded.options})
    await served.app.invoke({})
    (seen,) = served.emulator.requests
    assert int(seen.headers["traceparent"].rpartition("-")[2], 16) & 1 == 0
    assert not recorded.spans
    recorded.close()


async def test_without_spans_nothing_is_told(serve: Serve, recorded: Recorded) -> None:
    for option in (False, {"meter_provider": recorded.meters}):
        served = await serve("echo", client={"open_telemetry": option})
        await served.app.invoke({})
        (seen,) = served.emulator.requests
        assert "traceparent" not in seen.headers
