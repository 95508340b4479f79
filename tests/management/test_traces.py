"""Traces, sessions and their messages."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from dynamiq_async import AsyncApp, AsyncManagement, Trace, Usage, errors
from dynamiq_async.emulator import Emulator, Fault
from dynamiq_async.management import Session, SessionMessage
from dynamiq_async.management.traces import trace_of

from .conftest import KEY

SESSION = str(uuid4())


def read(**fields: Any) -> Trace:
    return trace_of(msgspec.Raw(msgspec.json.encode(fields)))


def app_id(emulator: Emulator, name: str = "llm") -> str:
    return emulator.management.find(name).id


async def invoke(emulator: Emulator, name: str = "llm", **options: Any) -> Any:
    async with AsyncApp(emulator.url_for(name), access_key=KEY) as app:
        return await app.invoke({"question": "?"}, on_failure="return", **options)


class Content(msgspec.Struct):
    content: str


# --- traces --------------------------------------------------------------------------------------


async def test_a_submitted_call_is_looked_up_by_what_it_returned(
    emulator: Emulator, management: AsyncManagement
) -> None:
    """So that a callback that was lost costs nothing."""
    async with AsyncApp(emulator.url_for("echo"), access_key=KEY) as app:
        accepted = await app.submit({"question": "?"})
    await emulator.wait_for_executions(1)
    id = app_id(emulator, "echo")
    traces = [
        await management.traces.get(app, trace)
        for app in (id, await management.apps.get(id))
        for trace in (accepted, accepted.id)
    ]
    assert all(trace == traces[0] for trace in traces)
    trace = traces[0]
    assert (trace.id, trace.source_id, trace.status) == (accepted.id, id, "succeeded")
    assert (trace.input, trace.is_over, trace.failure) == ({"question": "?"}, True, None)
    assert trace.started_at is not None
    assert '"question"' in msgspec.json.encode(trace.unwrap()).decode()
    assert msgspec.json.decode(trace.raw)["id"] == trace.id


async def test_usage_and_cost(emulator: Emulator, management: AsyncManagement) -> None:
    await invoke(emulator)
    (trace,) = await management.traces.list(app_id(emulator))
    usage = trace.usage
    assert usage is not None
    assert usage.prompt_tokens == 11
    assert usage.total_tokens == 11 + (usage.completion_tokens or 0)
    assert usage.cost == pytest.approx(usage.total_tokens * 0.000002)
    assert msgspec.json.decode(msgspec.json.encode(trace), type=Trace) == trace


@pytest.mark.parametrize(
    ("told", "usage"),
    [
        (None, None),
        ("lots", None),
        ([], None),
        ([None, "x"], None),
        ({"input_tokens": 1, "output_tokens": 2}, (1, 2, 3, None)),
        ({"total_tokens_cost_usd": 0.5, "prompt_tokens": "x"}, (None, None, None, 0.5)),
        ({"total_tokens": 3, "cost": 0.25, "total_tokens_cost_usd": 9}, (None, None, 3, 0.25)),
        (
            [{"total_tokens": 1, "total_tokens_cost_usd": 0.5}, 5, {"total_tokens": 2}],
            (None, None, 3, 0.5),
        ),
    ],
)
def test_usage_in_other_shapes(told: Any, usage: Any) -> None:
    names = Usage.__struct_fields__
    expected = None if usage is None else Usage(**dict(zip(names, usage, strict=True)))
    trace = read(id="t", usage=told)
    assert trace.usage == expected
    assert msgspec.json.decode(trace.raw)["usage"] == told


async def test_traces_by_time_and_status(emulator: Emulator, management: AsyncManagement) -> None:
    for _ in range(2):
        await invoke(emulator)
    traces = management.traces
    id = app_id(emulator)
    newest, oldest = await traces.list(id)
    assert newest.started_at is not None
    assert oldest.started_at is not None
    assert newest.started_at > oldest.started_at
    when = datetime.fromisoformat(newest.started_at)
    for since in (newest.started_at, when, when.astimezone(timezone(timedelta(hours=5.5)))):
        assert (await traces.list(id, since=since)).data == [newest]
    assert (await traces.list(id, until=oldest.started_at)).data == [oldest]
    assert (await traces.list(id, since=when + timedelta(days=1))).data == []
    assert [trace async for trace in traces.list(id, status="succeeded", page_size=1)] == [
        newest,
        oldest,
    ]
    assert (await traces.list(id, status=["failed", "canceled"])).data == []
    assert emulator.requests[-1].query.getall("status") == ["failed", "canceled"]
    await traces.list(
        id, since=datetime(2026, 1, 2, 3, tzinfo=UTC), extra_query={"sort": "started_at"}
    )
    asked = emulator.requests[-1].query
    assert asked["started_at:gte"] == "2026-01-02T03:00:00Z"
    assert (asked["sort"], asked["page"]) == ("started_at", "1")


@pytest.mark.parametrize(
    ("arguments", "argument"),
    [
        ({"since": "yesterday"}, "since"),
        ({"since": "2026-01-02T03:04:05"}, "since"),
        ({"since": datetime(2026, 1, 2)}, "since"),
        ({"until": 5}, "until"),
        ({"until": ""}, "until"),
        ({"page": 0}, "page"),
        ({"page_size": 501}, "page_size"),
        ({"app": ""}, "app"),
        ({"app": None}, "app"),
    ],
)
async def test_wrong_arguments_send_nothing(
    arguments: Any, argument: str, emulator: Emulator, management: AsyncManagement
) -> None:
    with pytest.raises(errors.InvalidArgumentError) as caught:
        management.traces.list(**({"app": "a"} | arguments))
    assert caught.value.argument == argument
    with pytest.raises(errors.InvalidArgumentError):
        await management.traces.get("a", "")
    with pytest.raises(TypeError):
        management.traces.list("a", sort="-x")  # type: ignore[call-arg]
    assert emulator.requests.total == 0


async def test_what_is_not_there(management: AsyncManagement, emulator: Emulator) -> None:
    for call in (
        management.traces.get(app_id(emulator), "nope"),
        management.traces.get("nope", "nope"),
        management.traces.list("nope").__aiter__().__anext__(),
        management.sessions.messages(app_id(emulator), SESSION).__aiter__().__anext__(),
    ):
        with pytest.raises(errors.NotFoundError):
            await call


async def test_a_failure_is_a_failure_here_too(
    emulator: Emulator, management: AsyncManagement
) -> None:
    await invoke(emulator, "failing")
    await invoke(emulator, "canceled")
    (failed,) = await management.traces.list(app_id(emulator, "failing"))
    assert failed.status == "failed"
    with pytest.raises(errors.RunFailedError, match=f"the call of trace {failed.id} failed: .*bad"):
        failed.unwrap()
    (canceled,) = await management.traces.list(app_id(emulator, "canceled"))
    with pytest.raises(errors.RunCanceledError):
        canceled.unwrap()


def test_a_trace_of_the_librarys_failed_result() -> None:
    result = {"status": "failure", "input": {}, "output": None, "error": {"message": "boom"}}
    with pytest.raises(errors.RunFailedError, match="boom"):
        read(id="t", ended_at="2026-01-01T00:00:00Z", output=result).unwrap()


def test_the_output_as_a_type() -> None:
    trace = read(id="t", status="succeeded", output={"content": "x"})
    assert trace.unwrap() == {"content": "x"}
    assert trace.unwrap(Content) == Content("x")
    with pytest.raises(errors.ResponseDecodeError, match="the output of trace t does not fit int"):
        trace.unwrap(int)


@pytest.mark.parametrize("status", [None, "running", "new"])
def test_what_is_not_over_has_no_output(status: str | None) -> None:
    trace = read(id="t", status=status)
    assert not trace.is_over
    with pytest.raises(errors.RunError, match="is not over"):
        trace.unwrap()
    assert read(id="t", status=status, ended_at="2026-01-01T00:00:00Z").unwrap() is None


def test_odd_fields_are_left_out_and_the_rest_is_there() -> None:
    trace = read(id="t", status=5, started_at=[], output=[1], new=1)
    assert trace == Trace(id="t", output=[1])
    assert read() == Trace()
    with pytest.raises(msgspec.ValidationError):
        trace_of(msgspec.Raw(b"[]"))


# --- sessions ------------------------------------------------------------------------------------


async def test_conversations_and_what_was_said(
    emulator: Emulator, management: AsyncManagement
) -> None:
    for _ in range(3):
        await invoke(emulator, session_id=SESSION, user_id="ann")
    await invoke(emulator)
    id = app_id(emulator)
    (session,) = await management.sessions.list(id)
    assert isinstance(session, Session)
    assert (session.id, session.user_id) == (SESSION, "ann")
    assert session.created_at is not None
    pages = management.sessions.messages(id, SESSION, page_size=2)
    messages = [message async for message in pages]
    assert len(messages) == 3
    assert isinstance(messages[0], SessionMessage)
    assert messages[0].input == {"question": "?"}
    assert messages[0].created_at is not None
    trace = await management.traces.get(id, messages[0].trace_id or "")
    assert trace.output == messages[0].output
    app = await management.apps.get(id)
    assert (await management.sessions.list(app)).data == [session]


async def test_sessions_without_ids_are_kept_apart(
    emulator: Emulator, management: AsyncManagement
) -> None:
    lists: list[list[Any]] = [[{"new": 1}, {"new": 2}], [{"new": 2}, {"new": 3}]]
    pages = [Fault(status=200, body={"data": d, "pagination": {"page_count": 2}}) for d in lists]
    emulator.script(*pages)
    found = [session.raw async for session in management.sessions.list("a")]
    assert [msgspec.json.decode(raw)["new"] for raw in found] == [1, 2, 3]


async def test_ids_of_sessions_are_quoted_and_needed(
    emulator: Emulator, management: AsyncManagement
) -> None:
    emulator.script(Fault(status=200, body={"data": [{"id": "m", "input": 5}, {"id": 5}]}))
    listed = await management.sessions.messages("a/b", "c?d")
    assert listed.data == [SessionMessage(id="m", input=5), SessionMessage()]
    assert emulator.requests[0].path == "/~management/v1/apps/a%2Fb/sessions/c%3Fd/messages"
    for call in (management.sessions.messages, management.artifacts.list):
        with pytest.raises(errors.InvalidArgumentError):
            call("a", "")
