"""Many limits, one timer: each call ends when its own time is up, and no other does."""

from __future__ import annotations

import asyncio
import time

import pytest

from dynamiq_async._http.timers import TaskLimits, TimeLimits, Timer
from dynamiq_async.options import NO_TIMEOUT, Timeout
from tests.support.travel import travel


@pytest.fixture
async def timer() -> Timer:
    return Timer(asyncio.get_running_loop())


async def never() -> None:
    await asyncio.get_running_loop().create_future()


async def test_the_limit_ends_what_is_waited_for(timer: Timer) -> None:
    limits = TaskLimits(Timeout(first_byte=0.01), None, timer)
    with pytest.raises(TimeoutError), limits.starting("first_byte"):
        await never()
    assert (limits.limit, limits.seconds) == ("first_byte", 0.01)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_the_deadline_counts_when_it_is_nearer(timer: Timer) -> None:
    deadline = timer.loop.time() + 0.01
    limits = TaskLimits(Timeout(idle=60, total=0.01), deadline, timer)
    with pytest.raises(TimeoutError), limits.starting("idle"):
        await never()
    assert (limits.limit, limits.seconds) == ("total", 0.01)


async def test_another_limit_can_take_over(timer: Timer) -> None:
    limits = TaskLimits(Timeout(first_byte=60, idle=0.01), None, timer)
    with pytest.raises(TimeoutError), limits.starting("first_byte"):
        limits.run("idle")
        await never()
    assert limits.limit == "idle"


async def test_a_limit_that_was_turned_off_does_not_expire(timer: Timer) -> None:
    limits = TaskLimits(Timeout(first_byte=0.01, idle=None), None, timer)
    with limits.starting("first_byte"):
        limits.run("idle")
        await asyncio.sleep(0.03)


async def test_without_limits_no_timer_is_set(timer: Timer) -> None:
    with TaskLimits(NO_TIMEOUT, None, timer).starting("first_byte"):
        assert timer._handle is None


def test_each_call_ends_at_its_own_time() -> None:
    ended: list[float] = []
    seconds = [0.05, 0.01, 0.03]

    async def work(_: object) -> None:
        timer = Timer(asyncio.get_running_loop())

        async def call(seconds: float) -> None:
            try:
                with TaskLimits(Timeout(first_byte=seconds), None, timer).starting("first_byte"):
                    await never()
            except TimeoutError:
                ended.append(seconds)

        async def quick() -> None:
            with TaskLimits(Timeout(first_byte=0.02), None, timer).starting("first_byte"):
                await asyncio.sleep(0)

        await asyncio.gather(*map(call, seconds), quick())
        assert not timer._checks
        assert timer._handle is None

    travel(work)
    assert ended == sorted(seconds)


async def test_a_cancellation_from_elsewhere_is_not_a_timeout(timer: Timer) -> None:
    async def call() -> None:
        with TaskLimits(Timeout(first_byte=60), None, timer).starting("first_byte"):
            await never()

    task = asyncio.create_task(call())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not timer._checks


async def test_a_cancellation_in_the_same_moment_wins(timer: Timer) -> None:
    limits = TaskLimits(Timeout(first_byte=60), None, timer)

    async def call() -> None:
        with limits.starting("first_byte"):
            await never()

    task = asyncio.create_task(call())
    await asyncio.sleep(0)
    limits._cancel()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_expired_limit_is_not_checked_again(timer: Timer) -> None:
    limits = TaskLimits(Timeout(first_byte=60, idle=60), None, timer)

    async def call() -> None:
        with limits.starting("first_byte"):
            try:
                await never()
            finally:
                limits.run("idle")

    task = asyncio.create_task(call())
    await asyncio.sleep(0)
    limits._cancel()
    with pytest.raises(TimeoutError):
        await task
    assert not timer._checks


async def test_an_error_of_the_call_stays_what_it_is(timer: Timer) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        TaskLimits(Timeout(first_byte=60), None, timer).starting("first_byte"),
    ):
        raise ZeroDivisionError
    assert not timer._checks


async def test_a_limit_that_is_restarted_does_not_expire(timer: Timer) -> None:
    limits = TaskLimits(Timeout(idle=0.03), None, timer)
    with limits.starting("idle"):
        for _ in range(6):
            await asyncio.sleep(0.01)
            limits.run("idle")
    assert not timer._checks


async def test_what_came_while_the_loop_stood_still_counts_before_the_limit(timer: Timer) -> None:
    limits = TaskLimits(Timeout(idle=0.01), None, timer)
    with limits.starting("idle"):
        arrived: asyncio.Future[None] = timer.loop.create_future()

        def stand_still() -> None:
            time.sleep(0.02)
            arrived.set_result(None)

        timer.loop.call_later(0.005, stand_still)
        await arrived
        limits.run("idle")
        await asyncio.sleep(0)


async def test_what_has_been_stopped_is_not_ended(timer: Timer) -> None:
    """Whatever of it is still asked for: nothing runs any more."""
    ended: list[str] = []
    timeout = Timeout(idle=0.01, total=0.01)
    limits = TimeLimits(timeout, timer.loop.time() + 0.01, timer, lambda: ended.append("x"))
    limits.run("idle")
    limits.check(timer.loop.time() + 1)  # it has passed, and is looked at in the next turn
    limits.stop()
    limits.run("idle")
    limits.pause()
    await asyncio.sleep(0.03)
    assert not ended
    assert not timer._checks
