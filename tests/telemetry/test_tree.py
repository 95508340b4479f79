"""The golden tree: one span for each call of a method, whatever requests it takes, and it tells
how the call ended."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import pytest

from dynamiq_async import errors
from dynamiq_async.emulator import Fault
from dynamiq_async.relay import relay
from tests.support.run_apps import SESSION, numbers, waits

if TYPE_CHECKING:
    from tests.runs.conftest import Serve, Served
    from tests.support.spans import Recorded

TIME = "'time_to_first_chunk': '…'"


async def served_with(serve: Serve, recorded: Recorded, app: Any = "llm", **client: Any) -> Served:
    return await serve(app, client={"open_telemetry": recorded.options, **client})


async def test_invoke(serve: Serve, recorded: Recorded) -> None:
    served = await served_with(serve, recorded, "echo")
    with recorded.tracer.start_as_current_span("program"):
        await served.app.invoke({"a": "secret"}, session_id=SESSION)
    assert recorded.tree() == [
        "INTERNAL program {}",
        "  CLIENT invoke_agent bot {'id': '…', 'status_code': 200}",
    ]
    attributes = dict(recorded.spans[1].attributes or {})
    assert attributes["gen_ai.operation.name"] == "invoke_agent"
    assert attributes["gen_ai.provider.name"] == "dynamiq"
    assert attributes["gen_ai.agent.name"] == "bot"
    assert attributes["gen_ai.conversation.id"] == SESSION
    assert attributes["server.address"] == "127.0.0.1"
    assert f":{attributes['server.port']}" in served.app.url
    assert "secret" not in str(attributes)


async def test_retry(serve: Serve, recorded: Recorded) -> None:
    served = await served_with(serve, recorded, "echo")
    served.emulator.script(Fault(status=429), Fault(status=429))
    await served.app.invoke({})
    assert recorded.tree() == ["CLIENT invoke_agent bot {'resend_count': 2, 'status_code': 200}"]


async def test_refused(serve: Serve, recorded: Recorded) -> None:
    served = await served_with(serve, recorded, "echo", max_retries=1)
    served.emulator.script(Fault(status=429), Fault(status=429))
    with pytest.raises(errors.RateLimitError):
        await served.app.invoke({})
    assert recorded.tree() == [
        "CLIENT invoke_agent bot !RateLimitError "
        "{'type': 'RateLimitError', 'resend_count': 1, 'status_code': 429}"
    ]


async def test_a_workflow_that_failed_is_a_failed_span(serve: Serve, recorded: Recorded) -> None:
    served = await served_with(serve, recorded, "failing")
    with pytest.raises(errors.RunFailedError):
        await served.app.invoke({})
    async for _ in served.app.stream({}):
        pass  # the iteration ends with the final event, and raises nothing
    assert [span.status.description for span in recorded.spans] == ["RunFailedError"] * 2
    assert "boom" not in str([span.to_json() for span in recorded.spans])


async def test_a_body_of_another_type_is_a_failed_span(serve: Serve, recorded: Recorded) -> None:
    served = await served_with(serve, recorded, "echo")
    with pytest.raises(errors.ResponseDecodeError):
        await served.app.invoke({}, output_type=int)
    assert recorded.span().status.description == "ResponseDecodeError"


async def test_stream(serve: Serve, recorded: Recorded) -> None:
    served = await served_with(serve, recorded)
    async with served.app.stream({}) as stream:
        assert "".join([piece async for piece in stream.text()])
    assert recorded.tree() == [
        f"CLIENT invoke_agent bot {{'stream': True, 'id': '…', {TIME}, 'input_tokens': 11, "
        "'output_tokens': 7, 'status_code': 200}"
    ]


async def test_run_stream(serve: Serve, recorded: Recorded) -> None:
    served = await served_with(serve, recorded, numbers)
    async with served.app.runs.stream({"count": 2}) as stream:
        async for _ in stream:
            pass
    assert recorded.tree() == [
        f"CLIENT invoke_agent bot {{'sequence': {stream.sequence}, 'stream': True, 'id': '…', "
        f"'status': 'completed', {TIME}, 'status_code': 200}}"
    ]


async def test_cut_and_resumed(serve: Serve, recorded: Recorded) -> None:
    served = await served_with(serve, recorded, numbers)
    served.emulator.script(Fault(after_events=2, drop="reset"), match="POST /v1/runs")
    async for _ in served.app.runs.stream({"count": 3}):
        pass
    (line,) = recorded.tree()
    assert line.startswith("CLIENT invoke_agent bot {'reconnects': 1, 'sequence': ")


async def test_cut_for_good(serve: Serve, recorded: Recorded) -> None:
    served = await served_with(serve, recorded, numbers)
    served.emulator.script(Fault(after_events=2, drop="reset"), times=None)
    with pytest.raises(errors.StreamInterruptedError):
        async for _ in served.app.runs.stream({"count": 3}, resume=False):
            pass
    assert recorded.span().status.description == "StreamInterruptedError"
    assert (recorded.span().attributes or {})["dynamiq.sequence"] == 2


async def test_follow_tells_where_it_began(serve: Serve, recorded: Recorded) -> None:
    served = await served_with(serve, recorded, numbers)
    run = await served.app.runs.create({"count": 2})
    async for _ in served.app.runs.follow(run.id, after_sequence=2):
        pass
    created, followed = recorded.tree()
    assert (
        created == "CLIENT invoke_agent bot {'id': '…', 'status': 'completed', 'status_code': 200}"
    )
    assert followed.startswith("CLIENT fetch_response bot {'sequence': ")
    attributes = dict(recorded.spans[1].attributes or {})
    assert attributes["gen_ai.request.stream_cursor"] == 2
    assert attributes["gen_ai.response.id"] == run.id


@pytest.mark.parametrize("how", ["break", "close", "drop"])
async def test_who_leaves_a_stream_did_not_fail(serve: Serve, recorded: Recorded, how: str) -> None:
    served = await served_with(serve, recorded, waits)
    stream: Any = served.app.runs.stream({}, on_leave="cancel" if how == "drop" else "detach")
    await anext(stream)
    assert not recorded.spans
    if how == "close":
        await stream.aclose()
        await stream.aclose()
    if how == "break":
        await stream.aclose()
    del stream
    gc.collect()
    span = recorded.spans[0]
    assert (span.name, span.status.is_ok) == ("invoke_agent bot", True)
    assert span.end_time is not None
    await served.app.aclose()


async def test_a_root_stream_that_is_dropped_ends_its_span(
    serve: Serve, recorded: Recorded
) -> None:
    served = await served_with(serve, recorded)
    async for _ in served.app.stream({}):
        break
    gc.collect()
    assert recorded.span().status.is_ok


async def test_wait_is_one_span(serve: Serve, recorded: Recorded) -> None:
    served = await served_with(serve, recorded, numbers)
    run = await served.app.runs.create({"count": 30}, background=True)
    await served.app.runs.wait(run.id)
    assert [line.partition(" {")[0] for line in recorded.tree()] == [
        "CLIENT invoke_agent bot",
        "CLIENT fetch_response bot",
    ]


async def test_what_a_handler_calls_is_a_call_of_its_own(serve: Serve, recorded: Recorded) -> None:
    served = await served_with(serve, recorded, "feedback")

    async def handler(question: Any) -> str:
        await served.app.runs.list()
        return "blue"

    run = await served.app.runs.create({}, background=True)
    await served.app.runs.wait(run.id, on_question=handler)
    assert [line.partition(" {")[0] for line in recorded.tree()] == [
        "CLIENT invoke_agent bot",
        "CLIENT fetch_response bot",
        "  CLIENT dynamiq.runs.list",
    ]


async def test_other_calls(serve: Serve, recorded: Recorded) -> None:
    served = await served_with(serve, recorded, waits)
    run = await served.app.runs.create({}, background=True)
    await served.app.runs.get(run.id)
    await served.app.runs.cancel(run.id)
    await served.app.runs.events(run.id)
    await served.app.files.upload(b"x", name="a.txt")
    assert recorded.tree()[1:] == [
        "CLIENT dynamiq.runs.get {'method': 'GET', 'status_code': 200, 'template': '/v1/runs/*'}",
        "CLIENT dynamiq.runs.cancel "
        "{'method': 'POST', 'status_code': 200, 'template': '/v1/runs/*/cancel'}",
        "CLIENT dynamiq.runs.events "
        "{'method': 'GET', 'status_code': 200, 'template': '/v1/runs/*/events'}",
        "CLIENT dynamiq.files.upload "
        "{'method': 'POST', 'status_code': 200, 'template': '/v1/files'}",
    ]


async def test_batch(serve: Serve, recorded: Recorded) -> None:
    served = await served_with(serve, recorded, "echo")
    served.emulator.script(Fault(), Fault(status=400))
    with recorded.tracer.start_as_current_span("program"):
        await served.app.batch([{"n": n} for n in range(3)], concurrency=1)
    assert recorded.tree() == [
        "INTERNAL program {}",
        "  INTERNAL dynamiq.batch {'done': 3, 'failed': 1, 'skipped': 0, 'total': 3}",
        "    CLIENT invoke_agent bot {'status_code': 200}",
        "    CLIENT invoke_agent bot !BadRequestError "
        "{'type': 'BadRequestError', 'status_code': 400}",
        "    CLIENT invoke_agent bot {'status_code': 200}",
    ]


async def test_batch_of_runs_and_of_streams(serve: Serve, recorded: Recorded) -> None:
    served = await served_with(serve, recorded, numbers)
    await served.app.batch([{}, {}], mode="run")
    async for _ in served.app.stream_many([{}]):
        pass
    assert [line.partition(" {")[0] for line in recorded.tree()] == [
        "INTERNAL dynamiq.batch",
        "  CLIENT invoke_agent bot",
        "  CLIENT invoke_agent bot",
        "INTERNAL dynamiq.batch",
        "  CLIENT invoke_agent bot",
    ]


async def test_a_batch_that_is_stopped_is_a_failed_span(serve: Serve, recorded: Recorded) -> None:
    served = await served_with(serve, recorded, "echo")
    served.emulator.script(Fault(status=401), times=None)
    with pytest.raises(errors.BatchStoppedError):
        await served.app.batch([{}, {}, {}], concurrency=1)
    assert recorded.spans[0].status.description == "BatchStoppedError"


async def test_relay(serve: Serve, recorded: Recorded) -> None:
    served = await served_with(serve, recorded)
    with recorded.tracer.start_as_current_span("GET /answer"):
        async with relay(served.app.stream({})) as response:
            async for _ in response:
                pass
    assert [line.partition(" {")[0] for line in recorded.tree()] == [
        "INTERNAL GET /answer",
        "  CLIENT invoke_agent bot",
    ]
