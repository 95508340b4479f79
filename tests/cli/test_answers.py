"""Questions of a run: answered by a command, or by a person at the terminal."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest

from dynamiq_async.emulator import Emulator, Fault, RunContext

from .conftest import CLI, KEY, Process, Terminal
from .test_runs import new_run


@contextlib.asynccontextmanager
async def asking(app: Any, cli: CLI) -> AsyncIterator[tuple[Emulator, str]]:
    """A run that waits for an answer."""
    async with Emulator(app, access_key=KEY) as emulator:
        id = await new_run(cli, "--app", emulator.url)
        await emulator.wait_until(lambda: emulator.runs[id].open_questions)
        yield emulator, id


async def two(input: dict[str, Any], run: RunContext) -> list[str]:
    """Asks two people at once."""
    return await asyncio.gather(
        *(run.ask(f"{name}?", request_id=name, entity_id=name) for name in ("Ann", "Bob"))
    )


async def numbers(input: dict[str, Any], run: RunContext) -> Any:
    """Wants a parameter changed that is no text, and one that is not there."""
    editable = ("count", "name")
    return (await run.approve("How many?", {"count": 1}, editable=editable)).params


# --- by a command --------------------------------------------------------------------------------


async def test_a_text(cli: CLI) -> None:
    async with asking("feedback", cli) as (emulator, id):
        result = await cli("runs", "answer", id, "Blue", "--app", emulator.url)
        assert (result.code, result.out, result.err) == (0, "", "")
        assert emulator.runs[id].questions[0].answer.result() == "Blue"


async def test_an_approval_with_parameters(cli: CLI) -> None:
    async with asking("approval", cli) as (emulator, id):
        params = '{"to": "bob@example.com"}'
        result = await cli(
            *("runs", "answer", id, "with care", "--approve", "--params", params),
            *("--app", emulator.url),
        )
        assert (result.code, result.err) == (0, "")
        approval = emulator.runs[id].questions[0].answer.result()
        assert (approval.approved, approval.feedback) == (True, "with care")
        assert approval.params == {"to": "bob@example.com", "text": "hi"}


async def test_a_rejection(cli: CLI) -> None:
    async with asking("approval", cli) as (emulator, id):
        await cli("runs", "answer", id, "not now", "--reject", "--app", emulator.url)
        approval = emulator.runs[id].questions[0].answer.result()
        assert (approval.approved, approval.feedback) == (False, "not now")


async def test_of_several_questions_one_has_to_be_named(cli: CLI) -> None:
    async with asking(two, cli) as (emulator, id):
        app = ("--app", emulator.url)
        result = await cli("runs", "answer", id, "Blue", *app)
        assert result.code == 1
        assert "name one with --question: Ann (Ann?), Bob (Bob?)" in result.err
        assert (await cli("runs", "answer", id, "Blue", "--question", "Bob", *app)).code == 0
        (left,) = emulator.runs[id].open_questions
        assert left.id == "Ann"


@pytest.mark.parametrize(
    ("app", "arguments", "code", "said"),
    [
        ("feedback", [], 2, "there is no answer: give a text, --approve or --reject"),
        ("feedback", ["--approve"], 1, "'sales' wants a text, not --approve or --reject"),
        ("feedback", ["--approve", "--reject"], 2, "{--approve, --reject}"),
        ("feedback", ["a", "--params", "{}"], 2, "--params goes with --approve"),
        ("feedback", ["a", "--question", "x"], 1, "the run asks nothing with the id x; it is "),
        ("approval", ["yes"], 1, "wants --approve or --reject, not a text alone"),
        ("approval", ["--approve", "--params", "[]"], 2, "--params is not a JSON object"),
        ("approval", ["--approve", "--params", '{"text": 1}'], 2, "text cannot be edited"),
    ],
)
async def test_what_does_not_fit_is_not_sent(
    cli: CLI, app: str, arguments: list[str], code: int, said: str
) -> None:
    async with asking(app, cli) as (emulator, id):
        result = await cli("runs", "answer", id, *arguments, "--app", emulator.url)
        assert (result.code, result.out) == (code, "")
        assert said in result.err
        assert emulator.runs[id].open_questions


async def test_a_run_that_asks_nothing(emulator: Emulator, cli: CLI) -> None:
    id = await new_run(cli)
    await emulator.wait_for_executions(1)
    result = await cli("runs", "answer", id, "Blue")
    assert result.code == 1
    assert "error: the run asks nothing; it is completed\n" in result.err


# --- by a person ---------------------------------------------------------------------------------


async def test_a_person_answers_while_the_run_is_shown(cli: CLI, terminal: Terminal) -> None:
    async with asking("feedback", cli) as (emulator, id):
        running = asyncio.create_task(terminal.ask("runs", "follow", id, "--app", emulator.url))
        await terminal.until("your answer (Enter leaves it open): ")
        terminal.type("Größe 7\n")
        code, shown = await running
        assert code == 0
        assert emulator.runs[id].questions[0].answer.result() == "Größe 7"
    assert "? sales" in shown
    assert shown.count("Größe 7") >= 2  # as it was typed, and in the output


async def test_a_question_that_was_answered_is_not_asked_again(
    cli: CLI, terminal: Terminal
) -> None:
    async with asking("feedback", cli) as (emulator, id):
        emulator.runs[id].open_questions[0].reply("Blue")
        await emulator.wait_until(lambda: emulator.runs[id].terminal)
        code, shown = await terminal.ask("runs", "follow", id, "--app", emulator.url)
    assert code == 0
    assert "? sales" in shown
    assert "your answer" not in shown


async def test_a_person_rejects(cli: CLI, terminal: Terminal) -> None:
    async with asking("approval", cli) as (emulator, id):
        running = asyncio.create_task(terminal.ask("runs", "follow", id, "--app", emulator.url))
        await terminal.until("[y]es, [n]o, [e]dit (Enter leaves it open): ")
        terminal.type("maybe\nn\nnot him\n")
        code, shown = await running
        approval = emulator.runs[id].questions[0].answer.result()
    assert (code, approval.approved, approval.feedback) == (0, False, "not him")
    assert "  to: ann@example.com (can be changed)" in shown
    assert shown.count("[y]es") == 2


async def test_a_person_approves(cli: CLI, terminal: Terminal) -> None:
    async with asking("approval", cli) as (emulator, id):
        terminal.type("y\n")
        code, _ = await terminal.ask("runs", "answer", id, "--app", emulator.url)
        approval = emulator.runs[id].questions[0].answer.result()
    assert (code, approval.approved, approval.params["to"]) == (0, True, "ann@example.com")


@pytest.mark.parametrize(
    ("typed", "changed"),
    [
        ("e\nmany\n3\nAnn\n", {"count": 3, "name": "Ann"}),
        ("e\n\n\n", {"count": 1}),
    ],
)
async def test_a_person_changes_parameters(
    cli: CLI,
    terminal: Terminal,
    capsys: pytest.CaptureFixture[str],
    typed: str,
    changed: dict[str, Any],
) -> None:
    async with asking(numbers, cli) as (emulator, id):
        terminal.type(typed)
        code, shown = await terminal.ask("runs", "answer", id, "--app", emulator.url)
        approval = emulator.runs[id].questions[0].answer.result()
    assert (code, approval.approved, approval.params) == (0, True, changed)
    assert "count (Enter keeps 1): " in shown
    assert ("count has to be JSON: " in capsys.readouterr().err) == ("many" in typed)


async def test_questions_can_be_left_open(
    cli: CLI, terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    async with asking(two, cli) as (emulator, id):
        terminal.type("\n\x04")  # Enter, and the end of the input
        code, _ = await terminal.ask("runs", "answer", id, "--app", emulator.url)
        assert (code, len(emulator.runs[id].open_questions)) == (0, 2)
    left = f"left open; it can be answered with: dynamiq-async runs answer {id}\n"
    assert capsys.readouterr().err == left * 2


async def test_an_approval_can_be_left_open(cli: CLI, terminal: Terminal) -> None:
    async with asking("approval", cli) as (emulator, id):
        terminal.type("\n")
        code, _ = await terminal.ask("runs", "answer", id, "--app", emulator.url)
        assert (code, len(emulator.runs[id].open_questions)) == (0, 1)


async def test_without_anything_to_edit_it_is_not_offered(cli: CLI, terminal: Terminal) -> None:
    async def plain(input: dict[str, Any], run: RunContext) -> None:
        await run.approve("Go?")

    async with asking(plain, cli) as (emulator, id):
        terminal.type("e\nyes\n")
        _, shown = await terminal.ask("runs", "answer", id, "--app", emulator.url)
        assert emulator.runs[id].questions[0].answer.result().approved
    assert shown.count("[y]es, [n]o (Enter leaves it open): ") == 2


async def test_a_person_answers_while_waiting(cli: CLI, terminal: Terminal) -> None:
    async with asking("feedback", cli) as (emulator, id):
        running = asyncio.create_task(terminal.ask("runs", "wait", id, "--app", emulator.url))
        await terminal.until("your answer")
        terminal.type("Blue\n")
        code, shown = await running
    assert code == 0
    assert '\x1b[32m"completed"' in shown


async def test_an_answer_that_is_refused_does_not_end_it(
    cli: CLI, terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    async with asking("feedback", cli) as (emulator, id):
        emulator.script(Fault(status=409), match="POST /v1/runs/*/input")
        running = asyncio.create_task(terminal.ask("runs", "follow", id, "--app", emulator.url))
        await terminal.until("your answer")
        terminal.type("Blue\n")
        await emulator.wait_until(lambda: emulator.requests[-1].path.endswith("/input"))
        emulator.runs[id].open_questions[0].reply("Red")
        code, _ = await running
    assert code == 0
    assert "was answered 409" in capsys.readouterr().err


async def test_ctrl_c_while_a_person_is_asked(process: Process, cli: CLI) -> None:
    async with asking("feedback", cli) as (emulator, id):
        master, slave = pty.openpty()
        try:
            child = await process(
                *("-m", "dynamiq_async", "runs", "follow", id, "--app", emulator.url),
                stdin=slave,
                stdout=slave,
            )
            seen = b""
            while b"your answer" not in seen:
                seen += await asyncio.to_thread(os.read, master, 65536)
            child.send_signal(signal.SIGINT)
            _, error = await child.communicate()
        finally:
            os.close(master)
            os.close(slave)
        position = emulator.runs[id].feed.sequence
        how = f"detached; go on with: dynamiq-async runs follow {id} --after {position}\n"
        assert (child.returncode, error.decode()) == (130, how)
        assert not emulator.runs[id].terminal


async def test_without_stdin_nobody_is_asked(
    cli: CLI, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", None)
    assert (await terminal.run("runs", "answer", "r-1"))[0] == 2
