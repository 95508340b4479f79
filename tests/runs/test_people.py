"""People in the loop: questions that come in streams and in waits, and their answers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from dynamiq_async import Question, QuestionEvent, RunQuestion, errors
from dynamiq_async.emulator import Fault
from tests.support.run_apps import sequences, truth

if TYPE_CHECKING:
    from collections.abc import Callable

    from dynamiq_async import Run, RunStream
    from dynamiq_async.emulator import RunContext

    from .conftest import Serve, Served

STREAMS = "GET /v1/runs/*/stream"


async def asks_twice(input: dict[str, Any], run: RunContext) -> Any:
    """Two questions with the same id; also with the same words, if it is told so."""
    prompts = ["How?", "How?" if input.get("alike") else "Why?"]
    return [await run.ask(prompt, request_id="same") for prompt in prompts]


async def asks_for_approval(input: dict[str, Any], run: RunContext) -> Any:
    answer = await run.approve("Send?", {"to": "ann", "text": "hi"}, editable=["to"])
    return [answer.approved, dict(answer.params), answer.feedback]


def output(run: Run) -> Any:
    return run.output["output"]


async def opened(served: Served, **input: Any) -> str:
    """The id of a run with an open question, and a clean log."""
    run = await served.app.runs.create(input, background=True)
    await served.emulator.wait_until(lambda: served.emulator.runs[run.id].open_questions)
    served.emulator.reset()
    return run.id


# --- by hand -------------------------------------------------------------------------------------


async def test_a_question_event_is_answered_and_the_stream_goes_on(serve: Serve) -> None:
    served = await serve(asks_twice)
    stream = served.app.runs.stream({})
    asked = []
    got = []
    async for event in stream:
        got.append(event)
        if isinstance(event, QuestionEvent):
            asked.append((event.question.prompt, event.question.id, event.question.kind))
            await event.answer(f"answer {len(asked)}")
            assert event.question.answered
    assert asked == [("How?", "same", "feedback"), ("Why?", "same", "feedback")]
    assert sequences(got) == truth(served.emulator)
    assert output(await stream.run()) == ["answer 1", "answer 2"]
    sent = [seen.json for seen in served.asked("/input")]
    assert sent[0] == {
        "type": "human_feedback",
        "data": {"request_id": "same", "feedback": "answer 1"},
    }


@pytest.mark.parametrize(
    ("verdict", "expected", "sent"),
    [
        (
            lambda event: event.approve(),
            [True, {"to": "ann", "text": "hi"}, None],
            {"approved": True},
        ),
        (
            lambda event: event.approve({"to": "bob"}, feedback="fine"),
            [True, {"to": "bob", "text": "hi"}, "fine"],
            {"approved": True, "params": {"to": "bob"}, "feedback": "fine"},
        ),
        (
            lambda event: event.reject("no"),
            [False, {"to": "ann", "text": "hi"}, "no"],
            {"approved": False, "feedback": "no"},
        ),
        (
            lambda event: event.reject(),
            [False, {"to": "ann", "text": "hi"}, None],
            {"approved": False},
        ),
    ],
)
async def test_an_approval_is_given_or_not(
    serve: Serve, verdict: Callable[[QuestionEvent], Any], expected: Any, sent: dict[str, Any]
) -> None:
    served = await serve(asks_for_approval)
    stream = served.app.runs.stream({})
    async for event in stream:
        if isinstance(event, QuestionEvent):
            assert event.question.params == {"to": "ann", "text": "hi"}
            assert await event.question.is_open()
            await verdict(event)
            assert not await event.question.is_open()
    assert output(await stream.run()) == expected
    [answer] = [seen.json for seen in served.asked("/input")]
    assert answer["type"] == "approval_request"
    assert answer["data"] == {"request_id": answer["data"]["request_id"], **sent}


async def test_params_that_cannot_be_edited_are_refused_before_sending(serve: Serve) -> None:
    served = await serve(asks_for_approval)
    run_id = await opened(served)
    [request] = (await served.app.runs.get(run_id)).questions
    for params in ({"text": "x"}, {"to": "x", "more": 1}):
        with pytest.raises(errors.InvalidArgumentError, match="only to can") as caught:
            await served.app.runs.approve(run_id, request, params=params)
        assert caught.value.argument == "params"
    rigid = Question(id="x", kind="approval", params={"to": "ann"})
    with pytest.raises(errors.InvalidArgumentError, match="nothing can be"):
        await served.app.runs.approve(run_id, rigid, params={"to": "x"})
    with pytest.raises(errors.InvalidArgumentError, match=r"params\.to cannot be encoded"):
        await served.app.runs.approve(run_id, request, params={"to": object()})
    assert served.posts == []
    with pytest.raises(errors.InvalidArgumentError, match="only to can"):
        await served.app.runs.approve(run_id, request.id, params={"to": "bob", "text": "no"})
    await served.app.runs.approve(run_id, request.id, params={"to": "bob"})
    run = await served.app.runs.wait(run_id)
    assert output(run) == [True, {"to": "bob", "text": "hi"}, None]


async def test_the_wrong_kind_of_answer_is_refused_before_sending(serve: Serve) -> None:
    served = await serve()
    runs = served.app.runs
    approval = Question(id="a", kind="approval")
    question = Question(id="q", kind="feedback")
    for call in (
        runs.answer("r", approval, "yes"),
        runs.approve("r", question),
        runs.reject("r", question),
    ):
        with pytest.raises(errors.InvalidArgumentError) as caught:
            await call
        assert caught.value.argument == "request"
    assert not served.emulator.requests


async def test_the_wrong_kind_of_answer_to_an_id_is_refused_by_the_service(serve: Serve) -> None:
    served = await serve(asks_for_approval)
    run_id = await opened(served)
    [request] = (await served.app.runs.get(run_id)).questions
    with pytest.raises(errors.BadRequestError):
        await served.app.runs.answer(run_id, request.id, "yes")
    unknown = Question(id=request.id)  # of no kind: either may be tried
    with pytest.raises(errors.BadRequestError):
        await served.app.runs.answer(run_id, unknown, "yes")
    await served.app.runs.reject(run_id, unknown)
    with pytest.raises(errors.BadRequestError):
        await served.app.runs.reject(run_id, unknown)


async def test_an_answer_whose_outcome_is_unknown_is_not_sent_twice(serve: Serve) -> None:
    served = await serve(asks_twice)
    run_id = await opened(served)
    served.emulator.script(Fault(drop="reset", executes=True))
    with pytest.raises(errors.AmbiguousOutcomeError):
        await served.app.runs.answer(run_id, "same", "once")
    assert served.posts == [f"/v1/runs/{run_id}/input"]


# --- by a handler --------------------------------------------------------------------------------


def says(value: Any) -> Callable[[RunQuestion], Any]:
    return lambda question: value


def says_later(value: Any) -> Callable[[RunQuestion], Any]:
    async def handler(question: RunQuestion) -> Any:
        await asyncio.sleep(0)
        return value

    return handler


async def answers_itself(question: RunQuestion) -> None:
    await question.answer("by myself")


HANDLERS = {
    "text": (asks_twice, says("so"), ["so", "so"]),
    "empty text": (asks_twice, says(""), ["", ""]),
    "text, later": (asks_twice, says_later("so"), ["so", "so"]),
    "by itself": (asks_twice, answers_itself, ["by myself", "by myself"]),
    "yes": (asks_for_approval, says(True), [True, {"to": "ann", "text": "hi"}, None]),
    "no, later": (asks_for_approval, says_later(False), [False, {"to": "ann", "text": "hi"}, None]),
}


@pytest.mark.parametrize("way", ["stream", "follow", "wait"])
@pytest.mark.parametrize(("app", "handler", "expected"), HANDLERS.values(), ids=HANDLERS)
async def test_a_handler_answers(
    serve: Serve, way: str, app: Any, handler: Any, expected: Any
) -> None:
    served = await serve(app)
    if way == "stream":
        run = await served.app.runs.stream({}, on_question=handler).run()
    else:
        run_id = await opened(served)
        if way == "follow":
            run = await served.app.runs.follow(run_id, on_question=handler).run()
        else:
            run = await served.app.runs.wait(run_id, on_question=handler)
    assert output(run) == expected


@pytest.mark.parametrize("alike", [False, True])
@pytest.mark.parametrize("way", ["stream", "follow", "wait"])
async def test_two_questions_with_the_same_id_are_two_questions(
    serve: Serve, way: str, alike: bool
) -> None:
    served = await serve(asks_twice)
    prompts = []

    def handler(question: RunQuestion) -> str:
        prompts.append(question.prompt)
        return f"answer {len(prompts)}"

    if way == "stream":
        run = await served.app.runs.stream({"alike": alike}, on_question=handler).run()
    else:
        run_id = await opened(served, alike=alike)
        if way == "follow":
            run = await served.app.runs.follow(run_id, on_question=handler).run()
        else:
            run = await served.app.runs.wait(run_id, on_question=handler, timeout=5)
    assert prompts == ["How?", "How?" if alike else "Why?"]
    assert output(run) == ["answer 1", "answer 2"]


async def test_two_questions_at_once_that_are_alike_are_two_questions(serve: Serve) -> None:
    async def app(input: dict[str, Any], run: RunContext) -> Any:
        return await asyncio.gather(*(run.ask("Which?", request_id="same") for _ in range(2)))

    for way in ("stream", "wait"):
        served = await serve(app)
        answers = iter(["one", "two"])

        def handler(question: RunQuestion, answers: Any = answers) -> str:
            return str(next(answers))

        if way == "stream":
            run = await served.app.runs.stream({}, on_question=handler).run()
        else:
            run = await served.app.runs.wait(await opened(served), on_question=handler)
        assert sorted(output(run)) == ["one", "two"]


async def test_what_comes_before_a_question_is_read_before_it_is_asked(serve: Serve) -> None:
    async def app(input: dict[str, Any], run: RunContext) -> Any:
        await run.event("before", {})
        await run.ask("?")

    served = await serve(app)
    read: list[str] = []
    stream: RunStream

    def handler(question: RunQuestion) -> str:
        assert read == ["run.started", "before"]
        assert stream.sequence == 2
        return "so"

    async with served.app.runs.stream({}, on_question=handler) as stream:
        await served.emulator.wait_until(lambda: served.emulator.requests[0].events_sent == 3)
        async for event in stream:
            read += [event.type]
    assert read[2] == "agent.human_feedback.requested"


async def test_a_question_that_was_answered_before_is_not_asked_again(serve: Serve) -> None:
    served = await serve(asks_twice)
    run_id = await opened(served)
    await served.app.runs.answer(run_id, "same", "first")
    run = served.emulator.runs[run_id]
    await served.emulator.wait_until(lambda: len(run.questions) == 2)
    prompts = []

    def handler(question: RunQuestion) -> str:
        prompts.append(question.prompt)
        return "second"

    followed = await served.app.runs.follow(run_id, on_question=handler).run()
    assert output(followed) == ["first", "second"]
    assert prompts == ["Why?"]
    # Nor is one of a run that is over.
    assert output(await served.app.runs.follow(run_id, on_question=handler).run())
    assert len(prompts) == 1


async def test_a_question_of_a_live_run_that_was_answered_is_not_asked_again(serve: Serve) -> None:
    go = asyncio.Event()

    async def app(input: dict[str, Any], run: RunContext) -> Any:
        await run.ask("?")
        await go.wait()

    served = await serve(app)
    run_id = await opened(served)
    [request] = (await served.app.runs.get(run_id)).questions
    await served.app.runs.answer(run_id, request, "so")
    async for event in served.app.runs.follow(run_id, on_question=never, timeout=5):
        if event.type == "run.human_feedback.received":
            go.set()
    assert event.is_final


async def test_an_answer_that_comes_too_late_is_no_error(serve: Serve) -> None:
    served = await serve(asks_for_approval)

    async def slow(question: RunQuestion) -> bool:
        await served.app.runs.cancel(question.run_id)
        return True

    stream = served.app.runs.stream({}, on_question=slow)
    assert [event.type async for event in stream][-1] == "run.canceled"

    async def overtaken(question: RunQuestion) -> bool:
        await served.app.runs.reject(question.run_id, question)
        return True

    run_id = await opened(served)
    run = await served.app.runs.wait(run_id, on_question=overtaken)
    assert output(run)[0] is False


async def test_an_answer_that_the_service_refuses_is_an_error(serve: Serve) -> None:
    served = await serve(asks_twice)
    served.emulator.script(Fault(status=400), match="POST /v1/runs/*/input")
    stream = served.app.runs.stream({}, on_question=says("so"))
    with pytest.raises(errors.BadRequestError) as caught:
        await stream.run()
    assert (caught.value.sequence, caught.value.run_id) == (1, stream.run_id)
    # The question was not handed out, so going on behind that position meets it again.
    rest = served.app.runs.follow(
        stream.run_id or "", after_sequence=stream.sequence, on_question=says("so")
    )
    assert output(await rest.run()) == ["so", "so"]


@pytest.mark.parametrize("verdict", [True, False, "text", 5, ["x"]])
async def test_a_handler_that_answers_the_wrong_way_is_told(serve: Serve, verdict: Any) -> None:
    served = await serve(asks_for_approval if verdict == "text" else asks_twice)
    with pytest.raises(errors.InvalidArgumentError):
        await served.app.runs.stream({}, on_question=says(verdict)).run()
    with pytest.raises(errors.InvalidArgumentError):
        await served.app.runs.wait(await opened(served), on_question=says(verdict))
    assert served.asked("/input") == []


class OwnError(Exception):
    pass


@pytest.mark.parametrize("kind", [OwnError, TimeoutError])
async def test_what_a_handler_raises_comes_out(serve: Serve, kind: type[Exception]) -> None:
    served = await serve(asks_twice)

    def handler(question: RunQuestion) -> str:
        raise kind("mine")

    stream = served.app.runs.stream({}, on_question=handler, timeout=60)
    with pytest.raises(kind, match="mine"):
        await stream.run()
    assert (stream.sequence, stream.closed) == (1, True)
    with pytest.raises(errors.StreamClosedError):
        await anext(stream)
    with pytest.raises(kind, match="mine"):
        await served.app.runs.wait(await opened(served), on_question=handler, timeout=60)


# --- questions that nobody answers ---------------------------------------------------------------


async def never(question: RunQuestion) -> str:
    await asyncio.get_running_loop().create_future()
    return ""


@pytest.mark.parametrize("handler", [None, says(None), says_later(None), never])
async def test_a_question_without_an_answer_does_not_hang_beyond_the_deadline(
    serve: Serve, handler: Any
) -> None:
    served = await serve(asks_twice)
    stream = served.app.runs.stream({}, on_question=handler, timeout=1.0)
    with pytest.raises(errors.APITimeoutError) as caught:
        await stream.run()
    assert (caught.value.limit, caught.value.run_id) == ("total", stream.run_id)
    assert caught.value.sequence == stream.sequence == (1 if handler is never else 2)
    with pytest.raises(errors.APITimeoutError, match="answers to: 'How\\?'") as caught:
        await served.app.runs.wait(await opened(served), on_question=handler, timeout=1.0)
    assert caught.value.limit == "total"


async def test_a_question_left_open_can_be_answered_from_elsewhere(serve: Serve) -> None:
    served = await serve(asks_for_approval)
    asked = asyncio.Event()

    def handler(question: RunQuestion) -> None:
        asked.set()

    async def decide() -> None:
        await asked.wait()
        [run] = await served.app.runs.list(status="awaiting_input")
        await served.app.runs.approve(run.id, run.questions[0])

    stream = served.app.runs.stream({}, on_question=handler)
    _, run = await asyncio.gather(decide(), stream.run())
    assert output(run)[0] is True


# --- answers are urgent --------------------------------------------------------------------------


async def test_answers_pass_through_a_full_pool(serve: Serve) -> None:
    served = await serve(asks_twice, client={"max_connections": 1})
    stream = served.app.runs.stream({}, on_question=says("so"))
    limiter = served.app._api.sender.limiter
    async with stream:
        limiter.acquire_urgently()
        async for event in stream:
            assert event.type
        limiter.release()
    assert [seen.status for seen in served.asked("/input")] == [200, 200]


async def test_looks_into_a_hole_pass_through_a_full_pool(serve: Serve) -> None:
    served = await serve(asks_twice, client={"max_connections": 1})
    run_id = await opened(served)
    served.emulator.script(Fault(skip={3}), match=STREAMS)
    stream = served.app.runs.follow(run_id, on_question=says("so"))
    limiter = served.app._api.sender.limiter
    async with asyncio.timeout(5), stream:
        limiter.acquire_urgently()
        assert sequences([event async for event in stream]) == truth(served.emulator)
        limiter.release()


async def test_answers_pass_through_a_cooldown(serve: Serve) -> None:
    served = await serve(asks_for_approval)
    run_id = await opened(served)
    [request] = (await served.app.runs.get(run_id)).questions
    served.emulator.script(Fault(status=429, headers={"Retry-After": "50"}))
    with pytest.raises(errors.RateLimitError):
        await served.app.runs.get(run_id, max_retries=0)
    assert served.app._api.sender.limiter.cooldown > 40
    await served.app.runs.approve(run_id, request)
    await served.app.runs.cancel(run_id)


# --- what a question event is --------------------------------------------------------------------


async def test_a_question_event_is_the_plain_event_as_json(serve: Serve) -> None:
    served = await serve(asks_for_approval)
    stream = served.app.runs.stream({})
    async for event in stream:
        if isinstance(event, QuestionEvent):
            plain = msgspec.json.decode(msgspec.json.encode(event))
            assert plain["type"] == event.type == "approval_request.created"
            assert plain["data"]["editable_params"] == ["to"]
            assert repr(event.question) == f"<RunQuestion of run {stream.run_id}: 'Send?'>"
            assert event.question.run_id == stream.run_id
            break
    await stream.aclose()


async def test_a_question_that_cannot_be_read_is_handed_on(serve: Serve) -> None:
    async def app(input: dict[str, Any], run: RunContext) -> Any:
        await run.event("approval_request.created", ["odd"])
        await run.event("agent.human_feedback.requested", None)

    served = await serve(app)
    events = [event async for event in served.app.runs.stream({}, on_question=never)]
    assert [event.data for event in events[1:3]] == [["odd"], None]
    assert [event.question for event in events[1:3]] == [None, None]


async def test_a_question_of_a_run_without_a_known_id(serve: Serve) -> None:
    served = await serve(asks_twice)
    served.emulator.script(Fault(skip={1}), times=2, match="POST /v1/runs")
    stream = served.app.runs.stream({})
    event = await anext(stream)
    assert (event.sequence, type(event).__name__) == (2, "RunEvent")
    await stream.aclose()
    stream = served.app.runs.stream({}, on_question=never)
    with pytest.raises(errors.StreamError, match="not told its id"):
        await anext(stream)
