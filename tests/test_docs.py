"""The code of the page on batches runs, as it stands there, against the emulator."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest

from dynamiq_async import AsyncApp
from dynamiq_async.__main__ import main
from dynamiq_async.emulator import Emulator

PAGE = (Path(__file__).parent.parent / "docs/batches-on-many-machines.md").read_text("utf-8")
ENGINES = PAGE.index("## Engines")
PIECES = re.findall(r"^```python\n(.*?)^```$", PAGE[:ENGINES], re.MULTILINE | re.DOTALL)
COMMANDS = [
    line
    for block in re.findall(r"^```console\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    for line in re.findall(r"^\$ dynamiq-async (.*)$", block, re.MULTILINE)
]


def test_there_is_code_to_run() -> None:
    assert len(PIECES) == 3
    assert len(COMMANDS) == 6


@pytest.mark.parametrize("block", PIECES, ids=lambda block: block.strip().splitlines()[-1][:40])
async def test_a_piece_runs(block: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    async with (
        Emulator("echo") as emulator,
        AsyncApp(emulator.url, access_key=emulator.access_key) as app,
    ):
        code = compile(block, "page.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        names: dict[str, Any] = {"app": app}
        outcome = eval(code, names)
        if inspect.isawaitable(outcome):
            await outcome
    if "answers" in names:
        assert isinstance(names["answers"], pl.DataFrame)
        assert sorted(names["answers"]["key"]) == ["1", "2", "3"]


async def test_the_commands_run_as_they_stand_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import asyncio

    monkeypatch.chdir(tmp_path)
    columns = {"id": [f"r{n}" for n in range(40)], "age": range(40), "score": [0.5] * 40}
    frame = pd.DataFrame(columns)
    frame.to_parquet("questions.parquet")
    frame.to_parquet("in.parquet")
    frame.to_csv("questions.csv", index=False)
    frame.to_json("questions.jsonl", orient="records", lines=True)
    async with Emulator("echo") as emulator:
        monkeypatch.setenv("DYNAMIQ_APP_URL", emulator.url)
        monkeypatch.setenv("DYNAMIQ_ACCESS_KEY", str(emulator.access_key))
        for command in COMMANDS:
            if command.startswith("journal"):
                for n in (1, 2):
                    given = ["batch", "in.parquet", "--shard", f"{n}/2", "-o", f"{n}.jsonl"]
                    given += ["--journal", f"shard-{n}.db"]
                    assert await asyncio.to_thread(main, given) == 0
                command = command.replace("shard-*.db", "shard-1.db shard-2.db")
            assert await asyncio.to_thread(main, shlex.split(command)) == 0, command
    capsys.readouterr()
    assert len(pd.read_parquet("answers.parquet")) == len(pd.read_csv("answers.csv")) == 40
    assert len(pd.read_parquet("everything.parquet")) == 40
    assert 0 < len(pd.read_parquet("out-2.parquet")) < 40
