"""`stream`: JSON lines for programs, text for files, a live view for people."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

import pytest

from dynamiq_async.__main__ import main
from dynamiq_async.emulator import Emulator, Fault, RunContext, agent_chunk

from .conftest import CLI, KEY, Process, Terminal, piped_stdout

INPUT = '{"question": "Hi"}'
ANSWER = "Hello from the emulator. You said: Hi"


def lines(out: str) -> list[Any]:
    return [json.loads(line) for line in out.splitlines()]


async def test_a_pipe_gets_one_event_a_line(emulator: Emulator, cli: CLI) -> None:
    result = await cli("stream", INPUT)
    events = lines(result.out)
    assert (result.code, len(events)) == (0, emulator.requests[0].events_sent)
    assert list(events[0]) == ["run_id", "wf_run_id", "entity_id", "data", "event", "source"]
    pieces = (e["data"]["choices"][0]["delta"].get("content") for e in events[:-1])
    assert "".join(filter(None, pieces)) == ANSWER
    assert events[-1]["data"]["llm-1"]["output"] == {"content": ANSWER}


async def test_an_event_that_is_spread_over_lines_comes_on_one(cli: CLI) -> None:
    async def spread(input: dict[str, Any], run: RunContext) -> None:
        await run.send(b'{"data":\n {"a":\r\n  "b\\nc"}}')

    async with Emulator(spread, access_key=None) as emulator:
        result = await cli("stream", INPUT, "--app", emulator.url)
    assert lines(result.out)[0]["data"] == {"a": "b\nc"}


async def test_only_the_text(cli: CLI) -> None:
    result = await cli("stream", INPUT, "--text")
    assert (result.code, result.out, result.err) == (0, ANSWER + "\n", "")


async def test_texts_of_parallel_nodes_do_not_mix(emulator: Emulator, cli: CLI) -> None:
    result = await cli("stream", INPUT, "--text", "--app", emulator.url_for("parallel"))
    reply = "Hello from the emulator. You said:"
    assert result.out == f"{reply} left Hi\n{reply} right Hi\n"


@pytest.mark.parametrize("option", [("--event", "left"), ("--node", "llm-left")])
async def test_only_some_events(emulator: Emulator, cli: CLI, option: tuple[str, str]) -> None:
    result = await cli("stream", INPUT, *option, "--app", emulator.url_for("parallel"))
    *events, final = lines(result.out)
    assert {(event["event"], event["entity_id"]) for event in events} == {("left", "llm-left")}
    assert final["source"]["type"] == "dynamiq.workflows.Workflow"


async def test_a_failed_run_is_an_error(emulator: Emulator, cli: CLI) -> None:
    result = await cli("stream", INPUT, "--app", emulator.url_for("failing"))
    assert result.code == 1
    assert lines(result.out)[-1]["data"]["error"] in result.err


async def test_a_stream_that_breaks_off_is_an_error_behind_what_came(
    emulator: Emulator, cli: CLI
) -> None:
    emulator.script(Fault(after_events=3, drop="close"))
    result = await cli("stream", INPUT)
    assert (result.code, len(lines(result.out))) == (1, 3)
    assert result.err.startswith("error: ")


async def test_whether_the_final_event_is_required_can_be_said(
    emulator: Emulator, cli: CLI
) -> None:
    body, headers = 'data: {"data": 1}\n\n', {"Content-Type": "text/event-stream"}
    emulator.script(Fault(body=body, headers=headers), times=3)
    for option, code in (("auto", 0), ("optional", 0), ("required", 1)):
        result = await cli("stream", INPUT, "--final-event", option)
        assert (result.code, "final_event=" in result.err) == (code, option == "required")
        assert [event["data"] for event in lines(result.out)] == [1]
    assert (await cli("stream", INPUT, "--final-event", "never")).code == 2


async def test_a_question_is_told_beside_the_text(emulator: Emulator, cli: CLI) -> None:
    app = emulator.url_for("approval")
    result = await cli("stream", INPUT, "--text", "--app", app, "--timeout", "0.2")
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("? Send to ann@example.com?\n")


def test_a_reader_that_went_away_ends_it_quietly(capsys: pytest.CaptureFixture[str]) -> None:
    with piped_stdout() as reader:
        os.close(reader)
        assert main(["demo"]) == 141
    assert capsys.readouterr().err == ""


# --- a person at a terminal ----------------------------------------------------------------------


class Gated:
    """An App that goes on only when it is let."""

    def __init__(self) -> None:
        self.limiter = asyncio.Event()

    async def __call__(self, input: dict[str, Any], run: RunContext) -> None:
        await run.thought("Let me see.")
        await run.text("first")
        await self.limiter.wait()
        await run.text(" second")


async def test_a_person_sees_the_text_as_it_comes(terminal: Terminal) -> None:
    app = Gated()
    async with Emulator(app, access_key=KEY) as emulator:
        running = asyncio.create_task(terminal.run("stream", INPUT, "--app", emulator.url))
        shown = await terminal.until("first")
        assert "second" not in shown
        app.limiter.set()
        code, shown = await running
    assert code == 0
    assert "first second\n" in shown


async def test_reasoning_is_dimmed_and_tools_are_shown(
    emulator: Emulator, terminal: Terminal
) -> None:
    code, shown = await terminal.run("stream", INPUT, "--app", emulator.url_for("agent"))
    assert code == 0
    assert "\x1b[2;3mI s\x1b[0m\x1b[2;3mhould l" in shown
    assert '\x1b[36m▸ lookup-customer {"customer_id":"customer-7421"}\x1b[0m\n' in shown
    assert "\x1b[32m✓ {'customer_tier': 'pro', 'open_tickets': 2}\x1b[0m\n" in shown
    assert shown.endswith("\n\nDone, the customer is on the pro tier and has two open tickets.\n")


async def test_a_run_without_text_shows_its_output(emulator: Emulator, terminal: Terminal) -> None:
    _, shown = await terminal.run("stream", INPUT, "--app", emulator.url_for("echo"))
    assert '\x1b[1;34m"question"' in shown


@pytest.mark.parametrize("option", ["--text", "--json"])
async def test_a_terminal_can_get_what_a_pipe_gets(
    cli: CLI, terminal: Terminal, option: str
) -> None:
    _, shown = await terminal.run("stream", INPUT, option)
    assert "\x1b" not in shown
    assert shown == ANSWER + "\n" if option == "--text" else len(lines(shown)) == 10


async def test_text_cannot_steer_the_terminal(terminal: Terminal) -> None:
    async def hostile(input: dict[str, Any], run: RunContext) -> None:
        await run.emit(agent_chunk("\x1b]0;owned\x07", source="a", step="answer"))

    async with Emulator(hostile, access_key=KEY) as emulator:
        _, shown = await terminal.run("stream", INPUT, "--app", emulator.url)
    assert "␛]0;owned␇" in shown


# --- as a process ------------------------------------------------------------------------------


async def test_a_broken_pipe_frees_the_connection(process: Process) -> None:
    app = Gated()
    async with Emulator(app, access_key=KEY) as emulator:
        child = await process("-m", "dynamiq_async", "stream", INPUT, "--app", emulator.url)
        assert child.stdout is not None
        await child.stdout.readline()
        child.stdout._transport.close()  # type: ignore[attr-defined]
        app.limiter.set()
        assert await child.wait() == 141
        assert child.stderr is not None
        assert await child.stderr.read() == b""
        await emulator.wait_until(lambda: not emulator.open_connections)
