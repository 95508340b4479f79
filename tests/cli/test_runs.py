"""`runs create`, `list`, `get`, `wait`, `events` and `cancel`: what is sent and printed."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any
from uuid import UUID

import pytest

from dynamiq_async.cli import tables
from dynamiq_async.emulator import Emulator, Fault, RunContext
from dynamiq_async.runs import Runs, waiting

from .conftest import CLI, KEY, Terminal

INPUT = '{"question": "Hi"}'
SESSION = "6f1e6a55-44d5-4b66-9f0b-90a9bb03b2a3"


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "POLL_SECONDS", (0.01, 0.01))


async def endless(input: dict[str, Any], run: RunContext) -> None:
    await asyncio.Event().wait()


async def new_run(cli: CLI, *options: str) -> str:
    """The id of a run that has been started."""
    result = await cli("runs", "create", INPUT, "--background", *options)
    assert result.code == 0
    id: str = json.loads(result.out)["id"]
    return id


# --- create --------------------------------------------------------------------------------------


async def test_create_waits_for_the_end_and_prints_the_run(emulator: Emulator, cli: CLI) -> None:
    result = await cli("runs", "create", INPUT)
    assert (result.code, result.err, result.out.count("\n")) == (0, "", 1)
    run = json.loads(result.out)
    assert run["status"] == "completed"
    assert run["output"]["output"].endswith("You said: Hi")
    assert list(emulator.runs) == [run["id"]]


async def test_a_person_gets_the_run_indented(terminal: Terminal) -> None:
    code, shown = await terminal.run("runs", "create", INPUT)
    assert code == 0
    assert '\n  \x1b[1;34m"status"' in shown


@pytest.mark.parametrize(("app", "status"), [("failing", "failed"), ("canceled", "canceled")])
async def test_a_run_that_did_not_come_through_is_printed_and_an_error(
    emulator: Emulator, cli: CLI, app: str, status: str
) -> None:
    result = await cli("runs", "create", INPUT, "--app", emulator.url_for(app))
    assert (result.code, json.loads(result.out)["status"]) == (1, status)
    assert re.match(rf"error: run \S+ (was )?{status}", result.err)


async def test_background_returns_at_once(emulator: Emulator, cli: CLI) -> None:
    async with Emulator(endless, access_key=KEY) as emulator:
        result = await cli("runs", "create", INPUT, "--background", "--app", emulator.url)
        assert (result.code, json.loads(result.out)["status"]) == (0, "created")


async def test_the_options_reach_the_service(emulator: Emulator, cli: CLI) -> None:
    result = await cli(
        *("runs", "create", INPUT, "--user-id", "ann", "--session-id", SESSION),
        *("--file-id", "f-1", "--file-id", "f-2"),
    )
    assert emulator.requests[0].json == {
        "input": {"question": "Hi"},
        "user_id": "ann",
        "session_id": SESSION,
        "file_ids": ["f-1", "f-2"],
    }
    assert "details.file_ids  there is no file 'f-2'" in result.err


async def test_dedupe_finds_a_run_whose_creation_got_no_response(
    emulator: Emulator, cli: CLI
) -> None:
    emulator.script(Fault(drop="reset", executes=True), match="POST /v1/runs")
    result = await cli("runs", "create", INPUT, "--dedupe")
    run = json.loads(result.out)
    assert (result.code, run["status"]) == (0, "completed")
    assert str(UUID(run["session_id"])) == run["session_id"]
    assert len(emulator.runs) == 1


async def test_wait_timeout_needs_no_connection_that_lasts(emulator: Emulator, cli: CLI) -> None:
    result = await cli("runs", "create", INPUT, "--wait-timeout", "5")
    assert (result.code, json.loads(result.out)["status"]) == (0, "completed")
    assert emulator.requests[0].json["background"] is True


async def test_a_run_that_takes_too_long_goes_on_without_its_reader(cli: CLI) -> None:
    async with Emulator(endless, access_key=KEY) as emulator:
        result = await cli("runs", "create", INPUT, "--wait-timeout", "0.05", "--app", emulator.url)
        (run,) = emulator.runs.values()
        assert (result.code, result.out, run.status) == (1, "", "started")
        assert result.err.endswith(f"  → go on with: dynamiq-async runs follow {run.id}\n")


# --- wait, get, cancel, events -------------------------------------------------------------------


async def test_wait_prints_the_run_when_it_is_over(cli: CLI) -> None:
    id = await new_run(cli)
    result = await cli("runs", "wait", id)
    assert (result.code, json.loads(result.out)["status"]) == (0, "completed")


async def test_wait_tells_a_person_what_is_awaited(
    cli: CLI, terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    id = await new_run(cli)
    code, _ = await terminal.run("runs", "wait", id)
    assert code == 0
    assert capsys.readouterr().err == f"waiting for run {id}\n"


async def test_wait_has_an_end(cli: CLI) -> None:
    async with Emulator("feedback", access_key=KEY) as emulator:
        app = ("--app", emulator.url)
        id = await new_run(cli, *app)
        result = await cli("runs", "wait", id, "--timeout", "0.2", *app)
        assert result.code == 1
        assert "it waits for answers to: 'sales'" in result.err


async def test_an_interrupted_wait_says_how_to_go_on(
    cli: CLI, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Runs, "wait", interrupted)
    result = await cli("runs", "wait", "r-1")
    assert result.code == 130
    assert result.err == "detached; go on with: dynamiq-async runs follow r-1\n"


async def test_get_prints_a_run_whatever_became_of_it(emulator: Emulator, cli: CLI) -> None:
    app = ("--app", emulator.url_for("failing"))
    id = await new_run(cli, *app)
    await emulator.wait_for_executions(1)
    result = await cli("runs", "get", id, *app)
    assert (result.code, json.loads(result.out)["status"]) == (0, "failed")


async def test_a_run_that_is_not_there(cli: CLI) -> None:
    result = await cli("runs", "get", "nope")
    assert (result.code, result.out) == (1, "")
    assert "only that App knows its runs" in result.err.splitlines()[-1]


async def test_cancel_prints_what_became_of_the_run(cli: CLI) -> None:
    async with Emulator(endless, access_key=KEY) as emulator:
        app = ("--app", emulator.url)
        id = await new_run(cli, *app)
        result = await cli("runs", "cancel", id, *app)
        assert (result.code, json.loads(result.out)["status"]) == (0, "canceled")


async def test_a_run_that_is_over_is_not_canceled(emulator: Emulator, cli: CLI) -> None:
    id = json.loads((await cli("runs", "create", INPUT)).out)["id"]
    assert json.loads((await cli("runs", "cancel", id)).out)["status"] == "completed"


async def test_events_are_the_stored_ones(emulator: Emulator, cli: CLI) -> None:
    id = json.loads((await cli("runs", "create", INPUT)).out)["id"]
    result = await cli("runs", "events", id)
    events = [json.loads(line) for line in result.out.splitlines()]
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
    assert (events[0]["type"], events[-1]["type"]) == ("run.started", "run.completed")


# --- list ----------------------------------------------------------------------------------------


async def test_list_prints_one_run_a_line(emulator: Emulator, cli: CLI) -> None:
    for _ in range(3):
        await new_run(cli)
    result = await cli("runs", "list")
    assert (result.code, result.err) == (0, "")
    assert [json.loads(line)["id"] for line in result.out.splitlines()] == [*emulator.runs][::-1]


async def test_list_says_that_there_are_more(emulator: Emulator, cli: CLI) -> None:
    for _ in range(3):
        await new_run(cli)
    result = await cli("runs", "list", "--limit", "2", "--sort", "started_at")
    assert [json.loads(line)["id"] for line in result.out.splitlines()] == [*emulator.runs][:2]
    assert result.err == "there are more than 2; --limit shows them\n"


async def test_the_filters_reach_the_service(emulator: Emulator, cli: CLI) -> None:
    result = await cli(
        *("runs", "list", "--status", "failed", "--status", "awaiting_input", "--user-id", "ann"),
        *("--session-id", SESSION, "--sort", "-ended_at,id"),
    )
    assert (result.code, result.out) == (0, "")
    assert sorted(emulator.requests[0].query.items()) == [
        ("page", "1"),
        ("page_size", "26"),
        ("session_id", SESSION),
        ("sort", "-ended_at,id"),
        ("status", "awaiting_input"),
        ("status", "failed"),
        ("user_id", "ann"),
    ]


async def test_a_person_gets_a_table(
    emulator: Emulator, cli: CLI, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("NO_COLOR", "1")
    id = await new_run(cli, "--user-id", "a\x1bnn", "--session-id", SESSION)
    await emulator.wait_for_executions(1)
    code, shown = await terminal.run("runs", "list")
    header, row = re.sub(r"\x1b\[\d*m", "", shown).splitlines()
    assert (code, header.split()) == (0, ["id", "status", "started", "ended", "user", "session"])
    time = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
    assert re.fullmatch(rf"{id}  completed  {time}  {time}  a␛nn  {SESSION} *", row)


async def test_an_id_is_whole_however_narrow_the_terminal(
    cli: CLI, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    id = await new_run(cli, "--session-id", SESSION)
    assert id in (await terminal.run("runs", "list"))[1]


async def test_a_person_is_told_that_there_are_none(
    terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await terminal.run("runs", "list") == (0, "")
    assert capsys.readouterr().err == "no runs\n"


def test_a_time_that_is_none_is_shown_as_it_is() -> None:
    assert [tables.local_time(time) for time in (None, "soon")] == [None, "soon"]


# --- wrong usage ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["create", "Hi"], "INPUT is not JSON"),
        (["create", INPUT, "--session-id", "s-1"], "--session-id must be a UUID, not 's-1'"),
        (["create", INPUT, "--session-id", SESSION, "--dedupe"], "--dedupe makes a session"),
        (["create", INPUT, "--background", "--follow"], "{--follow, --background}"),
        (["create", INPUT, "--background", "--wait-timeout", "5"], "--wait-timeout"),
        (["create", INPUT, "--wait-timeout", "0"], "--wait-timeout"),
        (["get", ""], "RUN_ID must be a non-empty string"),
        (["follow", "r-1", "--after", "-1"], "--after"),
        (["follow", "r-1", "--timeout", "0"], "--timeout must be a positive number"),
        (["wait", "r-1", "--timeout", "0"], "--timeout must be a positive number"),
        (["list", "--limit", "0"], "--limit"),
        (["list", "--session-id", "s-1"], "--session-id must be a UUID"),
        (["folow", "r-1"], 'Did you mean "follow"?'),
        (["folow", "r-1"], "dynamiq-async runs --help explains"),
        (["follow"], "dynamiq-async runs follow --help explains"),
    ],
)
async def test_wrong_usage_sends_nothing(
    emulator: Emulator, cli: CLI, arguments: list[str], said: str
) -> None:
    result = await cli("runs", *arguments)
    assert (result.code, result.out) == (2, "")
    assert said in result.err
    assert emulator.requests.total == 0
