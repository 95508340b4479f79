"""Creating, looking at, listing, waiting for and canceling runs: section 3 of the contract."""

from __future__ import annotations

import asyncio
import io
import pickle
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import msgspec
import numpy
import pytest

from dynamiq_async import Page, Run, Timeout, errors
from dynamiq_async.emulator import FOREVER, Fault
from dynamiq_async.runs import RunHandle
from tests.support.run_apps import SESSION, Gated, numbers, waits

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import FakeClock, Serve, Served


class Node(msgspec.Struct):
    status: str
    output: str


Output = dict[str, Node]


async def background(served: Served, **fields: Any) -> Run:
    run: Run = await served.app.runs.create({}, background=True, **fields)
    assert run.status == "created"
    return run


# --- create --------------------------------------------------------------------------------------


async def test_create_waits_for_the_end(serve: Serve) -> None:
    served = await serve(numbers)
    run = await served.app.runs.create({"count": 2}, user_id="ann", session_id=UUID(SESSION))
    assert (run.status, run.is_terminal, run.input) == ("completed", True, {"count": 2})
    assert (run.user_id, run.session_id) == ("ann", SESSION)
    assert run.output["node-1"]["output"] == "done"
    assert run.started_at
    assert run.ended_at
    assert run.started_at <= run.ended_at
    assert run.questions == []
    [sent] = served.emulator.requests
    assert sent.json == {"input": {"count": 2}, "user_id": "ann", "session_id": SESSION}
    assert sent.headers["Content-Type"] == "application/json"


async def test_create_in_the_background_returns_at_once(serve: Serve) -> None:
    served = await serve(waits)
    run = await background(served)
    assert served.emulator.requests[0].json == {"input": {}, "background": True}
    assert served.emulator.requests[0].status == 202
    assert (await served.app.runs.get(run.id)).status == "started"


async def test_create_with_an_output_type_returns_the_output(serve: Serve) -> None:
    app = (await serve(numbers)).app
    output = await app.runs.create({}, output_type=Output)
    assert output["node-1"] == Node(status="success", output="done")
    with pytest.raises(errors.ResponseDecodeError, match="does not fit") as caught:
        await app.runs.create({}, output_type=dict[str, int])
    assert caught.value.run_id


@pytest.mark.parametrize(
    ("end", "error"),
    [("failed", errors.RunFailedError), ("canceled", errors.RunCanceledError)],
)
async def test_another_end_is_a_value_and_an_error_where_a_result_was_asked_for(
    serve: Serve, end: str, error: type[errors.RunError]
) -> None:
    app = (await serve(numbers)).app
    run = await app.runs.create({"end": end})
    assert run.status == end
    assert await app.runs.get(run.id) == run
    assert await app.runs.wait(run.id) == run
    for asked in (
        app.runs.create({"end": end}, output_type=Output),
        app.runs.wait(run.id, output_type=Output),
        app.runs.handle(run.id).wait(output_type=Output),
        app.runs.stream({"end": end}).output(),
        app.runs.follow(run.id).output(output_type=Output),
    ):
        with pytest.raises(error) as caught:
            await asked
        assert caught.value.run.status == end
        assert caught.value.run_id == caught.value.run.id


async def test_a_run_that_is_not_over_has_no_output(serve: Serve) -> None:
    served = await serve(waits)
    run = await background(served)
    with pytest.raises(errors.RunError, match="is not over, it is created"):
        run.unwrap()


async def test_create_sends_files_along_and_names_uploaded_ones(
    serve: Serve, tmp_path: Path
) -> None:
    async def reads(input: dict[str, Any], run: Any) -> Any:
        return [[file.name, file.read().decode()] for file in run.files]

    served = await serve(reads)
    app = served.app
    path = tmp_path / "a.txt"
    path.write_text("A")
    uploaded = await app.files.upload(path)

    def streamed(input: Any, **options: Any) -> Any:
        return app.runs.stream(input, **options).run()

    calls: tuple[Any, ...] = (app.runs.create, streamed)
    for call in calls:
        files = [path, ("b.txt", b"B"), io.BytesIO(b"C")]
        run = await call({"x": 1}, files=files, file_ids=[uploaded.id], user_id="ann")
        found = run.output["node-1"]["output"]
        assert sorted(found) == [["a.txt", "A"], ["a.txt", "A"], ["b.txt", "B"], ["file", "C"]]
        assert (run.input, run.user_id) == ({"x": 1}, "ann")
    run = await app.runs.create({}, file_ids=[uploaded.id])
    assert run.output["node-1"]["output"] == [["a.txt", "A"]]
    assert served.emulator.requests[-1].json == {"input": {}, "file_ids": [uploaded.id]}


async def test_what_is_not_foreseen_can_be_added(serve: Serve) -> None:
    served = await serve()
    extra: dict[str, Any] = {
        "extra_body": {"new": 1},
        "extra_headers": {"X-A": "b"},
        "extra_query": {"q": "z"},
    }
    await served.app.runs.create({}, **extra)
    await served.app.runs.stream({}, **extra).run()
    for sent in served.emulator.requests[:2]:
        assert (sent.json["new"], sent.headers["x-a"], sent.query["q"]) == (1, "b", "z")


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        ({"session_id": "s-1"}, "session_id"),
        ({"session_id": SESSION, "dedupe": True}, "dedupe"),
        ({"file_ids": "f-1"}, "file_ids"),
    ],
)
async def test_bad_arguments_are_refused_before_sending(
    serve: Serve, call: dict[str, Any], argument: str
) -> None:
    served = await serve()
    calls: tuple[Any, ...] = (served.app.runs.create, served.app.runs.stream)
    for create in calls:
        with pytest.raises(errors.InvalidArgumentError) as caught:
            await create({}, **call)
        assert caught.value.argument == argument
    assert not served.emulator.requests


async def test_other_bad_arguments_are_refused_before_sending(serve: Serve) -> None:
    served = await serve()
    runs = served.app.runs
    refused: list[tuple[Any, dict[str, Any]]] = [
        (runs.stream, {"input": {}, "max_resumes": -1}),
        (runs.follow, {"run_id": "r", "max_resumes": -1}),
        (runs.follow, {"run_id": "r", "after_sequence": -1}),
        (runs.follow, {"run_id": "r", "after_sequence": True}),
        (runs.list, {"page": 0}),
        (runs.list, {"page_size": 0}),
        (runs.list, {"session_id": "s"}),
        (runs.events, {"run_id": "r", "page": 0}),
        (runs.events, {"run_id": "r", "page_size": 0}),
        (runs.handle, {"run_id": ""}),
        (runs.handle, {"run_id": 5}),
    ]
    for call, arguments in refused:
        with pytest.raises(errors.InvalidArgumentError):
            call(**arguments)
    with pytest.raises(errors.InvalidArgumentError, match="no output yet"):
        await runs.create({}, background=True, output_type=int)
    wrong: tuple[Any, ...] = (0, -1, "x")
    for timeout in wrong:
        with pytest.raises(errors.InvalidArgumentError):
            await runs.wait("r", timeout=timeout)
    assert not served.emulator.requests


async def test_a_run_id_is_quoted_in_the_path(serve: Serve) -> None:
    served = await serve()
    with pytest.raises(errors.NotFoundError):
        await served.app.runs.get("a/../b?c#d")
    assert served.emulator.requests[0].path == "/v1/runs/a%2F..%2Fb%3Fc%23d"


# --- get, list, events ---------------------------------------------------------------------------


async def test_get_shows_what_waits_for_an_answer(serve: Serve) -> None:
    served = await serve("approval")
    run = await background(served)
    await served.emulator.wait_until(lambda: served.emulator.runs[run.id].open_questions)
    run = await served.app.runs.get(run.id)
    assert (run.status, run.is_terminal) == ("awaiting_input", False)
    [question] = run.questions
    assert question.kind == "approval"
    assert question.params == {"to": "ann@example.com", "text": "hi"}
    assert question.editable_params == ["to"]


async def test_an_unknown_run_is_not_found(serve: Serve) -> None:
    app = (await serve()).app
    run_id = str(uuid4())
    for call in (
        app.runs.get(run_id),
        app.runs.wait(run_id),
        app.runs.events(run_id),
        app.runs.cancel(run_id),
        app.runs.follow(run_id).run(),
    ):
        with pytest.raises(errors.NotFoundError) as caught:
            await call
        assert caught.value.code == "not_found"


async def test_list_filters_and_sorts(serve: Serve) -> None:
    served = await serve(numbers, apps={"waits": waits})
    runs, session = served.app.runs, str(uuid4())
    ends = ["completed", "failed", "canceled", "completed"]
    made = [
        await runs.create({"end": end}, user_id=f"u{i % 2}", session_id=session if i else None)
        for i, end in enumerate(ends)
    ]
    ids = [run.id for run in made]

    async def listed(**query: Any) -> list[str]:
        return [run.id async for run in runs.list(**query)]

    assert await listed() == ids[::-1]
    assert await listed(sort="started_at") == ids
    assert await listed(sort="status,-started_at") == [ids[2], ids[3], ids[0], ids[1]]
    assert await listed(status="failed") == [ids[1]]
    assert await listed(status=["failed", "canceled"]) == [ids[2], ids[1]]
    assert await listed(status=("failed", "canceled"), user_id="u1") == [ids[1]]
    assert await listed(session_id=session, sort="started_at") == ids[1:]
    assert await listed(session_id=UUID(SESSION)) == []
    sent = served.emulator.requests[-3].query
    assert sent.getall("status") == ["failed", "canceled"]
    with pytest.raises(errors.BadRequestError) as caught:
        await listed(status="odd")
    assert caught.value.details == {"status": "must be a valid value"}


async def test_list_finds_what_waits_for_an_answer(serve: Serve) -> None:
    served = await serve("feedback")
    run = await background(served)
    await served.emulator.wait_until(lambda: served.emulator.runs[run.id].open_questions)
    [found] = await served.app.runs.list(status="awaiting_input")
    assert (found.id, found.status) == (run.id, "awaiting_input")


async def test_a_list_is_a_page_when_awaited_and_everything_when_iterated(serve: Serve) -> None:
    served = await serve(numbers)
    runs = served.app.runs
    ids = [(await runs.create({})).id for _ in range(5)]
    served.emulator.reset()
    page: Page[Run] = await runs.list(page=2, page_size=2, sort="started_at")
    assert [run.id for run in page] == ids[2:4]
    assert (len(page), page.has_next) == (2, True)
    told = page.pagination
    assert (told.page, told.page_size, told.page_count, told.total_count) == (2, 2, 3, 5)
    assert len(served.emulator.requests) == 1
    found = [run.id async for run in runs.list(page_size=2, sort="started_at")]
    assert found == ids
    found = [run.id async for run in runs.list(page=2, page_size=2, sort="started_at")]
    assert found == ids[2:]
    assert [seen.query["page"] for seen in served.emulator.requests[1:]] == [
        "1",
        "2",
        "3",
        "2",
        "3",
    ]
    assert not (await runs.list(page=9)).has_next


async def test_stored_events_come_whole_and_in_order(serve: Serve) -> None:
    served = await serve(numbers)
    runs = served.app.runs
    run = await runs.create({"count": 7})
    events = [event async for event in runs.events(run.id, page_size=2)]
    assert [event.sequence for event in events] == list(range(1, 10))
    assert events == [event async for event in runs.follow(run.id)]
    page = await runs.handle(run.id).events(page=2, page_size=3)
    assert [event.sequence for event in page] == [4, 5, 6]
    assert (await runs.events(run.id)).pagination.page_size == 500


# --- wait ----------------------------------------------------------------------------------------


async def test_wait_returns_with_the_end(serve: Serve) -> None:
    gated = Gated()
    served = await serve(gated)
    run = await background(served)
    waiting = asyncio.create_task(served.app.runs.wait(run.id))
    await served.emulator.wait_for_requests(3)
    gated.go.set()
    assert (await waiting).status == "completed"
    output = await served.app.runs.wait(run.id, output_type=dict[str, Any])
    assert output["node-1"]["output"] == "done"


async def test_wait_has_a_deadline_of_its_own(serve: Serve, clock: FakeClock) -> None:
    served = await serve(waits)
    run = await background(served)
    waiting = asyncio.create_task(served.app.runs.wait(run.id, timeout=60))
    await served.emulator.wait_for_requests(3)  # so the first look was answered
    await clock.pass_by(60)
    with pytest.raises(errors.APITimeoutError, match="its status is started") as caught:
        await waiting
    error = caught.value
    assert (error.limit, error.seconds, error.run_id) == ("total", 60, run.id)


async def test_wait_has_a_deadline_also_when_the_service_is_silent(serve: Serve) -> None:
    served = await serve(waits)
    run = await background(served)
    served.emulator.script(Fault(delay=FOREVER))
    with pytest.raises(errors.APITimeoutError, match="its status is unknown"):
        await served.app.runs.wait(run.id, timeout=0.05)


async def test_wait_says_what_it_waits_for(serve: Serve, clock: FakeClock) -> None:
    served = await serve("feedback")
    run = await background(served)
    await served.emulator.wait_until(lambda: bool(served.emulator.runs[run.id].open_questions))
    waiting = asyncio.create_task(served.app.runs.wait(run.id, timeout=60))
    await served.emulator.wait_for_requests(3)  # so the first look was answered
    await clock.pass_by(60)
    with pytest.raises(errors.APITimeoutError, match="it waits for answers to: 'sales'"):
        await waiting


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=503),
        Fault(status=520),
        Fault(status=429),
        Fault.html_page(),
        Fault.html_page(200),
        Fault(drop="reset"),
        Fault(delay=FOREVER),
    ],
)
async def test_wait_bears_that_some_looks_fail(
    serve: Serve, fault: Fault, clock: FakeClock
) -> None:
    client = {"timeout": Timeout(first_byte=60), "max_retries": 0}
    served = await serve(numbers, client=client)
    run = await background(served)
    served.emulator.script(fault, times=5)
    waiting = asyncio.create_task(served.app.runs.wait(run.id))
    for number in range(5):
        await served.emulator.wait_for_requests(1 + number + 1)
        if fault.delay:
            await clock.pass_by(60)
    assert (await waiting).status == "completed"
    assert len(served.emulator.requests) == 1 + 5 + 1


async def test_wait_gives_up_when_too_many_looks_fail(serve: Serve) -> None:
    served = await serve(numbers, client={"max_retries": 0})
    run = await background(served)
    served.emulator.script(Fault(status=503), times=None)
    with pytest.raises(errors.InternalServerError):
        await served.app.runs.wait(run.id)
    assert len(served.emulator.requests) == 1 + 6


async def test_wait_can_be_cancelled(serve: Serve) -> None:
    served = await serve(waits)
    run = await background(served)
    waiting = asyncio.create_task(served.app.runs.wait(run.id))
    await served.emulator.wait_for_requests(3)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


# --- cancel --------------------------------------------------------------------------------------


async def test_cancel_ends_a_run_and_leaves_an_ended_one_alone(serve: Serve) -> None:
    served = await serve(numbers, apps={"waits": waits})
    ended = await served.app.runs.create({})
    await served.app.runs.cancel(ended.id)
    assert (await served.app.runs.get(ended.id)).status == "completed"

    served = await serve(waits)
    run = await background(served)
    for _ in range(2):
        await served.app.runs.cancel(run.id)
    assert (await served.app.runs.get(run.id)).status == "canceled"
    final = (await served.app.runs.follow(run.id).run()).status
    assert final == "canceled"


async def test_cancel_is_repeated_because_it_does_no_harm(serve: Serve) -> None:
    served = await serve(waits)
    run = await background(served)
    served.emulator.script(Fault(drop="reset", executes=True), Fault(status=502))
    await served.app.runs.cancel(run.id)
    assert len(served.asked("/cancel")) == 3


# --- the handle ----------------------------------------------------------------------------------


async def test_a_handle_needs_no_id(serve: Serve) -> None:
    served = await serve("feedback")
    handle = served.app.runs.handle((await background(served)).id)
    assert isinstance(handle, RunHandle)
    assert repr(handle) == f"RunHandle({handle.id!r})"
    stream = handle.follow()
    async for event in stream:
        if event.question is not None:
            [question] = (await handle.get()).questions
            await handle.answer(question, "Q1")
    assert (await handle.wait()).output["hf-ask"]["output"] == {"content": "Q1"}
    assert stream.final is not None
    assert [e.sequence async for e in handle.events()][-1] == stream.final.sequence
    await handle.cancel()
    assert (await handle.get()).status == "completed"


async def test_a_handle_approves_and_rejects(serve: Serve) -> None:
    served = await serve("approval")
    for approve in (True, False):
        handle = served.app.runs.handle((await background(served)).id)
        run = served.emulator.runs[handle.id]
        await served.emulator.wait_until(partial(getattr, run, "open_questions"))
        [question] = (await handle.get()).questions
        if approve:
            await handle.approve(question, params={"to": "bob@example.com"}, feedback="fine")
        else:
            await handle.reject(question.id, feedback="no")
        node = (await handle.wait()).output["py-email"]
        assert node["status"] == ("success" if approve else "skip")
        assert node["input"]["to"] == ("bob@example.com" if approve else "ann@example.com")


KEY = "dynamiq_acc_s3cr3t_0123456789"
LEAKED = [f"401 for Bearer {KEY}", {"message": f"no {KEY}", "at": [KEY]}]


@pytest.mark.parametrize("status", ["failed", "canceled", "completed"])
@pytest.mark.parametrize("error", LEAKED, ids=["text", "object"])
async def test_the_errors_of_a_run_do_not_repeat_the_key(
    serve: Serve, status: str, error: Any
) -> None:
    """Not in their text, their pickle, nor in the run that they hold."""
    served = await serve(numbers, access_key=KEY)
    whole = {"status": "failure", "input": {"k": KEY}, "output": None, "error": error}
    end = {"output": whole} if status == "completed" else {"error": error, "output": [KEY]}
    state = {"id": "r", "status": status, "input": {"k": KEY}, **end}
    data = {"type": f"run.{status}", "sequence": 1, "data": state}
    events = f"data: {msgspec.json.encode(data).decode()}\n\n"
    headers = {"Content-Type": "text/event-stream"}
    served.emulator.script(Fault(body=events, headers=headers), match="GET /v1/runs/r/stream")
    for match in ("POST /v1/runs", "GET /v1/runs/r"):
        served.emulator.script(Fault(body={"data": state}), match=match)
    runs = served.app.runs
    for asked in (
        runs.follow("r").output(),
        runs.create({}, output_type=Any),
        runs.wait("r", output_type=Any),
    ):
        with pytest.raises(errors.RunError) as caught:
            await asked
        shown = f"{caught.value} {caught.value!r} {vars(caught.value)} {caught.value.run.raw!r}"
        assert KEY not in shown
        assert KEY.encode() not in pickle.dumps(caught.value)
        assert "***" in shown


async def test_numbers_and_texts_of_a_frame_are_taken_for_arguments(serve: Serve) -> None:
    np: Any = numpy  # of these types a type checker knows nothing
    served = await serve(numbers)
    session = np.str_(SESSION)
    run = await served.app.runs.create({}, session_id=session, timeout=np.int64(60))
    assert run.session_id == SESSION
    page = await served.app.runs.list(
        session_id=session, page=np.int64(1), page_size=np.int32(5), max_retries=np.int8(1)
    )
    assert [found.id for found in page] == [run.id]
    assert (await served.app.runs.get(np.str_(run.id))).id == run.id
    assert await served.app.runs.events(run.id, page=np.uint8(1), page_size=np.int64(2))
    stream = served.app.runs.follow(np.str_(run.id), after_sequence=np.int64(2))
    assert (await anext(stream)).sequence == 3
    await stream.aclose()
    for wrong in (np.float64(1), np.bool_(1), np.int64(0)):
        with pytest.raises(errors.InvalidArgumentError):
            served.app.runs.list(page=wrong)
    for seconds in (np.bool_(1), np.int64(-1), np.float64("nan"), np.float64("inf")):
        with pytest.raises(errors.InvalidArgumentError):
            served.app.runs.follow(run.id, timeout=seconds)
    assert Timeout(connect=np.float32(2)).connect == 2
