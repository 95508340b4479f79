"""What `docs/contract.md` points at: the vendors' pages, and modules that are there."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest

DOCUMENT = Path(__file__).parent.parent / "docs" / "contract.md"
HOSTS = {"docs.getdynamiq.ai", "docs.tryflowy.ai"}

TEXT = DOCUMENT.read_text("utf-8")
BODY, _, PAGES_SECTION = TEXT.rpartition("\n## ")
DEFINITION = re.compile(r"^\[([^\]]+)\]: (\S+)$", re.MULTILINE)
PAGES = DEFINITION.findall(PAGES_SECTION)

CODE = re.compile(r"`[^`]+`")
MODULES = sorted(set(re.findall(r"`(dynamiq_async(?:\.\w+)+)`", TEXT)))


def prose(text: str) -> str:
    """`text` without code, in which nothing is a link, and without the definitions of links."""
    return CODE.sub("", DEFINITION.sub("", text))


def labels(text: str) -> set[str]:
    return set(re.findall(r"\[([^\]]*)\]", prose(text)))


def test_code_is_closed_where_it_begins() -> None:
    """The other tests leave code out, so what they see depends on it."""
    assert not [part for part in TEXT.split("\n\n") if part.count("`") % 2]


@pytest.mark.parametrize("page", PAGES, ids=[label for label, _ in PAGES])
def test_a_page_is_one_of_a_vendors(page: tuple[str, str]) -> None:
    label, url = page
    parts = urlsplit(url)
    assert (parts.scheme, parts.netloc) == ("https", parts.hostname)
    assert parts.hostname in HOSTS
    assert re.fullmatch(r"(/[A-Za-z-]+)+", parts.path)
    assert not parts.query
    assert not parts.fragment
    assert parts.path.rpartition("/")[2] == label.removeprefix("flowy/")
    assert label.startswith("flowy/") == (parts.hostname == "docs.tryflowy.ai")


def test_every_link_is_one_of_the_pages_in_the_last_section() -> None:
    names, addresses = zip(*PAGES, strict=True)
    assert len(set(names)) == len(set(addresses)) == len(PAGES)
    assert labels(BODY) <= set(names)
    assert labels(PAGES_SECTION) == set(names)
    assert "](" not in prose(TEXT)
    assert "]:" not in prose(TEXT)  # which defines a link anew, in a list too
    assert "://" not in prose(TEXT)
    assert not DEFINITION.search(BODY)


@pytest.mark.parametrize("name", MODULES)
def test_a_module_that_is_named_is_there(name: str) -> None:
    importlib.import_module(name)


def test_each_guess_is_referred_to_and_made_somewhere() -> None:
    facts, _, guesses = BODY.partition("\n## What nobody has written down")
    _, _, facts = facts.partition("\n## Hosts")
    rows = re.findall(r"^\| (\d+) \|(.*)\|$", guesses, re.MULTILINE)
    numbers = [int(number) for number, _ in rows]
    assert numbers == list(range(1, len(rows) + 1))
    assert {int(number) for number in re.findall(r"guess\s(\d+)", facts)} == set(numbers)
    assert not [number for number, row in rows if "`dynamiq_async." not in row]
