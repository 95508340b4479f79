"""What the page is told as it happens, and what a person does there."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from dynamiq_async.emulator import Approval, Emulator, Fault, RunContext
from dynamiq_async.emulator.app.execution import Execution, execute
from dynamiq_async.emulator.app.recent import RECENT
from dynamiq_async.emulator.core.feed import Feed
from dynamiq_async.emulator.ui import views
from dynamiq_async.emulator.ui.live import MAX_EVENTS, MAX_REQUESTS
from dynamiq_async.emulator.ui.shown_runs import MAX_RUNS

BACKGROUND = {"input": {"question": "Where?"}, "background": True}


async def asking(input: dict[str, Any], run: RunContext) -> Any:
    """Asks for approval, then for words.

    And more.
    """
    await run.text("Let me see. ")
    params = {"to": "ann@example.com", "order": {"id": 7}, "fixed": 1}
    approval = await run.approve("Send?", params, editable=("to", "order"))
    parts = [{"question_id": "q", "question": "When?", "options": [{"label": "Now"}]}]
    said = await run.ask("What else?", questions=parts)
    return [
        approval.approved,
        approval.params,
        approval.feedback,
        said,
        getattr(said, "answers", 0),
    ]


async def endless(input: dict[str, Any], run: RunContext) -> Any:
    await run.text("begun")
    await asyncio.get_running_loop().create_future()


async def stubborn(input: dict[str, Any], run: RunContext) -> Any:
    try:
        await asyncio.get_running_loop().create_future()
    except asyncio.CancelledError:
        return "all the same"


async def many(input: dict[str, Any], run: RunContext) -> Any:
    for number in range(input["count"]):
        await run.emit({"number": number, "filling": "x" * input.get("size", 0)})


APPS: dict[str, Any] = {
    "asking": asking,
    "endless": endless,
    "stubborn": stubborn,
    "many": many,
}


@pytest.fixture
async def emulator() -> Any:
    async with Emulator("echo", apps=APPS) as running:
        yield running


async def background(emulator: Emulator, client: Any, app: str, **input: Any) -> str:
    body = {"input": input, "background": True}
    id: str = (await client.post(f"/{app}/v1/runs", body)).json["data"]["id"]
    return id


# --- lists --------------------------------------------------------------------------------------


async def test_the_apps_come_first(emulator: Emulator, look: Any) -> None:
    page = await look(emulator)
    await page.until(lambda page: "faults" in page.told)
    assert page.types == ["hello", "apps", "runs", "requests", "faults"]
    default, *others = page.told["apps"]
    assert (default["name"], default["url"]) == ("echo", emulator.url)
    found = {app["name"]: app for app in others}
    assert found["asking"]["url"] == emulator.url_for("asking")
    assert found["asking"]["about"] == "Asks for approval, then for words."
    assert found["stubborn"]["about"] == ""
    assert page.told["faults"] == {"seed": 0, "faults": [], "here": True}


async def test_runs_and_requests_are_told_as_they_change(
    emulator: Emulator, connect: Any, look: Any
) -> None:
    page, client = await look(emulator), await connect(emulator)
    await page.until(lambda page: "faults" in page.told)
    emulator.faults.add(Fault(status=503), nth=3)
    id = await background(emulator, client, "asking")
    await page.until(lambda page: page.runs and page.runs[0]["questions"])
    [run] = page.runs
    assert (run["id"], run["kind"], run["app"]) == (id, "run", "asking")
    assert (run["status"], run["events"], run["ended_at"]) == ("awaiting_input", 3, None)
    await client.stream()
    await page.until(lambda page: len(page.runs) == 2 and page.runs[0]["status"] == "success")
    assert (page.runs[0]["kind"], page.runs[0]["events"]) == ("root", 1)
    assert (await client.post()).status == 503
    await page.until(lambda page: len(page.requests) == 3 and page.requests[0]["finished"])
    refused, stream, created = page.requests
    assert (refused["status"], refused["fault"], stream["fault"]) == (503, True, False)
    assert (created["method"], created["path"], created["status"]) == (
        "POST",
        "/asking/v1/runs",
        202,
    )
    assert (stream["events"], stream["disconnected"]) == (1, False)
    assert stream["seconds"] >= 0
    await page.until(lambda page: page.told["faults"]["faults"][0]["seen"] == 3)
    quiet = len(page.types)
    emulator.reset()
    await page.until(lambda page: not page.requests and [each["id"] for each in page.runs] == [id])
    assert set(page.types[quiet:]) <= {"runs", "requests", "faults"}


async def test_the_newest_are_listed(emulator: Emulator, connect: Any, look: Any) -> None:
    client = await connect(emulator)
    count = MAX_REQUESTS + 5
    for _ in range(count):
        await client.post()
    assert len(emulator.executions) == count
    page = await look(emulator)
    await page.until(lambda page: "requests" in page.told)
    newest = [record.request_id for record in emulator.requests][: -MAX_REQUESTS - 1 : -1]
    assert [request["id"] for request in page.requests] == newest
    assert [run["id"] for run in page.runs] == [
        execution.id for execution in list(emulator.executions)[: -min(RECENT, MAX_RUNS) - 1 : -1]
    ]


# --- one run ------------------------------------------------------------------------------------


async def test_a_run_is_answered(emulator: Emulator, connect: Any, look: Any) -> None:
    client = await connect(emulator)
    id = await background(emulator, client, "asking", question="Where?")
    page = await look(emulator, id)
    await page.until(lambda page: len(page.events) == 3 and page.told["run"]["asked"])
    whole = page.told["run"]
    assert json.loads(whole["input"]["text"]) == {"question": "Where?"}
    assert (whole["output"], whole["error"], whole["nodes"]) == (None, None, None)
    [asked] = whole["asked"]
    assert (asked["kind"], asked["prompt"], asked["open"]) == ("approval_request", "Send?", True)
    assert [(p["name"], p["text"], p["editable"]) for p in asked["params"]] == [
        ("to", "ann@example.com", True),
        ("order", None, True),
        ("fixed", None, False),
    ]
    assert [event["type"] for event in page.events] == [
        "run.started",
        "agent.response.delta",
        "approval_request.created",
    ]
    assert json.loads(page.events[1]["text"])["data"]["delta"] == "Let me see. "

    path = f"/_emulator/runs/{id}/answers"
    approval = {"request_id": asked["id"], "approved": True, "feedback": "soon"}
    edited = {"to": "bob@example.com", "order": {"id": 8}, "fixed": 2}
    assert (await client.post(path, {**approval, "params": edited}, key=None)).status == 200
    assert (await client.post(path, approval)).status == 409
    await page.until(lambda page: len(page.told["run"]["asked"]) == 2)
    first, second = page.told["run"]["asked"]
    assert (first["open"], first["answer"]) == (False, "approved: soon")
    assert json.loads(second["parts"]["text"])[0]["question"] == "When?"
    answers = [{"question_id": "q", "selected": ["Now"], "custom_text": None}]
    words = {"request_id": second["id"], "content": "é", "answers": answers}
    assert (await client.post(path, words)).status == 200
    await page.until(lambda page: page.told["run"]["status"] == "completed")
    assert page.told["run"]["asked"][1]["answer"] == "é"
    changed = {"to": "bob@example.com", "order": {"id": 8}, "fixed": 1}
    assert emulator.runs[id].output == {"output": [True, changed, "soon", "é", answers]}
    assert json.loads(page.told["run"]["output"]["text"]) == emulator.runs[id].output
    await page.until(lambda page: page.events[-1]["type"] == "run.completed")
    sequences = [event["sequence"] for event in page.events]
    assert sequences == list(range(1, len(emulator.runs[id].feed.events) + 1))


async def test_an_invocation_is_answered_too(emulator: Emulator, connect: Any, look: Any) -> None:
    client, caller = await connect(emulator), await connect(emulator)
    await caller.send("POST", "/asking", {"input": {}, "stream": True})
    await emulator.wait_until(lambda: emulator.executions and emulator.executions[0].questions)
    id = emulator.executions[0].id
    page = await look(emulator, id)
    await page.until(lambda page: len(page.events) == 2 and page.told["run"]["asked"])
    assert page.told["run"]["status"] == "awaiting_input"
    answers: tuple[dict[str, Any], ...] = ({"approved": False}, {"content": "no"})
    for number, answer in enumerate(answers):
        await page.until(lambda page, number=number: len(page.told["run"]["asked"]) == number + 1)
        body = {"request_id": page.told["run"]["asked"][number]["id"], **answer}
        assert (await client.post(f"/_emulator/runs/{id}/answers", body)).status == 200
    events = (await caller.read()).events
    await page.until(lambda page: page.told["run"]["status"] == "success")
    await page.until(lambda page: len(page.events) == len(events))
    assert [json.loads(event["text"]) for event in page.events] == events
    assert page.told["run"]["asked"][0]["answer"] == "rejected"
    assert "node-1" in json.loads(page.told["run"]["nodes"]["text"])


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"request_id": "nope", "approved": True}, 409),
        ({"request_id": 1}, 400),
        ({"request_id": "{id}"}, 400),
        ({"request_id": "{id}", "approved": "yes"}, 400),
        ({"request_id": "{id}", "approved": True, "params": []}, 400),
        ({"request_id": "{id}", "aproved": True}, 400),
        ({"request_id": "{id}", "content": "yes"}, 400),
        ({"request_id": "{id}", "approved": True, "answers": []}, 400),
    ],
)
async def test_a_wrong_answer_is_refused(
    emulator: Emulator, connect: Any, body: dict[str, Any], status: int
) -> None:
    client = await connect(emulator)
    id = await background(emulator, client, "asking")
    run = emulator.runs[id]
    await emulator.wait_until(lambda: run.open_questions)
    if body.get("request_id") == "{id}":
        body = {**body, "request_id": run.questions[0].id}
    assert (await client.post(f"/_emulator/runs/{id}/answers", body)).status == status
    assert run.questions[0].open
    assert (await client.post("/_emulator/runs/nope/answers", body)).status == 404


async def test_a_run_is_canceled(emulator: Emulator, connect: Any, look: Any) -> None:
    client = await connect(emulator)
    id = await background(emulator, client, "asking")
    await emulator.wait_until(lambda: emulator.runs[id].open_questions)
    page = await look(emulator, id)
    assert (await client.post(f"/_emulator/runs/{id}/cancel", {})).status == 200
    await page.until(lambda page: page.told.get("run", {}).get("status") == "canceled")
    [asked] = page.told["run"]["asked"]
    assert (asked["open"], asked["answer"]) == (False, None)
    assert emulator.runs[id].status == "canceled"
    assert (await client.post(f"/_emulator/runs/{id}/cancel", {})).status == 200  # it is over
    assert (await client.post("/_emulator/runs/nope/cancel", {})).status == 404


@pytest.mark.parametrize("stream", [True, False])
async def test_the_caller_of_an_invocation_is_told_that_it_was_canceled(
    emulator: Emulator, connect: Any, stream: bool
) -> None:
    client, caller = await connect(emulator), await connect(emulator)
    await caller.send("POST", "/endless", {"input": {}, "stream": stream})
    await emulator.wait_until(lambda: emulator.executions)
    [execution] = emulator.executions
    for _ in range(2):
        await client.post(f"/_emulator/runs/{execution.id}/cancel", {})
    response = await caller.read()
    assert response.end == "whole"
    if stream:
        assert response.events[-1]["data"]["canceled"] is True
    else:
        assert response.json["status"] == "canceled"
    assert execution.status == "canceled"
    assert (await caller.post("/echo")).status == 200  # the connection is as it was


async def test_an_invocation_of_the_websocket_is_shown_and_canceled(
    emulator: Emulator, connect: Any, look: Any
) -> None:
    client = await connect(emulator)
    key = {"Authorization": f"Bearer {emulator.access_key}"}
    async with (
        aiohttp.ClientSession(headers=key) as session,
        session.ws_connect(emulator.url_for("endless")) as socket,
    ):
        await socket.send_json({"entity_id": "x", "data": {"input": {"a": 1}}})
        assert (await socket.receive_json())["event"] == "data"
        id = emulator.executions[0].id
        page = await look(emulator, id)
        await page.until(lambda page: len(page.events) == 1)
        assert (page.runs[0]["kind"], page.runs[0]["status"]) == ("root", "running")
        await client.post(f"/_emulator/runs/{id}/cancel", {})
        assert (await socket.receive_json())["data"]["canceled"] is True
    await page.until(lambda page: page.runs[0]["status"] == "canceled" and len(page.events) == 2)


async def test_an_app_may_take_no_notice(emulator: Emulator, connect: Any) -> None:
    client, caller = await connect(emulator), await connect(emulator)
    await caller.send("POST", "/stubborn", {"input": {}})
    await emulator.wait_until(lambda: emulator.executions)
    await client.post(f"/_emulator/runs/{emulator.executions[0].id}/cancel", {})
    assert (await caller.read()).json == {"output": "all the same"}


async def test_a_cancellation_by_others_is_never_swallowed() -> None:
    execution = Execution(id="1", app="endless", input={})
    execution.cancel()  # nothing runs yet

    class Silent:
        async def message(self, name: str, message: Any) -> None: ...

    channel: Any = Silent()
    context = RunContext(id="1", app="endless", channel=channel)
    task = asyncio.create_task(execute(endless, execution, context, "output_node"))
    while execution.task is None:
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    execution.cancel()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert execution.status == "canceled"


# --- its events ---------------------------------------------------------------------------------


async def test_of_many_events_the_newest_are_shown(
    emulator: Emulator, connect: Any, look: Any
) -> None:
    client = await connect(emulator)
    id = await background(emulator, client, "many", count=MAX_EVENTS + 100)
    await emulator.wait_until(lambda: emulator.runs[id].terminal)
    page = await look(emulator, id)
    await page.until(lambda page: page.events and "completed" in page.events[-1]["type"])
    assert (len(page.events), page.missed) == (MAX_EVENTS, 102)
    assert page.events[0]["sequence"] == 103


async def test_large_data_is_cut(emulator: Emulator, connect: Any, look: Any) -> None:
    client = await connect(emulator)
    size = views.MAX_TEXT * 2
    id = await background(emulator, client, "many", count=1, size=size, more="y" * size)
    page = await look(emulator, id)
    await page.until(lambda page: len(page.events) == 3)
    event, given = page.events[1], page.told["run"]["input"]
    for shown in (event, given):
        assert shown["cut"]
        assert len(shown["text"]) == views.MAX_TEXT
        assert shown["size"] > size


@pytest.mark.parametrize(("size", "kept"), [(0, 257), (100_000, 3), (300_000, 1)])
async def test_the_end_of_what_an_invocation_streamed_is_kept(
    emulator: Emulator, connect: Any, look: Any, size: int, kept: int
) -> None:
    body = {"input": {"count": 300, "size": size}, "stream": True}
    response = await (await connect(emulator)).post("/many", body)
    [record] = emulator.requests
    assert record.sent == response.body[:2048]
    assert (record.bytes_sent, record.events_sent) == (len(response.body), 301)
    streamed = response.events
    page = await look(emulator, emulator.executions[0].id)
    await page.until(lambda page: len(page.events) >= kept)
    assert len(page.events) == kept
    assert page.missed == len(streamed) - kept
    assert page.events[-1]["sequence"] == 301


async def test_a_feed_is_shown_as_far_as_it_is_kept(connect: Any, look: Any) -> None:
    """An App waits for its own readers, never for a page."""
    async with Emulator(many, event_window=3) as emulator:
        client = await connect(emulator)
        body = {"input": {"count": 50}, "background": True}
        id = (await client.post("/v1/runs", body)).json["data"]["id"]
        await emulator.wait_until(lambda: emulator.runs[id].terminal)
        page = await look(emulator, id)
        await page.until(lambda page: page.events and "completed" in page.events[-1]["type"])
        assert page.missed == 52 - len(page.events)
        assert len(page.events) <= 4


async def test_a_page_that_is_behind_is_told_what_it_missed() -> None:
    feed = Feed(window=2)
    for number in range(5):
        await feed.room()
        feed.append("x", b"%d" % number)
    assert feed.tail(1).slice(4)[0].data == b"4"
    assert (feed.tail(0).forgotten, feed.tail(9).forgotten) == (5, 3)


async def test_a_run_that_is_not_there(emulator: Emulator, look: Any) -> None:
    page = await look(emulator, "nope")
    await page.until(lambda page: "run" in page.told)
    assert page.told["run"] is None


async def test_the_page_leaves_nothing_behind(emulator: Emulator, connect: Any, look: Any) -> None:
    before = asyncio.all_tasks()
    page = await look(emulator)
    await page.until(lambda page: "faults" in page.told)
    assert asyncio.all_tasks() > before
    page.client.abort()
    await emulator.wait_until(lambda: not emulator.open_connections)
    while asyncio.all_tasks() > before:  # the time limit of every test ends it
        await asyncio.sleep(0.01)


# --- one request -------------------------------------------------------------------------------


async def test_a_request_is_shown_without_its_secrets(emulator: Emulator, connect: Any) -> None:
    client = await connect(emulator)
    secrets = {
        "Cookie": "hush-1",
        "X_Api_Key": "hush-2",
        "Proxy_Authorization": "hush-3",
        "X_Auth_Token": "hush-4",
    }
    body: dict[str, Any] = {
        "input": {"q": 1, "password": "hush-5", "usage": {"prompt_tokens": "9"}}
    }
    body |= {"session_id": "s", "extra": {"accessKey": 'hush-6 " hush-7'}}
    path = "/?access_token=hush-8&page=2"
    await client.post(path, body, Authorization="Bearer hush-9", **secrets)
    [record] = emulator.requests
    shown = await client.get(f"/_emulator/requests/{record.request_id}")
    assert b"hush" not in shown.body
    assert str(emulator.access_key).encode() not in shown.body
    whole = shown.json
    assert whole["query"] == [["access_token", "***"], ["page", "2"]]
    assert {name.lower(): text for name, text in whole["headers"]}["cookie"] == "***"
    given = json.loads(whole["body"]["text"])
    assert given["input"] == {"q": 1, "password": "***", "usage": {"prompt_tokens": "9"}}
    assert given["extra"] == {"accessKey": "***"}
    assert json.loads(whole["response"]["text"])["usage"] == {"prompt_tokens": "9"}
    assert (whole["app"], whole["service"], whole["status"]) == ("echo", None, 200)
    assert (await client.get("/_emulator/requests/nope")).status == 404


async def test_what_is_said_in_other_words_is_masked_too(emulator: Emulator, connect: Any) -> None:
    client = await connect(emulator)
    within = json.dumps({"api_key": "hush-1", "note": "of key-4711-4711"})
    body = {"input": {"text": within, "more": ["key-4711-4711"]}}
    path = "/?key=hush-2&sig=hush-3&n=1"
    await client.post(path, body, Authorization="Bearer key-4711-4711", X_Session="hush-4")
    form = b"password=hush-5&q=1"
    await client.post("/", form, content_type="application/x-www-form-urlencoded")
    shown = [
        await client.get(f"/_emulator/requests/{record.request_id}")
        for record in list(emulator.requests)
    ]
    assert not any(word in one.body for one in shown for word in (b"hush", b"key-4711"))
    assert json.loads(shown[0].json["body"]["text"])["input"]["more"] == ["***"]
    assert shown[0].json["query"] == [["key", "***"], ["sig", "***"], ["n", "1"]]
    assert shown[1].json["body"]["text"] == "password=***&q=1"


async def test_an_answer_to_another_kind_of_question_is_refused(
    emulator: Emulator, connect: Any
) -> None:
    client = await connect(emulator)
    id = await background(emulator, client, "asking")
    run = emulator.runs[id]
    await emulator.wait_until(lambda: run.open_questions)
    path, first = f"/_emulator/runs/{id}/answers", run.questions[0]
    assert (await client.post(path, {"request_id": first.id, "approved": True})).status == 200
    await emulator.wait_until(lambda: len(run.questions) == 2)
    second = run.questions[1]
    verdicts: tuple[dict[str, Any], ...] = ({"approved": False}, {"params": {}}, {"feedback": "no"})
    for verdict in verdicts:
        wrong = await client.post(path, {"request_id": second.id, **verdict})
        assert (wrong.status, wrong.error["details"]) == (
            400,
            dict.fromkeys(verdict, "is for a question of another kind"),
        )
    assert second.open


async def test_requests_of_all_kinds_are_shown(emulator: Emulator, connect: Any) -> None:
    client = await connect(emulator)
    emulator.script(Fault(status=503, body=b"\xff\0"), Fault(after_events=1, drop="close"))
    await client.get("/~management/v1/apps")
    with_file = ('name="input"', b"{}"), ('name="files"; filename="<b>.txt"', b"text")
    await client.stream()
    client = await connect(emulator)
    await client.form("/", *with_file)
    await client.get("/~connect/the-token")
    shown = [
        (await client.get(f"/_emulator/requests/{record.request_id}")).json
        for record in emulator.requests
    ]
    managed, dropped, form, link = shown
    assert (managed["app"], managed["service"]) == (None, "management")
    assert managed["response"] == {"text": "\ufffd\0", "size": 2, "cut": False}
    assert json.loads(managed["faults"]["text"])["status"] == 503
    assert (dropped["events"], dropped["finished"]) == (1, True)
    assert form["body"] is None
    assert form["parts"][1] == {"name": "files", "filename": "<b>.txt", "size": 4}
    assert link["path"] == "/~connect/***"


async def test_a_long_response_is_cut(emulator: Emulator, connect: Any) -> None:
    client = await connect(emulator)
    await client.post("/", {"input": {"text": "x" * 50_000}})
    [record] = emulator.requests
    assert len(record.sent) == 2048
    whole = (await client.get(f"/_emulator/requests/{record.request_id}")).json
    assert (len(whole["response"]["text"]), whole["response"]["cut"]) == (2048, True)
    assert whole["response"]["size"] == record.bytes_sent > 50_000
    assert whole["body"]["cut"]


def test_whatever_apps_handle_can_be_shown() -> None:
    shown = views.value({"n": 2**80, "x": "\ud83d", "at": Approval, "none": float("nan")})
    assert shown is not None
    assert str(2**80) in shown["text"]
    assert json.loads(views.encode({"a": float("inf"), "b": ["\ud83d", 2**80]})) == {
        "a": None,
        "b": ["\ud83d", 2**80],
    }
