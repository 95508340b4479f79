"""The fixture runs under pytest-asyncio in both modes, and under anyio."""

from __future__ import annotations

import asyncio
from importlib.metadata import entry_points

import pytest

from dynamiq_async.emulator import Emulator

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


MARKED = """
pytestmark = pytest.mark.asyncio(loop_scope="{scope}")

async def own(input, run):
    return "own"

@pytest.mark.dynamiq_emulator(app=own, access_key=None)
async def test_own(dynamiq_emulator):
    assert await status_of(dynamiq_emulator) == b"200"
    assert dynamiq_emulator.executions[0].app == "own"

async def test_another(dynamiq_emulator):
    assert await status_of(dynamiq_emulator) == b"401"
"""

SCOPES = ("function", "module", "class", "package", "session")


def run(pytester: pytest.Pytester, *arguments: str, ini: str = "") -> pytest.RunResult:
    """In a process of its own, which is ended where a test hangs."""
    if "pytest_asyncio.plugin" in arguments:
        ini += "\nasyncio_default_fixture_loop_scope = function"
    pytester.makeini(
        f"[pytest]\nfilterwarnings = error\naddopts = --strict-markers -p no:cacheprovider\n{ini}\n"
    )
    return pytester.runpytest_subprocess(*arguments, timeout=20)


@pytest.fixture
def _named_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plugins are named by the tests, so that it is known which comes first."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


NAMED_ONCE = pytest.mark.usefixtures("_named_once")
OURS = ("-p", "dynamiq_async.pytest_plugin")


@NAMED_ONCE
@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("mode", ["auto", "strict"])
def test_it_runs_on_the_loop_that_the_marker_names(
    pytester: pytest.Pytester, mode: str, scope: str
) -> None:
    pytester.makepyfile(POST + MARKED.format(scope=scope))
    result = run(pytester, *OURS, "-p", "pytest_asyncio.plugin", ini=f"asyncio_mode = {mode}")
    result.assert_outcomes(passed=2)


@NAMED_ONCE
@pytest.mark.parametrize("scope", SCOPES)
def test_it_runs_on_the_loop_that_the_settings_name(pytester: pytest.Pytester, scope: str) -> None:
    pytester.makepyfile(POST + ASYNCIO)
    ini = f"asyncio_mode = auto\nasyncio_default_test_loop_scope = {scope}"
    result = run(pytester, "-p", "pytest_asyncio.plugin", *OURS, ini=ini)
    result.assert_outcomes(passed=2)


@NAMED_ONCE
@pytest.mark.parametrize("others", [(), ("-p", "pytest_asyncio.plugin")])
def test_it_runs_on_anyios_loop(pytester: pytest.Pytester, others: tuple[str, ...]) -> None:
    pytester.makepyfile(POST + ANYIO)
    run(pytester, *OURS, "-p", "anyio.pytest_plugin", *others).assert_outcomes(passed=1)


TAPED = """
@pytest.mark.asyncio
@pytest.mark.dynamiq_tape("tapes/one.jsonl")
async def test_taped(dynamiq_emulator):
    assert await status_of(dynamiq_emulator) == b"200"
"""
UNKNOWN = """
@pytest.mark.asyncio
@pytest.mark.dynamiq_tape("tapes/one.jsonl")
async def test_unknown(dynamiq_emulator):
    assert await status_of(dynamiq_emulator) == b"200"
    assert await status_of(dynamiq_emulator) == b"404"
"""


async def test_a_tape_is_recorded_by_the_option_and_replayed_without(
    pytester: pytest.Pytester,
) -> None:
    ini = "asyncio_mode = auto\nasyncio_default_fixture_loop_scope = function"

    def play(*arguments: str) -> pytest.RunResult:
        return run(pytester, *arguments, ini=ini)

    pytester.makepyfile(POST + TAPED)
    missing = await asyncio.to_thread(play)
    missing.assert_outcomes(errors=1)
    missing.stdout.fnmatch_lines(["*record it by --dynamiq-record URL*"])
    async with Emulator("echo", access_key=None) as emulator:
        recorded = await asyncio.to_thread(play, "--dynamiq-record", emulator.url)
        recorded.assert_outcomes(passed=1)
        assert len(emulator.executions) == 1
    (await asyncio.to_thread(play)).assert_outcomes(passed=1)
    pytester.makepyfile(POST + UNKNOWN)
    unknown = await asyncio.to_thread(play)
    unknown.assert_outcomes(passed=1, errors=1)
    unknown.stdout.fnmatch_lines(["*1 time, and all of it was played*"])
