"""Records of the logger carry the run, the position, the attempt and the status as fields."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from dynamiq_async import errors
from dynamiq_async._telemetry import extra
from dynamiq_async.emulator import Fault
from tests.support.run_apps import numbers

if TYPE_CHECKING:
    import pytest

    from tests.runs.conftest import Serve

FIELDS = ("run_id", "sequence", "attempt", "status")


def fields(record: logging.LogRecord) -> tuple[object, ...]:
    return tuple(getattr(record, name) for name in FIELDS)


async def test_retries(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "dynamiq_async")
    served = await serve("echo")
    served.emulator.script(Fault(status=429))
    await served.app.invoke({})
    found = [fields(record) for record in caplog.records if record.name == "dynamiq_async"]
    assert found == [(None, None, None, 429), (None, None, 1, 429), (None, None, None, 200)]


async def test_resumption(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "dynamiq_async")
    served = await serve(numbers)
    served.emulator.script(Fault(after_events=2, drop="reset"), match="POST /v1/runs")
    async with served.app.runs.stream({}) as stream:
        async for _ in stream:
            pass
    (again,) = [record for record in caplog.records if "connecting again" in record.message]
    assert fields(again)[:3] == (stream.run_id, 2, 1)
    assert all(hasattr(record, "run_id") for record in caplog.records if record.name == again.name)


def test_what_is_given_wins_over_what_an_error_tells() -> None:
    error = errors.DynamiqError("x", run_id="r", sequence=3, attempts=2, status=500)
    assert tuple(extra(error).values()) == ("r", 3, 2, 500)
    given = extra(error, run_id="s", sequence=4, attempt=1, status=200)
    assert tuple(given.values()) == ("s", 4, 1, 200)
