"""What an emulator has after a restart with its database, and how its runs go on.

Runs are cut in the file, as if the process had been killed right behind an event.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from dynamiq_async import AsyncApp
from dynamiq_async.emulator import (
    BUILTIN,
    DEFAULT_TOKEN,
    DatabaseError,
    Emulator,
    Fault,
    Question,
    RunContext,
    WorkflowFailedError,
)
from dynamiq_async.emulator.app import replay
from tests.support.limits import HANG_SECONDS
from tests.support.raw_http import RawClients
from tests.support.run_apps import SESSION, numbers, waits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from dynamiq_async.emulator.core.feed import FeedEvent
    from tests.support.raw_http import RawClient

    App = Callable[[dict[str, Any], RunContext], Any]

LIKE = {"run.started": "started", "run.paused": "paused", "run.resumed": "started"}


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "emulator.db"


def cut(db: Path, behind: int, *, answers: bool = False) -> None:
    """Make the only run of the file one that was at work, with so many events. An answer that was
    given is left out unless the event that tells of it is there, or `answers`."""
    with closing(sqlite3.connect(db)) as file, file:
        file.execute("DELETE FROM events WHERE sequence > ?", (behind,))
        types = [row[0] for row in file.execute("SELECT type FROM events ORDER BY sequence")]
        status = next((LIKE[type] for type in reversed(types) if type in LIKE), "created")
        file.execute("UPDATE runs SET state = ?", (json.dumps({"status": status}).encode(),))
        file.execute("UPDATE executions SET ended = NULL")
        if not types:
            file.execute("DELETE FROM executions")
        asked = sum("request" in type and "run." not in type for type in types)
        answered = sum(
            "feedback.received" in type or "approval_request." in type[4:] for type in types
        )
        if not answers:
            file.execute("UPDATE questions SET answer = NULL WHERE number >= ?", (answered,))
            file.execute("DELETE FROM questions WHERE number >= ?", (asked,))


async def ended(emulator: Emulator, id: str) -> Any:
    await emulator.wait_until(lambda: emulator.runs[id].terminal)
    return emulator.runs[id]


async def answer(emulator: Emulator, id: str) -> None:
    """Answer the questions of a run until it is over."""
    run = emulator.runs[id]
    while not run.terminal:
        await emulator.wait_until(lambda: run.open_questions or run.terminal)
        for question in run.open_questions:
            if question.kind == "human_feedback":
                question.reply("sales")
            else:
                question.decide(True, {"to": "bob@example.com"})
        await asyncio.sleep(0)


async def go_through(app: Any, db: Path, **input: Any) -> tuple[str, list[FeedEvent]]:
    """A run of the App from its beginning to its end: its id and events."""
    async with Emulator(app, db=db) as emulator, asyncio.TaskGroup() as tasks:
        client = await RawClients()(emulator)
        run = (await client.post("/v1/runs", {"input": input, "background": True})).json["data"]
        await tasks.create_task(answer(emulator, run["id"]))
        client.close()
        return run["id"], list(emulator.runs[run["id"]].feed.events)


def plain(events: Iterable[FeedEvent]) -> list[tuple[int, str, Any]]:
    return [(e.sequence, e.type, json.loads(e.data)["data"]) for e in events]


# --- what is there again --------------------------------------------------------------------------


async def everything(emulator: Emulator, client: RawClient) -> dict[str, Any]:
    """All that can be asked of the state, by its paths."""
    of_app = f"/~management/v1/apps/{emulator.management.apps[-1].id}"
    paths = ["/v1/runs", "/v1/runs?sort=started_at&status=failed"]
    for id in emulator.runs:
        paths += [f"/v1/runs/{id}", f"/v1/runs/{id}/events?page_size=500"]
    shown = {path: (await client.get(path)).json for path in paths}
    for path in ("/traces", "/sessions", f"/sessions/{SESSION}/messages"):
        shown[path] = (await client.get(of_app + path, key=DEFAULT_TOKEN)).json
    for id in emulator.runs:
        made = (await client.get(f"{of_app}/runs/{id}/artifacts", key=DEFAULT_TOKEN)).json
        for one in made["data"]:
            link = one.pop("download_url").partition("/~")[2]
            one["content"] = (await client.get(f"/~{link}", key=None)).body
        shown[f"{id}/artifacts"] = made
    return shown


async def works(input: dict[str, Any], run: RunContext) -> Any:
    await run.emit({"usage": {"prompt_tokens": 3, "total_tokens": 5}})
    await run.event("custom", {"files": [file.read().decode() for file in run.files]})
    run.save("a b/ä", b"\x00\xff" * 1000, mime_type="image/png")
    if input.get("fail"):
        raise WorkflowFailedError("it was told to fail", {"n": {"status": "failure"}})
    return {"said": input.get("say"), "none": None, "deep": [{"π": 1.5}]}


async def test_runs_files_and_history_are_there_again(connect: RawClients, db: Path) -> None:
    async with Emulator(works, apps={"other": works}, db=db) as emulator:
        client = await connect(emulator)
        file = await client.form("/v1/files", ('name="file"; filename="ä.txt"', b"kept"))
        id = file.json["data"]["id"]
        for input in ({"say": "ä"}, {"fail": True}, {}):
            body = {"input": input, "session_id": SESSION, "user_id": "ann", "file_ids": [id]}
            assert (await client.post("/v1/runs", body)).status == 200
        await client.post("/", {"input": {"say": "root"}, "session_id": SESSION})
        await client.post("/other/v1/runs")
        before = await everything(emulator, client)
        assert len(emulator.runs) == 4
    async with Emulator(works, apps={"other": works}, db=str(db)) as emulator:
        client = await connect(emulator)
        assert await everything(emulator, client) == before
        again = {"input": {}, "file_ids": [id]}
        assert (await client.post("/other/v1/runs", again)).status == 400  # it is another App's
        run = (await client.post("/v1/runs", again)).json["data"]
        events = (await client.get(f"/v1/runs/{run['id']}/events")).json["data"]
        assert {"files": ["kept"]} in [event["data"] for event in events]
        assert emulator.runs[run["id"]].age < 60 < 1e6
        assert not emulator.executions[:-1]


async def test_a_file_of_many_pieces_is_read_whole(connect: RawClients, db: Path) -> None:
    async def app(input: dict[str, Any], run: RunContext) -> Any:
        return [len(file.read()) for file in run.files]

    sizes = [0, 2**20, 2_500_000]
    async with Emulator(app, db=db) as emulator:
        client = await connect(emulator)
        ids = []
        for size in sizes:
            part = 'name="file"; filename="f"', bytes(size)
            ids.append((await client.form("/v1/files", part)).json["data"]["id"])
    with closing(sqlite3.connect(db)) as file, file:  # an upload that a kill has cut
        file.execute("INSERT INTO pieces VALUES ('half', 0, x'00')")
    async with Emulator(app, db=db) as emulator:
        client = await connect(emulator)
        run = (await client.post("/v1/runs", {"input": {}, "file_ids": ids})).json["data"]
        assert run["output"]["output"] == sizes
    with closing(sqlite3.connect(db)) as file:
        assert file.execute("SELECT count(*) FROM pieces WHERE file = 'half'").fetchone() == (0,)


async def test_files_that_were_sent_along_are_there_for_the_run_that_goes_on(
    connect: RawClients, db: Path
) -> None:
    async def app(input: dict[str, Any], run: RunContext) -> Any:
        await run.event("custom", {})
        return [file.read().decode() for file in run.files]

    async with Emulator(app, db=db) as emulator:
        client = await connect(emulator)
        parts = [(f'name="files"; filename="{name}"', name.encode()) for name in ("one", "two")]
        run = (await client.form("/v1/runs", ('name="input"', b"{}"), *parts)).json["data"]
    cut(db, 2)
    async with Emulator(app, db=db) as emulator:
        assert (await ended(emulator, run["id"])).output == {"output": ["one", "two"]}
    with closing(sqlite3.connect(db)) as file:
        ids = [row[0] for row in file.execute("SELECT id FROM files")]
    async with Emulator(app, db=db) as emulator:  # they were never uploaded by themselves
        named = {"input": {}, "file_ids": ids}
        assert (await (await connect(emulator)).post("/v1/runs", named)).status == 400


async def test_a_call_that_was_bound_to_a_connection_is_over(connect: RawClients, db: Path) -> None:
    async with Emulator(waits, db=db) as emulator:
        client = await connect(emulator)
        await client.send("POST", "/", {"input": {}})
        await emulator.wait_until(lambda: emulator.executions)
    for _ in range(2):
        async with Emulator(waits, db=db) as emulator:
            path = f"/~management/v1/apps/{emulator.management.apps[-1].id}/traces"
            traces = await (await connect(emulator)).get(path, key=DEFAULT_TOKEN)
            [trace] = traces.json["data"]
            assert trace["status"] == "canceled"
            assert trace["error"]["message"] == "Workflow 'waits' was canceled during execution"
            assert trace["ended_at"] is not None


async def test_the_history_has_as_many_executions_as_are_remembered(
    connect: RawClients, db: Path
) -> None:
    async with Emulator("echo", db=db, log_limit=2) as emulator:
        client = await connect(emulator)
        for n in range(4):
            await client.post("/", {"input": {"n": n}})
    async with Emulator("echo", db=db, log_limit=2) as emulator:
        assert [each.input for each in emulator.management.executions] == [{"n": 2}, {"n": 3}]


async def test_one_object_may_be_started_again_and_again(connect: RawClients, db: Path) -> None:
    emulator = Emulator(numbers, db=db)
    for count in range(1, 4):
        async with emulator:
            await (await connect(emulator)).post("/v1/runs", {"input": {}, "session_id": SESSION})
            listed = await (await connect(emulator)).get(f"/v1/runs?session_id={SESSION}")
            assert len(listed.json["data"]) == len(emulator.runs) == count
            assert len(emulator.management.executions) == count


# --- runs go on -----------------------------------------------------------------------------------


async def pauses(input: dict[str, Any], run: RunContext) -> Any:
    """Does whatever an event tells of."""
    tool = str(uuid4())
    run.resume()  # nothing is paused
    await run.event("custom", {"tool": tool, "call": f"call_{tool}", "n": [1, {"t": tool}]})
    run.pause()
    run.resume()
    await run.message(
        {"run_id": "r", "wf_run_id": "w", "entity_id": "n", "event": "mine", "data": {"a": tool}}
    )
    run.skip_sequence(2)
    answer = await run.ask("Which?", pause=True)
    await run.send(b'{"sequence": 9, "type": "raw", "data": 1}', event="raw")
    both = [Question(prompt="One?"), Question(prompt="Two?", id="two")]
    for question in both:
        await run.show(question)
    said = [str(await run.answer_to(question)) for question in both]
    verdict = await run.approve("Sure?", {"to": "ann"}, editable=["to"])
    await run.event("custom", {"tool": tool, "said": [answer, *said], "to": verdict.params["to"]})
    return {"tool": tool}


APPS = {**BUILTIN, "numbers": numbers, "pauses": pauses}
ENDS = {"failing": "failure", "canceled": "canceled"}


@pytest.mark.parametrize("name", APPS)
async def test_a_run_goes_on_behind_each_of_its_events(db: Path, name: str) -> None:
    app = APPS[name]
    id, events = await go_through(app, db, question="Hi", holes=[1, 3])
    for behind in reversed(range(events[-1].sequence)):
        cut(db, behind)
        async with Emulator(app, db=db) as emulator:
            run = emulator.runs[id]
            stored = list(run.feed.events)
            assert stored == [event for event in events if event.sequence <= behind]
            await answer(emulator, id)
            assert list(run.feed.events)[: len(stored)] == stored
            now = plain(run.feed.events)
            assert [event[:2] for event in now] == [event[:2] for event in plain(events)]
            assert len(set(map(str, ids_of_tools(now)))) <= 1
            [execution] = emulator.executions
            assert [each.id for each in emulator.management.executions] == [id]
            assert execution.status == ENDS.get(name, "success")
        async with Emulator(app, db=db) as emulator:
            assert list(emulator.runs[id].feed.events) == list(run.feed.events)
            assert emulator.runs[id].public() == run.public()
            assert not emulator.executions


def ids_of_tools(events: list[tuple[int, str, Any]]) -> list[str]:
    """The ids that `pauses` and the built-in agent make up and tell of more than once."""
    found = []
    for _, type, data in events:
        if type == "custom" and "tool" in data:
            found.append(data["tool"])
            assert data.get("call", f"call_{data['tool']}") == f"call_{data['tool']}"
        elif type == "agent.tool_call.completed":
            found.append(data["id"])
    return found


async def test_it_takes_up_its_pace_again(db: Path) -> None:
    id, events = await go_through(numbers, db, count=5)
    cut(db, 4)
    async with Emulator(numbers, db=db, pace=0.02) as emulator:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await ended(emulator, id)
        assert loop.time() - began >= 0.04  # two events are left, of five
        assert len(emulator.runs[id].feed.events) == len(events)


@pytest.mark.parametrize("told", [False, True])
async def test_an_open_question_is_open_at_once(connect: RawClients, db: Path, told: bool) -> None:
    """Its answer may come before the App has asked again."""
    id, events = await go_through(pauses, db)
    [asked] = [e.sequence for e in events if e.type == "agent.human_feedback.requested"][:1]
    cut(db, asked + 1)
    async with Emulator(pauses, db=db) as emulator:
        client = await connect(emulator)
        run = (await client.get(f"/v1/runs/{id}")).json["data"]
        [question] = run["input_requests"]
        assert run["status"] == "awaiting_input"
        data = {"request_id": question["id"], "feedback": "sales"}
        body = {"type": "human_feedback", "data": data}
        assert (await client.post(f"/v1/runs/{id}/input", body)).status == 200
        if told:
            await answer(emulator, id)
    async with Emulator(pauses, db=db) as emulator:
        await answer(emulator, id)
        assert plain(emulator.runs[id].feed.events)[-2][2]["said"] == ["sales"] * 3


async def test_an_answer_that_was_taken_is_not_asked_for_again(db: Path) -> None:
    id, events = await go_through(APPS["approval"], db, to="ann@example.com")
    cut(db, 2, answers=True)
    async with Emulator("approval", db=db) as emulator:
        run = await ended(emulator, id)
        assert run.output == {"output": "sent to bob@example.com"}
        assert len(run.feed.events) == len(events)


async def test_parts_of_a_question_are_there_again(db: Path) -> None:
    parts = [{"question_id": "q1", "prompt": "Which?"}]

    async def app(input: dict[str, Any], run: RunContext) -> Any:
        answer: Any = await run.ask("Some?", questions=parts, request_id="r")
        return {"answers": answer.answers}

    given = {"question_id": "q1", "selected": ["a"], "custom_text": None}
    async with Emulator(app, db=db) as emulator:
        client = await RawClients()(emulator)
        id = (await client.post("/v1/runs", {"input": {}, "background": True})).json["data"]["id"]
        await emulator.wait_until(lambda: emulator.runs[id].open_questions)
        shown = (await client.get(f"/v1/runs/{id}")).json["data"]["input_requests"]
        emulator.runs[id].open_questions[0].take({"content": "x", "answers": [given]})
        await ended(emulator, id)
        client.close()
    cut(db, 2)
    async with Emulator(app, db=db) as emulator:
        client = await RawClients()(emulator)
        assert (await client.get(f"/v1/runs/{id}")).json["data"]["input_requests"] == shown
        client.close()
    cut(db, 2, answers=True)
    async with Emulator(app, db=db) as emulator:
        emulator.runs[id].questions[0].reply("x", [given])
        assert (await ended(emulator, id)).output == {"answers": [given]}
    cut(db, 2, answers=True)
    async with Emulator(app, db=db) as emulator:
        assert (await ended(emulator, id)).output == {"answers": [given]}


async def test_a_follower_gets_each_event_once_over_a_restart(
    connect: RawClients, db: Path
) -> None:
    go = asyncio.Event()

    async def app(input: dict[str, Any], run: RunContext) -> Any:
        for number in range(10):
            if number == 5:
                await go.wait()
            await run.event("custom", {"number": number})

    async with Emulator(app, db=db) as emulator:
        client = await connect(emulator)
        await client.send("POST", "/v1/runs", {"input": {}, "stream": True})
        await emulator.wait_until(lambda: emulator.executions)
        [run] = emulator.runs.values()
        async with asyncio.timeout(HANG_SECONDS):
            while emulator.requests[0].events_sent < 6:
                await asyncio.sleep(0.001)
    first = await client.read()
    go.set()
    async with Emulator(app, db=db) as emulator:
        rest = await (await connect(emulator)).get(f"/v1/runs/{run.id}/stream?after_sequence=6")
        assert first.sequences + rest.sequences == list(range(1, 13))


async def test_with_a_window_the_newest_events_are_there_again(
    connect: RawClients, db: Path
) -> None:
    id, _ = await go_through(numbers, db, count=9)
    cut(db, 8)
    async with Emulator(numbers, db=db, event_window=3) as emulator:
        assert [event.sequence for event in emulator.runs[id].feed.events] == [6, 7, 8]
        run = await ended(emulator, id)
        assert [event.sequence for event in run.feed.events] == [8, 9, 10, 11]
        assert run.feed.forgotten == 7
    async with Emulator(numbers, db=db, event_window=3) as emulator:
        stream = await (await connect(emulator)).get(f"/v1/runs/{id}/stream?after_sequence=9")
        assert stream.sequences == [10, 11]


# --- runs do not go on ----------------------------------------------------------------------------


async def ends(input: dict[str, Any], run: RunContext) -> Any:
    return None


async def other_data(input: dict[str, Any], run: RunContext) -> Any:
    await run.event("custom.number", {"number": -1})


async def more_data(input: dict[str, Any], run: RunContext) -> Any:
    await run.event("custom.number", {"number": 0, "more": True})


async def other_text(input: dict[str, Any], run: RunContext) -> Any:
    await run.event("custom.number", {"number": "none"})


async def other_type(input: dict[str, Any], run: RunContext) -> Any:
    await run.event("custom.other", {"number": 0})


async def raw(input: dict[str, Any], run: RunContext) -> Any:
    await run.send(b"{}", event="custom.number")


async def pausing(input: dict[str, Any], run: RunContext) -> Any:
    run.pause()


async def hole(input: dict[str, Any], run: RunContext) -> Any:
    run.skip_sequence()
    await run.event("custom.number", {"number": 0})


async def careless(input: dict[str, Any], run: RunContext) -> Any:
    """Goes on whatever is raised."""
    for number in range(-1, 5):
        with suppress(WorkflowFailedError):
            await run.event("custom.number", {"number": number})
    return "fine"


@pytest.mark.parametrize(
    ("app", "said"),
    [
        (ends, "event 2 was 'custom.number', and now the App sent 'run.completed'"),
        (other_data, "event 2 was 'custom.number', and now the App sent it with other data"),
        (more_data, "event 2 was 'custom.number', and now the App sent it with other data"),
        (other_text, "event 2 was 'custom.number', and now the App sent it with other data"),
        (other_type, "event 2 was 'custom.number', and now the App sent 'custom.other'"),
        (raw, "event 2 was 'custom.number', and now the App sent it with other data"),
        (pausing, "event 2 was 'custom.number', and now the App sent 'run.paused'"),
        (hole, "event 2 was 'custom.number', and now the App sent it as event 3"),
        (careless, "event 2 was 'custom.number', and now the App sent it with other data"),
    ],
)
async def test_a_run_whose_app_does_something_else_fails(
    connect: RawClients, db: Path, app: App, said: str
) -> None:
    id, events = await go_through(numbers, db)
    cut(db, 4)
    for _ in range(2):
        async with Emulator(app, db=db) as emulator:
            run = await ended(emulator, id)
            assert run.status == "failed"
            assert run.error == (
                "the emulator was started again, and the App did not repeat what it had done in "
                f"this run: {said}"
            )
            *before, last = run.feed.events
            assert before == events[:4]
            assert (last.sequence, last.type) == (5, "run.failed")
            if run.task is not None:
                await run.task
            path = f"/~management/v1/apps/{emulator.management.apps[-1].id}/traces/{id}"
            trace = (await (await connect(emulator)).get(path, key=DEFAULT_TOKEN)).json["data"]
            assert trace["status"] == ("succeeded" if app is careless else "failed")


async def tool_of(run: RunContext, tool: str, other: str) -> None:
    await run.event("custom", {"tool": tool})
    await run.event("custom", {"tool": other})


async def test_an_id_stands_for_one_other(db: Path) -> None:
    """Ids may be others than before, but what was one id has to be one again."""
    made: list[str] = []

    async def app(input: dict[str, Any], run: RunContext) -> Any:
        ids = [str(uuid4()) for _ in range(2)]
        made.append(ids[0])
        await tool_of(run, ids[0], ids[0] if len(made) == 1 else ids[1])

    id, _ = await go_through(app, db)
    cut(db, 3)
    async with Emulator(app, db=db) as emulator:
        assert (await ended(emulator, id)).status == "failed"


async def test_texts_are_the_same_but_for_their_ids(db: Path) -> None:
    made: list[str] = []

    async def app(input: dict[str, Any], run: RunContext) -> Any:
        made.append(str(uuid4()))
        await run.event("custom", {"text": f"try {len(made)} of {made[-1]}"})

    id, _ = await go_through(app, db)
    cut(db, 2)
    async with Emulator(app, db=db) as emulator:
        assert (await ended(emulator, id)).status == "failed"


async def test_a_run_may_be_canceled_while_it_repeats_itself(connect: RawClients, db: Path) -> None:
    async def app(input: dict[str, Any], run: RunContext) -> Any:
        await run.event("custom", {})
        if len(began) == 1:
            await asyncio.Event().wait()
        await run.event("custom", {})

    began: list[str] = []
    id, _ = await go_through(app, db)
    cut(db, 3)
    began.append(id)
    async with Emulator(app, db=db) as emulator:
        await (await connect(emulator)).post(f"/v1/runs/{id}/cancel")
        run = await ended(emulator, id)
        assert [event.type for event in run.feed.events][-2:] == ["custom", "run.canceled"]
        await emulator.wait_for_executions(1)
        await (await connect(emulator)).post(f"/v1/runs/{id}/cancel")
    async with Emulator(app, db=db) as emulator:
        await (await connect(emulator)).post(f"/v1/runs/{id}/cancel")
        assert emulator.runs[id].status == "canceled"
        assert emulator.management.executions[0].status == "canceled"


async def test_a_run_of_an_app_that_is_not_served_waits_for_it(db: Path) -> None:
    async with Emulator(apps={"mine": numbers}, db=db) as emulator:
        client = await RawClients()(emulator)
        id = (await client.post("/mine/v1/runs")).json["data"]["id"]
        client.close()
    cut(db, 3)
    async with Emulator(db=db) as emulator:
        assert emulator.runs[id].status == "started"
        assert emulator.runs[id].task is None
        assert not emulator.executions
    async with Emulator(apps={"mine": numbers}, db=db) as emulator:
        assert (await ended(emulator, id)).status == "completed"


async def test_a_killed_run_goes_on_too(connect: RawClients, db: Path) -> None:
    go = asyncio.Event()

    async def app(input: dict[str, Any], run: RunContext) -> Any:
        await go.wait()

    async with Emulator(app, db=db) as emulator:
        client = await connect(emulator)
        id = (await client.post("/v1/runs", {"input": {}, "background": True})).json["data"]["id"]
        await emulator.wait_until(lambda: emulator.executions)
        emulator.runs[id].kill()
        await emulator.wait_for_executions(1)
    go.set()
    async with Emulator(app, db=db) as emulator:
        assert (await ended(emulator, id)).status == "completed"


# --- what cannot be kept is not told --------------------------------------------------------------


def fill(db: Path, emulator: Emulator) -> None:
    """Leave no room in the file for anything more."""
    storage = emulator._apps.storage
    assert storage is not None
    rows = storage._database.rows
    rows(f"PRAGMA max_page_count={rows('PRAGMA page_count')[0][0]}")


async def test_an_event_that_cannot_be_kept_is_not_sent(
    connect: RawClients, db: Path, caplog: pytest.LogCaptureFixture
) -> None:
    go = asyncio.Event()

    async def app(input: dict[str, Any], run: RunContext) -> Any:
        await go.wait()
        await run.event("custom", {"long": "x" * 100_000})

    emulator = Emulator(app, db=db)
    with pytest.raises(DatabaseError, match=r"cannot be written: database or disk is full$"):
        async with emulator:
            client = await connect(emulator)
            await client.send("POST", "/v1/runs", {"input": {}, "stream": True})
            await emulator.wait_until(
                lambda: emulator.requests and emulator.requests[0].events_sent
            )
            fill(db, emulator)
            go.set()
            cut_off = await client.read()
            assert (cut_off.end, cut_off.sequences) == ("reset", [1])
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await (await connect(emulator)).post("/v1/runs")
    assert "disk is full" in caplog.text
    assert not emulator.open_connections
    async with Emulator(app, db=db) as emulator:
        [run] = emulator.runs.values()
        assert (await ended(emulator, run.id)).status == "completed"


async def test_what_waits_for_room_is_kept_once_there_is_some(
    connect: RawClients, db: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Emulator("echo", db=db) as emulator:
        fill(db, emulator)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await (await connect(emulator)).post("/", {"input": {"long": "x" * 100_000}})
        storage = emulator._apps.storage
        assert storage is not None
        storage._database.rows("PRAGMA max_page_count=100000")
        assert (await (await connect(emulator)).post("/", {"input": {}})).status == 200
        assert "disk is full" in caplog.text
    async with Emulator("echo", db=db) as emulator:
        assert [len(str(each.input)) > 100 for each in emulator.management.executions] == [
            True,
            False,
        ]


async def test_a_fault_makes_no_difference(connect: RawClients, db: Path) -> None:
    async with Emulator(numbers, db=db) as emulator:
        emulator.script(Fault(status=503, executes=True))
        assert (await (await connect(emulator)).post("/v1/runs")).status == 503
    async with Emulator(numbers, db=db) as emulator:
        assert [run.status for run in emulator.runs.values()] == ["completed"]


async def asks_twice(input: dict[str, Any], run: RunContext) -> Any:
    """Two questions are open at once."""
    answers = await asyncio.gather(run.ask("your name?"), run.ask("your mail?"))
    return {"output": [str(answer) for answer in answers]}


async def test_an_answer_waits_for_what_was_said_before_it(db: Path) -> None:
    async with (
        Emulator(asks_twice, db=db) as emulator,
        AsyncApp(emulator.url, access_key=emulator.access_key) as app,
    ):
        id = (await app.runs.create({}, background=True)).id
        await emulator.wait_until(lambda: len(emulator.runs[id].open_questions) == 2)
        second = emulator.runs[id].open_questions[1]
        second.reply("ann@example.com")
        await emulator.wait_until(lambda: len(emulator.runs[id].feed.events) == 4)
    async with Emulator(asks_twice, db=db) as emulator:
        run = emulator.runs[id]
        await emulator.wait_until(lambda: [q.prompt for q in run.open_questions] == ["your name?"])
        run.open_questions[0].reply("ann")
        done = await ended(emulator, id)
        assert (done.status, done.output["output"]) == ("completed", ["ann", "ann@example.com"])


async def test_an_answer_that_has_no_turn_any_more_fails_the_run(
    db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "_PATIENCE", 0.01)
    texts = ["before"]

    async def app(input: dict[str, Any], run: RunContext) -> Any:
        answers = asyncio.gather(run.ask("?"), *map(run.text, texts))
        return {"output": str((await answers)[0])}

    async with (
        Emulator(app, db=db) as emulator,
        AsyncApp(emulator.url, access_key=emulator.access_key) as client,
    ):
        id = (await client.runs.create({}, background=True)).id
        await emulator.wait_until(lambda: len(emulator.runs[id].feed.events) == 3)
        emulator.runs[id].open_questions[0].reply("so")
        await ended(emulator, id)
    cut(db, 4)
    texts.clear()
    async with Emulator(app, db=db) as emulator:
        done = await ended(emulator, id)
        assert done.status == "failed"
        assert "did not repeat" in str(done.error)


@pytest.mark.parametrize("kind", [RuntimeError, WorkflowFailedError])
async def test_an_error_that_no_file_can_hold_ends_the_run(db: Path, kind: type[Exception]) -> None:
    async def app(input: dict[str, Any], run: RunContext) -> Any:
        run.save(Path("a.txt"), b"x")  # type: ignore[arg-type]
        raise kind("\ud800")

    async with (
        Emulator(app, db=db) as emulator,
        AsyncApp(emulator.url, access_key=emulator.access_key) as client,
    ):
        run = await client.runs.create({}, timeout=HANG_SECONDS)
    assert run.status == "failed"
