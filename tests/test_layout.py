"""The house keeps its order: ranks, no cycles, one place that knows the HTTP client, short modules.

The imports are read from the source. Those within functions and those for type checkers only count
for the ranks like any other; for cycles only those that run when a module is imported do.
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

RANKS = {
    0: "errors _json _secret models runs_models events options _version management_models "
    "flowy_models batch_models",
    1: "sse uploads _request _response _retry _cursor",
    2: "transport _aiohttp _body _websocket",
    3: "_gate _clock _calls _limit",
    4: "_feed _stream streams _client paging questions runs run_handle run_stream _run_service "
    "files batch journal _fanout _items _poller _settings requirements downloads websocket "
    "websocket_messages",
    5: "app management flowy __init__",
    6: "emulator cli pytest_plugin relay callbacks __main__",
}
RANK = {module: rank for rank, modules in RANKS.items() for module in modules.split()}
KNOW_AIOHTTP = {"_aiohttp", "_body"}
CLIENT_NAMES = {"ClientSession", "ClientTimeout", "ClientResponse", "TCPConnector"}

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
        self.top = parts[1]
        self.text = path.read_text()
        self.tree = ast.parse(self.text)
        self.imports = list(self._imports(self.tree, at_import=True, for_types=False))

    @property
    def rank(self) -> int:
        assert self.top in RANK, f"{self.name} has no rank: give it one in {Path(__file__).name}"
        return RANK[self.top]

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
        ("events", Import(f"{NAME}._json", at_import=True, for_types=False)),
        ("transport", Import(f"{NAME}._aiohttp", at_import=False, for_types=False)),
        ("app", Import("aiohttp", at_import=True, for_types=True)),
        ("emulator", Import(f"{NAME}.emulator.server", at_import=True, for_types=False)),
    ):
        found = {i for i in MODULES[f"{NAME}.{module}"].imports if i.module == imported.module}
        assert found == {imported}


@each_module
def test_a_module_imports_only_from_the_same_or_lower_ranks(module: Module) -> None:
    higher = {i.module for i in module.imports if (m := own(i)) and m.rank > module.rank}
    assert not higher


@each_module
def test_every_import_from_the_package_is_of_a_module_that_exists(module: Module) -> None:
    for imported in module.imports:
        assert imported.module.partition(".")[0] != NAME or imported.module in MODULES


def test_there_are_no_cycles() -> None:
    graph = {
        module.name: {
            i.module
            for i in module.imports
            if i.at_import and not i.for_types and own(i) and i.module != NAME
        }
        for module in MODULES.values()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@each_module
def test_only_the_transport_knows_aiohttps_client(module: Module) -> None:
    running = [i for i in foreign(module, "aiohttp") if not i.for_types]
    if module.rank < 6:
        assert not running or module.top in KNOW_AIOHTTP
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
def test_below_the_top_nothing_slow_is_imported_before_it_is_needed(module: Module) -> None:
    slow = [
        i
        for library in ("aiohttp", "anyio", "httpx", "rich", "cyclopts")
        for i in foreign(module, library)
        if i.at_import and not i.for_types
    ]
    assert not slow or module.rank == 6 or module.top in KNOW_AIOHTTP


@each_module
def test_a_module_begins_by_saying_what_it_is_for(module: Module) -> None:
    assert module.top == "_version" or ast.get_docstring(module.tree)


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
