"""A tool runs the App: what it returns, what it tells of an error, and what becomes of its run."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any, TypedDict

import pytest

from dynamiq_async import RunEvent, RunQuestion, ToolError, errors
from dynamiq_async.emulator import Fault
from dynamiq_async.tools import error_text, text_of_output
from tests.support.run_apps import SESSION, waits

if TYPE_CHECKING:
    from dynamiq_async.emulator import RunContext
    from tests.runs.conftest import Serve, Served


class Question(TypedDict):
    question: str


class Answer(TypedDict):
    output: str


async def answering(input: dict[str, Any], run: RunContext) -> Any:
    return "It is on its way."


def tool_of(served: Served, **options: Any) -> Any:
    return served.app.tool("support_bot", "Asks the bot.", input=Question, **options)


async def test_it_is_a_plain_typed_function(serve: Serve) -> None:
    served = await serve(answering)
    served.emulator.script(Fault(status=200, body=["It is on its way."]))
    served.emulator.script(Fault(status=200, body={"output": "It is on its way."}))
    tool = tool_of(served)
    assert inspect.iscoroutinefunction(tool)
    assert (tool.__name__, tool.__doc__) == ("support_bot", "Asks the bot.")
    assert str(inspect.signature(tool)) == "(question: str) -> str"
    assert inspect.get_annotations(tool) == {"question": str, "return": str}
    assert await tool("Where is it?") == '["It is on its way."]'
    assert await tool("Where is it?") == "It is on its way."
    with pytest.raises(TypeError, match="question"):
        await tool()


@pytest.mark.parametrize(
    ("output", "text"),
    [
        ("done", "done"),
        ({"output": "done", "status": "success"}, "done"),
        ({"output": {"a": "é"}}, '{"output":{"a":"é"}}'),
        (None, "null"),
        ([1, 2.5], "[1,2.5]"),
    ],
)
def test_the_text_of_an_output(output: Any, text: str) -> None:
    assert text_of_output(output) == text


@pytest.mark.parametrize("mode", ["invoke", "run"])
async def test_the_input_arrives_and_the_output_is_of_the_type_asked_for(
    serve: Serve, mode: Any
) -> None:
    served = await serve("echo")
    tool = tool_of(served, output=dict[str, Any], mode=mode, user_id="ann", session_id=SESSION)
    found = await tool(question="Where?")
    assert '"question": "Where?"' in str(found).replace("'", '"')
    (request,) = [seen for seen in served.emulator.requests if seen.method == "POST"]
    assert request.endpoint == ("/" if mode == "invoke" else "/v1/runs")
    body = request.json
    assert body["input"] == {"question": "Where?"}
    assert (body["user_id"], body["session_id"]) == ("ann", SESSION)
    assert inspect.signature(tool).return_annotation == dict[str, Any]


@pytest.mark.parametrize("mode", ["invoke", "run"])
async def test_a_failure_is_told_without_what_the_server_said(serve: Serve, mode: Any) -> None:
    served = await serve("failing")
    with pytest.raises(ToolError) as caught:
        await tool_of(served, mode=mode)("hi")
    error = caught.value
    assert str(error) == (
        "support_bot ran and failed. It did run, so trying again would run it a second time."
    )
    assert error.retry == "unsafe"
    assert isinstance(error.__cause__, errors.RunFailedError)
    assert "127.0.0.1" not in str(error)
    assert (error.run_id is not None) is (mode == "run")


@pytest.mark.parametrize(
    ("fault", "retry", "said"),
    [
        (Fault(status=429), "safe", "takes no more requests now"),
        (Fault(status=401), "useless", "cannot be called from here"),
        (Fault(status=404), "useless", "was not found"),
        (Fault(status=400), "safe", "did not accept the input"),
        (Fault(status=500), "unsafe", "gave no proper answer"),
        (Fault(drop="reset"), "unsafe", "gave no proper answer"),
        (Fault(status=200, body=b"<html>"), "unsafe", "gave an answer that cannot be used"),
    ],
)
async def test_it_says_whether_trying_again_is_safe(
    serve: Serve, fault: Fault, retry: str, said: str
) -> None:
    served = await serve(answering, client={"max_retries": 0})
    served.emulator.script(fault)
    with pytest.raises(ToolError, match=said) as caught:
        await tool_of(served)("hi")
    assert caught.value.retry == retry


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (errors.APITimeoutError("x"), "did not answer in time"),
        (errors.ConnectTimeoutError("x"), "did not answer in time"),
        (errors.ConnectError("x"), "cannot be reached"),
        (errors.InvalidArgumentError("no"), "was not called: no"),
    ],
)
def test_what_a_model_is_told(error: errors.DynamiqError, said: str) -> None:
    what, advice = error_text(error)
    assert what == said
    assert ("safe" in advice or "correct" in advice) == (type(error) is not errors.APITimeoutError)


async def test_arguments_that_do_not_fit_are_not_sent(serve: Serve) -> None:
    served = await serve(answering)
    with pytest.raises(ToolError, match=r"Expected `str`, got `int`.*correct the input") as caught:
        await tool_of(served)(question=3)
    assert caught.value.retry == "safe"
    assert not served.posts


async def test_an_error_can_be_returned(serve: Serve) -> None:
    tool = tool_of(await serve("failing"), on_error="return")
    assert (await tool("hi")).startswith("support_bot ran and failed.")


async def test_the_run_can_be_followed(serve: Serve) -> None:
    served = await serve("agent")
    seen: list[RunEvent] = []
    later: list[str] = []

    async def note(event: RunEvent) -> None:
        later.append(event.type)

    await tool_of(served, mode="run", on_event=seen.append)("hi")
    await tool_of(served, mode="run", on_event=note)("hi")
    assert "".join(event.reasoning for event in seen)
    assert [event.type for event in seen] == later
    assert seen[-1].is_final


async def test_questions_go_to_the_handler(serve: Serve) -> None:
    served = await serve("feedback")
    asked: list[RunQuestion] = []

    def handler(question: RunQuestion) -> str:
        asked.append(question)
        return "blue"

    assert "blue" in await tool_of(served, mode="run", on_question=handler)("hi")
    assert [question.prompt for question in asked]


async def test_a_question_without_a_handler_ends_the_call(serve: Serve) -> None:
    served = await serve("feedback")
    with pytest.raises(ToolError, match="nobody here to answer") as caught:
        await tool_of(served, mode="run", on_leave="cancel")("hi")
    assert caught.value.retry == "useless"
    assert isinstance(caught.value.__cause__, errors.QuestionError)
    assert len(served.asked("/cancel")) == 1


@pytest.mark.parametrize("on_leave", ["cancel", "detach"])
async def test_a_call_out_of_time_cancels_its_run_if_asked_to(serve: Serve, on_leave: Any) -> None:
    served = await serve(waits)
    tool = tool_of(served, mode="run", on_leave=on_leave, timeout=0.3)
    with pytest.raises(ToolError, match="did not answer in time"):
        await tool("hi")
    assert len(served.asked("/cancel")) == (on_leave == "cancel")


async def test_a_call_that_is_cancelled_cancels_its_run_if_asked_to(serve: Serve) -> None:
    served = await serve(waits)
    started = asyncio.Event()
    tool = tool_of(served, mode="run", on_leave="cancel", on_event=lambda _: started.set())
    task = asyncio.create_task(tool("hi"))
    await asyncio.wait_for(started.wait(), 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(served.asked("/cancel")) == 1


async def test_a_run_that_ended_by_itself_is_not_canceled(serve: Serve) -> None:
    served = await serve(answering)
    assert "It is on its way." in await tool_of(served, mode="run", on_leave="cancel")("hi")
    assert not served.asked("/cancel")


async def test_an_error_of_the_callers_own_is_raised_as_it_is(serve: Serve) -> None:
    def broken(_: RunEvent) -> None:
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        await tool_of(await serve(answering), mode="run", on_event=broken)("hi")


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({"mode": "batch"}, "mode"),
        ({"on_error": "hide"}, "on_error"),
        ({"on_leave": "go", "mode": "run"}, "on_leave"),
        ({"on_leave": "cancel"}, "on_leave"),
        ({"on_event": print}, "on_event"),
        ({"on_question": print}, "on_question"),
        ({"on_error": "return", "output": dict}, "on_error"),
        ({"output": object()}, "output"),
    ],
)
async def test_arguments_that_mean_nothing_are_refused(
    serve: Serve, options: dict[str, Any], argument: str
) -> None:
    served = await serve(answering)
    with pytest.raises(errors.InvalidArgumentError) as caught:
        tool_of(served, **options)
    assert caught.value.argument == argument


@pytest.mark.parametrize("name", ["", "2x", "support bot", "x" * 65, 3])
async def test_a_name_that_no_model_takes_is_refused(serve: Serve, name: Any) -> None:
    served = await serve(answering)
    with pytest.raises(errors.InvalidArgumentError, match="name must be a letter"):
        served.app.tool(name, "Asks.", input=Question)
