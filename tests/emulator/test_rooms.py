"""The emulator's rooms: services around a core, which know only the core.

Imports within functions and those for type checkers count like any other.
"""

from __future__ import annotations

from graphlib import TopologicalSorter

import pytest

from tests.test_layout import MODULES

INSIDE = "dynamiq_async.emulator"
SERVICES = {"app", "management", "flowy"}

# A room of the emulator, what it may import beside itself, and why no more.
ARROWS = {
    "core": (set(), "every service stands on it, so it knows none"),
    **dict.fromkeys(SERVICES, ({"core"}, "a service is another host, and has a state of its own")),
    "ui": ({"core", "app"}, "it shows what Apps do, and knows nothing that nobody looks at"),
    "routes": (SERVICES | {"core", "ui"}, "it puts the services together, and knows no server"),
    "deployed": ({"app", "management"}, "what the management API deploys is an App"),
    "request_handler": (
        {"app", "core", "routes"},
        "what becomes of a request, whichever service it is for",
    ),
    "tape": ({"core"}, "a tape stands in the place of an App, whatever serves it"),
    "emulator": (
        SERVICES | {"core", "routes", "deployed", "request_handler", "tape", "ui"},
        "the server, which makes the services' states",
    ),
    "library": ({"app"}, "a workflow of the vendor's library becomes an App, whatever serves it"),
    "": (SERVICES | {"core", "emulator", "tape"}, "the public names"),
}

GRAPH = {
    name: {i.module for i in module.imports if i.module.startswith(INSIDE)}
    for name, module in MODULES.items()
    if name.startswith(INSIDE)
}


def room_of(module: str) -> str:
    return f"{module}..".split(".")[2]


def test_every_room_has_its_row() -> None:
    assert {room_of(name) for name in GRAPH} == set(ARROWS)


@pytest.mark.parametrize("name", GRAPH)
def test_arrows_lead_to_the_core(name: str) -> None:
    room = room_of(name)
    allowed, _ = ARROWS[room]
    assert {room_of(imported) for imported in GRAPH[name]} <= {room, *allowed}


def test_there_are_no_cycles_with_imports_for_types_either() -> None:
    TopologicalSorter(GRAPH).prepare()
