"""A pytest fixture: `dynamiq_emulator`, a running `Emulator` for each test that asks for it.

```python
@pytest.mark.dynamiq_emulator("agent", pace=0.01)  # the arguments of Emulator; may be left out
async def test_my_program(dynamiq_emulator):
    ...  # dynamiq_emulator.url, dynamiq_emulator.access_key
```

It runs on the event loop of the test: pytest-asyncio's (in auto and strict mode), or anyio's for
tests that anyio runs. (Where both plugins are installed, anyio's tests need pytest-asyncio in
strict mode: in auto mode it takes the tests, but not their fixtures, whatever the fixtures are.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .emulator import Emulator

try:
    from pytest_asyncio import fixture as asyncio_fixture
except ImportError:  # pragma: no cover - then tests are run by anyio
    asyncio_fixture = pytest.fixture  # type: ignore[assignment]

_MARKER = "dynamiq_emulator"


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers", f"{_MARKER}(app, **options): what the fixture `{_MARKER}` runs"
    )


@pytest.fixture
def dynamiq_emulator(request: pytest.FixtureRequest) -> Any:
    """A running `Emulator`."""
    runner = "anyio" if "anyio_backend" in request.fixturenames else "asyncio"
    return request.getfixturevalue(f"_dynamiq_emulator_{runner}")


@asyncio_fixture
async def _dynamiq_emulator_asyncio(request: pytest.FixtureRequest) -> AsyncIterator[Emulator]:
    async with _make_emulator(request) as emulator:
        yield emulator


@pytest.fixture
async def _dynamiq_emulator_anyio(
    request: pytest.FixtureRequest, anyio_backend: object
) -> AsyncIterator[Emulator]:
    async with _make_emulator(request) as emulator:
        yield emulator


def _make_emulator(request: pytest.FixtureRequest) -> Emulator:
    from .emulator import Emulator  # here, so that test runs without the fixture start faster

    marker = request.node.get_closest_marker(_MARKER)
    return Emulator(*marker.args, **marker.kwargs) if marker else Emulator()
