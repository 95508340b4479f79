"""The fixture runs under pytest-asyncio in both modes, and under anyio."""

from __future__ import annotations

from importlib.metadata import entry_points

import pytest

pytest_plugins = ("pytester",)

POST = """
import asyncio
import pytest

async def status_of(emulator):
    reader, writer = await asyncio.open_connection(emulator.host, emulator.port)
    writer.write(
        b"POST / HTTP/1.1\\r\\nHost: localhost\\r\\nContent-Type: application/json\\r\\n"
        b"Content-Length: 12\\r\\nConnection: close\\r\\n\\r\\n"
        b'{"input":{}}'
    )
    response = await reader.read()
    writer.close()
    return response.split()[1]
"""

ASYNCIO = """
@pytest.mark.asyncio
async def test_default(dynamiq_emulator):
    assert await status_of(dynamiq_emulator) == b"401"

@pytest.mark.asyncio
@pytest.mark.dynamiq_emulator("echo", access_key=None)
async def test_configured(dynamiq_emulator):
    assert await status_of(dynamiq_emulator) == b"200"
    assert dynamiq_emulator.executions[0].app == "echo"
"""

ANYIO = """
@pytest.fixture
def anyio_backend():
    return "asyncio"

@pytest.mark.anyio
@pytest.mark.dynamiq_emulator("echo", access_key=None)
async def test_anyio(dynamiq_emulator):
    assert await status_of(dynamiq_emulator) == b"200"
"""


@pytest.mark.parametrize(
    ("mode", "tests", "passed"), [("auto", ASYNCIO, 2), ("strict", ASYNCIO + ANYIO, 3)]
)
def test_the_fixture(pytester: pytest.Pytester, mode: str, tests: str, passed: int) -> None:
    pytester.makepyfile(POST + tests)
    pytester.makeini(
        f"[pytest]\nasyncio_mode = {mode}\nasyncio_default_fixture_loop_scope = function\n"
        "filterwarnings = error\naddopts = --strict-markers -p no:cacheprovider"
    )
    installed = {point.value for point in entry_points(group="pytest11")}
    plugin = "dynamiq_async.pytest_plugin"
    load = () if plugin in installed else ("-p", plugin)
    pytester.runpytest_inprocess(*load).assert_outcomes(passed=passed)
