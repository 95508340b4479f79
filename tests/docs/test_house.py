"""The page on the house shows the rooms that there are, from the ground up."""

from __future__ import annotations

import re
from pathlib import Path

from tests.test_layout import ARROWS, PACKAGE

PAGE = (Path(__file__).parents[2] / "docs" / "house.md").read_text("utf-8")


def test_each_room_has_its_row() -> None:
    _, table = PAGE.split("<!-- rooms -->")
    table, _ = table.split("<!-- end of rooms -->")
    rows = re.findall(r"^\| `(\w+)` \| (.+) \|$", table, re.MULTILINE)
    told = [room for room, _ in rows]
    assert sorted(told) == sorted(room for room, _, _ in ARROWS)
    assert all(said for _, said in rows)


def test_no_room_stands_above_one_that_imports_it() -> None:
    _, table = PAGE.split("<!-- rooms -->")
    place = {room: n for n, room in enumerate(re.findall(r"^\| `(\w+)`", table, re.MULTILINE))}
    for room, below, _ in ARROWS:
        assert all(place[other] < place[room] for other in below.split()), room


def test_the_modules_that_it_names_are_there() -> None:
    named = re.findall(r"`((?:\w+/)+\w*(?:\.py)?)`", PAGE)
    assert "runs/requests.py" in named
    for name in named:
        assert (PACKAGE / name).exists() or (PACKAGE.parent / name).exists(), name
