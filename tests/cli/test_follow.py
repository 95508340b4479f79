"""`runs follow`: a run as it happens, over breaks, for people and for programs."""

from __future__ import annotations

import asyncio
import io
import json
import signal
from typing import Any

import msgspec
import pytest
from rich.console import Console

from dynamiq_async import RunEvent
from dynamiq_async.cli import following
from dynamiq_async.emulator import Emulator, Fault, RunContext

from .conftest import CLI, KEY, Process, Terminal
from .test_runs import INPUT, new_run

ANSWER = "Hello from the emulator. You said: Hi"
STREAM = "GET /v1/runs/*/stream"


def sequences(out: str) -> list[int]:
    return [json.loads(line)["sequence"] for line in out.splitlines()]


async def finished(emulator: Emulator, cli: CLI, *options: str) -> tuple[str, list[int]]:
    """A run that is over, and the sequence numbers of its events."""
    id = await new_run(cli, *options)
    await emulator.wait_until(lambda: emulator.runs[id].terminal)
    return id, [event.sequence for event in emulator.runs[id].feed.events]


# --- for programs --------------------------------------------------------------------------------


async def test_a_pipe_gets_one_event_a_line(emulator: Emulator, cli: CLI) -> None:
    id, stored = await finished(emulator, cli)
    result = await cli("runs", "follow", id)
    assert (result.code, result.err, sequences(result.out)) == (0, "", stored)
    first = json.loads(result.out.partition("\n")[0])
    assert first["data"] == {"id": id, "object": "run", "status": "started"}


@pytest.mark.parametrize("option", ["--follow", "--stream"])
async def test_create_can_follow_what_it_creates(emulator: Emulator, cli: CLI, option: str) -> None:
    result = await cli("runs", "create", INPUT, option)
    (run,) = emulator.runs.values()
    assert sequences(result.out) == [event.sequence for event in run.feed.events]


@pytest.mark.parametrize("options", [("--text",), ("--follow", "--text")])
async def test_the_text_alone(emulator: Emulator, cli: CLI, options: tuple[str, ...]) -> None:
    if len(options) == 1:
        id, _ = await finished(emulator, cli)
        result = await cli("runs", "follow", id, *options)
    else:
        result = await cli("runs", "create", INPUT, *options)
    assert (result.code, result.out, result.err) == (0, f"{ANSWER}\n", "")


async def test_a_text_that_ends_its_line_is_given_no_other_end(cli: CLI) -> None:
    async def app(input: dict[str, Any], run: RunContext) -> None:
        await run.text("one\n")

    async with Emulator(app, access_key=KEY) as emulator:
        result = await cli("runs", "create", INPUT, "--follow", "--text", "--app", emulator.url)
    assert (result.code, result.out) == (0, "one\n")


async def test_text_and_json_are_not_both_given(cli: CLI) -> None:
    result = await cli("runs", "create", INPUT, "--follow", "--text", "--json")
    assert result.code == 2


async def test_a_position_to_go_on_behind(emulator: Emulator, cli: CLI) -> None:
    id, stored = await finished(emulator, cli)
    result = await cli("runs", "follow", id, "--after", "3")
    assert (result.code, sequences(result.out)) == (0, stored[3:])


async def test_behind_the_end_there_is_nothing(emulator: Emulator, cli: CLI) -> None:
    id, stored = await finished(emulator, cli)
    result = await cli("runs", "follow", id, "--after", str(stored[-1]))
    assert (result.code, result.out) == (0, "")
    assert result.err.endswith("the run is over: completed\n")


@pytest.mark.parametrize(("app", "status"), [("failing", "failed"), ("canceled", "canceled")])
async def test_a_run_that_did_not_come_through_is_an_error(
    emulator: Emulator, cli: CLI, app: str, status: str
) -> None:
    result = await cli("runs", "create", INPUT, "--follow", "--app", emulator.url_for(app))
    assert result.code == 1
    assert json.loads(result.out.splitlines()[-1])["type"] == f"run.{status}"
    assert result.err.startswith("error: run ")


async def test_breaks_are_mended_and_mentioned(emulator: Emulator, cli: CLI) -> None:
    id, stored = await finished(emulator, cli)
    emulator.script(Fault(after_events=2, drop="reset"), Fault(after_events=3, drop="truncate"))
    result = await cli("runs", "follow", id)
    assert (result.code, sequences(result.out)) == (0, stored)
    assert result.err == "".join(
        f"the connection broke and was made anew (so far {count} x)\n" for count in (1, 2)
    )


async def test_holes_are_mentioned(cli: CLI) -> None:
    async def sparse(input: dict[str, Any], run: RunContext) -> None:
        await run.text("a")
        run.skip_sequence(2)
        await run.text("b")
        run.skip_sequence()
        await run.text("c")

    async with Emulator(sparse, access_key=KEY) as emulator:
        app = ("--app", emulator.url)
        id, stored = await finished(emulator, cli, *app)
        result = await cli("runs", "follow", id, *app)
        emulator.script(Fault(status=403), match="GET /v1/runs/*/events", times=2)
        unsure = await cli("runs", "follow", id, *app)
    assert stored == [1, 2, 5, 7, 8]
    assert sequences(result.out) == sequences(unsure.out) == stored
    assert result.err == (
        "events 3 to 4 left out: the service has nothing under that number\n"
        "event 6 left out: the service has nothing under that number\n"
    )
    assert unsure.err.count("did not come, and the service could not be asked") == 2


async def test_what_cannot_be_mended_says_where_to_go_on(emulator: Emulator, cli: CLI) -> None:
    id, _ = await finished(emulator, cli)
    emulator.script(Fault(after_events=2, drop="close"))
    emulator.script(Fault(status=403))
    result = await cli("runs", "follow", id)
    assert (result.code, sequences(result.out)) == (1, [1, 2])
    assert "403" in result.err
    emulator.script(Fault(stall=60, at_byte=0))
    result = await cli("runs", "follow", id, "--timeout", "0.1")
    assert result.code == 1
    assert result.err.endswith(f"  → go on with: dynamiq-async runs follow {id}\n")


async def test_without_a_terminal_a_question_comes_with_the_command_that_answers(cli: CLI) -> None:
    async with Emulator("feedback", access_key=KEY) as emulator:
        app = ("--app", emulator.url)
        id = await new_run(cli, *app)
        running = asyncio.ensure_future(cli("runs", "follow", id, *app))
        await emulator.wait_until(lambda: emulator.runs[id].open_questions)
        await emulator.wait_until(
            lambda: any(r.path == f"/v1/runs/{id}" and r.finished for r in emulator.requests)
        )
        emulator.runs[id].open_questions[0].reply("Blue")
        result = await running
    types = [json.loads(line)["type"] for line in result.out.splitlines()]
    assert "agent.human_feedback.requested" in types
    assert result.err == f"the run waits for an answer: dynamiq-async runs answer {id}\n"


async def test_a_question_that_cannot_be_looked_up_does_not_end_it(
    emulator: Emulator, cli: CLI
) -> None:
    async def asking(input: dict[str, Any], run: RunContext) -> None:
        await run.event("agent.human_feedback.requested", {"id": "q-1", "prompt": "Why?"})

    async with Emulator(asking, access_key=KEY) as emulator:
        app = ("--app", emulator.url)
        id, stored = await finished(emulator, cli, *app)
        emulator.script(Fault(status=403), match="GET /v1/runs/*[0-9a-f]")
        result = await cli("runs", "follow", id, *app)
    assert (result.code, sequences(result.out)) == (0, stored)
    assert result.err.startswith("error: GET ")


# --- for people ----------------------------------------------------------------------------------


async def test_a_person_sees_what_happens(emulator: Emulator, terminal: Terminal) -> None:
    code, shown = await terminal.run(
        "runs", "create", INPUT, "--follow", "--app", emulator.url_for("agent")
    )
    (id,) = emulator.runs
    assert code == 0
    assert shown.startswith(f"\x1b[2mrun {id} started\x1b[0m\n\x1b[2;3mI s\x1b[0m")
    assert '\x1b[36m▸ lookup-customer {"customer_id":"customer-7421"}\x1b[0m\n' in shown
    assert "\x1b[32m✓ {'customer_tier': 'pro', 'open_tickets': 2}\x1b[0m\n" in shown
    assert shown.endswith("\n\nDone, the customer is on the pro tier and has two open tickets.\n")


async def test_a_person_sees_it_as_it_comes(cli: CLI, terminal: Terminal) -> None:
    limiter = asyncio.Event()

    async def gated(input: dict[str, Any], run: RunContext) -> None:
        await run.text("first")
        await limiter.wait()
        await run.text(" second")

    async with Emulator(gated, access_key=KEY) as emulator:
        id = await new_run(cli, "--app", emulator.url)
        running = asyncio.create_task(terminal.run("runs", "follow", id, "--app", emulator.url))
        assert "second" not in await terminal.until("first")
        limiter.set()
        code, shown = await running
    assert code == 0
    assert "first second\n" in shown


async def test_a_terminal_can_get_what_a_pipe_gets(
    emulator: Emulator, cli: CLI, terminal: Terminal
) -> None:
    id, stored = await finished(emulator, cli)
    _, shown = await terminal.run("runs", "follow", id, "--json")
    assert sequences(shown) == stored


async def test_failed_nodes_are_named(terminal: Terminal) -> None:
    async with Emulator("failing", outputs="nodes", access_key=None) as emulator:
        arguments = (INPUT, "--follow", "--app", emulator.url, "--public")
        code, shown = await terminal.run("runs", "create", *arguments)
    assert code == 1
    assert shown.endswith("✗ py-bad: Code execution error: boom from node\x1b[0m\n")


def shown(*events: tuple[str, Any]) -> str:
    file = io.StringIO()
    view = following.RunView(Console(file=file, force_terminal=True, color_system=None))
    for sequence, (type, data) in enumerate(events, 1):
        event = {"type": type, "sequence": sequence, "data": data}
        view.show(msgspec.json.decode(msgspec.json.encode(event), type=RunEvent))
    view.end()
    return file.getvalue()


def test_what_is_not_known_is_a_remark() -> None:
    assert shown(
        ("agent.response.delta", {"delta": "Hel"}),
        ("agent.response.delta", {"delta": ""}),
        ("agent.reasoning.delta", "of another shape"),
        ("something.new", {"a": 1}),
        ("agent.response.delta", {"delta": "lo"}),
        ("run.started", None),
        ("something.long", "x" * 500),
    ) == ('Hel\nsomething.new {"a":1}\n\nlo\nrun.started null\nsomething.long "' + "x" * 64 + "…\n")


def test_a_tool_without_a_name() -> None:
    assert shown(("agent.tool_call.completed", {"result": '"fine"'})) == "▸ a tool\n✓ fine\n"


def test_a_question_is_shown_with_what_it_is_about() -> None:
    request = {"prompt": "Send it?", "params": {"to": "Ann", "n": 2}, "editable_params": ["to"]}
    assert shown(("approval_request.created", request), ("approval_request.created", {})) == (
        "? Send it?\n  to: Ann (can be changed)\n  n: 2\n? \n"
    )


@pytest.mark.parametrize(
    ("data", "printed"),
    [
        ({"output": {"a": {"status": "success", "output": 7}}}, '{"a":7}\n'),
        ({"output": "whatever it is"}, '"whatever it is"\n'),
        ({"output": {}}, ""),
        ({}, ""),
        (None, ""),
    ],
)
def test_an_output_that_no_text_has_shown(
    data: Any, printed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shown(("run.completed", data)) == ""
    assert capsys.readouterr().out == printed


# --- Ctrl-C --------------------------------------------------------------------------------------


async def test_ctrl_c_says_where_to_go_on_and_leaves_the_run(process: Process) -> None:
    async def hanging(input: dict[str, Any], run: RunContext) -> None:
        await run.text("first")
        await asyncio.Event().wait()

    async with Emulator(hanging, access_key=KEY) as emulator:
        child = await process(
            *("-m", "dynamiq_async", "runs", "create", INPUT, "--follow", "--app", emulator.url)
        )
        assert child.stdout is not None
        for _ in range(2):
            await child.stdout.readline()
        child.send_signal(signal.SIGINT)
        _, error = await child.communicate()
        (run,) = emulator.runs.values()
        await emulator.wait_until(lambda: not emulator.open_connections)
        assert run.status == "started"
    how = f"detached; go on with: dynamiq-async runs follow {run.id} --after 2\n"
    assert (child.returncode, error.decode()) == (130, how)


@pytest.mark.parametrize("at", [1, 3])
async def test_the_position_is_behind_what_was_shown(
    emulator: Emulator, cli: CLI, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """However abruptly it ends, as with a second Ctrl-C."""
    show = following.JSONLines.show

    def interrupted(self: following.JSONLines, event: RunEvent) -> None:
        if event.sequence == at:
            raise KeyboardInterrupt
        show(self, event)

    monkeypatch.setattr(following.JSONLines, "show", interrupted)
    result = await cli("runs", "create", INPUT, "--follow")
    assert (result.code, sequences(result.out)) == (130, list(range(1, at)))
    assert result.err.endswith(f" --after {at - 1}\n") if at > 1 else result.err == ""
