"""The rules by which pages are read and run: what breaks one is found."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from tests.docs import loopback
from tests.docs.pages import ROOT, Page, PageError, refreshed, slug_of
from tests.docs.running import place, run_commands, run_piece, run_program, run_tests


def page(text: str) -> Page:
    return Page("docs/page.md", text)


def code(text: str, comment: str = "") -> Page:
    return page(f"# A page\n\n{comment}\n```python\n{text}\n```\n")


def test_blocks_are_found_wherever_they_stand() -> None:
    found = page(
        "# T\n```python\none\n```\n- a list\n\n  ````python\n  two\n  ```\n  ````\n\n"
        '=== "a tab"\n\n    ~~~console\n    $ dynamiq-async x \\\n        y | jq\n    ~~~\n'
    ).blocks
    assert [block.text for block in found[:2]] == ["one\n", "two\n```\n"]
    assert [block.line for block in found] == [2, 7, 14]
    assert [command.split() for command in found[2].commands] == [["dynamiq-async", "x", "y"]]


def test_comments_are_about_the_block_behind_them() -> None:
    found = page(
        "<!-- app: llm -->\n# T\n\n<!-- app: agent -->\n<!-- file: a.py -->\n\n```python\n```\n\n"
        "<!-- not run: it has no end -->\n```python\n```\n"
    ).blocks
    assert [(block.app, block.file, block.not_run) for block in found] == [
        ("agent", "a.py", None),
        ("llm", None, "it has no end"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "# T\n<!-- not run -->\n```python\n```\n",
        "# T\n<!-- not run: -->\n```python\n```\n",
        "# T\n<!-- app: llm -->\nText\n",
        "<!-- file: x -->\n# T\n",
        "# T\n```python\nendless\n",
        "# T\n\n<!-- app: llm -->\n",
    ],
)
def test_what_a_page_says_wrongly_is_an_error(text: str) -> None:
    with pytest.raises(PageError):
        page(text)


def test_links_and_anchors_are_those_of_the_prose() -> None:
    found = page(
        "# A `b`: c, d\n\n## A + b\n\n## Twice\n\n## Twice\n\n## Named {#own}\n\n"
        "[x](a.md#b) ![y](c.png) `[code](no.md)` [z](https://x.y) <img src='d.svg'>\n[r]: e.md\n"
        "```md\n[x](no.md)\n```\n"
    )
    assert sorted(found.links) == ["a.md#b", "c.png", "d.svg", "e.md"]
    assert {"a-b-c-d", "twice", "named", "own"} <= found.anchors
    assert "a-b" not in found.anchors
    assert slug_of("Your own `Format`, [linked](x.md)") == "your-own-format-linked"


def test_a_file_that_has_changed_is_written_anew() -> None:
    kept = (ROOT / "examples/engines/dask_job.py").read_text("utf-8")
    comment = "<!-- from: examples/engines/dask_job.py -->"
    stale = page(f"# T\n\n{comment}\n```python\nold\nolder\n```\n\n```python\nx\n```\n")
    fresh = page(refreshed(stale))
    assert [block.text for block in fresh.blocks] == [kept, "x\n"]
    assert refreshed(fresh) == fresh.text


async def test_a_piece_that_fails_fails_at_its_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wrong = code("await app.invoke({})\n1 / 0")
    async with place(wrong, "echo", tmp_path, monkeypatch) as here:
        with pytest.raises(ZeroDivisionError) as raised:
            await run_piece(wrong.blocks[0], here)
        assert (raised.traceback[-1].path, raised.traceback[-1].lineno) == ("docs/page.md", 5)


@pytest.mark.parametrize("answer", [1, 2])
async def test_a_block_imports_the_files_of_its_page(
    answer: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shown = page(
        f"# T\n<!-- file: its_module.py -->\n```python\nANSWER = {answer}\n```\n"
        "```python\nfrom its_module import ANSWER\n```\n"
    )
    async with place(shown, "echo", tmp_path, monkeypatch) as here:
        assert (await run_piece(shown.blocks[1], here))["ANSWER"] == answer
        assert "its_module" in sys.modules
    assert "its_module" not in sys.modules


async def test_programs_and_tests_that_fail_fail(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = code("import asyncio, sys\nasyncio.run(asyncio.sleep(0))\nsys.stderr.write('x')")
    tests = code("def test_it():\n    assert False")
    assert program.blocks[0].is_program
    assert tests.blocks[0].is_tests
    async with place(program, "echo", tmp_path, monkeypatch) as here:
        with pytest.raises(AssertionError, match="x"):
            await run_program(program.blocks[0], here)
        with pytest.raises(AssertionError, match="1 failed"):
            await run_tests(tests.blocks[0], here)


async def test_commands_that_fail_fail(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = page(
        '# T\n<!-- file: in.json -->\n```json\n{"a": 1}\n```\n```console\n$ pip install x\n'
        "$ dynamiq-async invoke @in.json --app my-app.apps.us-east-1.getdynamiq.ai\n```\n"
    )
    async with place(shown, "echo", tmp_path, monkeypatch) as here:
        await run_commands(shown.blocks[1].commands, here)
        assert '"a":1' in capsys.readouterr().out.replace(" ", "")
        await run_commands(["dynamiq-async serve echo"], here)
        with pytest.raises(AssertionError, match="nonsense"):
            await run_commands(["dynamiq-async serve nonsense"], here)
        with pytest.raises(AssertionError, match="ended with"):
            await run_commands(["dynamiq-async invoke nonsense"], here)
    capsys.readouterr()


async def test_there_is_no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    out = code("import socket\nsocket.create_connection(('192.0.2.1', 80))")
    program = code("import asyncio, socket\nasyncio.run(asyncio.open_connection('192.0.2.1', 80))")
    async with place(out, "echo", tmp_path, monkeypatch) as here:
        with pytest.raises(loopback.NoNetworkError):
            await run_piece(out.blocks[0], here)
        with pytest.raises(loopback.NoNetworkError), socket.socket() as one:
            one.connect(("192.0.2.1", 80))
        with pytest.raises(AssertionError, match="NoNetworkError"):
            await run_program(program.blocks[0], here)
