"""Real workflows behind `dynamiq-async serve` do what they do when they are run directly, whichever
way they are called."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from dynamiq_async import AsyncApp, errors
from tests.support.limits import HANG_SECONDS

from . import workflows
from .conftest import serving
from .direct import by_node, run_directly, steady

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from dynamiq_async import StreamEvent

    from .conftest import Served

    Serve = Callable[[str], Served]

pytestmark = pytest.mark.usefixtures("model")

QUESTION = {"question": "What can you do?"}
EMAIL = {"to": "ann@example.com"}
PARTS = {
    "input": "Please choose.",
    "questions": [
        {"id": "scope", "question": "Which scope?", "options": [{"label": "Q1"}, {"label": "Year"}]}
    ],
}
CHOSEN = [{"question_id": "scope", "selected": ["Q1"], "custom_text": None}]

CASES: list[tuple[str, dict[str, Any], dict[str, dict[str, Any]]]] = [
    ("llm", QUESTION, {}),
    ("ready", QUESTION, {}),
    ("agent", {"input": "Who is 7421?"}, {}),
    ("parallel", QUESTION, {}),
    ("failing", QUESTION, {}),
    ("broken_model", QUESTION, {}),
    ("approval", EMAIL, {"py-email": {"is_approved": True, "data": {"to": "bob@example.com"}}}),
    ("approval", EMAIL, {"py-email": {"is_approved": False, "feedback": "not now"}}),
    ("feedback", {"topic": "sales"}, {"hf-ask": {"content": "Q1 only"}}),
    ("structured", PARTS, {"hf-ask": {"content": "", "answers": CHOSEN}}),
    ("guarded_agent", {"input": "Who is 7421?"}, {"agent-1": {"is_approved": True}}),
    (
        "guarded_agent",
        {"input": "Who is 7421?"},
        {"agent-1": {"is_approved": False, "feedback": "no"}},
    ),
    ("plain", QUESTION, {}),
]
IDS = [f"{name}-{number}" for number, (name, _, _) in enumerate(CASES)]
each_case = pytest.mark.parametrize(("name", "input", "answers"), CASES, ids=IDS)
quiet_case = pytest.mark.parametrize(
    ("name", "input"),
    [(name, input) for name, input, answers in CASES if not answers],
    ids=[name for name, _, answers in CASES if not answers],
)


@pytest.fixture(autouse=True)
def under_way(serve: Serve, name: str) -> None:
    """The workflow is served: its start, which takes long, is no part of a test's time."""
    serve(name)


def app_of(served: Served) -> AsyncApp:
    return AsyncApp(served.url, access_key=served.key)


def directly(name: str, input: Any, answers: Any = None) -> Any:
    workflow = workflows.llm() if name == "ready" else getattr(workflows, name)()
    return run_directly(workflow, input, answers)


def plain(events: list[StreamEvent]) -> list[dict[str, Any]]:
    return [
        {name: getattr(event, name) for name in ("entity_id", "data", "event")}
        | {"source": event.source and {"id": event.source.id, "type": event.source.type}}
        for event in events
    ]


def as_plain(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {name: message[name] for name in ("entity_id", "data", "event")}
        | {"source": {name: message["source"][name] for name in ("id", "type")}}
        for message in messages
    ]


def fields(name: str, result: Any) -> Any:
    """What the Output node gave in a direct run."""
    return (result["output"] or {}).get("output-1", {}).get("output") or {}


@quiet_case
async def test_a_stream_has_the_messages_of_the_direct_run(
    serve: Serve, name: str, input: Any
) -> None:
    messages, _ = directly(name, input)
    async with app_of(serve(name)) as app:
        events = [event async for event in app.stream(input)]
    assert by_node(plain(events)) == by_node(as_plain(messages))
    assert len({event.wf_run_id for event in events}) == 1


@quiet_case
async def test_a_call_returns_what_the_output_node_gave(
    serve: Serve, name: str, input: Any
) -> None:
    _, result = directly(name, input)
    async with app_of(serve(name)) as app:
        body = await app.invoke(input, on_failure="return")
    if result["status"] == "success":
        assert steady(body) == steady(fields(name, result))
    else:
        assert steady(body) == steady(result)


@each_case
async def test_a_run_asks_and_ends_as_the_direct_run(
    serve: Serve, name: str, input: Any, answers: Any
) -> None:
    messages, result = directly(name, input, answers)
    async with app_of(serve(name)) as app:
        started = await app.runs.create(input, background=True)
        asked = []
        text = ""
        async for event in app.runs.follow(started.id):
            text += event.text
            if event.question is not None:
                asked.append(event.question.prompt)
                await _answer_run(app, started.id, answers)
        run = await app.runs.get(started.id)
    assert run.status == {"success": "completed", "failure": "failed"}[result["status"]]
    assert steady(run.output) == (
        steady(fields(name, result)) if result["status"] == "success" else None
    )
    if result["status"] == "failure":
        assert run.error == result["error"]["message"]
    prompts = [m["data"].get("template") or m["data"].get("prompt") for m in messages if _asks(m)]
    assert asked == prompts
    assert len(text) == len(_text(messages))
    assert sorted(text) == sorted(_text(messages))  # of models at once, in any order


async def _answer_run(app: AsyncApp, run_id: str, answers: Any) -> None:
    [question] = (await app.runs.get(run_id)).questions
    [said] = answers.values()
    if question.kind == "approval":
        if said["is_approved"]:
            await app.runs.approve(run_id, question, params=said.get("data"))
        else:
            await app.runs.reject(run_id, question, feedback=said["feedback"])
    elif said.get("answers"):
        extra = {"data": {"request_id": question.id, "feedback": "", "answers": said["answers"]}}
        await app.runs.answer(run_id, question, "", extra_body=extra)
    else:
        await app.runs.answer(run_id, question, said["content"])


def _asks(message: dict[str, Any]) -> bool:
    data = message["data"]
    return isinstance(data, dict) and ("template" in data or data.get("action") == "ask")


def _text(messages: list[dict[str, Any]]) -> str:
    text = ""
    for message in messages:
        choices = message["data"].get("choices") if isinstance(message["data"], dict) else None
        delta = choices[0]["delta"] if choices else {}
        if delta.get("step") in (None, "answer"):
            text += delta.get("content") or ""
    return text


@each_case
async def test_a_websocket_says_the_same_and_takes_the_answers(
    serve: Serve, name: str, input: Any, answers: Any
) -> None:
    messages, _ = directly(name, input, answers)
    events = []
    async with app_of(serve(name)) as app, app.connect() as socket:
        async for event in socket.run(input):
            events.append(event)
            if event.question is not None:
                said = answers[event.entity_id]
                if "content" in said:
                    await socket.answer(event, said["content"], answers=said.get("answers"))
                elif said["is_approved"]:
                    await socket.approve(event, said.get("data"))
                else:
                    await socket.reject(event, said["feedback"])
    assert by_node(plain(events)) == by_node(as_plain(messages))


@pytest.mark.parametrize("name", ["ready"])
async def test_many_runs_of_one_object_do_not_mix(serve: Serve, name: str) -> None:
    async with app_of(serve(name)) as app:
        results = await app.batch([{"question": str(n)} for n in range(30)], concurrency=10)
    said = [result.unwrap()["output"] for result in results]
    assert said == [f"Hello from the stub. You said: {n}" for n in range(30)]


@pytest.mark.parametrize("name", ["pausing"])
async def test_a_run_pauses_and_goes_on_with_its_answer(serve: Serve, name: str) -> None:
    types = []
    async with app_of(serve(name)) as app:
        started = await app.runs.create({"input": "Which?"}, background=True)
        async for event in app.runs.follow(started.id):
            types.append(event.type)
            if event.type == "run.paused":
                run = await app.runs.get(started.id)
                assert run.status == "awaiting_input"
                await app.runs.answer(run.id, run.questions[0], "blue")
        run = await app.runs.get(started.id)
    assert types == [
        "run.started",
        "agent.human_feedback.requested",
        "run.paused",
        "run.resumed",
        "run.human_feedback.received",
        "run.completed",
    ]
    _, result = directly("pausing", {"input": "Which?"}, {"hf-ask": {"content": "blue"}})
    assert run.output == fields("pausing", result) == {"output": "blue"}


@pytest.mark.parametrize("name", ["pausing"])
async def test_a_stream_of_it_cannot_pause(serve: Serve, name: str) -> None:
    async with app_of(serve(name)) as app, app.stream({"input": "Which?"}) as stream:
        with pytest.raises(errors.RunFailedError, match="hf-ask"):
            await stream.output()


@pytest.mark.parametrize("name", ["llm"])
async def test_a_yaml_file_is_served_too(serve: Serve, name: str, tmp_path: Path) -> None:
    path = tmp_path / "flow.yaml"
    workflows.feedback().to_yaml_file(path)
    with serving(f"{path}:wf-feedback") as served:
        async with app_of(served) as app, app.connect() as socket:
            run = socket.run({"topic": "sales"})
            async for event in run:
                if event.question is not None:
                    await socket.answer(event, "Q1")
            assert await run.output(node="output-1") == {"output": "Q1"}


@pytest.mark.parametrize("name", ["slow"])
async def test_a_canceled_run_ends_between_two_steps(serve: Serve, name: str) -> None:
    _, result = run_directly(workflows.slow(), {}, cancel_after=0.2)
    assert result["status"] == "canceled"
    async with app_of(serve(name)) as app, asyncio.timeout(HANG_SECONDS):
        run = await app.runs.create({}, background=True)
        await app.runs.cancel(run.id)
        assert (await app.runs.wait(run.id)).status == "canceled"


@pytest.mark.parametrize("name", ["feedback"])
async def test_many_that_wait_for_people_hold_up_nobody(serve: Serve, name: str) -> None:
    async with app_of(serve(name)) as app, asyncio.timeout(HANG_SECONDS):
        waiting = [await app.runs.create({"topic": str(n)}, background=True) for n in range(40)]
        for run in waiting:
            while not (await app.runs.get(run.id)).questions:
                await asyncio.sleep(0.05)
        for run in waiting:
            [question] = (await app.runs.get(run.id)).questions
            await app.runs.answer(run.id, question, f"for {run.id}")
        for run in waiting:
            assert (await app.runs.wait(run.id)).output == {"output": f"for {run.id}"}


@pytest.mark.parametrize("name", ["files"])
async def test_files_reach_the_workflow(serve: Serve, name: str) -> None:
    async with app_of(serve(name)) as app:
        file = await app.files.upload(b"content", name="a.txt")
        run = await app.runs.create({}, file_ids=[file.id])
        assert run.output == {"output": [["a.txt", "content"]]}
