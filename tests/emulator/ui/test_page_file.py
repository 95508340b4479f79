"""The page: one file that loads nothing, and a policy that lets nothing else run."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from typing import Any

from dynamiq_async.emulator import Emulator
from dynamiq_async.emulator.ui.page import page, policy

TEXT = page().decode()


class Contents(HTMLParser):
    """What is in the file."""

    def __init__(self) -> None:
        super().__init__()
        self.attributes: list[tuple[str, str, str]] = []
        self.inside: dict[str, str] = {}
        self._tag = ""
        self.feed(TEXT)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._tag = tag
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        if self._tag in ("script", "style"):
            self.inside[self._tag] = self.inside.get(self._tag, "") + data
            self._tag = ""


def test_it_loads_nothing_and_has_no_handlers() -> None:
    contents = Contents()
    links = {value for _, name, value in contents.attributes if name in ("href", "src")}
    assert {link for link in links if not link.startswith("#/")} == {"data:,"}
    assert not [name for _, name, _ in contents.attributes if name.startswith(("on", "style"))]
    assert not re.search(r"https?:|@import|url\(", TEXT)


def test_its_script_makes_no_markup_of_text() -> None:
    for word in (
        "innerHTML",
        "outerHTML",
        "insertAdjacent",
        "document.write",
        "eval(",
        "Function(",
    ):
        assert word not in TEXT


async def test_the_policy_names_what_is_in_the_file_and_nothing_else(connect: Any) -> None:
    async with Emulator() as emulator:
        response = await (await connect(emulator)).get("/_ui", key=None)
    assert response.body == page()
    given = response.headers["content-security-policy"]
    assert given == policy()
    rules = dict(rule.strip().split(" ", 1) for rule in given.split(";"))
    for tag, rule in (("script", "script-src"), ("style", "style-src")):
        digest = b64encode(sha256(Contents().inside[tag].encode()).digest()).decode()
        assert rules.pop(rule) == f"'sha256-{digest}'"
    assert rules.pop("connect-src") == "'self'"
    assert rules.pop("img-src") == "data:"
    assert rules.pop("require-trusted-types-for") == "'script'"
    assert set(rules.values()) == {"'none'"}
    assert {"default-src", "base-uri", "form-action", "frame-ancestors"} <= set(rules)
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["x-frame-options"] == "DENY"
    assert response.headers["cross-origin-resource-policy"] == "same-origin"
