"""What every stream offers, whichever wire it reads: text, usage, failure and output."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from dynamiq_async import AsyncApp, Usage, errors
from dynamiq_async.emulator import (
    Emulator,
    Fault,
    WorkflowCanceledError,
    WorkflowFailedError,
    node_error,
    node_result,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from dynamiq_async import AppStream, Event, RunStream, SocketRun
    from dynamiq_async.emulator import RunContext

    Stream = AppStream[Any] | RunStream[Any] | SocketRun[Any]
    Start = Callable[..., Stream]


class Output(msgspec.Struct):
    answer: str


NODES = {
    "a": node_result("success", {}, {"answer": "Hello there"}),
    "b": node_result("failure", {}, None, node_error("Error", "no luck")),
    "c": node_result("canceled", {}, None),
}


async def workflow(input: dict[str, Any], run: RunContext) -> Any:
    for piece in ("Hello ", "there"):
        await run.text(piece, entity_id="a")
    for tokens in input.get("tokens", ()):
        usage = {"prompt_tokens": tokens, "completion_tokens": 1, "total_tokens": tokens + 1}
        await run.emit({"choices": [], "usage": usage}, entity_id="a")
        await run.event("model.usage", {"usage": usage, "entity_id": "a"})  # runs show no chunk
    await run.event("agent.response.delta", {"delta": "!", "entity_id": "b"})
    if "fail" in input:
        raise WorkflowFailedError(input["fail"])
    if "cancel" in input:
        raise WorkflowCanceledError
    return NODES


@asynccontextmanager
async def opened(kind: str, workflow: Any = workflow) -> AsyncIterator[Start]:
    async with (
        Emulator(workflow, outputs="nodes") as emulator,
        AsyncApp(emulator.url, access_key=emulator.access_key) as app,
        app.connect() as socket,
    ):
        starts: dict[str, Start] = {
            "app": app.stream,
            "run": app.runs.stream,
            "socket": socket.run,
        }
        yield starts[kind]


each_kind = pytest.mark.parametrize("kind", ["app", "run", "socket"])


@each_kind
async def test_text_is_the_answer(kind: str) -> None:
    async with opened(kind) as start:
        stream = start({})
        assert "".join([piece async for piece in stream.text()]).rstrip("!") == "Hello there"
        assert stream.final is not None
        assert stream.final.is_final
        assert stream.run_id


async def test_text_of_one_node_of_a_run() -> None:
    async with opened("run") as start:
        assert [piece async for piece in start({}).text(entity_id="b")] == ["!"]


@each_kind
async def test_output_is_typed_by_the_stream_or_by_the_call(kind: str) -> None:
    async with opened(kind) as start:
        stream = start({}, output_type=dict[str, dict[str, Any]])
        assert await stream.output() == NODES
        assert await stream.output("a") == {"answer": "Hello there"}
        assert await stream.output("a", output_type=Output) == Output("Hello there")
        assert await stream.output(output_type=dict[str, Any]) == NODES
        with pytest.raises(errors.ResponseDecodeError, match="output does not fit list") as caught:
            await stream.output(output_type=list[int])
        assert caught.value.run_id == stream.run_id
        assert caught.value.body
        with pytest.raises(errors.ResponseDecodeError, match="output does not fit list"):
            await start({}, output_type=list[int]).output()


@each_kind
async def test_a_type_that_nothing_can_be_decoded_to_is_refused_at_once(kind: str) -> None:
    async with opened(kind) as start:
        with pytest.raises(errors.InvalidArgumentError) as caught:
            start({}, output_type=object())
        assert caught.value.argument == "output_type"


@each_kind
async def test_the_output_of_a_node_that_has_none(kind: str) -> None:
    async with opened(kind) as start:
        stream = start({})
        with pytest.raises(errors.OutputMissingError, match="no node 'd'; it has a, b, c"):
            await stream.output("d")
        with pytest.raises(errors.RunFailedError, match="'b' ended in failure: no luck"):
            await stream.output("b")
        with pytest.raises(errors.RunCanceledError, match="'c' ended in canceled") as caught:
            await stream.output("c")
        assert caught.value.run_id == stream.run_id


async def test_a_runs_output_that_is_no_map_of_nodes_has_no_node() -> None:
    async def plain(input: dict[str, Any], run: RunContext) -> Any:
        await run.event("run.completed", {"status": "completed", "output": {"a": 1}})

    async with opened("run", plain) as start:
        stream = start({})
        assert await stream.output() == {"a": 1}
        with pytest.raises(errors.OutputMissingError, match="not the map of a workflow's nodes"):
            await stream.output("a")


@each_kind
async def test_a_failure_is_raised_by_all_that_need_the_result(kind: str) -> None:
    async with opened(kind) as start:
        for input, error in (
            ({"fail": "it broke"}, errors.RunFailedError),
            ({"cancel": True}, errors.RunCanceledError),
        ):
            stream = start(input)
            events = [event async for event in stream]
            assert events[-1].error
            assert events[-1].canceled is (error is errors.RunCanceledError)
            with pytest.raises(error):
                stream.raise_for_failure()
            with pytest.raises(error):
                await stream.output("a")
            with pytest.raises(error) as caught:
                async for _ in start(input).text():
                    pass
            assert caught.value.run_id
            if kind == "run":
                assert caught.value.run.id == caught.value.run_id
                assert caught.value.run.is_terminal


@each_kind
async def test_nothing_is_raised_while_all_is_well(kind: str) -> None:
    async with opened(kind) as start:
        stream = start({})
        async for _ in stream:
            stream.raise_for_failure()
        stream.raise_for_failure()


@each_kind
async def test_usage_is_summed_up(kind: str) -> None:
    async with opened(kind) as start:
        stream = start({"tokens": [1, 20]})
        async for _ in stream:
            pass
        assert stream.usage == Usage(prompt_tokens=21, completion_tokens=2, total_tokens=23)
        silent = start({})
        assert await silent.output()
        assert silent.usage is None


@each_kind
async def test_usage_is_that_of_the_events_themselves(kind: str) -> None:
    async with opened(kind) as start:
        stream, total = start({"tokens": [1, 2, 3]}), Usage()
        event: Event
        async for event in stream:
            if event.usage is not None:
                total += event.usage
        assert stream.usage == total == Usage(prompt_tokens=6, completion_tokens=3, total_tokens=9)


async def test_usage_counts_each_event_of_a_run_once() -> None:
    """Over a break, and behind a question that has to wait until what comes before it is read."""

    async def asks(input: dict[str, Any], run: RunContext) -> Any:
        for tokens in (1, 2, 3):
            await run.event("custom", {"usage": {"total_tokens": tokens}})
            await run.event(
                "approval_request.created", {"id": "q", "usage": {"total_tokens": 10 * tokens}}
            )
        return NODES

    async with (
        Emulator(asks) as emulator,
        AsyncApp(emulator.url, access_key=emulator.access_key) as app,
    ):
        emulator.script(Fault(after_events=4, drop="reset"))
        stream = app.runs.stream({}, on_question=lambda question: None)
        async for _ in stream:
            pass
        assert stream.reconnects == 1
        assert stream.usage == Usage(total_tokens=66)


async def test_usage_counts_what_the_caller_does_not_want_to_see() -> None:
    async with opened("app") as start:
        stream = start({"tokens": [1]}, event="another name")
        assert [event.is_final async for event in stream] == [True]
        assert stream.usage == Usage(prompt_tokens=1, completion_tokens=1, total_tokens=2)
