"""Waiting: together, within the limits, and no longer than allowed."""

from __future__ import annotations

import asyncio
import math
import threading
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from dynamiq_async import AsyncFlowy, FlowyRun, errors
from dynamiq_async._http.rates import Quota
from dynamiq_async.emulator import Emulator, Fault
from dynamiq_async.flowy.poller import MAX_LOST_POLLS, Poller, RequestLimiter, RunLimiter
from dynamiq_async.options import Adaptive, Timeout
from tests.support.travel import travel

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Serve, Served

SCENE = {"text-1": "Rain"}
RATE = {"X-RateLimit-Limit": "60", "X-RateLimit-Reset": "60"}


async def started(flowy: Served) -> str:
    return (await flowy.client.runs.start("clip", SCENE, check=False)).run_id


def polls(flowy: Served) -> int:
    return len(flowy.requests("GET", "/runs"))


# --- limits of time --------------------------------------------------------------------------


async def test_a_run_that_never_ends_is_given_up_with_its_id_and_status(flowy: Served) -> None:
    run_id = await started(flowy)
    with pytest.raises(errors.APITimeoutError) as caught:
        await flowy.client.runs.wait(run_id, timeout=0.05)
    assert caught.value.run_id == run_id
    assert (caught.value.limit, caught.value.seconds) == ("total", 0.05)
    assert f"run {run_id} was not over within 0.05 s; its status is running" in str(caught.value)


async def test_that_holds_for_running_it_too(flowy: Served) -> None:
    with pytest.raises(errors.APITimeoutError, match=r"was not over within 0\.3 s") as caught:
        await flowy.client.run("clip", SCENE, timeout=0.3, check=False)
    assert caught.value.run_id in flowy.service.runs


async def test_a_start_has_the_same_limit(flowy: Served) -> None:
    flowy.emulator.script(Fault(delay=60), match="POST *")
    with pytest.raises(errors.APITimeoutError, match=r"0\.05 s"):
        await flowy.client.run("clip", SCENE, timeout=0.05, check=False)
    flowy.emulator.script(Fault(delay=60), match="POST *")
    with pytest.raises(errors.AmbiguousTimeoutError):
        await flowy.client.runs.start("clip", SCENE, timeout=0.05, check=False)


async def test_where_a_start_has_no_limit_of_its_own_it_is_the_clients(serve: Serve) -> None:
    flowy = await serve(timeout=0.05)
    flowy.emulator.script(Fault(delay=60), match="POST *")
    with pytest.raises(errors.AmbiguousTimeoutError, match=r"0\.05 s"):
        await flowy.client.runs.start("clip", SCENE, check=False)


async def test_who_finds_no_room_in_time_starts_nothing(serve: Serve) -> None:
    flowy = await serve(max_runs=1)
    first = asyncio.create_task(flowy.client.run("clip", SCENE))
    await flowy.emulator.wait_until(lambda: flowy.service.runs)
    with pytest.raises(errors.APITimeoutError, match="no run was started: the 1 run that"):
        await flowy.client.run("clip", SCENE, timeout=0.02)
    flowy.clock.time += 8
    assert (await first).status == "completed"
    assert len(flowy.service.runs) == 1


@pytest.mark.parametrize("timeout", [0, -1, math.nan, "1"])
async def test_a_limit_is_a_positive_number(flowy: Served, timeout: Any) -> None:
    for call in (
        flowy.client.run("clip", SCENE, timeout=timeout),
        flowy.client.runs.start("clip", SCENE, timeout=timeout),
        flowy.client.runs.wait("r", timeout=timeout),
    ):
        with pytest.raises(errors.InvalidArgumentError):
            await call
    assert not flowy.emulator.requests.total


async def test_the_clients_limit_of_a_call_is_none_for_a_wait(serve: Serve) -> None:
    flowy = await serve(timeout=0.5)
    run_id = await started(flowy)
    flowy.emulator.script(Fault(delay=0.6), match="GET /runs/*")
    flowy.clock.time += 8
    assert (await flowy.client.runs.wait(run_id)).status == "completed"


# --- waiting together ------------------------------------------------------------------------


async def test_waits_for_the_same_run_share_their_polls(flowy: Served) -> None:
    run_id = await started(flowy)
    flowy.clock.time += 8
    ends = await asyncio.gather(*[flowy.client.runs.wait(run_id) for _ in range(20)])
    assert {run.status for run in ends} == {"completed"}
    assert polls(flowy) == 1


async def test_one_who_leaves_takes_nobody_along(flowy: Served) -> None:
    run_id = await started(flowy)
    waits = [asyncio.create_task(flowy.client.runs.wait(run_id)) for _ in range(3)]
    await flowy.emulator.wait_until(lambda: polls(flowy) >= 2)
    for leaving in waits[:2]:
        leaving.cancel()
    with pytest.raises(errors.APITimeoutError):
        await flowy.client.runs.wait(run_id, timeout=0.02)
    flowy.clock.time += 8
    assert (await waits[2]).status == "completed"
    gone = await asyncio.gather(*waits[:2], return_exceptions=True)
    assert [type(error) for error in gone] == [asyncio.CancelledError] * 2


async def test_one_who_leaves_in_the_middle_of_a_look_does_neither(flowy: Served) -> None:
    run_id = await started(flowy)
    flowy.emulator.script(Fault(delay=60), match="GET /runs/*")
    waits = [asyncio.create_task(flowy.client.runs.wait(run_id)) for _ in range(2)]
    await flowy.emulator.wait_until(lambda: polls(flowy))
    waits[0].cancel()
    flowy.clock.time += 8
    assert (await waits[1]).status == "completed"
    with pytest.raises(asyncio.CancelledError):
        await waits[0]


async def test_nothing_is_kept_of_a_run_that_nobody_waits_for(flowy: Served) -> None:
    await flowy.client.run("haiku", {"Topic": "x"})
    (here,) = flowy.client._shared.poller._loops.values()
    assert not here.watches
    assert not flowy.client._shared.schema_locks


def test_waits_in_several_threads_do_not_meet() -> None:
    async def wait_here(client: AsyncFlowy, run_id: str) -> FlowyRun:
        return await client.runs.wait(run_id, timeout=10)

    async def serve() -> None:
        async with Emulator() as emulator:
            client = AsyncFlowy(emulator.flowy_key, emulator.flowy_url)
            run = await client.runs.start("haiku", {"Topic": "x"})
            ends: list[FlowyRun] = []

            def elsewhere() -> None:
                ends.append(asyncio.run(wait_here(client, run.run_id)))

            threads = [threading.Thread(target=elsewhere) for _ in range(2)]
            for thread in threads:
                thread.start()
            ends.append(await wait_here(client, run.run_id))
            for thread in threads:
                await asyncio.to_thread(thread.join)
            assert [end.status for end in ends] == ["completed"] * 3
            await client.aclose()

    asyncio.run(serve())


# --- polls that fail -------------------------------------------------------------------------


async def test_a_look_that_fails_in_passing_is_repeated(serve: Serve) -> None:
    flowy = await serve(max_retries=0)
    run_id = await started(flowy)
    flowy.clock.time += 8
    faults = [Fault(status=500), Fault(drop="reset"), Fault.html_page(502), Fault.html_page(200)]
    flowy.emulator.script(*faults, match="GET /runs/*")
    assert (await flowy.client.runs.wait(run_id)).status == "completed"


async def test_but_not_for_ever(serve: Serve) -> None:
    flowy = await serve(max_retries=0)
    run_id = await started(flowy)
    flowy.emulator.script(Fault(status=500), match="GET /runs/*", times=None)
    with pytest.raises(errors.InternalServerError):
        await flowy.client.runs.wait(run_id)
    assert polls(flowy) == MAX_LOST_POLLS + 1


async def test_what_is_definite_is_the_waiters_error(flowy: Served) -> None:
    with pytest.raises(errors.NotFoundError, match="Run not found"):
        await flowy.client.runs.wait("nope")
    run_id = await started(flowy)
    flowy.emulator.script(Fault(body={"data": {"runId": 3}}), match="GET /runs/*")
    with pytest.raises(errors.ResponseDecodeError):
        await flowy.client.runs.wait(run_id)


async def test_a_wait_beyond_max_retry_after_raises(serve: Serve) -> None:
    flowy = await serve(max_retry_after=5)
    run_id = await started(flowy)
    flowy.emulator.script(Fault(status=429, headers={"Retry-After": "6"}), match="GET /runs/*")
    with pytest.raises(errors.RateLimitError) as caught:
        await flowy.client.runs.wait(run_id)
    assert caught.value.retry_after == 6
    assert polls(flowy) == 1


# --- limits of number ------------------------------------------------------------------------


def limiter_with(remaining: int | None, most: int = 8) -> RequestLimiter:
    quota = Quota()
    if remaining is not None:
        headers = {**RATE, "X-RateLimit-Remaining": str(remaining)}
        quota.observe(headers, asyncio.get_running_loop().time(), server_time=1e9)
    return RequestLimiter(100, quota, RunLimiter(Adaptive(max=most)))


@pytest.mark.parametrize(
    ("remaining", "seconds"), [(60, 2.0), (30, 4.0), (2, 60.0), (1, 60.0), (0, 60.0), (None, 0.0)]
)
async def test_polls_are_spread_over_what_is_left_of_the_window(
    remaining: int | None, seconds: float
) -> None:
    poller = Poller(limiter_with(remaining))
    assert poller._spacing() == pytest.approx(seconds, rel=0.01)


async def test_a_refusal_with_requests_left_means_too_many_runs() -> None:
    for remaining, limit in ((5, 6), (0, 8), (None, 6)):
        limiter = limiter_with(remaining)
        for _ in range(8):
            assert limiter._runs.try_acquire()
        limiter.cool_down(1.0)
        assert limiter._runs.limit == limit


async def test_fewer_runs_are_in_flight_when_the_service_takes_fewer(serve: Serve) -> None:
    flowy = await serve(max_runs=Adaptive(max=6, start=6))
    flowy.service.limits[flowy.service.key] = 10_000
    flowy.service.max_runs = 3
    flowy.service.retry_after = 0
    work = asyncio.gather(*[flowy.client.run("clip", SCENE) for _ in range(9)])
    while not work.done():
        await asyncio.sleep(0.01)
        flowy.clock.time += 1
        assert flowy.service.in_flight(flowy.service.key) <= 3
    assert {run.status for run in await work} == {"completed"}
    assert len(flowy.service.runs) == 9
    assert flowy.client._shared.runs.limit < 6


async def test_a_number_of_runs_is_kept_to(serve: Serve) -> None:
    flowy = await serve(max_runs=2)
    flowy.service.limits[flowy.service.key] = 10_000
    flowy.service.max_runs = 2
    work = asyncio.gather(*[flowy.client.run("clip", SCENE) for _ in range(5)])
    while not work.done():
        await asyncio.sleep(0.005)
        flowy.clock.time += 1
    assert 429 not in [seen.status for seen in flowy.emulator.requests]


def test_nothing_is_sent_inside_a_retry_after() -> None:
    async def run(clock: Callable[[], float]) -> None:
        async with Emulator(clock=clock) as emulator:
            client = AsyncFlowy(emulator.flowy_key, emulator.flowy_url)
            refusal = Fault(status=429, headers={"Retry-After": "30"}, body={"error": "later"})
            emulator.script(Fault(), Fault(), Fault(), refusal, match="GET /runs/*")
            times: list[float] = []
            service = emulator.flowy
            counted = service.take_request

            def noted(key: str) -> Any:
                times.append(clock())
                return counted(key)

            service.take_request = noted  # type: ignore[method-assign]
            runs = [client.run("clip", SCENE) for _ in range(4)]
            await asyncio.gather(*runs)
            await client.aclose()
            gaps = [later - sooner for sooner, later in pairwise(times)]
            assert max(gaps) >= 30
            assert sum(gap >= 30 for gap in gaps) == 1

    travel(run)


def test_a_run_just_started_is_left_alone_and_a_long_one_is_looked_at_rarely() -> None:
    async def run(clock: Callable[[], float]) -> list[float]:
        looked: list[float] = []
        begin = clock()

        async def look(run_id: str) -> FlowyRun:
            looked.append(clock() - begin)
            over = looked[-1] > 300
            return FlowyRun(run_id=run_id, status="completed" if over else "running")

        poller = Poller(RequestLimiter(9, Quota(), RunLimiter(Adaptive())))
        first = FlowyRun(run_id="r")
        await poller.wait("r", look, timeout=None, deadline=None, started=first)
        return looked

    looked = travel(run)
    gaps = [later - sooner for sooner, later in pairwise(looked)]
    assert looked[0] == pytest.approx(2, abs=0.1)
    assert gaps[:3] == pytest.approx([2, 2, 2], abs=0.1)
    assert max(gaps) == pytest.approx(15, abs=0.1)
    assert len(looked) < 50


async def test_a_poll_without_a_response_is_an_error_of_its_own(flowy: Served) -> None:
    view = flowy.client.with_options(timeout=Timeout(first_byte=0.01), max_retries=0)
    run_id = await started(flowy)
    flowy.emulator.script(Fault(delay=60), match="GET /runs/*", times=None)
    with pytest.raises(errors.APITimeoutError) as caught:
        await view.runs.wait(run_id, timeout=60)
    assert caught.value.limit == "first_byte"
