"""How docstrings become pages of the reference, where griffe needs help."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import griffe
import pytest

CODE = '''
from typing import NamedTuple, TypedDict, Unpack, overload

from msgspec import Struct


class Base(TypedDict, total=False):
    timeout: float | None


class Options(Base, total=False):
    rate: str


class Limits(Struct):
    """Limits.

    Attributes:
        min, max: the bounds.

    Raises:
        ValueError, TypeError: they are none.
    """

    min: int = 1
    max: int
    name: str = "none"
    total: float | None = None
    _own: int = 0


class Narrow(Limits):
    """A subclass.

    Attributes:
        factor: by how much.
    """

    factor: float = 0.5


class Client:
    """A client.

    Args:
        host: its name.
        timeout: in seconds.
    """

    def __init__(self, host: str, **options: Unpack[Options]) -> None: ...


@overload
def call(name: str, *, kind: type) -> int: ...
@overload
def call(name: str, **options: Unpack[Options]) -> int: ...
def call(name: str, **options: object) -> int:
    """Call.

    Args:
        name: whom.
        kind: of what.
        rate, timeout: how often, and how long.
    """
'''


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / ".ci" / "site"))
    house = importlib.import_module("griffe_house")
    with griffe.temporary_visited_package(
        "sample",
        {"__init__.py": CODE},
        extensions=griffe.load_extensions(house.HouseExtension),
        docstring_parser="google",
        docstring_options={"warn_unknown_params": False, "warn_missing_types": False},
    ) as loaded:
        yield loaded


def rows(item: Any, kind: str) -> dict[str, tuple[str, str]]:
    """The rows of a section: names, and the types and words of each."""
    (section,) = (each for each in item.docstring.parsed if each.kind.value == kind)
    return {
        getattr(row, "name", str(row.annotation)): (str(row.annotation), row.description)
        for row in section.value
    }


def test_names_that_share_their_words_have_a_row_each(package: Any) -> None:
    assert rows(package["Limits"], "attributes") == {
        "min": ("int", "the bounds. By default `1`."),
        "max": ("int", "the bounds."),
        "name": ("str", ""),
        "total": ("float | None", ""),
    }
    assert rows(package["Limits"], "raises") == {
        "ValueError": ("ValueError", "they are none."),
        "TypeError": ("TypeError", "they are none."),
    }


def test_the_fields_of_a_subclass_are_shown(package: Any) -> None:
    said = "by how much. By default `0.5`."
    assert rows(package["Narrow"], "attributes") == {"factor": ("float", said)}


def test_options_that_are_unpacked_have_their_types(package: Any) -> None:
    assert rows(package["Client"], "parameters") == {
        "host": ("str", "its name."),
        "timeout": ("float | None", "in seconds."),
    }
    assert rows(package["call"], "parameters") == {
        "name": ("str", "whom."),
        "kind": ("type", "of what."),
        "rate": ("str", "how often, and how long."),
        "timeout": ("float | None", "how often, and how long."),
    }
