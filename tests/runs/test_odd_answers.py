"""Answers that are not quite as documented cost no more than what is odd in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from dynamiq_async import Run, errors
from dynamiq_async.emulator import Fault

if TYPE_CHECKING:
    from .conftest import Serve

ODD = {
    "id": "r",
    "status": "started",
    "user_id": 7,
    "started_at": 1700000000,
    "input_requests": [
        {"id": "q", "prompt": "Go on?", "params": ["a"], "new": 1},
        {"id": None},
        "a text",
    ],
}


async def test_a_run_keeps_the_fields_that_fit(serve: Serve) -> None:
    served = await serve()
    served.emulator.script(Fault(body={"data": ODD}), Fault(body={"data": [ODD]}))
    run = await served.app.runs.get("r")
    assert (run.id, run.status, run.user_id, run.started_at) == ("r", "started", None, None)
    [question] = run.questions
    assert (question.id, question.prompt, question.params) == ("q", "Go on?", {})
    assert list(await served.app.runs.list()) == [run]


async def test_a_run_whose_questions_are_no_list_has_none(serve: Serve) -> None:
    served = await serve()
    served.emulator.script(Fault(body={"data": {"id": "r", "input_requests": 3}}))
    assert await served.app.runs.get("r") == Run(id="r", input_requests=[])


@pytest.mark.parametrize("data", [{"status": "started"}, {"id": 5}, [1], "text", None])
async def test_without_an_id_it_is_no_run(data: Any, serve: Serve) -> None:
    served = await serve()
    served.emulator.script(Fault(body={"data": data}))
    with pytest.raises(errors.ResponseDecodeError, match="holds no run"):
        await served.app.runs.get("r")


async def test_a_list_that_repeats_itself_ends(serve: Serve) -> None:
    """A service that ignores the number of the page is not asked for ever."""
    served = await serve()
    served.emulator.script(
        Fault(body={"data": [{"id": "r"}], "pagination": {"page": 1}}), times=None
    )
    assert [run.id async for run in served.app.runs.list()] == ["r"]
    assert served.emulator.requests.total == 3


async def test_the_body_of_an_answer_can_be_overridden(serve: Serve) -> None:
    served = await serve()
    served.emulator.script(Fault(status=200, body={"message": "ok"}), times=None)
    runs = served.app.runs
    await runs.answer("r", "q", "yes", extra_body={"extra": 1})
    await runs.approve("r", "q", extra_body={"type": "approval"})
    await runs.reject("r", "q", feedback="no", extra_body={"data": {"id": "q"}})
    assert [request.json for request in served.emulator.requests] == [
        {"type": "human_feedback", "data": {"request_id": "q", "feedback": "yes"}, "extra": 1},
        {"type": "approval", "data": {"request_id": "q", "approved": True}},
        {"type": "approval_request", "data": {"id": "q"}},
    ]


async def test_edited_parameters_are_checked_for_a_question_known_by_its_id_alone(
    serve: Serve,
) -> None:
    served = await serve()
    asked = {"id": "q", "type": "approval_request", "editable_params": ["to"]}
    served.emulator.script(
        Fault(body={"data": {"id": "r", "input_requests": [asked]}}),
        match="GET /v1/runs/r",
        times=3,
    )
    served.emulator.script(
        Fault(status=200, body={"message": "ok"}), match="POST /v1/runs/r/input", times=2
    )
    runs = served.app.runs
    with pytest.raises(errors.InvalidArgumentError, match="text cannot be edited; only to can"):
        await runs.approve("r", "q", params={"text": "x"})
    await runs.approve("r", "q", params={"to": "x"})
    await runs.approve("r", "another", params={"text": "x"})
    sent = [r.json for r in served.emulator.requests if r.method == "POST"]
    assert [body["data"]["params"] for body in sent] == [{"to": "x"}, {"text": "x"}]


async def test_a_run_found_by_its_session_is_not_created_again(serve: Serve) -> None:
    served = await serve()
    with pytest.raises(errors.InvalidArgumentError) as caught:
        await served.app.runs.create({}, dedupe=True, retry=True)
    assert caught.value.argument == "retry"
    assert served.emulator.requests.total == 0


async def test_what_the_callers_own_progress_raises_is_raised(serve: Serve) -> None:
    served = await serve()
    with pytest.raises(ZeroDivisionError):
        await served.app.files.upload(b"x", progress=lambda sent, size: sent // 0)
    with pytest.raises(ZeroDivisionError):
        await served.app.invoke({}, files=failing_file())
    assert (await served.app.files.upload(b"x")).size == 1


def failing_file() -> Any:
    async def content() -> Any:
        yield b"x"
        raise ZeroDivisionError

    return content()
