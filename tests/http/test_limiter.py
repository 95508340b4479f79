"""The limit and the cooldown that all calls of a client share."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, TypeVar

import pytest

from dynamiq_async._http import limiter
from dynamiq_async._http.limiter import Demand, Gate
from dynamiq_async._http.rates import CATCH_UP, Quota
from dynamiq_async.options import Adaptive

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

T = TypeVar("T")


class Clock:
    """A time that only the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(limiter, "now", lambda: clock.now)
    return clock


async def turns(count: int = 5) -> None:
    """Let all others run as far as they can."""
    loop = asyncio.get_running_loop()
    for _ in range(count):
        turn = loop.create_future()
        loop.call_soon(turn.set_result, None)
        await turn


async def waiting(*works: Coroutine[Any, Any, T]) -> list[asyncio.Task[T]]:
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
    (waiter,) = await waiting(gate.enter())
    gate.leave()
    await turns()
    assert not waiter.done()  # the urgent one's slot was over the limit: it frees none
    gate.leave()
    assert await asyncio.wait_for(waiter, 5)


async def test_a_cooldown_holds_back_everybody(clock: Clock) -> None:
    gate = Gate(10)
    assert gate.cooldown == 0
    gate.cool_down(5)
    assert gate.throttled == 1
    assert gate.cooldown == 5
    assert not gate.try_enter()
    clock.now += 4.9
    assert not gate.try_enter()
    clock.now += 0.1
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


async def test_a_cooldown_sends_those_in_line_away_without_a_slot() -> None:
    gate = await full()
    tasks = await waiting(*(gate.enter() for _ in range(3)))
    gate.cool_down(30)
    assert await asyncio.gather(*tasks) == [False] * 3
    assert gate.in_flight == 1
    assert not gate._waiters


async def test_a_cancellation_that_comes_with_a_cooldown_costs_no_slot() -> None:
    gate = await full()
    (waiter,) = await waiting(gate.enter())
    gate.cool_down(30)
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert gate.in_flight == 1


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


async def test_a_cooldown_reaches_those_in_line_in_another_thread() -> None:
    gate = await full()
    with Elsewhere(gate) as other:
        gate.cool_down(30)
        assert other.entered.wait(5)
    assert gate.in_flight == 1
    assert other.task.result() is False


# --- demands -----------------------------------------------------------------------------------


def test_a_demand_makes_room_while_it_lasts() -> None:
    gate = Gate(10)
    with gate.demand(Demand(64)):
        assert gate.limit == 64
        with gate.demand(Demand(16)):
            assert gate.limit == 80
        assert gate.limit == 64
    assert gate.limit == 10
    with gate.demand(Demand(2)):
        assert gate.limit == 10


async def test_those_in_line_come_in_when_a_demand_makes_room() -> None:
    gate = await full(1)
    (waiter,) = await waiting(gate.enter())
    with gate.demand(Demand(2)):
        assert await asyncio.wait_for(waiter, 5)


def test_a_rate_spaces_requests_evenly_and_the_slowest_counts(clock: Clock) -> None:
    gate = Gate(100)
    with gate.demand(Demand(1, interval=1.0)), gate.demand(Demand(1, interval=10.0)):
        assert gate.try_enter()
        clock.now += 9.9
        assert not gate.try_enter()
        clock.now += 0.1
        assert gate.try_enter()
    assert gate.try_enter()
    assert not gate.metered


async def test_a_rate_lets_those_in_line_in_one_after_another() -> None:
    loop = asyncio.get_running_loop()
    gate = Gate(100)
    starts: list[float] = []

    async def work() -> None:
        if not gate.try_enter():
            assert await gate.enter()
        starts.append(loop.time())
        gate.leave()

    with gate.demand(Demand(100, interval=0.02)):
        began = loop.time()
        await asyncio.gather(*(work() for _ in range(8)))
    for number, start in enumerate(starts):
        assert start - began >= number * 0.02 - CATCH_UP - 0.002
    assert starts[-1] - began < 3


async def test_the_line_of_a_rate_can_be_left_at_any_time() -> None:
    gate = Gate(100)
    with gate.demand(Demand(100, interval=0.05)):
        assert gate.try_enter()
        first, second = await waiting(gate.enter(), gate.enter())
        first.cancel()
        assert await asyncio.wait_for(second, 5)
    assert gate.in_flight == 2


async def test_a_rate_is_kept_by_loops_of_several_threads() -> None:
    gate = Gate(100)
    with gate.demand(Demand(100, interval=0.05)):
        assert gate.try_enter()
        with Elsewhere(gate) as other:
            gate.leave()  # here it is noticed, there it is waited for
            assert other.entered.wait(5)


def test_urgent_requests_count_for_a_rate(clock: Clock) -> None:
    gate = Gate(100)
    with gate.demand(Demand(1, interval=1.0)):
        gate.enter_urgently()
        assert not gate.try_enter()
        clock.now += 1
        assert gate.try_enter()


async def test_an_adaptive_limit_grows_with_good_answers_and_shrinks_with_refusals(
    clock: Clock,
) -> None:
    gate = Gate(100)
    with gate.demand(Demand(50, Adaptive(min=2, max=50, start=4))):
        assert gate.limit == 4
        for _ in range(4):
            assert gate.try_enter()
        gate.accepted()
        assert gate.limit == 5
        (waiter,) = await waiting(gate.enter())
        assert waiter.done()
        gate.cool_down(1)
        assert gate.limit == 3
        gate.cool_down(1)  # of the same volley
        assert gate.limit == 3
        clock.now += 1
        gate.cool_down(1)
        assert gate.limit == 2
    assert gate.limit == 100
    assert gate.adaptive is None
    gate.accepted()


def test_a_second_demand_that_adapts_takes_over_and_leaves_the_first_in_place() -> None:
    gate = Gate(10)
    first, second = Adaptive(max=20, start=3), Adaptive(max=30, start=5)
    with gate.demand(Demand(20, first)):
        kept = gate.adaptive
        with gate.demand(Demand(5)):
            assert gate.adaptive is kept
        with gate.demand(Demand(30, second)):
            assert gate.limit == 5
        assert gate.limit == 3


# --- a quota that the service tells of -----------------------------------------------------------


def told(remaining: int, reset: float, limit: int = 60) -> dict[str, str]:
    return {
        "X-RateLimit-Limit": str(limit),
        "X-RateLimit-Remaining": str(remaining),
        "X-RateLimit-Reset": str(reset),
    }


SERVER = 1_700_000_000.0


async def test_one_request_goes_ahead_and_the_others_wait_for_what_it_brings(clock: Clock) -> None:
    quota = Quota()
    gate = Gate(100, quota)
    assert gate.try_enter()
    assert not gate.try_enter()
    tasks = await waiting(*(gate.enter() for _ in range(5)))
    quota.observe(told(3, SERVER + 60), clock.now, server_time=SERVER)
    gate.leave()
    await turns()
    assert [task.done() for task in tasks] == [True, True, True, False, False]
    for task in tasks:
        task.cancel()


async def test_what_is_left_waits_for_the_end_of_the_window() -> None:
    quota = Quota()
    gate = Gate(100, quota)
    loop = asyncio.get_running_loop()
    quota.observe(told(0, SERVER + 0.05), loop.time(), server_time=SERVER)
    began = loop.time()
    first, second = await waiting(gate.enter(), gate.enter())
    assert await asyncio.wait_for(first, 5)
    assert loop.time() - began >= 0.049
    assert not second.done()  # the first of a window goes ahead alone
    quota.observe(told(59, SERVER + 60), loop.time(), server_time=SERVER)
    gate.leave()
    assert await asyncio.wait_for(second, 5)


def test_a_service_that_says_nothing_limits_nothing(clock: Clock) -> None:
    quota = Quota()
    gate = Gate(100, quota)
    assert gate.try_enter()
    quota.observe({}, clock.now, server_time=SERVER)
    assert gate.try_enter()
    assert gate.try_enter()
    quota.observe(told(2, SERVER + 9), clock.now, server_time=SERVER)
    assert not gate.try_enter()


def test_an_answer_without_numbers_does_not_make_a_known_quota_unknown(clock: Clock) -> None:
    quota = Quota()
    quota.observe(told(0, SERVER + 9), clock.now, server_time=SERVER)
    quota.observe({}, clock.now, server_time=SERVER)
    assert quota.delay(clock.now, 0) == 9


def test_answers_that_overtake_each_other_do_not_raise_what_is_left(clock: Clock) -> None:
    quota = Quota()
    quota.observe(told(5, SERVER + 30), clock.now, server_time=SERVER)
    quota.observe(told(9, SERVER + 30), clock.now, server_time=SERVER)
    assert quota.remaining == 5
    assert quota.limit == 60
    quota.observe(told(59, SERVER + 90), clock.now, server_time=SERVER + 30)
    assert quota.remaining == 59
    assert quota.window(clock.now) == 60


@pytest.mark.parametrize("text", ["soon", "", "nan", "inf", "-inf"])
def test_numbers_that_are_none_count_as_not_told(text: str, clock: Clock) -> None:
    quota = Quota()
    quota.observe(
        {"X-RateLimit-Remaining": text, "X-RateLimit-Reset": text}, clock.now, server_time=SERVER
    )
    assert quota.remaining is None
    assert quota.delay(clock.now, 5) == 0


def test_a_reset_in_seconds_and_one_without_a_limit_are_understood(clock: Clock) -> None:
    quota = Quota()
    headers = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "7"}
    quota.observe(headers, clock.now, server_time=SERVER)
    assert quota.delay(clock.now, 0) == 7
    assert quota.limit is None
    assert quota.delay(clock.now + 7, 0) == 0
    assert quota.window(clock.now + 8) == 0


def test_a_cooldown_passes_over_those_of_a_loop_that_is_gone() -> None:
    gate = Gate(1)

    async def line_up() -> None:
        await gate.enter()
        gate._waiters[asyncio.get_running_loop().create_future()] = None

    asyncio.run(line_up())
    gate.cool_down(30)
    assert not gate._waiters


async def test_who_gave_up_in_another_thread_is_not_told_of_a_cooldown() -> None:
    gate = await full()
    with Elsewhere(gate) as other:
        blocked = threading.Event()
        other.loop.call_soon_threadsafe(blocked.wait)
        other.loop.call_soon_threadsafe(other.task.cancel)
        gate.cool_down(30)
        blocked.set()
    assert other.task.cancelled()
    assert gate.in_flight == 1


def test_a_rate_goes_on_when_another_demand_of_the_same_ends(clock: Clock) -> None:
    gate = Gate(100)
    with gate.demand(Demand(1, interval=1.0)):
        with gate.demand(Demand(1, interval=1.0)):
            assert gate.try_enter()
        assert not gate.try_enter()


def test_a_service_that_says_when_to_come_back_is_asked_again_then(clock: Clock) -> None:
    quota = Quota()
    headers = told(0, SERVER + 60) | {"Retry-After": "2"}
    quota.observe(headers, clock.now, server_time=SERVER)
    assert quota.delay(clock.now, 0) == 2
    later = told(4, SERVER + 60) | {"Retry-After": "2"}
    other = Quota()
    other.observe(later, clock.now, server_time=SERVER)
    assert other.window(clock.now) == 60
