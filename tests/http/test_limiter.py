"""The limit and the cooldown that all calls of a client share."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, TypeVar

import pytest

from dynamiq_async._http import limiter
from dynamiq_async._http.limiter import Demand, Limiter
from dynamiq_async._http.rates import CATCH_UP, Quota
from dynamiq_async.options import Adaptive
from tests.support.limits import HANG_SECONDS

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


async def full(limit: int = 1) -> Limiter:
    limiter = Limiter(limit)
    for _ in range(limit):
        await limiter.acquire()
    return limiter


async def test_no_more_than_the_limit_are_under_way() -> None:
    limiter = Limiter(3)
    most = 0

    async def work() -> None:
        nonlocal most
        await limiter.acquire()
        most = max(most, limiter.in_flight)
        await turns(2)
        limiter.release()

    await asyncio.gather(*(work() for _ in range(20)))
    assert most == 3
    assert limiter.in_flight == 0


async def test_a_slot_is_taken_at_once_only_if_one_is_free() -> None:
    limiter = Limiter(2)
    assert limiter.try_acquire()
    assert limiter.try_acquire()
    assert not limiter.try_acquire()
    limiter.release()
    assert limiter.try_acquire()
    assert limiter.in_flight == 2


async def test_first_come_first_served() -> None:
    limiter = await full()
    order: list[int] = []

    async def work(number: int) -> None:
        await limiter.acquire()
        order.append(number)
        limiter.release()

    tasks = await waiting(*(work(n) for n in range(10)))
    limiter.release()
    await asyncio.gather(*tasks)
    assert order == list(range(10))


async def test_nobody_overtakes_those_who_wait() -> None:
    limiter = await full()
    (waiter,) = await waiting(limiter.acquire())
    limiter.release()
    assert not limiter.try_acquire()
    (late,) = await waiting(limiter.acquire())
    assert waiter.done()
    assert not late.done()
    limiter.release()
    await late
    limiter.release()


@pytest.mark.parametrize("position", [0, 1, 2])
async def test_a_cancelled_wait_leaves_the_queue(position: int) -> None:
    limiter = await full()
    tasks = await waiting(*(limiter.acquire() for _ in range(3)))
    tasks[position].cancel()
    with pytest.raises(asyncio.CancelledError):
        await tasks[position]
    assert limiter.in_flight == 1
    for task in (t for t in tasks if t is not tasks[position]):
        limiter.release()
        await asyncio.wait_for(task, 5)
    limiter.release()
    assert limiter.in_flight == 0
    assert limiter.try_acquire()


async def test_those_who_gave_up_take_no_room_in_the_queue() -> None:
    limiter = await full()
    for task in await waiting(*(limiter.acquire() for _ in range(10))):
        task.cancel()
    await turns()
    assert not limiter._waiters


async def test_a_slot_that_comes_with_a_cancellation_is_handed_on() -> None:
    limiter = await full()
    first, second = await waiting(limiter.acquire(), limiter.acquire())
    limiter.release()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    await asyncio.wait_for(second, 5)
    assert limiter.in_flight == 1


async def test_a_cancellation_that_comes_before_a_slot_stays_a_cancellation() -> None:
    limiter = await full()
    first, second = await waiting(limiter.acquire(), limiter.acquire())
    first.cancel()
    limiter.release()
    with pytest.raises(asyncio.CancelledError):
        await first
    await asyncio.wait_for(second, 5)
    limiter.release()
    assert limiter.in_flight == 0


async def test_many_cancellations_at_once_cost_no_slot() -> None:
    limiter = await full(4)
    tasks = await waiting(*(limiter.acquire() for _ in range(2000)))
    for task in tasks[::2]:
        task.cancel()
    limiter.release()
    for task in tasks[1:1000:2]:
        task.cancel()
    for _ in range(3):
        limiter.release()
    await turns()
    results = [t for t in tasks if t.done() and not t.cancelled()]
    assert len(results) == limiter.in_flight == 4
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert limiter.in_flight == 4


async def test_urgent_entries_go_over_the_limit_and_through_a_cooldown() -> None:
    limiter = await full()
    limiter.cool_down(60)
    limiter.acquire_urgently()
    assert limiter.in_flight == 2
    (waiter,) = await waiting(limiter.acquire())
    limiter.release()
    await turns()
    assert not waiter.done()  # the urgent one's slot was over the limit: it frees none
    limiter.release()
    assert await asyncio.wait_for(waiter, 5)


async def test_a_cooldown_holds_back_everybody(clock: Clock) -> None:
    limiter = Limiter(10)
    assert limiter.cooldown == 0
    limiter.cool_down(5)
    assert limiter.throttled == 1
    assert limiter.cooldown == 5
    assert not limiter.try_acquire()
    clock.now += 4.9
    assert not limiter.try_acquire()
    clock.now += 0.1
    assert limiter.cooldown == 0
    assert limiter.try_acquire()


async def test_a_cooldown_is_never_shortened(clock: Clock) -> None:
    limiter = Limiter(1)
    limiter.cool_down(5)
    limiter.cool_down(1)
    limiter.cool_down(0)
    assert limiter.cooldown == 5
    clock.now += 4.5
    limiter.cool_down(0.25)
    assert limiter.cooldown == 0.5
    limiter.cool_down(3)
    assert limiter.cooldown == 3
    assert limiter.throttled == 5
    clock.now += 10
    assert limiter.cooldown == 0


async def test_a_cooldown_wakes_those_in_line_without_a_slot() -> None:
    limiter = await full()
    tasks = await waiting(*(limiter.acquire() for _ in range(3)))
    limiter.cool_down(30)
    assert await asyncio.gather(*tasks) == [False] * 3
    assert limiter.in_flight == 1
    assert not limiter._waiters


async def test_a_cancellation_that_comes_with_a_cooldown_costs_no_slot() -> None:
    limiter = await full()
    (waiter,) = await waiting(limiter.acquire())
    limiter.cool_down(30)
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert limiter.in_flight == 1


def test_waiters_of_a_loop_that_is_gone_are_passed_over() -> None:
    limiter = Limiter(1)

    async def wait_for_ever() -> None:
        await limiter.acquire()
        limiter._waiters[asyncio.get_running_loop().create_future()] = None

    async def go_on() -> None:
        (waiter,) = await waiting(limiter.acquire())
        limiter.release()
        await asyncio.wait_for(waiter, 5)

    asyncio.run(wait_for_ever())
    asyncio.run(go_on())
    assert limiter.in_flight == 1


class OtherLoop:
    """A loop in another thread, which waits for a slot until it is stopped."""

    def __init__(self, limiter: Limiter) -> None:
        self.loop = asyncio.new_event_loop()
        self.entered = threading.Event()
        self.thread = threading.Thread(
            target=self.loop.run_until_complete, args=[self.wait(limiter)]
        )
        self.queued = threading.Event()

    async def wait(self, limiter: Limiter) -> None:
        task = asyncio.create_task(limiter.acquire())
        await turns()
        self.task = task
        self.queued.set()
        try:
            await task
        except asyncio.CancelledError:
            return
        self.entered.set()

    def __enter__(self) -> OtherLoop:
        self.thread.start()
        assert self.queued.wait(5)
        return self

    def __exit__(self, *_: object) -> None:
        self.thread.join(5)
        assert not self.thread.is_alive()
        self.loop.close()


async def test_a_slot_goes_to_a_loop_in_another_thread_and_wakes_it() -> None:
    limiter = await full()
    with OtherLoop(limiter) as other:
        limiter.release()
        assert other.entered.wait(5)
    assert limiter.in_flight == 1


async def test_a_slot_for_another_thread_that_has_given_up_comes_back() -> None:
    limiter = await full()
    with OtherLoop(limiter) as other:
        (here,) = await waiting(limiter.acquire())
        blocked = threading.Event()
        other.loop.call_soon_threadsafe(blocked.wait)
        other.loop.call_soon_threadsafe(other.task.cancel)
        limiter.release()
        blocked.set()
    await asyncio.wait_for(here, 5)
    assert limiter.in_flight == 1


async def test_a_cooldown_reaches_those_in_line_in_another_thread() -> None:
    limiter = await full()
    with OtherLoop(limiter) as other:
        limiter.cool_down(30)
        assert other.entered.wait(5)
    assert limiter.in_flight == 1
    assert other.task.result() is False


# --- demands -----------------------------------------------------------------------------------


def test_a_demand_makes_room_while_it_lasts() -> None:
    limiter = Limiter(10)
    with limiter.demand(Demand(64)):
        assert limiter.limit == 64
        with limiter.demand(Demand(16)):
            assert limiter.limit == 80
        assert limiter.limit == 64
    assert limiter.limit == 10
    with limiter.demand(Demand(2)):
        assert limiter.limit == 10


async def test_those_in_line_come_in_when_a_demand_makes_room() -> None:
    limiter = await full(1)
    (waiter,) = await waiting(limiter.acquire())
    with limiter.demand(Demand(2)):
        assert await asyncio.wait_for(waiter, 5)


def test_a_rate_spaces_requests_evenly_and_the_slowest_counts(clock: Clock) -> None:
    limiter = Limiter(100)
    with limiter.demand(Demand(1, interval=1.0)), limiter.demand(Demand(1, interval=10.0)):
        assert limiter.try_acquire()
        clock.now += 9.9
        assert not limiter.try_acquire()
        clock.now += 0.1
        assert limiter.try_acquire()
    assert limiter.try_acquire()
    assert not limiter.metered


async def test_a_rate_lets_those_in_line_in_one_after_another() -> None:
    loop = asyncio.get_running_loop()
    limiter = Limiter(100)
    starts: list[float] = []

    async def work() -> None:
        if not limiter.try_acquire():
            assert await limiter.acquire()
        starts.append(loop.time())
        limiter.release()

    with limiter.demand(Demand(100, interval=0.02)):
        began = loop.time()
        async with asyncio.timeout(HANG_SECONDS):
            await asyncio.gather(*(work() for _ in range(8)))
    for number, start in enumerate(starts):
        assert start - began >= number * 0.02 - CATCH_UP - 0.002


async def test_the_line_of_a_rate_can_be_left_at_any_time() -> None:
    limiter = Limiter(100)
    with limiter.demand(Demand(100, interval=0.05)):
        assert limiter.try_acquire()
        first, second = await waiting(limiter.acquire(), limiter.acquire())
        first.cancel()
        assert await asyncio.wait_for(second, 5)
    assert limiter.in_flight == 2


async def test_a_rate_is_kept_by_loops_of_several_threads() -> None:
    limiter = Limiter(100)
    with limiter.demand(Demand(100, interval=0.05)):
        assert limiter.try_acquire()
        with OtherLoop(limiter) as other:
            limiter.release()  # this loop's call, the other's waiter
            assert other.entered.wait(5)


def test_urgent_requests_count_for_a_rate(clock: Clock) -> None:
    limiter = Limiter(100)
    with limiter.demand(Demand(1, interval=1.0)):
        limiter.acquire_urgently()
        assert not limiter.try_acquire()
        clock.now += 1
        assert limiter.try_acquire()


async def test_an_adaptive_limit_grows_with_successes_and_shrinks_with_refusals(
    clock: Clock,
) -> None:
    limiter = Limiter(100)
    with limiter.demand(Demand(50, Adaptive(min=2, max=50, start=4))):
        assert limiter.limit == 4
        for _ in range(4):
            assert limiter.try_acquire()
        limiter.succeeded()
        assert limiter.limit == 5
        (waiter,) = await waiting(limiter.acquire())
        assert waiter.done()
        limiter.cool_down(1)
        assert limiter.limit == 3
        limiter.cool_down(1)  # for a request sent before the first refusal
        assert limiter.limit == 3
        clock.now += 1
        limiter.cool_down(1)
        assert limiter.limit == 2
    assert limiter.limit == 100
    assert limiter.adaptive is None
    limiter.succeeded()


def test_a_second_demand_that_adapts_takes_over_and_leaves_the_first_in_place() -> None:
    limiter = Limiter(10)
    first, second = Adaptive(max=20, start=3), Adaptive(max=30, start=5)
    with limiter.demand(Demand(20, first)):
        kept = limiter.adaptive
        with limiter.demand(Demand(5)):
            assert limiter.adaptive is kept
        with limiter.demand(Demand(30, second)):
            assert limiter.limit == 5
        assert limiter.limit == 3


# --- a quota that the service reports ------------------------------------------------------------


def quota_headers(remaining: int, reset: float, limit: int = 60) -> dict[str, str]:
    return {
        "X-RateLimit-Limit": str(limit),
        "X-RateLimit-Remaining": str(remaining),
        "X-RateLimit-Reset": str(reset),
    }


SERVER = 1_700_000_000.0


async def test_one_request_goes_ahead_and_the_others_wait_for_its_response(clock: Clock) -> None:
    quota = Quota()
    limiter = Limiter(100, quota)
    assert limiter.try_acquire()
    assert not limiter.try_acquire()
    tasks = await waiting(*(limiter.acquire() for _ in range(5)))
    quota.observe(quota_headers(3, SERVER + 60), clock.now, server_time=SERVER)
    limiter.release()
    await turns()
    assert [task.done() for task in tasks] == [True, True, True, False, False]
    for task in tasks:
        task.cancel()


async def test_requests_over_the_quota_wait_for_the_end_of_the_window() -> None:
    quota = Quota()
    limiter = Limiter(100, quota)
    loop = asyncio.get_running_loop()
    quota.observe(quota_headers(0, SERVER + 0.05), loop.time(), server_time=SERVER)
    began = loop.time()
    first, second = await waiting(limiter.acquire(), limiter.acquire())
    assert await asyncio.wait_for(first, 5)
    assert loop.time() - began >= 0.049
    assert not second.done()  # the first of a window goes ahead alone
    quota.observe(quota_headers(59, SERVER + 60), loop.time(), server_time=SERVER)
    limiter.release()
    assert await asyncio.wait_for(second, 5)


def test_a_service_that_reports_nothing_limits_nothing(clock: Clock) -> None:
    quota = Quota()
    limiter = Limiter(100, quota)
    assert limiter.try_acquire()
    quota.observe({}, clock.now, server_time=SERVER)
    assert limiter.try_acquire()
    assert limiter.try_acquire()
    quota.observe(quota_headers(2, SERVER + 9), clock.now, server_time=SERVER)
    assert not limiter.try_acquire()


def test_a_response_without_numbers_does_not_make_a_known_quota_unknown(clock: Clock) -> None:
    quota = Quota()
    quota.observe(quota_headers(0, SERVER + 9), clock.now, server_time=SERVER)
    quota.observe({}, clock.now, server_time=SERVER)
    assert quota.delay(clock.now, 0) == 9


def test_responses_that_overtake_each_other_do_not_raise_what_remains(clock: Clock) -> None:
    quota = Quota()
    quota.observe(quota_headers(5, SERVER + 30), clock.now, server_time=SERVER)
    quota.observe(quota_headers(9, SERVER + 30), clock.now, server_time=SERVER)
    assert quota.remaining == 5
    assert quota.limit == 60
    quota.observe(quota_headers(59, SERVER + 90), clock.now, server_time=SERVER + 30)
    assert quota.remaining == 59
    assert quota.window(clock.now) == 60


@pytest.mark.parametrize("text", ["soon", "", "nan", "inf", "-inf"])
def test_what_is_no_number_counts_as_absent(text: str, clock: Clock) -> None:
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
    limiter = Limiter(1)

    async def line_up() -> None:
        await limiter.acquire()
        limiter._waiters[asyncio.get_running_loop().create_future()] = None

    asyncio.run(line_up())
    limiter.cool_down(30)
    assert not limiter._waiters


async def test_a_waiter_that_gave_up_in_another_thread_is_not_woken_by_a_cooldown() -> None:
    limiter = await full()
    with OtherLoop(limiter) as other:
        blocked = threading.Event()
        other.loop.call_soon_threadsafe(blocked.wait)
        other.loop.call_soon_threadsafe(other.task.cancel)
        limiter.cool_down(30)
        blocked.set()
    assert other.task.cancelled()
    assert limiter.in_flight == 1


def test_a_rate_goes_on_when_another_demand_of_the_same_ends(clock: Clock) -> None:
    limiter = Limiter(100)
    with limiter.demand(Demand(1, interval=1.0)):
        with limiter.demand(Demand(1, interval=1.0)):
            assert limiter.try_acquire()
        assert not limiter.try_acquire()


def test_a_service_that_says_when_to_come_back_is_asked_again_then(clock: Clock) -> None:
    quota = Quota()
    headers = quota_headers(0, SERVER + 60) | {"Retry-After": "2"}
    quota.observe(headers, clock.now, server_time=SERVER)
    assert quota.delay(clock.now, 0) == 2
    later = quota_headers(4, SERVER + 60) | {"Retry-After": "2"}
    other = Quota()
    other.observe(later, clock.now, server_time=SERVER)
    assert other.window(clock.now) == 60
