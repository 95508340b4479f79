"""What builds and checks the site: it finds what a strict build lets pass, and tells models all."""

from __future__ import annotations

import importlib
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
with (ROOT / "zensical.toml").open("rb") as file:
    PROJECT = tomllib.load(file)["project"]


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / ".ci" / "site"))
    return importlib.import_module("check")


@pytest.fixture
def llms(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / ".ci" / "site"))
    return importlib.import_module("llms")


def test_each_page_is_in_the_navigation_once(check: Any) -> None:
    assert list(check.problems_of_navigation(PROJECT["nav"], ROOT / "docs")) == []


def test_pages_that_nobody_finds_are_found(check: Any, tmp_path: Path) -> None:
    (tmp_path / "a.md").touch()
    (tmp_path / "b.md").touch()
    navigation = [{"A": "a.md"}, {"More": [{"A again": "a.md"}, {"C": "c.md"}]}]
    assert list(check.problems_of_navigation(navigation, tmp_path)) == [
        "a.md: twice in the navigation",
        "c.md: in the navigation, and not there",
        "b.md: not in the navigation of zensical.toml",
    ]


@pytest.mark.parametrize(
    ("html", "found"),
    [
        ("<p>Args: the first</p>", True),
        ("<p>It has two.</p><p>Raises:</p><p>InvalidArgumentError: it is none</p>", True),
        ("<div>Raises, when it is awaited:\nValueError: it is none</div>", True),
        ("<p>::: dynamiq_async.Run</p>", True),
        ('<p><span class="doc-section-title">Raises:</span></p>', False),
        ("<pre><code>Args:\n    one: the first</code></pre>", False),
        ("<p>What it raises: nothing.</p>", False),
    ],
)
def test_docstrings_that_were_not_rendered_are_found(check: Any, html: str, found: bool) -> None:
    assert bool(list(check.problems_of_page(check.Page(html)))) is found


@pytest.mark.parametrize(
    ("html", "found"),
    [
        ('<script src="https://cdn.example/x.js"></script>', True),
        ('<link rel="stylesheet" href="//fonts.example/css">', True),
        ('<img src="https://example.com/a.png">', True),
        ('<a href="https://example.com/">there</a>', False),
        ('<script src="../assets/x.js"></script>', False),
    ],
)
def test_what_comes_from_another_host_is_found(check: Any, html: str, found: bool) -> None:
    assert bool(list(check.problems_of_page(check.Page(html)))) is found


def test_links_that_lead_nowhere_are_found(check: Any, tmp_path: Path) -> None:
    links = ("../b/", "../b/#there", "../b/#gone", "../c/", "#here", "https://example.com/x", "../")
    pages = {
        "a/index.html": '<h1 id="here">A</h1>' + "".join(f'<a href="{link}">' for link in links),
        "b/index.html": '<h2 id="there">B</h2>',
        "index.html": "",
    }
    for name, html in pages.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(html)
    read = {name: check.Page(html) for name, html in pages.items()}
    assert list(check.problems_of_links(tmp_path, read)) == [
        "a/index.html: no such anchor: ../b/#gone",
        "a/index.html: leads nowhere: ../c/",
    ]


def test_every_documented_name_is_described(check: Any) -> None:
    assert list(check.problems_of_docstrings()) == []


@pytest.fixture
def written(llms: Any, tmp_path: Path) -> list[str]:
    assert llms.main(tmp_path) == 0
    return [(tmp_path / name).read_text("utf-8") for name in ("llms.txt", "llms-full.txt")]


def test_llms_txt_lists_every_page_with_a_sentence(llms: Any, written: list[str]) -> None:
    listed, _ = written
    assert listed.startswith(f"# {PROJECT['site_name']}\n\n> ")
    for entry in llms.entries(PROJECT["nav"]):
        (line,) = [each for each in listed.splitlines() if f"]({entry.address})" in each]
        assert line.startswith(f"- [{entry.title}](")
        assert line.partition("): ")[2], f"{entry.file} has no sentence to begin with"


def test_llms_full_txt_has_all_pages_and_docstrings(written: list[str]) -> None:
    _, text = written
    assert "\n::: " not in text
    assert "<!-- not run" not in text
    for path in (ROOT / "docs").rglob("*.md"):
        title = next(x for x in path.read_text("utf-8").split("\n") if x.startswith("# "))
        assert f"\n{title}\n" in text
    assert "## `dynamiq_async.AsyncApp`" in text
    assert "### `AsyncApp.map`" in text  # of a base that has no page of its own
    assert "async def invoke(input: Any, *, " in text
    assert "Call the App once for each input, with bounded concurrency." in text
    assert text.count("### `") > 200


def test_a_page_begins_with_its_address(llms: Any) -> None:
    navigation = [{"Home": "index.md"}, {"S": [{"T": "s/index.md"}, {"U": "s/u.md"}]}]
    entries = list(llms.entries(navigation))
    assert [each.address for each in entries] == ["./", "s/", "s/u/"]
    assert [each.sections for each in entries] == [(), ("S",), ("S",)]
