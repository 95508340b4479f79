"""Every public name is on one page of the reference, once."""

from __future__ import annotations

import ast
import importlib
import re
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import dynamiq_async

PACKAGE = Path(dynamiq_async.__file__).parent
ROOT = PACKAGE.parent
REFERENCE = ROOT / "docs" / "reference"

# Doors between rooms, through which users have no business. What they may have of those rooms is
# exported at the top of the package, or by another room.
DOORS = {
    "downloads": "what is downloaded is saved and read by methods of outputs and artifacts",
    "emulator.app": "a part of the emulator's room",
    "emulator.core": "a part of the emulator's room",
    "emulator.flowy": "a part of the emulator's room",
    "emulator.management": "a part of the emulator's room",
}
# Exported for other rooms only.
OF_THE_HOUSE = {
    "batch.Batching": "the methods of AsyncApp, which has them all",
    "batch.collected": "what AsyncApp.batch is made of",
    "batch.fan_out": "what AsyncFlowy.map is made of",
    "tools.Inputs": "what AsyncApp.tool and the MCP server are made of",
    "tools.check_name": "what AsyncApp.tool and the MCP server are made of",
    "tools.error_text": "what AsyncApp.tool and the MCP server are made of",
    "tools.inputs_of": "what AsyncApp.tool and the MCP server are made of",
    "tools.make_tool": "what AsyncApp.tool is made of",
    "tools.text_of_output": "what AsyncApp.tool and the MCP server are made of",
}
# Modules that import what may not be installed where the tests run: there a name is its own place.
NOT_IMPORTED = {"integrations.ray"}
SAME = {"integrations.ray.AppShard": "integrations.shard.AppShard"}


def told() -> list[str]:
    """The names on the pages, without that of the package."""
    return [
        name
        for page in sorted(REFERENCE.glob("*.md"))
        for name in re.findall(r"^::: dynamiq_async\.(\S+)$", page.read_text("utf-8"), re.MULTILINE)
    ]


def exported() -> dict[str, list[str]]:
    """What `__all__` of each public module has, read from the source."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        module = module.removesuffix("__init__").removesuffix(".")
        if not any(part.startswith("_") for part in module.split(".")) and module not in DOORS:
            found[module] = names_of(ast.parse(path.read_text("utf-8")))
    return found


def names_of(tree: ast.Module) -> list[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names: list[str] = ast.literal_eval(node.value)
            return names
    return []


def place(name: str) -> tuple[str, str]:
    """Where a class or a function is defined, wherever it is exported. What else has a name is
    known by that and by which object it is."""
    module, _, last = SAME.get(name, name).rpartition(".")
    if module in NOT_IMPORTED:
        return module, last
    value: Any = getattr(importlib.import_module(f"dynamiq_async.{module}".rstrip(".")), last)
    if isinstance(value, ModuleType):
        return "dynamiq_async", last
    if isinstance(value, type) or callable(value):
        defined = getattr(value, "__module__", "")
        if defined.startswith("dynamiq_async"):
            return defined, value.__qualname__
    return last, str(id(value))


def test_every_public_name_has_its_place() -> None:
    places = {place(name) for name in told()} | {place("errors")}  # whose page has its classes
    names = {
        f"{module}.{name}".lstrip(".") for module, exports in exported().items() for name in exports
    }
    assert len(names) > 200
    missing = [name for name in sorted(names - {*OF_THE_HOUSE}) if place(name) not in places]
    assert not missing, f"add `::: dynamiq_async.NAME` to a page of docs/reference for {missing}"


def test_no_name_has_two_places() -> None:
    counted = Counter(place(name) for name in told())
    assert not [name for name in told() if counted[place(name)] > 1]


def test_every_error_has_its_place() -> None:
    tree = ast.parse((PACKAGE / "errors.py").read_text("utf-8"))
    classes = [f"errors.{node.name}" for node in tree.body if isinstance(node, ast.ClassDef)]
    assert len(classes) > 40
    assert [name for name in told() if name.startswith("errors.")] == classes


def test_what_is_left_out_is_there_to_be_left_out() -> None:
    for name in OF_THE_HOUSE:
        module, _, last = name.rpartition(".")
        assert last in exported()[module]
    for door in DOORS:
        assert importlib.import_module(f"dynamiq_async.{door}").__all__


@pytest.mark.parametrize("page", sorted(REFERENCE.glob("*.md")), ids=lambda page: page.stem)
def test_a_page_begins_with_its_title(page: Path) -> None:
    first, second, third = page.read_text("utf-8").split("\n")[:3]
    assert first.startswith("# ")
    assert not second
    assert third
    assert not third.startswith(":::")
