"""Many limits, one timer: each call ends when its own time is up, and no other does."""

from __future__ import annotations

import asyncio

import pytest

from dynamiq_async._http.timers import Alarm, Clock
from dynamiq_async.options import NO_TIMEOUT, Timeout


@pytest.fixture
async def alarm() -> Alarm:
    return Alarm(asyncio.get_running_loop())


async def never() -> None:
    await asyncio.get_running_loop().create_future()


async def test_the_limit_ends_what_is_waited_for(alarm: Alarm) -> None:
    clock = Clock(Timeout(first_byte=0.01), None, alarm)
    with pytest.raises(TimeoutError), clock.start("first_byte"):
        await never()
    assert (clock.limit, clock.seconds) == ("first_byte", 0.01)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_the_deadline_counts_when_it_is_nearer(alarm: Alarm) -> None:
    deadline = alarm.loop.time() + 0.01
    clock = Clock(Timeout(idle=60, total=0.01), deadline, alarm)
    with pytest.raises(TimeoutError), clock.start("idle"):
        await never()
    assert (clock.limit, clock.seconds) == ("total", 0.01)


async def test_another_limit_can_take_over(alarm: Alarm) -> None:
    clock = Clock(Timeout(first_byte=60, idle=0.01), None, alarm)
    with pytest.raises(TimeoutError), clock.start("first_byte"):
        clock.turn_to("idle")
        await never()
    assert clock.limit == "idle"


async def test_a_limit_that_was_turned_off_does_not_ring(alarm: Alarm) -> None:
    clock = Clock(Timeout(first_byte=0.01, idle=None), None, alarm)
    with clock.start("first_byte"):
        clock.turn_to("idle")
        await asyncio.sleep(0.03)


async def test_without_limits_nothing_is_armed(alarm: Alarm) -> None:
    with Clock(NO_TIMEOUT, None, alarm).start("first_byte"):
        assert alarm._timer is None


async def test_each_call_ends_at_its_own_time(alarm: Alarm) -> None:
    ended: list[float] = []

    async def call(seconds: float) -> None:
        try:
            with Clock(Timeout(first_byte=seconds), None, alarm).start("first_byte"):
                await never()
        except TimeoutError:
            ended.append(seconds)

    async def quick() -> None:
        with Clock(Timeout(first_byte=0.02), None, alarm).start("first_byte"):
            await asyncio.sleep(0)

    seconds = [0.05, 0.01, 0.03]
    await asyncio.gather(*map(call, seconds), quick())
    assert ended == sorted(seconds)
    assert not alarm._due
    assert alarm._timer is None


async def test_a_cancellation_from_elsewhere_is_not_a_timeout(alarm: Alarm) -> None:
    async def call() -> None:
        with Clock(Timeout(first_byte=60), None, alarm).start("first_byte"):
            await never()

    task = asyncio.create_task(call())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not alarm._due


async def test_a_cancellation_in_the_same_moment_wins(alarm: Alarm) -> None:
    clock = Clock(Timeout(first_byte=60), None, alarm)

    async def call() -> None:
        with clock.start("first_byte"):
            await never()

    task = asyncio.create_task(call())
    await asyncio.sleep(0)
    clock.expire()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_has_expired_is_not_armed_again(alarm: Alarm) -> None:
    clock = Clock(Timeout(first_byte=60, idle=60), None, alarm)

    async def call() -> None:
        with clock.start("first_byte"):
            try:
                await never()
            finally:
                clock.turn_to("idle")

    task = asyncio.create_task(call())
    await asyncio.sleep(0)
    clock.expire()
    with pytest.raises(TimeoutError):
        await task
    assert not alarm._due


async def test_an_error_of_the_call_stays_what_it_is(alarm: Alarm) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        Clock(Timeout(first_byte=60), None, alarm).start("first_byte"),
    ):
        raise ZeroDivisionError
    assert not alarm._due
