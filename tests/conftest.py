"""What all tests share."""

from __future__ import annotations

import asyncio
import gc
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import pytest_asyncio
from hypothesis import settings

from dynamiq_async import StreamEvent
from tests.support.limits import time_limit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Generator, Iterator

# On people's machines hypothesis looks at new cases in each run; what decides over a change looks
# at the same ones each time.
settings.register_profile(
    "suite", deadline=None, database=None, max_examples=250, derandomize="CI" in os.environ
)
settings.load_profile("suite")
# Of what is run again elsewhere: by `--hypothesis-profile=fast`.
settings.register_profile("fast", settings.get_profile("suite"), max_examples=25)

# A test that hangs fails after this many seconds, instead of holding up all the others for ever.
# The slowest take a few seconds; faulthandler shows before where it hangs.
MAX_SECONDS = 240.0

# What has the mark `slow`: it starts processes, looks at thousands of cases, or needs much data.
SLOW = (
    "tests/batch/test_job_killed.py",
    "tests/batch/test_kill.py",
    "tests/docs",
    "tests/emulator/core/test_database.py::test_one_process_has_the_file",
    "tests/emulator/test_pytest_plugin.py",
    "tests/examples",
    "tests/frontends",
    "tests/http/test_clients.py::test_a_fork_leaves_its_parents_connections_alone",
    "tests/http/test_first_calls.py",
    "tests/http/test_hostile.py",
    "tests/integrations",
    "tests/runs/test_memory.py",
    "tests/runs/test_schedules.py",
    "tests/runs/test_walking_away.py::test_another_process_goes_on_where_this_one_stopped",
    "tests/sse/test_bounds.py::test_a_stream_of_many_events_takes_no_memory",
    "tests/sse/test_bounds.py::test_many_small_data_lines_take_little_more_than_their_size",
    "tests/streaming/test_walking_away.py::test_at_any_step",
    "tests/streaming/test_walking_away.py::test_cancelled_at_any_step",
    "tests/telemetry/test_absent.py",
    "tests/test_benchmarks.py",
    "tests/tools/test_frameworks.py",
    "tests/typing",
    "tests/vendor",
)

CAPTURES = Path(__file__).parent / "data" / "captures"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.nodeid.startswith(SLOW):
            item.add_marker("slow")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None]:
    with time_limit(MAX_SECONDS):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None]:
    with time_limit(MAX_SECONDS):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown() -> Generator[None]:
    with time_limit(MAX_SECONDS):
        return (yield)


@pytest.fixture(scope="session")
def capture() -> Callable[[str], list[StreamEvent]]:
    """The events of a recorded stream, by the beginning of its name, such as `05`."""

    def load(prefix: str) -> list[StreamEvent]:
        (path,) = CAPTURES.glob(f"{prefix}_*.jsonl")
        decode = msgspec.json.Decoder(StreamEvent).decode
        return [decode(line) for line in path.read_bytes().splitlines()]

    return load


@pytest.fixture(scope="session")
def quick_collections() -> Iterator[None]:
    """Imported modules are no garbage; looking through them takes longer than most tests."""
    import aiohttp  # noqa: F401 - so that it is frozen too

    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest_asyncio.fixture
async def leaves_nothing() -> AsyncIterator[None]:
    """No task is left, nothing warns and no error is reported to the loop, also not when the
    garbage is collected."""
    before = asyncio.all_tasks()
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    yield
    gc.collect()
    for _ in range(3):
        await asyncio.sleep(0)
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    assert not left
    assert not reported
