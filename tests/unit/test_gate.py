"""The limit and the cooldown that all calls of a client share."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

from dynamiq_async import _gate
from dynamiq_async._gate import Gate

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any


class Clock:
    """A clock that only `sleep` moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await turns()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(_gate, "monotonic", lambda: clock.now)
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        await (clock.sleep(seconds) if seconds else real(0))

    monkeypatch.setattr(asyncio, "sleep", sleep)
    return clock


async def turns(count: int = 5) -> None:
    """Let all others run as far as they can."""
    loop = asyncio.get_running_loop()
    for _ in range(count):
        turn = loop.create_future()
        loop.call_soon(turn.set_result, None)
        await turn


async def waiting(*works: Coroutine[Any, Any, None]) -> list[asyncio.Task[None]]:
    tasks = [asyncio.create_task(work) for work in works]
    await turns()
    return tasks


async def full(limit: int = 1) -> Gate:
    gate = Gate(limit)
    for _ in range(limit):
        await gate.enter()
    return gate


async def test_no_more_than_the_limit_are_under_way() -> None:
    gate = Gate(3)
    most = 0

    async def work() -> None:
        nonlocal most
        await gate.enter()
        most = max(most, gate.in_flight)
        await turns(2)
        gate.leave()

    await asyncio.gather(*(work() for _ in range(20)))
    assert most == 3
    assert gate.in_flight == 0


async def test_a_slot_is_taken_at_once_only_if_one_is_free() -> None:
    gate = Gate(2)
    assert gate.try_enter()
    assert gate.try_enter()
    assert not gate.try_enter()
    gate.leave()
    assert gate.try_enter()
    assert gate.in_flight == 2


async def test_first_come_first_served() -> None:
    gate = await full()
    order: list[int] = []

    async def work(number: int) -> None:
        await gate.enter()
        order.append(number)
        gate.leave()

    tasks = await waiting(*(work(n) for n in range(10)))
    gate.leave()
    await asyncio.gather(*tasks)
    assert order == list(range(10))


async def test_nobody_overtakes_those_who_wait() -> None:
    gate = await full()
    (waiter,) = await waiting(gate.enter())
    gate.leave()
    assert not gate.try_enter()
    (late,) = await waiting(gate.enter())
    assert waiter.done()
    assert not late.done()
    gate.leave()
    await late
    gate.leave()


@pytest.mark.parametrize("position", [0, 1, 2])
async def test_a_cancelled_wait_leaves_the_queue(position: int) -> None:
    gate = await full()
    tasks = await waiting(*(gate.enter() for _ in range(3)))
    tasks[position].cancel()
    with pytest.raises(asyncio.CancelledError):
        await tasks[position]
    assert gate.in_flight == 1
    for task in (t for t in tasks if t is not tasks[position]):
        gate.leave()
        await asyncio.wait_for(task, 5)
    gate.leave()
    assert gate.in_flight == 0
    assert gate.try_enter()


async def test_those_who_gave_up_take_no_room_in_the_queue() -> None:
    gate = await full()
    for task in await waiting(*(gate.enter() for _ in range(10))):
        task.cancel()
    await turns()
    assert not gate._waiters


async def test_a_slot_that_comes_with_a_cancellation_is_handed_on() -> None:
    gate = await full()
    first, second = await waiting(gate.enter(), gate.enter())
    gate.leave()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    await asyncio.wait_for(second, 5)
    assert gate.in_flight == 1


async def test_a_cancellation_that_comes_before_a_slot_stays_a_cancellation() -> None:
    gate = await full()
    first, second = await waiting(gate.enter(), gate.enter())
    first.cancel()
    gate.leave()
    with pytest.raises(asyncio.CancelledError):
        await first
    await asyncio.wait_for(second, 5)
    gate.leave()
    assert gate.in_flight == 0


async def test_many_cancellations_at_once_cost_no_slot() -> None:
    gate = await full(4)
    tasks = await waiting(*(gate.enter() for _ in range(2000)))
    for task in tasks[::2]:
        task.cancel()
    gate.leave()
    for task in tasks[1:1000:2]:
        task.cancel()
    for _ in range(3):
        gate.leave()
    await turns()
    results = [t for t in tasks if t.done() and not t.cancelled()]
    assert len(results) == gate.in_flight == 4
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert gate.in_flight == 4


async def test_urgent_entries_go_over_the_limit_and_through_a_cooldown() -> None:
    gate = await full()
    gate.cool_down(60)
    gate.enter_urgently()
    assert gate.in_flight == 2
    (waiter,) = await waiting(gate._take_slot())
    gate.leave()
    await turns()
    assert not waiter.done()  # the urgent one's slot was over the limit: it frees none
    gate.leave()
    await asyncio.wait_for(waiter, 5)


async def test_a_cooldown_holds_back_everybody(clock: Clock) -> None:
    gate = Gate(10)
    assert gate.cooldown == 0
    gate.cool_down(5)
    assert gate.throttled == 1
    assert gate.cooldown == 5
    assert not gate.try_enter()
    start = clock.now
    await gate.enter()
    assert clock.now >= start + 5
    assert gate.cooldown == 0
    assert gate.try_enter()


async def test_a_cooldown_is_never_shortened(clock: Clock) -> None:
    gate = Gate(1)
    gate.cool_down(5)
    gate.cool_down(1)
    gate.cool_down(0)
    assert gate.cooldown == 5
    clock.now += 4.5
    gate.cool_down(0.25)
    assert gate.cooldown == 0.5
    gate.cool_down(3)
    assert gate.cooldown == 3
    assert gate.throttled == 5
    clock.now += 10
    assert gate.cooldown == 0


async def test_those_who_wait_for_a_cooldown_are_spread_and_never_early(clock: Clock) -> None:
    ends = []
    for seconds in [10.0] * 20 + [1000.0] * 20:
        gate = Gate(1)
        start = clock.now
        gate.cool_down(seconds)
        await gate.wait_cooldown()
        ends.append(clock.now - start - seconds)
        assert gate.in_flight == 0
    assert all(0 <= late <= 1.0 + 1e-9 for late in ends[:20])
    assert all(0 <= late <= 2.0 + 1e-9 for late in ends[20:])
    assert len(set(ends)) > 20


async def test_a_cooldown_lengthened_meanwhile_is_waited_for(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(1)
    gate.cool_down(5)
    first = clock.sleep

    async def lengthen(seconds: float) -> None:
        if not clock.slept:
            gate.cool_down(20)
        await first(seconds)

    monkeypatch.setattr(clock, "sleep", lengthen)
    start = clock.now
    await gate.enter()
    assert len(clock.slept) == 2
    assert clock.now >= start + 20


async def test_a_cooldown_that_starts_while_waiting_for_a_slot_counts(clock: Clock) -> None:
    gate = await full()
    (waiter,) = await waiting(gate.enter())
    gate.cool_down(30)
    start = clock.now
    gate.leave()
    await asyncio.wait_for(waiter, 5)
    assert clock.now >= start + 30
    assert gate.in_flight == 1


async def test_waiting_for_a_cooldown_can_be_cancelled() -> None:
    gate = Gate(1)
    gate.cool_down(3600)
    first, second = await waiting(gate.enter(), gate.wait_cooldown())
    for task in (first, second):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert gate.in_flight == 0


def test_waiters_of_a_loop_that_is_gone_are_passed_over() -> None:
    gate = Gate(1)

    async def wait_for_ever() -> None:
        await gate.enter()
        gate._waiters[asyncio.get_running_loop().create_future()] = None

    async def go_on() -> None:
        (waiter,) = await waiting(gate.enter())
        gate.leave()
        await asyncio.wait_for(waiter, 5)

    asyncio.run(wait_for_ever())
    asyncio.run(go_on())
    assert gate.in_flight == 1


class Elsewhere:
    """A loop in another thread, which waits for a slot of the gate until it is told to stop."""

    def __init__(self, gate: Gate) -> None:
        self.loop = asyncio.new_event_loop()
        self.entered = threading.Event()
        self.thread = threading.Thread(target=self.loop.run_until_complete, args=[self.wait(gate)])
        self.queued = threading.Event()

    async def wait(self, gate: Gate) -> None:
        task = asyncio.create_task(gate.enter())
        await turns()
        self.task = task
        self.queued.set()
        try:
            await task
        except asyncio.CancelledError:
            return
        self.entered.set()

    def __enter__(self) -> Elsewhere:
        self.thread.start()
        assert self.queued.wait(5)
        return self

    def __exit__(self, *_: object) -> None:
        self.thread.join(5)
        assert not self.thread.is_alive()
        self.loop.close()


async def test_a_slot_goes_to_a_loop_in_another_thread_and_wakes_it() -> None:
    gate = await full()
    with Elsewhere(gate) as other:
        gate.leave()
        assert other.entered.wait(5)
    assert gate.in_flight == 1


async def test_a_slot_for_another_thread_that_has_given_up_comes_back() -> None:
    gate = await full()
    with Elsewhere(gate) as other:
        (here,) = await waiting(gate.enter())
        blocked = threading.Event()
        other.loop.call_soon_threadsafe(blocked.wait)
        other.loop.call_soon_threadsafe(other.task.cancel)
        gate.leave()
        blocked.set()
    await asyncio.wait_for(here, 5)
    assert gate.in_flight == 1
