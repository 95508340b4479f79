"""What some blocks of the pages bring about, beyond running."""

from __future__ import annotations

import asyncio
import logging
import re
import tomllib
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest
from starlette.testclient import TestClient

from tests.docs.pages import ROOT, Block, Page, all_pages, load
from tests.docs.running import place, run_commands, run_piece, run_program
from tests.support.frontends import UIReader

EXAMPLES = "docs/examples.md"
TUTORIAL = [path for path in (page.path for page in all_pages()) if "/tutorial/" in path]
MANY_MACHINES = "docs/tutorial/many-machines.md"
USECHAT = "docs/tutorial/usechat.md"


def block_with(page: Page, words: str) -> Block:
    """The block that holds these words."""
    (found,) = (block for block in page.blocks if words in block.text)
    return found


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


async def test_the_first_program_of_the_readme_prints_an_answer(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readme = load("README.md")
    (program,) = (block for block in readme.blocks if block.is_program)
    async with place(readme, program.app, folder, monkeypatch) as here:
        printed = await run_program(program, here)
    assert printed.endswith("You said: What can you do?")


async def test_a_frame_goes_in_and_a_frame_comes_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = load(MANY_MACHINES)
    async with place(page, "echo", folder, monkeypatch) as here:
        made = await run_piece(block_with(page, "pl.DataFrame(table)"), here)
    assert isinstance(made["answers"], pl.DataFrame)
    assert sorted(made["answers"]["key"]) == ["1", "2", "3"]


async def test_the_commands_of_batches_answer_every_row(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = load(MANY_MACHINES)
    async with place(page, "echo", folder, monkeypatch) as here:
        for block in page.blocks:
            if block.language == "console":
                await run_commands(block.commands, here)
    capsys.readouterr()
    assert len(pd.read_parquet("answers.parquet")) == len(pd.read_csv("answers.csv")) == 40
    assert len(pd.read_parquet("everything.parquet")) == 40
    assert 0 < len(pd.read_parquet("out-2.parquet")) < 40


@pytest.mark.parametrize(("page", "folder"), [(MANY_MACHINES, "engines"), (EXAMPLES, "usechat")])
def test_every_file_of_an_example_is_shown(page: str, folder: str) -> None:
    shown = {block.source for block in load(page).blocks}
    files = {path for path in (ROOT / "examples" / folder).iterdir() if path.is_file()}
    assert files
    assert {path.relative_to(ROOT).as_posix() for path in files} <= shown


async def test_the_backend_of_the_tutorial_serves_its_page(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = load("docs/tutorial/web-backends.md")
    block = block_with(page, "FastAPI(lifespan")

    def visit(api: Any) -> tuple[int, str]:
        with TestClient(api) as browser:
            assert "new EventSource" in browser.get("/").text
            run = browser.post("/runs", params={"question": "Where is it?"}).json()["run"]
            found = browser.get("/events", params={"run": run})
            return browser.get("/events", params={"run": ".."}).status_code, found.text

    async with place(page, block.app, folder, monkeypatch) as here:
        made = await run_piece(block, here)
        status, text = await asyncio.to_thread(visit, made["api"])
    assert '{"text":" emulat"}' in text
    assert "event: end" in text
    assert status == 400


async def test_the_backend_of_usechat_serves_a_chat(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = load(USECHAT)
    message = {"id": "m", "role": "user", "parts": [{"type": "text", "text": "Where is it?"}]}

    def visit(api: Any) -> tuple[bytes, bytes, int]:
        with TestClient(api) as browser:
            ann = {"X-User": "ann"}
            body = {"id": "chat", "messages": [message]}
            answer = browser.post("/api/chat", json=body, headers=ann)
            again = browser.get("/api/chat/chat/stream", headers=ann)
            return answer.content, again.content, browser.post("/api/chat", json=body).status_code

    async with place(page, "llm", folder, monkeypatch) as here:
        made = await run_piece(block_with(page, "FastAPI("), here)
        answer, again, status = await asyncio.to_thread(visit, made["api"])
    assert UIReader(7).read(answer).parts[1]["text"].endswith("Where is it?")
    assert again == answer
    assert status == 404


async def test_the_filter_of_usechat_leaves_out_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = load(USECHAT)
    async with place(page, "llm", folder, monkeypatch) as here:
        keep = (await run_piece(block_with(page, "addFilter"), here))["unless_broken_on_purpose"]
    log = logging.getLogger("uvicorn.error")
    line = log.makeRecord("uvicorn.error", logging.ERROR, "", 0, "%s", ("x",), None)
    assert keep(line)
    line.args = ("ASGI callable returned without completing response.",)
    assert not keep(line)


async def test_the_formats_of_usechat_work_without_the_routes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = load(USECHAT)
    async with place(page, "llm", folder, monkeypatch) as here:
        made = await run_piece(block_with(page, "UIMessageStream("), here)
    headers = made["answer"](made["app"], "Where?").relay.headers
    assert headers["x-vercel-ai-ui-message-stream"] == "v1"


def test_the_table_of_extras_has_each_extra() -> None:
    table = re.findall(r"^\| `([a-z]+)` \|", load("docs/install.md").text, re.MULTILINE)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert sorted(table) == sorted(project["optional-dependencies"])


def test_the_readme_is_short() -> None:
    assert len(load("README.md").text.splitlines()) <= 250


@pytest.mark.parametrize("path", TUTORIAL)
def test_a_page_of_the_tutorial_says_what_one_wants_and_begins_with_all_of_it(path: str) -> None:
    page = load(path)
    assert "\nYou want " in page.text.partition("```")[0]
    first = next(block for block in page.blocks if block.language in ("python", "console"))
    whole = first.is_program or first.is_tests or "FastAPI(" in first.text
    assert whole or first.commands
