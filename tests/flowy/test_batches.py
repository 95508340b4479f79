"""Many runs, within what the service allows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from dynamiq_async import AsyncFlowy, FlowyRun, errors
from dynamiq_async.batch.journal import MemoryJournal
from dynamiq_async.emulator import Emulator, FlowyApp
from dynamiq_async.options import Adaptive
from tests.support.travel import travel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .conftest import Served

RUNS = 500
LIMIT = 60  # requests a minute
AT_LEAST = 2 * RUNS / LIMIT  # minutes: each run is started, and polled once


class Batch(NamedTuple):
    """How a batch went."""

    minutes: float
    statuses: list[int | None]
    most_in_flight: int


def run_batch(seconds: float, count: int = RUNS, **client: Any) -> Batch:
    """A batch of runs that take so long each, in emulated time."""
    inputs = [{"nodeId": "text-1", "label": "Text", "kind": "text", "required": True}]

    async def work(clock: Callable[[], float]) -> Batch:
        async with Emulator(clock=clock) as emulator:
            service = emulator.flowy
            most = 0

            def echo(inputs: Mapping[str, str]) -> dict[str, Any]:
                nonlocal most
                most = max(most, service.in_flight(service.key) + 1)
                return {"text-1": inputs["text-1"]}

            service.apps["echo"] = FlowyApp(
                id="echo", title="Echo", make=echo, inputs=inputs, seconds=seconds
            )
            async with AsyncFlowy(emulator.flowy_key, emulator.flowy_url, **client) as flowy:
                began = clock()
                texts = ({"Text": f"text {number}"} for number in range(count))
                async with flowy.map("echo", texts, include_input=False) as results:
                    async for result in results:
                        assert result.unwrap().output().text == f"text {result.key}"
                minutes = (clock() - began) / 60
            assert len(service.runs) == count
            return Batch(minutes, [seen.status for seen in emulator.requests], most)

    return travel(work)


def test_500_runs_at_60_requests_a_minute_meet_no_refusal() -> None:
    done = run_batch(seconds=10)
    assert 429 not in done.statuses
    assert done.minutes < AT_LEAST * 1.05
    assert done.minutes == pytest.approx(len(done.statuses) / LIMIT, rel=0.05)


@pytest.mark.parametrize("seconds", [0, 3, 30])
def test_neither_do_shorter_and_longer_ones(seconds: float) -> None:
    done = run_batch(seconds, count=100)
    assert 429 not in done.statuses
    # What keeps it: requests, or the eight runs that are in flight at once.
    at_least = max(200 / LIMIT, 100 * seconds / 8 / 60)
    assert done.minutes < at_least * 1.45 + 1


def test_runs_in_flight_are_as_many_as_allowed_and_as_useful() -> None:
    done = run_batch(seconds=60, count=60, max_runs=Adaptive(max=10, start=10))
    assert 429 not in done.statuses
    assert done.most_in_flight == 10


async def test_a_batch_is_a_list_in_the_order_of_its_inputs(flowy: Served) -> None:
    topics = ("a frog", "a pond", "the moon")
    results = await flowy.client.batch(
        "haiku", [{"Topic": topic} for topic in topics], key=lambda given: given["Topic"]
    )
    assert [result.key for result in results] == list(topics)
    for result in results:
        assert str(result.key) in (result.unwrap().output().text or "")


async def test_what_goes_wrong_is_the_result_of_its_input(flowy: Served) -> None:
    results = await flowy.client.batch("poster", [{"Slogan": "a"}, {"nope": "b"}])
    assert [result.ok for result in results] == [True, False]
    assert isinstance(results[1].error, errors.InvalidArgumentError)
    (failed,) = await flowy.client.batch("broken", [{}])
    assert isinstance(failed.error, errors.RunFailedError)
    assert isinstance(failed.error.run, FlowyRun)


async def test_outputs_of_a_batch_can_be_downloaded(flowy: Served, tmp_path: Path) -> None:
    (result,) = await flowy.client.batch("poster", [{"Slogan": "a"}])
    assert (await result.unwrap().output("out-1").save(tmp_path)).read_bytes().endswith(b"a")


@pytest.mark.parametrize("in_memory", [False, True])
async def test_a_journal_starts_nothing_twice(
    flowy: Served, tmp_path: Path, in_memory: bool
) -> None:
    journal = MemoryJournal() if in_memory else tmp_path / "journal"
    for from_journal in (False, True):
        found = await flowy.client.batch("poster", [{"Slogan": "a"}], journal=journal)
        result = found[0]
        assert result.from_journal is from_journal
        assert result.unwrap().output("out-2").text == "A"
    assert len(flowy.service.runs) == 1
    (recalled,) = await flowy.client.batch("poster", [{"Slogan": "a"}], journal=journal)
    with pytest.raises(errors.OutputMissingError, match=r"flowy\.runs\.get"):
        await recalled.unwrap().output("out-1").read()


async def test_a_batch_of_nothing_that_can_run_is_refused_at_once(flowy: Served) -> None:
    wrong: list[dict[str, Any]] = [{"app": ""}, {"timeout": -1}, {"rate": "fast"}]
    for arguments in wrong:
        with pytest.raises(errors.InvalidArgumentError):
            flowy.client.map(**{"app": "haiku", "inputs": [], **arguments})
    assert not flowy.emulator.requests.total
