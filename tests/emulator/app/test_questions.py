"""Answers in the forms that the vendor's library takes, and none of those that it ignores."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dynamiq_async.emulator import Approval, Emulator, Feedback, Question, RunContext
from dynamiq_async.emulator.app.questions import is_question

PARAMS = {"to": "ann@example.com", "text": "hi"}
ONE = {"question_id": "0", "selected": ["Q1"], "custom_text": None}


def approval(**more: Any) -> Question:
    question = Question(kind="approval_request", params=PARAMS, editable=["to"])
    for name, value in more.items():
        setattr(question, name, value)
    return question


@pytest.mark.parametrize(
    ("data", "approved", "feedback"),
    [
        ({"is_approved": True}, True, None),
        ({"is_approved": False, "feedback": "no"}, False, "no"),
        ({"feedback": ""}, True, None),
        ({"feedback": "not now"}, False, "not now"),
        ({"is_approved": "true"}, True, None),
        ({"is_approved": "No"}, False, None),
        ({"is_approved": 1}, True, None),
        ({"is_approved": 0.0}, False, None),
        ({"is_approved": True, "feedback": "but soon"}, True, "but soon"),
        ({"is_approved": None, "feedback": ""}, True, None),
        ({"is_approved": True, "request_id": "whatever"}, True, None),
        ({"is_approved": True, "unknown": 1}, True, None),
    ],
)
async def test_a_decision_is_taken(data: Any, approved: bool, feedback: str | None) -> None:
    question = approval()
    assert question.take(data)
    assert question.answer.result() == Approval(approved, PARAMS, feedback)
    assert question.said == data


@pytest.mark.parametrize(
    "data",
    [
        *({}, {"data": {}}, {"is_approved": None}, None, 5, "yes", []),
        *({"is_approved": True, "feedback": None}, {"is_approved": "maybe"}, {"is_approved": 2}),
        *({"is_approved": []}, {"is_approved": True, "data": None}, {"feedback": 5}),
        {"is_approved": True, "request_id": 5},
    ],
)
async def test_what_the_library_ignores_decides_nothing(data: Any) -> None:
    question = approval()
    assert not question.take(data)
    assert question.open
    assert question.said is None


async def test_only_editable_params_are_changed() -> None:
    question = approval()
    assert question.take({"is_approved": True, "data": {"to": "bob", "text": "rude", "more": 1}})
    assert question.answer.result() == Approval(True, {"to": "bob", "text": "hi"})


async def test_a_request_id_has_to_be_repeated() -> None:
    question = approval(request_id="r-1")
    for given in ({}, {"request_id": None}, {"request_id": "r-2"}, {"request_id": ""}):
        assert not question.take({"is_approved": True, **given})
    assert question.take({"is_approved": True, "request_id": "r-1"})


@pytest.mark.parametrize(
    ("data", "content", "answers"),
    [
        ({"content": "green"}, "green", None),
        ({"content": ""}, "", None),
        ({}, "", None),
        ({"answers": [ONE]}, "", [ONE]),
        ({"content": "all", "answers": [{"question_id": "1"}]}, "all", [{"question_id": "1"}]),
    ],
)
async def test_feedback_is_taken(data: Any, content: str, answers: Any) -> None:
    question = Question(prompt="?")
    assert question.take(data)
    said = question.answer.result()
    assert isinstance(said, Feedback)
    assert said == content
    assert question.said == data
    defaults: dict[str, Any] = {"selected": [], "custom_text": None}
    assert said.answers == (answers and [defaults | answer for answer in answers])


@pytest.mark.parametrize(
    "data",
    [
        *(None, 5, {"content": None}, {"content": 5}, {"answers": {}}, {"answers": [{}]}),
        {"answers": [{"question_id": "0", "selected": "Q1"}]},
    ],
)
async def test_what_is_no_feedback_is_ignored(data: Any) -> None:
    question = Question(prompt="?")
    assert not question.take(data)
    assert question.open
    assert question.said is None


async def test_a_message_says_what_the_question_is() -> None:
    data = {"prompt": "Which?", "action": "ask", "questions": [{"question": "Scope?"}]}
    message = {"wf_run_id": "w", "entity_id": "hf-1", "event": "streaming", "data": data}
    question = Question(message=message)
    assert (question.kind, question.prompt, question.entity_id) == (
        "human_feedback",
        "Which?",
        "hf-1",
    )
    assert question.questions == [{"question": "Scope?"}]
    assert Question(message=message, questions=[]).questions == [{"question": "Scope?"}]
    asked = {"template": "Send?", "data": PARAMS, "mutable_data_params": ["to"], "request_id": "r"}
    message = {"wf_run_id": "w", "entity_id": "a", "event": "approval", "data": asked}
    question = Question(message=message)
    assert (question.kind, question.prompt, question.event) == (
        "approval_request",
        "Send?",
        "approval",
    )
    assert (question.params, question.editable) == (PARAMS, ("to",))
    assert (question.id, question.request_id) == ("r", "r")
    message["data"] = {**asked, "request_id": None}
    assert Question(message=message).id


# --- what an App makes of them ------------------------------------------------------------------


async def test_a_withdrawn_question_is_no_longer_open(connect: Any) -> None:
    async def app(input: dict[str, Any], run: RunContext) -> Any:
        question = Question(prompt="?")
        asyncio.get_running_loop().call_soon(question.withdraw)
        gone = await run.question(question)
        question.withdraw()  # it is
        loop = asyncio.get_running_loop()
        loop.call_later(0.01, lambda: run.channel._run.questions[-1].withdraw())  # type: ignore[attr-defined]
        said = await run.ask("Which?")
        loop.call_later(0.01, lambda: run.channel._run.questions[-1].withdraw())  # type: ignore[attr-defined]
        verdict = await run.approve("Sure?", {"a": 1})
        return [gone, said, verdict.approved, verdict.params]

    async with Emulator(app) as emulator:
        run = (await (await connect(emulator)).post("/v1/runs")).json["data"]
        assert run["output"] == {"output": [None, "", False, {"a": 1}]}
        [only] = emulator.runs.values()
        assert not only.open_questions
        types = [event.type for event in only.feed.events]
        assert types == [
            "run.started",
            *["agent.human_feedback.requested"] * 2,
            "approval_request.created",
            "run.completed",
        ]


async def test_parts_of_a_question_are_answered_on_a_run(connect: Any) -> None:
    parts = [{"question": "Scope?", "options": [{"label": "Q1"}, {"label": "Year"}]}]

    async def app(input: dict[str, Any], run: RunContext) -> Any:
        said = await run.ask("Which?", questions=parts)
        assert isinstance(said, Feedback)
        return [said, said.answers]

    async with Emulator(app) as emulator:
        client = await connect(emulator)
        started = (await client.post("/v1/runs", {"input": {}, "background": True})).json["data"]
        run = emulator.runs[started["id"]]
        await emulator.wait_until(lambda: run.open_questions)
        [asked] = (await client.get(f"/v1/runs/{run.id}")).json["data"]["input_requests"]
        assert asked["questions"] == parts
        data = {"request_id": asked["id"], "feedback": "Q1", "answers": [ONE]}
        body = {"type": "human_feedback", "data": data}
        assert (await client.post(f"/v1/runs/{run.id}/input", body)).status == 200
        done = (await client.get(f"/v1/runs/{run.id}/stream")).events
        assert done[2]["data"] == data
        assert done[-1]["data"]["output"] == {"output": ["Q1", [ONE]]}


async def test_a_run_can_pause_and_go_on_at_any_time(connect: Any) -> None:
    async def app(input: dict[str, Any], run: RunContext) -> Any:
        run.resume()  # nothing is paused
        run.pause("c-1")
        run.resume()
        question = Question(prompt="?")
        await run.show(question)
        run.pause()
        await asyncio.sleep(0)
        question.reply("so")
        await run.channel.answered(question)
        return run.kind

    async with Emulator(app) as emulator:
        client = await connect(emulator)
        events = (await client.stream("/v1/runs")).events
        assert [event["type"] for event in events] == [
            "run.started",
            "run.paused",
            "run.resumed",
            "agent.human_feedback.requested",
            "run.paused",
            "run.resumed",
            "run.human_feedback.received",
            "run.completed",
        ]
        assert events[1]["data"]["checkpoint_id"] == "c-1"
        assert events[4]["data"]["checkpoint_id"]
        assert events[-1]["data"]["output"] == {"output": "run"}
        asked, last = (await client.stream()).events
        assert asked["data"]["prompt"] == "?"
        assert last["data"]["node-1"]["output"] == "root"


@pytest.mark.parametrize("data", [None, "prompt", ["prompt"], {"prompt": "?"}])
def test_what_asks_nothing_is_no_question(data: Any) -> None:
    assert not is_question({"data": data})
