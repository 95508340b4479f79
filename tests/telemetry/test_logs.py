"""Records of the logger carry the run, the position, the attempt and the status as fields."""

from __future__ import annotations

import ast
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import dynamiq_async
from dynamiq_async import errors
from dynamiq_async._telemetry import extra
from dynamiq_async.emulator import Fault
from tests.support.log_records import fields
from tests.support.run_apps import numbers

if TYPE_CHECKING:
    import pytest

    from tests.runs.conftest import Serve

PACKAGE = Path(dynamiq_async.__file__).parent
LEVELS = {"debug", "info", "warning", "error", "exception", "critical", "log"}


def values(record: logging.LogRecord) -> tuple[object, ...]:
    return tuple(fields(record).values())


def logging_calls() -> list[tuple[str, ast.Call]]:
    """Every call in the package that makes a record, and where it is."""
    found = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name("log"), attr=level)) if (
                    level in LEVELS
                ):
                    found.append((f"{path.relative_to(PACKAGE)}:{node.lineno}", node))
    return found


def test_every_record_has_the_fields() -> None:
    calls = logging_calls()
    assert len(calls) > 20
    without = [where for where, call in calls if "extra" not in {k.arg for k in call.keywords}]
    assert not without


async def test_retries(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "dynamiq_async")
    served = await serve("echo")
    served.emulator.script(Fault(status=429))
    await served.app.invoke({})
    found = [values(record) for record in caplog.records if record.name == "dynamiq_async"]
    assert found == [(None, None, None, 429), (None, None, 1, 429), (None, None, None, 200)]


async def test_resumption(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "dynamiq_async")
    served = await serve(numbers)
    served.emulator.script(Fault(after_events=2, drop="reset"), match="POST /v1/runs")
    async with served.app.runs.stream({}) as stream:
        async for _ in stream:
            pass
    (again,) = [record for record in caplog.records if "connecting again" in record.message]
    assert values(again)[:3] == (stream.run_id, 2, 1)
    assert all(hasattr(record, "run_id") for record in caplog.records if record.name == again.name)


def test_an_error_of_others_tells_nothing() -> None:
    assert set(extra(ValueError("x")).values()) == {None}


def test_what_is_given_wins_over_what_an_error_tells() -> None:
    error = errors.DynamiqError("x", run_id="r", sequence=3, attempts=2, status=500)
    assert tuple(extra(error).values()) == ("r", 3, 2, 500)
    given = extra(error, run_id="s", sequence=4, attempt=1, status=200)
    assert tuple(given.values()) == ("s", 4, 1, 200)
