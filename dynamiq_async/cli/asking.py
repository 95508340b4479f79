"""Asks the person at the terminal a run's questions.

The event loop watches stdin. So all other tasks go on while the person thinks, and Ctrl-C ends the
command as usual.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING, Any

import msgspec

from dynamiq_async.cli import live, output

if TYPE_CHECKING:
    from dynamiq_async.events import Question
    from dynamiq_async.runs.runs import RunHandle

_LATER = "Enter leaves it open"


def describe(question: Question) -> list[str]:
    """A line for each parameter of the question, to show with its prompt."""
    editable = question.editable_params
    return [
        f"{name}: {live.shortened(value)}{' (can be changed)' if name in editable else ''}"
        for name, value in question.params.items()
    ]


async def show_and_ask(run: RunHandle, question: Question) -> None:
    """Show a question and `ask` it."""
    live.LiveView(output.console()).question(question.prompt, *describe(question))
    await ask(run, question)


async def ask(run: RunHandle, question: Question) -> None:
    """Ask the person for an answer, and send it. They may leave the question open.

    Raises:
        DynamiqError: the answer could not be sent.
    """
    if not await (_decide if question.kind == "approval" else _answer)(run, question):
        later = output.command("runs", "answer", run.id)
        output.remark(f"left open; it can be answered with: {later}")


async def _answer(run: RunHandle, question: Question) -> bool:
    answer = await _prompt(f"your answer ({_LATER})")
    if answer:
        await run.answer(question, answer)
    return bool(answer)


async def _decide(run: RunHandle, question: Question) -> bool:
    editable = question.editable_params
    choices = f"[y]es, [n]o{', [e]dit' if editable else ''} ({_LATER})"
    while True:
        match (await _prompt(choices)).lower():
            case "":
                return False
            case "y" | "yes":
                await run.approve(question)
                return True
            case "n" | "no":
                reason = await _prompt("why (Enter for no reason)")
                await run.reject(question, feedback=reason or None)
                return True
            case "e" | "edit" if editable:
                changed = await _edited(question.params, editable)
                await run.approve(question, params=changed or None)
                return True


async def _edited(params: dict[str, Any], editable: list[str]) -> dict[str, Any]:
    """The parameters that the person changed."""
    changed: dict[str, Any] = {}
    for name in editable:
        present = params.get(name)
        while typed := await _prompt(f"{name} (Enter keeps {live.shortened(present) or 'it'})"):
            if present is None or isinstance(present, str):
                changed[name] = typed
                break
            try:
                changed[name] = msgspec.json.decode(typed)
                break
            except msgspec.DecodeError as error:
                output.remark(f"{name} has to be JSON: {error}")
    return changed


async def _prompt(text: str) -> str:
    """The line that the person types. Empty if they end the input."""
    output.console().out(f"{output.visible(text)}: ", style="bold", end="", highlight=False)
    line = await _read_line()
    if not line.endswith("\n"):
        output.write_line("")
    return line.strip()


async def _read_line() -> str:
    """The next line from a terminal, read without blocking the event loop."""
    loop = asyncio.get_running_loop()
    if sys.platform == "win32":  # pragma: no cover - its event loops watch no terminal
        return await loop.run_in_executor(None, sys.stdin.readline)
    terminal = sys.stdin.fileno()
    ready = asyncio.Event()
    loop.add_reader(terminal, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(terminal)
    # A terminal delivers one line at a time.
    return os.read(terminal, 4096).decode(errors="replace")
