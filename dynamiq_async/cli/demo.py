"""`demo`: shows the SDK against the emulator, in one process, over real HTTP on loopback."""

from __future__ import annotations

import asyncio
import time
from textwrap import indent
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from dynamiq_async._words import counted
from dynamiq_async.app import AsyncApp
from dynamiq_async.cli import following, live, output

if TYPE_CHECKING:
    from rich.console import Console

    from dynamiq_async.emulator import Emulator

PACE = 0.09
"""Seconds between an agent's events: about the pace of a real model."""

QUESTION = "What tier is customer-7421?"

INVOKE = f"""\
from dynamiq_async import AsyncApp

# The access key is taken from DYNAMIQ_ACCESS_KEY.
async with AsyncApp("URL") as app:
    answer = await app.invoke({{"input": "{QUESTION}"}})
"""

STREAM = f"""\
async with AsyncApp("URL") as app:
    async for event in app.stream({{"input": "{QUESTION}"}}):
        print(event.reasoning or event.text, end="")
"""

RESUME = f"""\
async with AsyncApp("URL") as app:
    async with app.runs.stream({{"input": "{QUESTION}"}}) as run:
        async for event in run:
            print(event.reasoning or event.text, end="")
    print(f"{{run.reconnects}} reconnects, all by itself")
"""

NEXT = """\
# Keep the emulator running, to try your own code on:
dynamiq-async serve

# Or talk to an App of yours:
export DYNAMIQ_APP_URL="<its hostname>"
export DYNAMIQ_ACCESS_KEY="<its access key>"
dynamiq-async stream '{"input": "Hello"}'
"""


def demo(
    *,
    fast: Annotated[
        bool, Parameter(help="Leave out the pauses of a real model, as in a pipe.")
    ] = False,
) -> None:
    """Call an emulated App on this machine, stream its answer, and cut the stream off twice.

    The demo needs no account, no key and no network, and takes a few seconds.

    ```
    dynamiq-async demo
    dynamiq-async demo --fast
    ```
    """
    pace = PACE if output.is_terminal() and not fast else 0.0
    asyncio.run(_show(pace, output.console()))


async def _show(pace: float, console: Console) -> None:
    from dynamiq_async.emulator import Emulator

    async with Emulator("agent", pace=pace) as emulator:
        console.print(
            f"A support agent is emulated on this machine, at {emulator.url}: "
            "no account, no key, nothing leaves it.\n"
        )
        async with AsyncApp(emulator.url, access_key=emulator.access_key) as app:
            await _invoke(app, emulator, console)
            await _stream(app, emulator, console)
            await _resume(app, emulator, console)
    _print_title(console, "What next?")
    _print_code(console, NEXT, "bash")


async def _invoke(app: AsyncApp, emulator: Emulator, console: Console) -> None:
    _print_title(console, "1. Call it, and wait for its answer")
    _print_code(console, INVOKE.replace("URL", emulator.url), "python")
    started = time.perf_counter()
    with console.status("waiting for the agent"):
        result = await app.invoke({"input": QUESTION})
    output.print_pretty(result)
    console.print(f"\nafter {time.perf_counter() - started:.2f} s, as one piece\n", style="dim")


async def _stream(app: AsyncApp, emulator: Emulator, console: Console) -> None:
    _print_title(console, "2. Stream it: the answer as it is made, with what leads to it")
    _print_code(console, STREAM.replace("URL", emulator.url), "python")
    view = live.LiveView(console)
    started = time.perf_counter()
    first, count = 0.0, 0
    async with app.stream({"input": QUESTION}) as stream:
        async for event in stream:
            first = first or time.perf_counter() - started
            count += 1
            view.show(event)
    view.end()
    stream.raise_for_failure()
    console.print(
        f"\n{counted(count, 'event')} in {time.perf_counter() - started:.2f} s, the first after "
        f"{first * 1000:.0f} ms. A stream never ends quietly: had the connection broken, an error "
        "would say so.\n",
        style="dim",
    )


async def _resume(app: AsyncApp, emulator: Emulator, console: Console) -> None:
    from dynamiq_async.emulator import Fault

    emulator.script(Fault(after_events=5, drop="reset"), match="POST /v1/runs")
    emulator.script(Fault(after_events=5, drop="close"), match="GET /v1/runs/*/stream")
    _print_title(
        console, "3. Stream a run: the connection breaks twice in the middle, and nothing is lost"
    )
    _print_code(console, RESUME.replace("URL", emulator.url), "python")
    view = following.RunView(console)
    seen: list[int] = []
    reconnects = 0
    async with app.runs.stream({"input": QUESTION}) as stream:
        async for event in stream:
            if stream.reconnects > reconnects:
                reconnects = stream.reconnects
                view.end()
                console.print(
                    f"(the connection broke: resumed behind event {seen[-1]})", style="dim"
                )
            seen.append(event.sequence)
            view.show(event)
    view.end()
    run = await stream.run()
    run.unwrap()
    stored = [event.sequence async for event in app.runs.events(run.id)]
    verdict = "each of them once" if seen == stored else "which is not what the service has stored"
    console.print(
        f"\n{counted(stream.reconnects, 'time')} reconnected; {counted(len(seen), 'event')}, "
        f"{verdict}. A run also goes on without its reader: another process can "
        "follow it from any position.\n",
        style="dim",
    )


def _print_title(console: Console, text: str) -> None:
    console.print(text + "\n", style="bold")


def _print_code(console: Console, code: str, language: str) -> None:
    """Print code, indented and coloured, without a frame or padding that copying would pick up."""
    from rich.syntax import Syntax

    syntax = Syntax("", language, theme="ansi_dark", background_color="default")
    console.print(syntax.highlight(indent(code, "    ")), soft_wrap=True)
