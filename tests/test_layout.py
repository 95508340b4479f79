"""The house keeps its order: which room may import which, no cycles, and doors instead of windows.

A room is a folder or a module at the top of the package. Imports are read from the source; those
within functions and those for type checkers count like any other.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

import dynamiq_async

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(dynamiq_async.__file__).parent
NAME = PACKAGE.name

GROUND = (
    "errors options _words _scalars _types _json _credentials _failures _files _hosts _tasks "
    "_telemetry "
    "_version"
)
CALLS = f"{GROUND} _http sse events streaming"

# A room, what it may import beside itself, and why no more. From the ground up.
ARROWS = (
    ("_version", "", "a number"),
    ("_words", "", "how messages say things, whoever says them"),
    ("errors", "", "everything raises them, so they stand on nothing"),
    ("_scalars", "", "what other libraries have for numbers, texts and times, by its names alone"),
    ("options", "errors _scalars", "limits that callers set, checked where they are made"),
    ("_types", "", "what is kept for a type knows neither JSON nor what is made"),
    ("_json", "errors _scalars _types", "JSON knows no service and no network"),
    ("_credentials", "errors", "what keeps a key knows nothing that could send it"),
    ("_failures", "errors _json _credentials", "what failed is one question for every room"),
    ("_files", "", "the system's files, whoever writes them"),
    ("_hosts", "", "names and addresses, of whatever service"),
    ("_tasks", "errors", "tasks and finalisers serve every room above"),
    ("_telemetry", "errors _version", "calls are told of whatever they are; content never is"),
    ("sse", "errors _json", "the decoder is sans-IO: bytes in, events out"),
    ("events", "errors _json _failures", "events are data, whichever way they came"),
    ("transport", GROUND, "the seam to the network knows no client and no service"),
    ("_http", f"{GROUND} transport", "one client's requests, whatever they are for"),
    ("downloads", f"{GROUND} _http transport", "links are fetched without any client's key"),
    ("streaming", f"{GROUND} _http sse events", "the life of a stream, not where it leads"),
    ("files", f"{GROUND} _http", "one part of an App's API, beside the others"),
    ("requirements", f"{GROUND} _http", "one part of an App's API, beside the others"),
    ("submission", f"{GROUND} _http", "one part of an App's API, beside the others"),
    ("runs", CALLS, "one part of an App's API, beside the others"),
    ("websocket", f"{CALLS} transport", "one part of an App's API, beside the others"),
    ("tools", f"{CALLS} runs", "an App's calls as functions, whoever has the client"),
    ("batch", f"{CALLS} runs", "many calls of what is below, and of any client"),
    (
        "app",
        f"{CALLS} batch runs files requirements submission tools websocket",
        "one App, put together",
    ),
    ("flowy", f"{GROUND} _http downloads transport batch runs", "another service"),
    (
        "management",
        f"{CALLS} downloads submission app",
        "it knows Apps and their calls, and not the reverse",
    ),
    ("relay", f"{GROUND} events sse streaming runs", "a backend relays what clients read"),
    ("callbacks", f"{GROUND} _http runs submission", "a backend receives what clients submit"),
    (
        "integrations",
        f"{GROUND} _http events runs tools app batch",
        "other kinds of programs call Apps",
    ),
    ("emulator", "_json", "a second opinion of the contract shares no code with the client"),
    ("pytest_plugin", "emulator", "a fixture of the emulator"),
)
TOPS = ("cli", "__main__", "__init__")  # they put everything together, and nothing imports them
MAY_IMPORT = {room: set(rooms.split()) for room, rooms, _ in ARROWS}

SLOW = ("aiohttp", "anyio", "httpx", "rich", "tqdm", "cyclopts", "websockets", "pyarrow", "ray")
CLIENT_NAMES = {"ClientSession", "ClientTimeout", "ClientResponse", "TCPConnector"}
SERVERS = {"emulator", "relay", "callbacks"}  # of aiohttp they know the server only

# Private by their spelling only.
FOREIGN_PRIVATES = {
    "_replace": "a method that NamedTuple documents",
    "_asdict": "a method that NamedTuple documents",
    "_fields": "an attribute that NamedTuple documents",
    "_exit": "of os, which documents it",
    "_get_running_loop": "asyncio's own, documented for libraries: it does not raise",
}

# The one list of what is used of aiohttp's own privates, with reasons and versions.
AIOHTTP_PRIVATE = f"{NAME}.transport._aiohttp_private"

MAX_MODULE = 500
MAX_FUNCTION = 45


class Import(NamedTuple):
    """One imported module, by its full name, and when the import runs."""

    module: str
    at_import: bool
    for_types: bool


class Module:
    def __init__(self, path: Path) -> None:
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        self.is_package = parts[-1] == "__init__"
        self.name = ".".join(parts[:-1] if self.is_package else parts)
        self.room = parts[1]
        self.text = path.read_text()
        self.tree = ast.parse(self.text)
        self.imports = list(self._imports(self.tree, at_import=True, for_types=False))

    def _imports(self, node: ast.AST, *, at_import: bool, for_types: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, at_import, for_types)
        elif isinstance(node, ast.ImportFrom):
            for module in self._from(node):
                yield Import(module, at_import, for_types)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            at_import = False
        guarded = []
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            guarded = node.body
        for child in ast.iter_child_nodes(node):
            yield from self._imports(
                child, at_import=at_import, for_types=for_types or child in guarded
            )

    def _from(self, node: ast.ImportFrom) -> Iterator[str]:
        base = node.module or ""
        if node.level:
            parts = self.name.split(".")
            up = node.level - self.is_package
            base = ".".join([*parts[: len(parts) - up], *([base] if base else [])])
        for alias in node.names:
            inner = f"{base}.{alias.name}"
            yield inner if inner in FILES else base


def module_files() -> dict[str, Path]:
    return {
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(
            ".__init__"
        ): path
        for path in sorted(PACKAGE.rglob("*.py"))
    }


FILES = module_files()
MODULES = {name: Module(path) for name, path in FILES.items()}
each_module = pytest.mark.parametrize("module", MODULES.values(), ids=list(MODULES))


def own(imported: Import) -> Module | None:
    return MODULES.get(imported.module) if imported.module.partition(".")[0] == NAME else None


def foreign(module: Module, library: str) -> list[Import]:
    return [i for i in module.imports if i.module.partition(".")[0] == library]


def test_the_walk_sees_the_imports_it_is_about() -> None:
    for module, imported in (
        ("events.run_events", Import(f"{NAME}._json", at_import=True, for_types=False)),
        ("_http.client", Import("aiohttp", at_import=True, for_types=True)),
        ("emulator", Import(f"{NAME}.emulator.emulator", at_import=True, for_types=False)),
    ):
        found = {i for i in MODULES[f"{NAME}.{module}"].imports if i.module == imported.module}
        assert found == {imported}


def test_every_room_has_its_row() -> None:
    rooms = {module.room for module in MODULES.values()}
    assert rooms == {*MAY_IMPORT, *TOPS}
    assert not [room for room, _, why in ARROWS if not why]


@each_module
def test_arrows_go_down(module: Module) -> None:
    if module.room in TOPS:
        return
    allowed = MAY_IMPORT[module.room] | {module.room}
    forbidden = {i.module for i in module.imports if (m := own(i)) and m.room not in allowed}
    assert not forbidden


@each_module
def test_every_import_from_the_package_is_of_a_module_that_exists(module: Module) -> None:
    for imported in module.imports:
        assert imported.module.partition(".")[0] != NAME or imported.module in MODULES


def test_there_are_no_cycles() -> None:
    """Imports for types only, and those within functions, count too."""
    graph = {
        module.name: {i.module for i in module.imports if own(i) and i.module != NAME}
        for module in MODULES.values()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@each_module
def test_private_names_stay_in_their_module(module: Module) -> None:
    """Of an object other than itself, a module uses the private names that it defines, no others.

    From another room it imports none either.
    """
    used = {
        f"{ast.unparse(node)}, line {node.lineno}"
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute)
        and is_private(node.attr)
        and ast.unparse(node.value) not in {"self", "cls", "super()"}
        and node.attr not in defined_names(module.tree)
        and node.attr not in FOREIGN_PRIVATES
        and module.name != AIOHTTP_PRIVATE
    }
    imported = {
        f"{name}, line {node.lineno}"
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ImportFrom)
        for name in (*(node.module or "").split(".")[2:], *(alias.name for alias in node.names))
        if is_private(name)
        and (node.module or "").startswith(f"{NAME}.")
        and (node.module or "").split(".")[1] != module.room
    }
    assert not used | imported


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def defined_names(tree: ast.AST) -> set[str]:
    """What a module defines: functions, classes, variables, attributes of `self`."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) in {"self", "cls"}:
            names.add(node.attr)
    return names


@each_module
def test_only_the_transport_knows_aiohttps_client(module: Module) -> None:
    running = [i for i in foreign(module, "aiohttp") if not i.for_types]
    if module.room not in SERVERS:
        assert not running or module.room == "transport"
        return
    used = {node.attr for node in ast.walk(module.tree) if isinstance(node, ast.Attribute)}
    used |= {
        alias.name
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ImportFrom) and node.module == "aiohttp"
        for alias in node.names
    }
    assert not running or not used & CLIENT_NAMES


@each_module
def test_nothing_slow_is_imported_before_it_is_needed(module: Module) -> None:
    slow = [
        i
        for library in (
            "aiohttp",
            "anyio",
            "httpx",
            "rich",
            "tqdm",
            "cyclopts",
            "websockets",
            "pyarrow",
        )
        for i in foreign(module, library)
        if i.at_import and not i.for_types
    ]
    assert not slow or module.room in {*SERVERS, *TOPS, "transport", "pytest_plugin"}


@each_module
def test_one_module_knows_the_websockets_package(module: Module) -> None:
    running = [i for i in foreign(module, "websockets") if not i.for_types]
    assert not running or module.name == f"{NAME}.websocket._frames"


@each_module
def test_one_module_knows_pyarrow(module: Module) -> None:
    assert not foreign(module, "pyarrow") or module.name == f"{NAME}.batch._arrow"


@each_module
def test_a_module_begins_by_saying_what_it_is_for(module: Module) -> None:
    assert module.room == "_version" or ast.get_docstring(module.tree)


@each_module
def test_no_module_is_too_long(module: Module) -> None:
    assert len(module.text.splitlines()) <= MAX_MODULE


@each_module
def test_functions_fit_on_a_screen(module: Module) -> None:
    """Their bodies; signatures and docstrings are for readers of the documentation."""
    long = {}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            lines = (node.end_lineno or 0) - body[0].lineno + 1 if body else 0
            if lines > MAX_FUNCTION:
                long[node.name] = lines
    assert not long


def test_importing_the_package_imports_nothing_slow_and_says_nothing() -> None:
    code = "import sys, dynamiq_async; print(*sorted({m.partition('.')[0] for m in sys.modules}))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=PACKAGE.parent,
    )
    assert done.stderr == ""
    (line,) = done.stdout.splitlines()
    loaded = set(line.split())
    assert {"dynamiq_async", "msgspec"} <= loaded
    assert not loaded & {"aiohttp", "anyio", "yarl", "multidict", "httpx", "rich", "cyclopts"}


def test_type_checkers_see_the_types() -> None:
    assert (PACKAGE / "py.typed").is_file()


def test_what_is_public_is_there_and_sorted() -> None:
    public = dynamiq_async.__all__
    assert list(public) == sorted(public, key=lambda name: (not name[0].isupper(), name))
    assert all(hasattr(dynamiq_async, name) for name in public)


def test_what_is_imported_later_is_there_when_it_is_asked_for() -> None:
    code = (
        "import sys, dynamiq_async as d\n"
        "later = [f'dynamiq_async.{name}' for name in ('flowy', 'management')]\n"
        "assert not set(later) & set(sys.modules)\n"
        "from dynamiq_async import AsyncFlowy, AsyncManagement\n"
        "assert set(later) <= set(sys.modules) and d.AsyncFlowy is AsyncFlowy"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, cwd=PACKAGE.parent)
    with pytest.raises(AttributeError, match="'dynamiq_async' has no attribute 'AsyncFlow'"):
        dynamiq_async.AsyncFlow  # noqa: B018
