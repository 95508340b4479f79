"""Every block of code in the README and in docs/ runs as it stands there, and every link leads
somewhere.

How to write a page:

- A ```python block runs by itself, its imports included, with `app` bound to a client of the
  emulator. `await` may stand at its top.
- One with `asyncio.run(` is a program, and runs in a process of its own, with the settings of the
  App in its environment. One with `def test_…` is a file of tests, which pytest runs.
- In a ```console block, the lines `$ dynamiq-async …` run, one after another in one folder for the
  whole page; all have to succeed. A pipe ends what is run. `serve` is started and stopped.
- Comments before a block choose the App, leave it out, or make it a file (`tests.docs.pages`).
  Files that a page takes for given are in `tests.docs.files`.
- `support-bot.apps.us-east-1.getdynamiq.ai` is the emulator, and so is my-app's. There is no
  network.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, Block, Page, all_pages, refreshed
from tests.docs.running import compiled, place, run_commands, run_piece, run_program, run_tests

PAGES = {page.path: page for page in all_pages()}
BLOCKS = [block for page in PAGES.values() for block in page.blocks]
PYTHON = [block for block in BLOCKS if block.language == "python"]
RUN = [block for block in PYTHON if block.not_run is None]
WITH_COMMANDS = [
    page
    for page in PAGES.values()
    if any(block.language == "console" and block.commands for block in page.blocks)
]


def test_there_is_code_to_run() -> None:
    assert len(RUN) > 20
    assert WITH_COMMANDS


@pytest.mark.parametrize("block", RUN, ids=lambda block: block.name)
async def test_a_block_runs(block: Block, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    page = PAGES[block.page]
    async with place(page, block.app, tmp_path, monkeypatch) as here:
        if block.is_tests:
            await run_tests(block, here)
        elif block.is_program:
            await run_program(block, here)
        else:
            await run_piece(block, here)


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.name)
def test_a_block_is_python(block: Block) -> None:
    compiled(block)


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=lambda page: page.path)
async def test_the_commands_of_a_page_run(
    page: Page,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    blocks = [b for b in page.blocks if b.language == "console" and b.not_run is None]
    app = blocks[0].app if blocks else "llm"
    async with place(page, app, tmp_path, monkeypatch) as here:
        for block in blocks:
            assert block.app == app, "the commands of a page talk to one App"
            await run_commands(block.commands, here)
    capsys.readouterr()


@pytest.mark.parametrize("page", PAGES.values(), ids=lambda page: page.path)
def test_commands_stand_where_they_are_run(page: Page) -> None:
    for block in page.blocks:
        if block.language != "console":
            assert not any(
                line.startswith(("dynamiq-async ", "$ dynamiq-async "))
                for line in block.text.splitlines()
            ), f"{block.name}: a command of ours that no test runs; make it a console block"


@pytest.mark.parametrize("page", PAGES.values(), ids=lambda page: page.path)
def test_files_are_shown_as_they_are(page: Page) -> None:
    assert page.text == refreshed(page), "write them anew: python -m tests.docs.pages"


@pytest.mark.parametrize("page", PAGES.values(), ids=lambda page: page.path)
def test_links_lead_somewhere(page: Page) -> None:
    wrong = [link for link in page.links if not _leads_somewhere(page, link)]
    assert not wrong


def _leads_somewhere(page: Page, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = page.path if not path else _relative(page, path)
    if page.path.startswith("docs/") and not target.startswith("docs/"):
        return False  # the site has no other files
    if not (ROOT / target).exists():
        return False
    if not anchor or target not in PAGES:
        return not anchor
    made = anchor.startswith("dynamiq_async.") and "::: " in PAGES[target].text
    return made or anchor in PAGES[target].anchors  # the site's strict build looks at made ones


def _relative(page: Page, path: str) -> str:
    return os.path.normpath(Path(page.path).parent / path).replace(os.sep, "/")
