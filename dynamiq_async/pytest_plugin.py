"""A pytest fixture: `dynamiq_emulator`, a running `Emulator` for each test that asks for it.

```python
@pytest.mark.dynamiq_emulator("agent", pace=0.01)  # the arguments of Emulator; may be left out
async def test_my_program(dynamiq_emulator):
    ...  # dynamiq_emulator.url, dynamiq_emulator.access_key
```

An App of your own is named by `app=`, as in `@pytest.mark.dynamiq_emulator(app=my_app)`: pytest
takes a marker whose only argument is a function for a decorator of that function.

The emulator runs on the event loop of the test, whichever plugin runs it: pytest-asyncio's, in auto
and strict mode and with any `loop_scope`, or anyio's. (Where both plugins are loaded, anyio's tests
need pytest-asyncio in strict mode: in auto mode it takes the tests, but not their fixtures.)
"""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .emulator import Emulator

_MARKER = "dynamiq_emulator"
_SCOPES: tuple[Literal["function", "class", "module", "package", "session"], ...] = (
    "function",
    "class",
    "module",
    "package",
    "session",
)


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known, and a fixture for each loop that pytest-asyncio may have."""
    config.addinivalue_line(
        "markers",
        f"{_MARKER}(app, **options): the arguments of the `Emulator` that the fixture `{_MARKER}` "
        "runs; a function is given as app=",
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
) -> AsyncIterator[Emulator]:
    async with _make_emulator(request) as emulator:
        yield emulator


def _on_its_own() -> Any:
    """A function for one fixture: pytest-asyncio notes the scope of the loop on it."""

    async def emulator(request: pytest.FixtureRequest) -> AsyncIterator[Emulator]:
        async with _make_emulator(request) as running:
            yield running

    return emulator


def _make_emulator(request: pytest.FixtureRequest) -> Emulator:
    from .emulator import Emulator  # here, so that test runs without the fixture start faster

    marker = request.node.get_closest_marker(_MARKER)
    return Emulator(*marker.args, **marker.kwargs) if marker else Emulator()
