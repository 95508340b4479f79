"""A pytest fixture: `dynamiq_emulator`, a running `Emulator` for each test that asks for it.

```python
@pytest.mark.dynamiq_emulator("agent", pace=0.01)  # the arguments of Emulator; may be left out
async def test_my_program(dynamiq_emulator):
    ...  # dynamiq_emulator.url, dynamiq_emulator.access_key
```

Pass an App of your own as `app=`, as in `@pytest.mark.dynamiq_emulator(app=my_app)`. pytest takes
a marker whose only argument is a function for a decorator of that function.

Another marker replaces the emulator by a tape:

```python
@pytest.mark.dynamiq_tape(mask=["email"])  # also a path, ignore=, speed=
async def test_my_program(dynamiq_emulator):
    ...  # dynamiq_emulator.url, dynamiq_emulator.access_key
```

The tape is beside the test's file, at `tapes/<file>/<test>.jsonl` or at the path in the marker.
`pytest --dynamiq-record https://my-app.example` records it with the key in `DYNAMIQ_ACCESS_KEY`,
and replaces an older tape. Without the option, the tape is replayed. A request that is not on the
tape fails the test.

The emulator runs on the test's event loop. It works with pytest-asyncio, in auto and strict mode
and with any `loop_scope`, and with anyio's plugin. (If both plugins are loaded, anyio's tests need
pytest-asyncio in strict mode: in auto mode, it takes the tests, but not their fixtures.)
"""

from __future__ import annotations

import os
import re
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .emulator import Emulator, Player, Recorder

_TAPE = "dynamiq_tape"
_MARKER = "dynamiq_emulator"
_RECORDED = pytest.StashKey[set[Path]]()
_LONGEST_NAME = 150
_SCOPES: tuple[Literal["function", "class", "module", "package", "session"], ...] = (
    "function",
    "class",
    "module",
    "package",
    "session",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that records tapes."""
    parser.getgroup("dynamiq").addoption(
        "--dynamiq-record",
        metavar="URL",
        help=f"record the tapes of tests marked with {_TAPE} anew, from the App with this URL",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers, and a fixture for each loop that pytest-asyncio may have."""
    config.addinivalue_line(
        "markers",
        f"{_MARKER}(app, **options): the arguments of the `Emulator` that the fixture `{_MARKER}` "
        "runs; a function is given as app=",
    )
    config.addinivalue_line(
        "markers",
        f"{_TAPE}(path=None, mask=(), ignore=(), speed=inf): a tape that the fixture `{_MARKER}` "
        "plays, or records with --dynamiq-record",
    )
    if _has_pytest_asyncio(config):
        # Imported here, because pytest warns about a plugin that is imported before it is loaded.
        from pytest_asyncio import fixture

        fixtures = ModuleType("dynamiq_async_loops")
        for scope in _SCOPES:
            name = f"_dynamiq_emulator_{scope}"
            setattr(fixtures, name, fixture(_on_its_own(), loop_scope=scope, name=name))
        config.pluginmanager.register(fixtures, fixtures.__name__)


def _has_pytest_asyncio(config: pytest.Config) -> bool:
    """Whether pytest-asyncio is loaded, under any name."""
    names = (getattr(plugin, "__name__", "") for plugin in config.pluginmanager.get_plugins())
    return "pytest_asyncio.plugin" in names


@pytest.fixture
def dynamiq_emulator(request: pytest.FixtureRequest) -> Any:
    """A running `Emulator`. The marker `dynamiq_emulator` sets its arguments."""
    return request.getfixturevalue(f"_dynamiq_emulator_{_runner(request)}")


def _runner(request: pytest.FixtureRequest) -> str:
    """The runner of the test: anyio, or pytest-asyncio's loop of a scope."""
    if not _has_pytest_asyncio(request.config):
        return "anyio"
    from pytest_asyncio import is_async_test

    if "anyio_backend" in request.fixturenames and not is_async_test(request.node):
        return "anyio"
    marker = request.node.get_closest_marker("asyncio")
    options = marker.kwargs if marker else {}
    asked = options.get("loop_scope") or options.get("scope")
    return str(asked or request.config.getini("asyncio_default_test_loop_scope"))


@pytest.fixture
async def _dynamiq_emulator_anyio(
    request: pytest.FixtureRequest, anyio_backend: object
) -> AsyncIterator[Any]:
    async with _running(request) as emulator:
        yield emulator


def _on_its_own() -> Any:
    """A function for one fixture, because pytest-asyncio stores the loop's scope on it."""

    async def emulator(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
        async with _running(request) as running:
            yield running

    return emulator


@asynccontextmanager
async def _running(request: pytest.FixtureRequest) -> AsyncIterator[Emulator | Player | Recorder]:
    """The emulator or tape that the test's markers ask for."""
    marker = request.node.get_closest_marker(_TAPE)
    server = _make_emulator(request) if marker is None else _tape(request, marker)
    async with server as running:
        yield running


@asynccontextmanager
async def _tape(
    request: pytest.FixtureRequest, marker: pytest.Mark
) -> AsyncIterator[Player | Recorder]:
    """Play the tape of a test, or record it if the option is given."""
    options = {"mask": (), **marker.kwargs}
    mask = options.pop("mask")
    named = (options.pop("path"),) if "path" in options else marker.args
    path = _tape_path(request, *named)
    app = request.config.getoption("--dynamiq-record")
    if app is None:
        async with _player(path, options) as player:
            yield player
        if player.unknown:
            pytest.fail("\n".join(player.unknown), pytrace=False)
        return
    from .emulator import Emulator

    new = _begin_tape(request.config, path)
    try:
        key = os.environ.get("DYNAMIQ_ACCESS_KEY")
        async with Emulator.record(app, new, mask=mask, access_key=key) as recorder:
            yield recorder
        if recorder.problems:
            pytest.fail("\n".join((f"{path} stays as it is:", *recorder.problems)), pytrace=False)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def _tape_path(request: pytest.FixtureRequest, name: str | None = None) -> Path:
    """The file of a test's tape, within the project."""
    if name is None:
        test = re.sub(r"[^\w.-]+", "-", request.node.nodeid.partition("::")[2]).strip("-")
        name = f"tapes/{request.path.stem}/{test[:_LONGEST_NAME]}.jsonl"
    path = (request.path.parent / name).resolve()
    homes = (request.config.rootpath.resolve(), request.path.parent.resolve())
    if not any(path.is_relative_to(home) for home in homes):
        pytest.fail(f"the tape {path} is outside of {homes[0]}", pytrace=False)
    return path


def _player(path: Path, options: dict[str, Any]) -> Player:
    from .emulator import Emulator, TapeError

    try:
        return Emulator.replay(path, **options)
    except FileNotFoundError:
        pytest.fail(f"there is no tape {path}: record it by --dynamiq-record URL", pytrace=False)
    except TapeError as error:
        pytest.fail(str(error), pytrace=False)


def _begin_tape(config: pytest.Config, path: Path) -> Path:
    """The file in which to record a tape before it replaces an older one."""
    from .emulator import Player, TapeError

    if path in config.stash.setdefault(_RECORDED, set()):
        pytest.fail(f"another test has recorded {path}: each needs its own", pytrace=False)
    try:
        Player(path)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (TapeError, OSError) as error:
        pytest.fail(f"{error}; it is not written over", pytrace=False)
    config.stash[_RECORDED].add(path)
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    return new


def _make_emulator(request: pytest.FixtureRequest) -> Emulator:
    from .emulator import Emulator  # here, so that runs without the fixture start faster

    marker = request.node.get_closest_marker(_MARKER)
    return Emulator(*marker.args, **marker.kwargs) if marker else Emulator()
