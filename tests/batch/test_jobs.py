"""`job=`: each key has one run that counts, whoever takes the job up, wherever and how often."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid5

import msgspec
import pytest

from dynamiq_async import AsyncApp, errors
from dynamiq_async.batch import NS, job_session
from dynamiq_async.batch.jobs import same_json
from dynamiq_async.batch.journal import Journal, MemoryJournal
from dynamiq_async.emulator import Emulator, Fault, WorkflowFailedError
from tests.support.log_records import fields

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Serve, Served

JOB = "nightly-2026-11-28"


async def doubled(input: dict[str, Any], run: Any) -> Any:
    await asyncio.sleep(input.get("seconds", 0.0))
    if input.get("fails"):
        raise WorkflowFailedError("it was told to")
    return {"n": 2 * input["n"]}


class Held:
    """The same, but that no run ends before `over` is set."""

    def __init__(self) -> None:
        self.over = asyncio.Event()

    async def __call__(self, input: dict[str, Any], run: Any) -> Any:
        await self.over.wait()
        return {"n": 2 * input["n"]}


def inputs(count: int, **more: Any) -> list[dict[str, Any]]:
    return [{"n": n, **more} for n in range(count)]


def other_client(served: Served) -> AsyncApp:
    return AsyncApp(served.emulator.url, access_key=served.emulator.access_key or False)


def looks(emulator: Emulator) -> int:
    return sum(r.method == "GET" and r.endpoint == "/v1/runs" for r in emulator.requests)


def live(emulator: Emulator) -> Counter[str | None]:
    return Counter(r.session_id for r in emulator.runs.values() if r.status != "canceled")


def test_the_session_of_a_run_is_made_of_the_job_and_the_key_alone() -> None:
    base = uuid5(NS, JOB)
    assert job_session(JOB, "row 7") == str(uuid5(base, "row 7"))
    assert job_session(JOB, 7) == job_session(JOB, "7") == str(uuid5(base, "7"))
    assert job_session(JOB, 7, retry=2) == str(uuid5(base, "7\n2"))
    assert isinstance(NS, UUID)


async def test_the_second_start_finds_what_the_first_one_made(serve: Serve) -> None:
    served = await serve(doubled)
    made = await served.app.batch(inputs(20), job=JOB, concurrency=4)
    assert [r.unwrap()["n"] for r in made] == [2 * n for n in range(20)]
    assert not any(r.found for r in made)
    async with other_client(served) as other:
        results = other.map(inputs(20), job=JOB, mode="run", ordered=True)
        found = [r async for r in results]
    assert [r.output for r in found] == [r.output for r in made]
    assert [r.run_id for r in found] == [r.run_id for r in made]
    assert all(r.found for r in found)
    assert results.progress.found == 20
    assert served.emulator.execution_counts == {job_session(JOB, n): 1 for n in range(20)}


async def test_a_run_under_way_is_followed(serve: Serve) -> None:
    served = await serve(doubled)
    session = job_session(JOB, "a")
    run = await served.app.runs.create(
        {"n": 1, "seconds": 0.2}, session_id=session, background=True
    )
    [result] = await served.app.batch([{"n": 1, "seconds": 0.2}], job=JOB, key=lambda _: "a")
    assert (result.run_id, result.found) == (run.id, True)
    assert result.unwrap() == {"n": 2}
    assert len(served.emulator.runs) == 1


async def test_a_failed_run_is_the_result_until_it_is_retried(serve: Serve) -> None:
    """A retry has a session of its own, and what came of the last one is what counts."""
    served = await serve(doubled)
    failing = [{"n": 1, "fails": True}]
    for found in (False, True):
        [result] = await served.app.batch(failing, job=JOB)
        assert isinstance(result.error, errors.RunFailedError)
        assert result.found is found
        assert result.run_id == result.error.run_id
    for retries in (1, 2):
        [result] = await served.app.batch(failing, job=JOB, retry_failed=True)
        assert isinstance(result.error, errors.RunFailedError)
        assert not result.found
        assert [r.session_id for r in served.emulator.runs.values()] == [
            job_session(JOB, 0, retry=n) for n in range(retries + 1)
        ]
    last = list(served.emulator.runs.values())[-1]
    [result] = await served.app.batch(failing, job=JOB)
    assert (result.run_id, result.found) == (last.id, True)


async def test_the_run_of_a_person_who_canceled_it_stays_canceled(serve: Serve) -> None:
    served = await serve(doubled)
    slow = [{"n": 1, "seconds": 60}]
    run = await served.app.runs.create(slow[0], session_id=job_session(JOB, 0), background=True)
    await served.app.runs.cancel(run.id)
    [result] = await served.app.batch(slow, job=JOB)
    assert isinstance(result.error, errors.RunCanceledError)
    assert (result.run_id, len(served.emulator.runs)) == (run.id, 1)


async def test_a_run_of_another_input_is_a_conflict_and_never_an_answer(serve: Serve) -> None:
    served = await serve(doubled)
    await served.app.batch(inputs(2), job=JOB)
    changed, same = await served.app.batch([{"n": 5}, {"n": 1.0}], job=JOB)
    assert isinstance(changed.error, errors.JobConflictError)
    assert changed.error.run_id in served.emulator.runs
    assert same.ok
    assert len(served.emulator.runs) == 2


async def test_an_input_that_a_list_leaves_out_is_asked_for(serve: Serve) -> None:
    served = await serve(doubled)
    [made] = await served.app.batch([{"n": 1}], job=JOB)
    listed = {"id": made.run_id, "session_id": job_session(JOB, 0), "status": "started"}
    for input, ok in (({"n": 1}, True), ({"n": 2}, False)):
        served.emulator.script(Fault(status=200, body={"data": [listed]}), match="GET /v1/runs")
        [result] = await served.app.batch([input], job=JOB)
        assert result.ok is ok
        assert isinstance(result.error, errors.JobConflictError | None)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"a": 1, "b": [1, {}]}, {"b": [1.0, {}], "a": 1}, True),
        ({"a": 1}, {"a": True}, False),
        ({"a": False}, {"a": False}, True),
        ({"a": None}, {}, False),
        ([1, 2], [1], False),
        ([1], {"0": 1}, False),
        ("1", 1, False),
    ],
)
def test_what_is_the_same_input(one: Any, other: Any, same: bool) -> None:
    assert same_json(one, other) is same


async def test_two_live_attempts_end_with_one_run(serve: Serve) -> None:
    """Neither sees the other's run before it makes its own, because the list lags behind."""
    held = Held()
    served = await serve(held, list_lag=3600)
    emulator = served.emulator
    async with other_client(served) as zombie:
        working = asyncio.gather(
            *(app.batch(inputs(8), job=JOB, settle=60) for app in (served.app, zombie))
        )
        await emulator.wait_until(lambda: len(emulator.runs) == 16, timeout=60)
        emulator.settings.list_lag = 0
        await emulator.wait_until(lambda: set(live(emulator).values()) == {1}, timeout=60)
        held.over.set()
        both = await working
    for one, other in zip(*both, strict=True):
        assert one.run_id == other.run_id
        assert one.unwrap() == other.unwrap()
        assert one.found or other.found
    assert len(live(emulator)) == 8


async def test_the_first_by_its_start_counts_and_then_by_its_id(serve: Serve) -> None:
    """Also where the texts of their times are not in that order, and where one has none."""
    served = await serve(doubled)
    session = job_session(JOB, 0)
    run = await served.app.runs.create({"n": 1}, session_id=session, background=True)
    first = {"id": run.id, "session_id": session, "input": {"n": 1}}
    other = first | {"id": "ffffffff-0000-4000-8000-000000000000", "status": "started"}
    for mine, others in (
        ("2026-11-28T00:00:00Z", "2026-11-28T00:00:00.5Z"),
        ("2026-11-28T00:00:00+01:00", "2026-11-28T00:00:00Z"),
        ("2026-11-28T00:00:00", "2026-11-28T00:00:01+00:00"),
        ("2026-11-28T00:00:00Z", "2026-11-28T00:00:00Z"),
        ("2026-11-28T00:00:00Z", None),
        (None, "soon"),
    ):
        runs = [other | {"started_at": others}, first | {"started_at": mine}]
        served.emulator.script(Fault(status=200, body={"data": runs}), match="GET /v1/runs")
        [result] = await served.app.batch([{"n": 1}], job=JOB)
        assert (result.run_id, result.ok) == (run.id, True)


async def test_who_sees_a_second_run_cancels_it(serve: Serve) -> None:
    """Its own worker may have died before it could."""
    held = Held()
    served = await serve(held)
    session = job_session(JOB, 0)
    first, second = [
        await served.app.runs.create({"n": 1}, session_id=session, background=True)
        for _ in range(2)
    ]
    working = asyncio.create_task(served.app.batch([{"n": 1}], job=JOB))
    seconds = served.emulator.runs[second.id]
    await served.emulator.wait_until(lambda: seconds.status == "canceled", timeout=60)
    held.over.set()
    [result] = await working
    assert result.run_id == first.id
    assert result.ok


async def test_a_cancel_that_fails_is_said_and_costs_no_result(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    held = Held()
    served = await serve(held)
    for _ in range(2):
        await served.app.runs.create({"n": 1}, session_id=job_session(JOB, 0), background=True)
    served.emulator.script(Fault(status=404), match="POST /v1/runs/*/cancel")
    working = asyncio.create_task(served.app.batch([{"n": 1}], job=JOB))
    await served.emulator.wait_until(lambda: not served.emulator.pending_faults, timeout=60)
    held.over.set()
    [result] = await working
    assert result.ok
    [told] = [r for r in caplog.records if "is not the one that counts" in r.getMessage()]
    assert {fields(told)["run_id"]} <= set(served.emulator.runs)
    assert (fields(told)["attempt"], fields(told)["status"]) == (1, 404)


async def test_whose_run_is_canceled_follows_the_one_that_counts(serve: Serve) -> None:
    """Two that begin at one moment may both take their own for the first."""
    held = Held()
    app, emulator = await serve(held)
    given = [{"n": 1}]
    mine = asyncio.create_task(app.batch(given, job=JOB))
    # Its stream is open, so both looks are over.
    await emulator.wait_until(
        lambda: any(r.endpoint.endswith("/stream") for r in emulator.requests), timeout=60
    )
    [own] = emulator.runs
    run = await app.runs.create(given[0], session_id=job_session(JOB, 0), background=True)
    await app.runs.cancel(own)
    held.over.set()
    [result] = await mine
    assert (result.run_id, result.found, result.ok) == (run.id, True, True)


async def test_a_lost_answer_to_a_create_is_looked_up(serve: Serve) -> None:
    served = await serve(doubled)
    served.emulator.script(
        Fault(drop="reset", executes=True), Fault(status=504, executes=True), match="POST /v1/runs"
    )
    results = await served.app.batch(inputs(5), job=JOB, concurrency=2)
    assert all(r.ok for r in results)
    assert set(served.emulator.execution_counts.values()) == {1}


async def test_a_look_that_fails_sends_nothing(serve: Serve) -> None:
    served = await serve(doubled)
    served.emulator.script(Fault(status=404), match="GET /v1/runs")
    [result] = await served.app.batch([{"n": 1}], job=JOB)
    assert isinstance(result.error, errors.NotFoundError)
    assert not served.emulator.runs


async def test_a_service_that_does_not_filter_is_no_journal(serve: Serve) -> None:
    served = await serve(doubled)
    strangers = {"data": [{"id": "r-1", "session_id": "another"}]}
    served.emulator.script(Fault(status=200, body=strangers), match="GET /v1/runs", times=None)
    [result] = await served.app.batch([{"n": 1}], job=JOB)
    assert isinstance(result.error, errors.APIResponseError)
    assert not served.emulator.runs


@pytest.mark.parametrize(("status", "settle"), [(404, 5.0), (500, 0.0)])
async def test_a_run_that_cannot_be_compared_is_of_unknown_outcome(
    serve: Serve, no_backoff: None, status: int, settle: float
) -> None:
    served = await serve(doubled)
    served.emulator.script(Fault(), *[Fault(status=status)] * 5, match="GET /v1/runs")
    [result] = await served.app.batch([{"n": 1}], job=JOB, settle=settle)
    assert isinstance(result.error, errors.AmbiguousOutcomeError)
    assert result.error.run_id == result.run_id == next(iter(served.emulator.runs))


async def test_a_look_behind_a_create_goes_on_over_what_may_pass(
    serve: Serve, no_backoff: None
) -> None:
    served = await serve(doubled)
    served.emulator.script(Fault(), *[Fault(status=500)] * 5, match="GET /v1/runs")
    [result] = await served.app.batch([{"n": 1}], job=JOB, settle=5.0)
    assert result.ok


async def test_lists_that_lag_longer_than_said_are_taken_as_they_are(serve: Serve) -> None:
    served = await serve(doubled, list_lag=3600)
    [result] = await served.app.batch([{"n": 1}], job=JOB, settle=0.1)
    assert result.ok
    assert not result.found


# --- with a journal ------------------------------------------------------------------------------


async def test_a_new_journal_cannot_tell_what_other_machines_did(
    serve: Serve, tmp_path: Path
) -> None:
    served = await serve(doubled)
    await served.app.batch(inputs(6), job=JOB, journal=tmp_path / "one.db")
    results = await served.app.batch(inputs(6), job=JOB, journal=tmp_path / "two.db")
    assert all(r.found and not r.from_journal for r in results)
    assert set(served.emulator.execution_counts.values()) == {1}
    with Journal.read(tmp_path / "two.db") as journal:
        assert {e.key: e.session_id for e in journal} == {
            str(n): job_session(JOB, n) for n in range(6)
        }


async def test_what_an_older_journal_does_not_have_is_fresh(serve: Serve) -> None:
    """So it is looked for only once, behind its create."""
    served = await serve(doubled)
    journal = MemoryJournal()
    await served.app.batch(inputs(2), job=JOB, journal=journal)
    assert looks(served.emulator) == 4
    assert journal.header is not None
    created = journal.header.created_at - 60
    journal.header = msgspec.structs.replace(journal.header, created_at=created)
    served.emulator.reset()
    results = await served.app.batch(inputs(6), job=JOB, journal=journal)
    assert [r.from_journal for r in results] == [True] * 2 + [False] * 4
    assert looks(served.emulator) == 4
    assert len(served.emulator.runs) == 6


async def test_a_journal_is_of_one_job(serve: Serve) -> None:
    app, _ = await serve(doubled)
    journal = MemoryJournal()
    await app.batch(inputs(1), job=JOB, journal=journal)
    with pytest.raises(errors.JournalError, match="another job"):
        await app.batch(inputs(1), job="another", journal=journal)
    with pytest.raises(errors.JournalError, match="mode"):
        await app.batch(inputs(1), mode="run", journal=journal)


@pytest.mark.parametrize("made", [True, False])
async def test_an_attempt_that_was_cut_off_is_found_or_made(serve: Serve, made: bool) -> None:
    held = Held()
    served = await serve(held)
    journal = MemoryJournal()
    async with served.app.map(inputs(1), job=JOB, journal=journal):
        await served.emulator.wait_until(lambda: served.emulator.runs, timeout=60)
    held.over.set()
    if not made:
        served.emulator.runs.clear()
    [result] = await served.app.batch(inputs(1), job=JOB, journal=journal, settle=0.1)
    assert (result.ok, result.found) == (True, made)
    assert len(served.emulator.runs) == 1


async def test_a_search_for_a_cut_off_attempt_that_fails_is_no_reason_to_make_another(
    serve: Serve,
) -> None:
    held = Held()
    served = await serve(held)
    journal = MemoryJournal()
    async with served.app.map(inputs(1), job=JOB, journal=journal):
        await served.emulator.wait_until(lambda: served.emulator.runs, timeout=60)
    held.over.set()
    served.emulator.script(Fault(status=404), match="GET /v1/runs")
    [result] = await served.app.batch(inputs(1), job=JOB, journal=journal)
    assert isinstance(result.error, errors.AmbiguousOutcomeError)
    [changed] = await served.app.batch([{"n": 7}], job="two", journal=MemoryJournal())
    assert changed.ok


async def test_a_conflict_behind_a_cut_off_attempt_is_told(serve: Serve) -> None:
    held = Held()
    served = await serve(held)
    journal = MemoryJournal()
    async with served.app.map(inputs(1), job=JOB, journal=journal):
        await served.emulator.wait_until(lambda: served.emulator.runs, timeout=60)
    held.over.set()
    for run in served.emulator.runs.values():
        run.input = {"n": "changed"}
    for _ in range(2):
        [result] = await served.app.batch(inputs(1), job=JOB, journal=journal)
        assert isinstance(result.error, errors.JobConflictError)


async def test_who_is_cancelled_while_it_looks_has_begun_nothing(serve: Serve) -> None:
    served = await serve(doubled)
    journal = MemoryJournal()
    served.emulator.script(Fault(delay=60.0), match="GET /v1/runs")
    async with served.app.map(inputs(1), job=JOB, journal=journal):
        await served.emulator.wait_until(lambda: looks(served.emulator))
    assert not journal.records
    async with served.app.map(inputs(1), job="without", concurrency=1):
        served.emulator.script(Fault(delay=60.0), match="GET /v1/runs")
        before = looks(served.emulator)
        await served.emulator.wait_until(lambda: looks(served.emulator) > before)
    assert not served.emulator.runs


async def test_a_retry_is_made_with_a_journal_too(serve: Serve) -> None:
    served = await serve(doubled)
    journal = MemoryJournal()
    failing = [{"n": 1, "fails": True}]
    for n in range(3):
        [result] = await served.app.batch(failing, job=JOB, journal=journal, retry_failed=True)
        assert isinstance(result.error, errors.RunFailedError)
        sessions = [run.session_id for run in served.emulator.runs.values()]
        assert sessions == [job_session(JOB, 0, retry=i) for i in range(n + 1)]


# --- what it is given ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "argument"),
    [
        ({"mode": "invoke"}, "mode"),
        ({"session_id": str(UUID(int=1))}, "session_id"),
        ({"retry": True}, "retry"),
        ({"last_node_output": True}, "last_node_output"),
        ({"call": doubled}, "job"),
        ({"on_leave": "cancel"}, "on_leave"),
        ({"job": ""}, "job"),
        ({"job": 7}, "job"),
        ({"job": "\ud800"}, "job"),
        ({"settle": -1}, "settle"),
    ],
)
async def test_what_a_job_cannot_be_given(
    app: AsyncApp, given: dict[str, Any], argument: str
) -> None:
    with pytest.raises(errors.InvalidArgumentError) as caught:
        app.map([], **{"job": JOB, **given})
    assert caught.value.argument == argument


async def test_keys_that_would_share_a_session_are_refused(serve: Serve) -> None:
    served = await serve(doubled)
    some: list[Any] = [1, "1", "a\n2", "\ud800", "fine\nhere"]
    keys = iter(some)
    results = await served.app.batch(inputs(5), job=JOB, key=lambda _: next(keys))
    wrong = [isinstance(r.error, errors.InvalidArgumentError) for r in results]
    assert wrong == [False, True, True, True, False]
    assert len(served.emulator.runs) == 2
