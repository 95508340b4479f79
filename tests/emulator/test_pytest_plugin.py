"""The fixture runs under pytest-asyncio in both modes, and under anyio."""

from __future__ import annotations

from importlib.metadata import entry_points

import pytest

from tests.support.emulator_threads import emulator_in_a_thread

pytest_plugins = ("pytester",)

PLUGIN = "dynamiq_async.pytest_plugin"
INSTALLED = {point.value for point in entry_points(group="pytest11")}
LOADED = () if PLUGIN in INSTALLED else ("-p", PLUGIN)

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
    pytester.runpytest_inprocess(*LOADED).assert_outcomes(passed=passed)


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


# --- tapes ---------------------------------------------------------------------------------------

TAPED = """
@pytest.mark.dynamiq_tape({arguments})
@pytest.mark.parametrize("times", [1, 2])
async def test_taped(dynamiq_emulator, times):
    for _ in range(times):
        assert await status_of(dynamiq_emulator) == b"200"
"""
PLAIN = """
async def test_plain(dynamiq_emulator):
    assert await status_of(dynamiq_emulator) == b"401"
"""
ONE = TAPED.replace("[1, 2]", "[1]")


class Taping:
    """Runs pytest beside the App that it records."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester

    def run(self, source: str, *options: str, arguments: str = "") -> pytest.RunResult:
        self.pytester.makepyfile(test_it=POST + source.format(arguments=arguments))
        self.pytester.makeini(
            "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n"
            "filterwarnings = error\naddopts = --strict-markers -p no:cacheprovider"
        )
        return self.pytester.runpytest_inprocess(*LOADED, *options)

    @property
    def tapes(self) -> dict[str, str]:
        """The tapes by their paths."""
        paths = sorted(self.pytester.path.rglob("*.jsonl*"))
        return {str(path.relative_to(self.pytester.path)): path.read_text() for path in paths}


@pytest.fixture
def taping(pytester: pytest.Pytester) -> Taping:
    return Taping(pytester)


def test_a_tape_is_recorded_by_the_option_and_replayed_without(taping: Taping) -> None:
    missing = taping.run(TAPED + PLAIN)
    missing.assert_outcomes(passed=1, errors=2)
    missing.stdout.fnmatch_lines(["there is no tape *: record it by --dynamiq-record URL"])
    with emulator_in_a_thread("echo", access_key=None) as emulator:
        option = ("--dynamiq-record", emulator.url)
        (taping.run(TAPED + PLAIN, *option)).assert_outcomes(passed=3)
        assert emulator.executions.total == 3
        first = taping.tapes
        assert list(first) == [f"tapes/test_it/test_taped-{n}.jsonl" for n in (1, 2)]
        (taping.run(TAPED, *option)).assert_outcomes(passed=2)  # in place of the older ones
        assert emulator.executions.total == 6
    assert list(taping.tapes) == list(first)
    assert all(taping.tapes[name] != text for name, text in first.items())
    (taping.run(TAPED)).assert_outcomes(passed=2)
    unknown = taping.run(TAPED.replace("range(times)", "range(times + 1)"))
    unknown.assert_outcomes(failed=2, errors=2)
    unknown.stdout.fnmatch_lines(["*1 time, and all of it was played*"])


def test_a_tape_may_have_a_path_and_options(taping: Taping) -> None:
    arguments = '"my/own.jsonl", mask=["input"], ignore=["id"], speed=100'
    with emulator_in_a_thread("echo", access_key=None) as emulator:
        option = ("--dynamiq-record", emulator.url)
        twice = taping.run(TAPED, *option, arguments=arguments)
        twice.assert_outcomes(passed=1, errors=1)
        twice.stdout.fnmatch_lines(["another test has recorded *own.jsonl: each needs its own"])
    assert list(taping.tapes) == ["my/own.jsonl"]
    assert '"masked":["input"]' in taping.tapes["my/own.jsonl"]
    (taping.run(ONE, arguments=arguments)).assert_outcomes(passed=1)


def test_an_app_that_cannot_be_recorded_leaves_the_tape_as_it_is(taping: Taping) -> None:
    with emulator_in_a_thread("echo", access_key=None) as emulator:
        option = ("--dynamiq-record", emulator.url)
        (taping.run(ONE, *option)).assert_outcomes(passed=1)
    before = taping.tapes
    gone = taping.run(ONE, *option)
    gone.assert_outcomes(failed=1, errors=1)
    gone.stdout.fnmatch_lines(["*test_taped-1.jsonl stays as it is:", "ConnectionRefusedError: *"])
    assert taping.tapes == before


@pytest.mark.parametrize("record", [False, True])
def test_what_is_no_tape_is_not_written_over(taping: Taping, record: bool) -> None:
    (taping.pytester.path / "mine.jsonl").write_text("my own file")
    option = ("--dynamiq-record", "http://127.0.0.1:9") if record else ()
    for arguments, said in (
        ('"mine.jsonl"', "*mine.jsonl is not a tape: *"),
        ('"../../outside.jsonl"', "the tape *outside.jsonl is outside of *"),
    ):
        result = taping.run(ONE, *option, arguments=arguments)
        result.assert_outcomes(errors=1)
        result.stdout.fnmatch_lines([said])
    assert taping.tapes == {"mine.jsonl": "my own file"}
