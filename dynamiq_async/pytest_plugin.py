"""A pytest fixture: `dynamiq_emulator`, a running `Emulator` for each test that asks for it.

```python
@pytest.mark.dynamiq_emulator("agent", pace=0.01)  # the arguments of Emulator; may be left out
async def test_my_program(dynamiq_emulator):
    ...  # dynamiq_emulator.url, dynamiq_emulator.access_key
```

An App of your own is named by `app=`, as in `@pytest.mark.dynamiq_emulator(app=my_app)`: pytest
takes a marker whose only argument is a function for a decorator of that function.

A tape in place of the emulator is named by another marker, relative to the file of the test:

```python
@pytest.mark.dynamiq_tape("support.jsonl", mask=["email"])  # also ignore=, speed=
async def test_my_program(dynamiq_emulator):
    ...  # dynamiq_emulator.url, dynamiq_emulator.access_key
```

It is recorded by `pytest --dynamiq-record https://my-app.example`, with the key that
`DYNAMIQ_ACCESS_KEY` has, and replayed without the option. A request that it does not know fails
the test.

The emulator runs on the event loop of the test, whichever plugin runs it: pytest-asyncio's, in auto
and strict mode and with any `loop_scope`, or anyio's. (Where both plugins are loaded, anyio's tests
need pytest-asyncio in strict mode: in auto mode it takes the tests, but not their fixtures.)
"""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .emulator import Emulator, Player, Recorder

_TAPE = "dynamiq_tape"
_MARKER = "dynamiq_emulator"
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
        help=f"record the tapes of tests marked with {_TAPE} from this App anew",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known, and a fixture for each loop that pytest-asyncio may have."""
    config.addinivalue_line(
        "markers",
        f"{_MARKER}(app, **options): the arguments of the `Emulator` that the fixture `{_MARKER}` "
        "runs; a function is given as app=",
    )
    config.addinivalue_line(
        "markers",
        f"{_TAPE}(path, mask=(), ignore=(), speed=inf): a tape that the fixture `{_MARKER}` plays",
    )
    if _has_pytest_asyncio(config):
        # Here, because a plugin that is imported before pytest loads it makes pytest warn.
        from pytest_asyncio import fixture

        fixtures = ModuleType("dynamiq_async_loops")
        for scope in _SCOPES:
            name = f"_dynamiq_emulator_{scope}"
            setattr(fixtures, name, fixture(_on_its_own(), loop_scope=scope, name=name))
        config.pluginmanager.register(fixtures, fixtures.__name__)


def _has_pytest_asyncio(config: pytest.Config) -> bool:
    """Whether it is loaded, by whatever name."""
    names = (getattr(plugin, "__name__", "") for plugin in config.pluginmanager.get_plugins())
    return "pytest_asyncio.plugin" in names


@pytest.fixture
def dynamiq_emulator(request: pytest.FixtureRequest) -> Any:
    """A running `Emulator`. The marker `dynamiq_emulator` gives its arguments."""
    return request.getfixturevalue(f"_dynamiq_emulator_{_runner(request)}")


def _runner(request: pytest.FixtureRequest) -> str:
    """What runs the test: anyio, or pytest-asyncio's loop of a scope."""
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
    """A function for one fixture: pytest-asyncio notes the scope of the loop on it."""

    async def emulator(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
        async with _running(request) as running:
            yield running

    return emulator


@asynccontextmanager
async def _running(request: pytest.FixtureRequest) -> AsyncIterator[Emulator | Player | Recorder]:
    """What the test's markers ask for. Fails the test whose requests a tape did not know."""
    marker = request.node.get_closest_marker(_TAPE)
    server = (
        _make_emulator(request)
        if marker is None
        else _make_tape(request, *marker.args, **marker.kwargs)
    )
    async with server:
        yield server
    if unknown := getattr(server, "unknown", ()):
        pytest.fail("\n".join(unknown), pytrace=False)


def _make_tape(
    request: pytest.FixtureRequest, name: str, *, mask: Any = (), **options: Any
) -> Player | Recorder:
    from .emulator import Emulator

    path = request.path.parent / name
    if app := request.config.getoption("--dynamiq-record"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        return Emulator.record(
            app, path, mask=mask, access_key=os.environ.get("DYNAMIQ_ACCESS_KEY")
        )
    if not path.exists():
        pytest.fail(f"there is no tape {path}: record it by --dynamiq-record URL", pytrace=False)
    return Emulator.replay(path, **options)


def _make_emulator(request: pytest.FixtureRequest) -> Emulator:
    from .emulator import Emulator  # here, so that test runs without the fixture start faster

    marker = request.node.get_closest_marker(_MARKER)
    return Emulator(*marker.args, **marker.kwargs) if marker else Emulator()
