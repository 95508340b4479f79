"""`demo`: it works without anything, and the code that it shows works too."""

from __future__ import annotations

import asyncio
import re
import time
from textwrap import dedent, indent
from typing import Any

import pytest

from dynamiq_async.__main__ import main
from dynamiq_async.cli import demo
from dynamiq_async.emulator import Emulator

from .conftest import KEY, Terminal

ANSWER = "Done, the customer is on the pro tier and has two open tickets."


def test_it_calls_streams_and_says_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo"]) == 0
    shown, errors = capsys.readouterr()
    assert errors == ""
    assert "\x1b" not in shown
    invoked, streamed, resumed, onward = re.split(r"\n[23]\. |\nWhat next", shown)
    assert f'"output": "{ANSWER}"' in invoked
    assert "I should look the customer up first.\n▸ lookup-customer" in streamed
    assert f"\n\n{ANSWER}\n" in streamed
    assert resumed.count("(the connection broke: resumed behind event ") == 2
    assert f"\n\n{ANSWER}\n" in resumed
    assert "2 times reconnected; 21 events, each of them once." in resumed
    assert "dynamiq-async serve" in onward


async def test_a_person_sees_it_at_the_pace_of_a_model(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "PACE", 0.01)
    events = 20
    started = time.perf_counter()
    code, _ = await terminal.run("demo")
    assert code == 0
    assert time.perf_counter() - started > 2 * events * demo.PACE


async def test_fast_has_no_pace(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "PACE", 60)
    code, _ = await terminal.run("demo", "--fast")
    assert code == 0


def shown_code(shown: str, emulator: Emulator) -> list[str]:
    """The Python code in what the demo shows, for the App of `emulator`."""
    blocks = re.findall(r"(?:^    .*\n|^\n)+", shown, re.MULTILINE)
    code = [dedent(block) for block in blocks if "async with" in block]
    return [re.sub(r'AsyncApp\(".*?"\)', f'AsyncApp("{emulator.url}")', block) for block in code]


async def test_the_code_that_it_shows_works(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DYNAMIQ_ACCESS_KEY", KEY)
    async with Emulator("agent", access_key=KEY) as emulator:
        await asyncio.to_thread(main, ["demo"])
        calling, streaming, resuming = shown_code(capsys.readouterr().out, emulator)
        names: dict[str, Any] = {}
        body = indent(f"{calling}\n{streaming}\n{resuming}\nreturn answer", "    ")
        exec(f"async def run():\n{body}", names)
        answer = await names["run"]()
    assert answer == {"output": ANSWER}
    printed = capsys.readouterr().out
    assert printed.count(f"tool.\n{ANSWER}") == 2
    assert printed.endswith("0 reconnects, all by itself\n")
