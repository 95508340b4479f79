"""Mode "run": a background run for each input, one and no more, followed to its end."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec
import pytest

from dynamiq_async import errors
from dynamiq_async.emulator import Fault, WorkflowCanceledError, WorkflowFailedError

if TYPE_CHECKING:
    from .conftest import Serve, Served


class Output(msgspec.Struct):
    n: int


async def numbered(input: dict[str, Any], run: Any) -> Any:
    await run.event("custom.event", {"n": input["n"]})
    if input["n"] == "fails":
        raise WorkflowFailedError("it was told to")
    if input["n"] == "canceled":
        raise WorkflowCanceledError
    if input["n"] == "hangs":
        await asyncio.get_running_loop().create_future()
    return {"n": input["n"]}


def sessions(served: Served) -> Counter[str | None]:
    return Counter(run.session_id for run in served.emulator.runs.values())


async def test_each_input_has_a_run_of_its_own_and_its_output(serve: Serve) -> None:
    served = await serve(numbered)
    results = await served.app.batch([{"n": n} for n in range(30)], mode="run", concurrency=7)
    for result in results:
        assert result.unwrap() == {"n": result.index}
        assert served.emulator.runs[result.run_id or ""].input == {"n": result.index}
    assert len(served.emulator.runs) == 30
    assert set(sessions(served).values()) == {1}
    assert all(UUID(session) for session in sessions(served))


async def test_a_run_that_fails_is_an_error_with_the_run(serve: Serve) -> None:
    app, _ = await serve(numbered)
    failed, canceled, fine = await app.batch(
        [{"n": "fails"}, {"n": "canceled"}, {"n": 1}], mode="run"
    )
    assert isinstance(failed.error, errors.RunFailedError)
    assert failed.error.run.id == failed.run_id
    assert isinstance(canceled.error, errors.RunCanceledError)
    assert fine.ok


async def test_a_lost_answer_to_a_create_is_looked_up(serve: Serve) -> None:
    served = await serve(numbered)
    served.emulator.script(
        Fault(drop="reset", executes=True), Fault(status=504, executes=True), match="POST /v1/runs"
    )
    results = await served.app.batch([{"n": n} for n in range(5)], mode="run", concurrency=2)
    assert all(r.ok for r in results)
    assert len(served.emulator.runs) == 5


async def test_a_create_that_cannot_be_found_again_is_of_unknown_outcome(serve: Serve) -> None:
    served = await serve(numbered)
    served.emulator.script(Fault(drop="reset"), match="POST /v1/runs")
    batch = served.app.map([{"n": 1}, {"n": 2}], mode="run", settle=0.15, concurrency=1)
    lost, fine = [r async for r in batch]
    assert isinstance(lost.error, errors.AmbiguousConnectionError)
    assert fine.ok
    assert batch.progress.unknown == 1
    looks = [r for r in served.emulator.requests if r.query.get("session_id")]
    assert len(looks) >= 2


async def test_a_search_that_is_refused_leaves_the_first_error(serve: Serve) -> None:
    served = await serve(numbered)
    served.emulator.script(Fault(drop="reset"), match="POST /v1/runs")
    served.emulator.script(Fault(status=404), match="GET /v1/runs")
    [lost] = await served.app.batch([{"n": 1}], mode="run", settle=5)
    assert isinstance(lost.error, errors.AmbiguousConnectionError)


async def test_a_search_goes_on_over_what_may_pass(serve: Serve, no_backoff: None) -> None:
    served = await serve(numbered)
    served.emulator.script(Fault(drop="reset", executes=True), match="POST /v1/runs")
    served.emulator.script(Fault(status=500), match="GET /v1/runs", times=4)
    [found] = await served.app.batch([{"n": 1}], mode="run", settle=5)
    assert found.ok
    served.emulator.script(Fault(drop="reset", executes=True), match="POST /v1/runs")
    served.emulator.script(Fault(status=500), match="GET /v1/runs", times=None)
    [lost] = await served.app.batch([{"n": 1}], mode="run", settle=0)
    assert isinstance(lost.error, errors.AmbiguousConnectionError)


async def test_a_strangers_run_is_not_taken_for_ours(serve: Serve) -> None:
    served = await serve(numbered)
    served.emulator.script(Fault(drop="reset"), match="POST /v1/runs")
    stranger = {"data": [{"id": "r-1", "session_id": "another"}], "pagination": {}}
    served.emulator.script(Fault(status=200, body=stranger), match="GET /v1/runs", times=None)
    [lost] = await served.app.batch([{"n": 1}], mode="run", settle=0)
    assert isinstance(lost.error, errors.AmbiguousConnectionError)


async def test_a_session_for_all_is_sent_and_nothing_is_looked_up(serve: Serve) -> None:
    served = await serve(numbered)
    served.emulator.script(Fault(drop="reset"), match="POST /v1/runs")
    session = "6f9619ff-8b86-4d11-b42d-00cf4fc964ff"
    results = await served.app.batch(
        [{"n": n} for n in range(3)], mode="run", session_id=session, user_id="u", concurrency=1
    )
    assert [r.ok for r in results] == [False, True, True]
    assert sessions(served) == {session: 2}
    assert {run.user_id for run in served.emulator.runs.values()} == {"u"}
    assert not [r for r in served.emulator.requests if r.query.get("session_id")]


@pytest.mark.parametrize("told", [None, "c0ffee00-0000-4000-8000-000000000000"])
async def test_a_run_of_an_unknown_session_is_not_taken_for_ones_own(
    serve: Serve, told: str | None
) -> None:
    """Of a service that does not filter, any run may be the first of the list."""
    served = await serve(numbered)
    run: dict[str, Any] = {"id": str(UUID(int=7)), "status": "completed", "output": {"n": "other"}}
    listed = {"data": [run | ({"session_id": told} if told else {})]}
    served.emulator.script(Fault(drop="reset"), match="POST /v1/runs")
    served.emulator.script(Fault(status=200, body=listed), match="GET /v1/runs", times=None)
    [result] = await served.app.batch([{"n": 1}], mode="run", settle=0.05)
    assert isinstance(result.error, errors.AmbiguousOutcomeError)
    assert result.run_id is None


async def test_a_broken_stream_is_resumed(serve: Serve, no_backoff: None) -> None:
    served = await serve(numbered)
    served.emulator.script(
        Fault(after_events=1, drop="reset"), match="GET /v1/runs/*/stream", times=5
    )
    results = await served.app.batch([{"n": n} for n in range(5)], mode="run", concurrency=2)
    assert all(r.ok for r in results)


@pytest.mark.parametrize("fault", [Fault(status=500), Fault(status=404)])
async def test_a_run_out_of_sight_is_of_unknown_outcome_and_named(
    serve: Serve, no_backoff: None, fault: Fault
) -> None:
    served = await serve(numbered)
    served.emulator.script(fault, match="GET /v1/runs/*", times=None)
    [result] = await served.app.batch([{"n": 1}], mode="run", max_retries=0)
    assert isinstance(result.error, errors.AmbiguousOutcomeError)
    assert result.error.run_id == result.run_id == next(iter(served.emulator.runs))
    assert isinstance(result.error.__cause__, errors.APIStatusError)


async def test_a_run_that_takes_too_long_is_of_unknown_outcome(serve: Serve) -> None:
    served = await serve(numbered)
    [result] = await served.app.batch([{"n": "hangs"}], mode="run", timeout=0.1)
    assert isinstance(result.error, errors.AmbiguousTimeoutError)
    assert result.error.limit == "total"
    assert result.run_id in served.emulator.runs


async def test_a_run_is_not_waited_for_without_end_unless_that_is_asked_for(serve: Serve) -> None:
    from dynamiq_async._http.outage import Outage
    from dynamiq_async._http.request_options import RequestOptions
    from dynamiq_async.batch.modes import RunToEnd

    app, _ = await serve(numbered)

    def limit(**extras: Any) -> float | None:
        given = RequestOptions(**extras)
        mode = RunToEnd(app, given, {}, Any, Outage(0), session_id=None, settle=1)
        return mode._following.timeout.total

    assert limit() == 3600
    assert limit(timeout=5) == 5
    assert limit(timeout=None) is None


async def test_outputs_have_the_type_asked_for(serve: Serve) -> None:
    app, _ = await serve(numbered)

    [result] = await app.batch([{"n": 3}], mode="run", output_type=Output)
    assert result.unwrap() == Output(3)
    [unfit] = await app.batch([{"n": 3}], mode="run", output_type=list[int])
    assert isinstance(unfit.error, errors.ResponseDecodeError)


async def test_an_input_that_cannot_be_sent_is_that_items_error(serve: Serve) -> None:
    app, emulator = await serve(numbered)
    results = await app.batch([{"n": object()}, {"n": 1}], mode="run")
    assert [r.ok for r in results] == [False, True]
    assert len(emulator.runs) == 1
