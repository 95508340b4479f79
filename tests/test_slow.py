"""What is slow is there: a list of names outlives what it names."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import SLOW

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", SLOW)
def test_each_name_is_of_something(name: str) -> None:
    path, _, test = name.partition("::")
    assert (ROOT / path).exists()
    assert not test or f"def {test}(" in (ROOT / path).read_text()


def test_a_mark_is_given(request: pytest.FixtureRequest) -> None:
    marked = {i.nodeid for i in request.session.items if i.get_closest_marker("slow")}
    assert marked == {i.nodeid for i in request.session.items if i.nodeid.startswith(SLOW)}
