"""The README's Python code runs, as it stands there, against the emulator."""

from __future__ import annotations

import ast
import asyncio
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dynamiq_async import AsyncApp
from dynamiq_async.emulator import DEFAULT_PROJECT, Emulator, RunContext

README = Path(__file__).parent.parent / "README.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README.read_text("utf-8"), re.MULTILINE | re.DOTALL)
PROGRAMS = [block for block in BLOCKS if "asyncio.run(" in block]
PIECES = [block for block in BLOCKS if "asyncio.run(" not in block]


async def parcel(input: dict[str, object], run: RunContext) -> dict[str, object]:
    """An App that answers a question, or asks one first when it is to write to somebody."""
    if "to" in input:
        approval = await run.approve(f"Write to {input['to']}?", params={"to": input["to"]})
        assert approval.approved
        return {"answer": "sent"}
    for piece in ("It is ", "on its way."):
        await run.text(piece, entity_id="llm-1")
    return {"llm-1": {"status": "success", "input": input, "output": {"content": "It is…"}}}


def test_there_is_code_to_run() -> None:
    assert len(PROGRAMS) == 1
    assert len(PIECES) >= 10


@pytest.mark.parametrize("block", PIECES, ids=lambda block: block.strip().splitlines()[-1][:40])
async def test_a_piece_runs(
    block: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    block = block.replace("https://example.com/done", "http://127.0.0.1:9/done")
    async with (
        Emulator(parcel, allow_loopback_callbacks=True) as emulator,
        AsyncApp(emulator.url, access_key=emulator.access_key) as app,
    ):
        emulator.management.add("Support bot")
        for name, value in _environment(emulator).items():
            monkeypatch.setenv(name, value)
        names = {"app": app}
        code = compile(block, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        outcome = eval(code, names)
        if inspect.isawaitable(outcome):
            async with asyncio.timeout(20):
                await outcome
    capsys.readouterr()


def _environment(emulator: Emulator) -> dict[str, str]:
    return {
        "DYNAMIQ_ACCESS_KEY": str(emulator.access_key),
        "DYNAMIQ_API_BASE_URL": emulator.management_url,
        "DYNAMIQ_API_TOKEN": str(emulator.management.token),
        "DYNAMIQ_PROJECT_ID": DEFAULT_PROJECT,
        "FLOWY_API": emulator.flowy_url,
        "FLOWY_KEY": str(emulator.flowy_key),
    }


async def test_the_first_program_runs(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAMS[0], "utf-8")
    async with Emulator(parcel) as emulator:
        assert emulator.access_key is not None
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-W", "error", str(program)],
            env={
                **os.environ,
                "DYNAMIQ_APP_URL": emulator.url,
                "DYNAMIQ_ACCESS_KEY": emulator.access_key,
            },
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("It is on its way.")
    assert done.stderr == ""


async def test_the_backend_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    """The piece on FastAPI is whole: it has its own client, for as long as it runs."""
    from starlette.testclient import TestClient

    (block,) = (block for block in PIECES if "FastAPI(lifespan" in block)

    def visit() -> tuple[int, str]:
        names: dict[str, Any] = {}
        exec(compile(block, "README.md", "exec"), names)
        with TestClient(names["api"]) as browser:
            run = browser.post("/runs", params={"question": "Where is it?"}).json()["run"]
            found = browser.get("/events", params={"run": run})
            return browser.get("/events", params={"run": ".."}).status_code, found.text

    async with Emulator(parcel) as emulator:
        monkeypatch.setenv("DYNAMIQ_APP_URL", emulator.url)
        for name, value in _environment(emulator).items():
            monkeypatch.setenv(name, value)
        status, text = await asyncio.to_thread(visit)
    assert '{"text":"on its way."}' in text
    assert "event: end" in text
    assert status == 400
