"""What holds requests back on purpose: a patient policy, a rate, a quota that is reported."""

from __future__ import annotations

import asyncio
from email.utils import formatdate
from typing import TYPE_CHECKING

import pytest
from msgspec import structs

from dynamiq_async import AsyncApp, errors
from dynamiq_async._http.limiter import Demand
from dynamiq_async._http.rates import Quota
from dynamiq_async.options import Timeout
from tests.support.network import turns
from tests.support.wire import Peer, make_response, script

if TYPE_CHECKING:
    from tests.support.network import FakeClock, MakeApp, Serve

INPUT = {"question": "?"}
OK = make_response({"a": 1})
BUSY = make_response(None, 429, "Retry-After: 3600")
SOON = make_response(None, 503, "Retry-After: 0")
SERVER = 1_700_000_000


def patient(app: AsyncApp, max_retries: int = 0) -> AsyncApp:
    view = app.with_options(max_retries=max_retries)
    policy = structs.replace(view._api.options.policy, patient=True, max_wait=float("inf"))
    view._api.options = structs.replace(view._api.options, policy=policy)
    return view


async def test_a_patient_call_waits_as_long_and_as_often_as_it_is_asked_to(
    serve: Serve, app_for: MakeApp, clock: FakeClock
) -> None:
    wire = await serve(script(BUSY, BUSY, BUSY, OK))
    call = asyncio.ensure_future(patient(app_for(wire)).invoke(INPUT))
    for count in (1, 2, 3):
        await wire.asked(count)
        await turns()
        await clock.pass_by(3599)
        assert len(wire.requests) == count
        await clock.pass_by(10)
    assert await asyncio.wait_for(call, 5) == {"a": 1}


async def test_a_patient_call_waits_only_when_it_is_asked_to_slow_down(
    serve: Serve, app_for: MakeApp, no_backoff: list[float]
) -> None:
    wire = await serve(script(SOON, SOON, make_response(None, 500)))
    with pytest.raises(errors.InternalServerError) as caught:
        await patient(app_for(wire), max_retries=5).invoke(INPUT)
    assert caught.value.attempts == 3


async def test_a_patient_call_backs_off_when_no_time_is_named(
    serve: Serve, app_for: MakeApp, no_backoff: list[float]
) -> None:
    busy = make_response(None, 429)
    wire = await serve(script(busy, busy, busy, OK))
    await patient(app_for(wire)).invoke(INPUT)
    assert no_backoff[:3] == [0.5, 1.0, 2.0]


async def test_waiting_for_a_rate_is_no_lack_of_connections(
    serve: Serve, app_for: MakeApp, clock: FakeClock
) -> None:
    wire = await serve(script(OK, OK))
    app = app_for(wire, timeout=Timeout(pool=1))
    with app._api.sender.limiter.demand(Demand(1, interval=600.0)):
        await app.invoke(INPUT)
        call = asyncio.ensure_future(app.invoke(INPUT))
        await turns()
        await clock.pass_by(599)
        assert not call.done()
        await clock.pass_by(2)
        assert await asyncio.wait_for(call, 5) == {"a": 1}


async def test_a_rate_that_leaves_no_time_says_so(
    serve: Serve, app_for: MakeApp, clock: FakeClock
) -> None:
    wire = await serve(script(OK))
    app = app_for(wire)
    with app._api.sender.limiter.demand(Demand(1, interval=600.0)):
        await app.invoke(INPUT)
        call = asyncio.ensure_future(app.invoke(INPUT, timeout=60))
        await turns()
        await clock.pass_by(61)
        with pytest.raises(errors.PoolTimeoutError, match="rate limit") as caught:
            await call
    assert caught.value.limit == "total"
    assert len(wire.requests) == 1


def with_quota(remaining: int, status: int = 200) -> bytes:
    return make_response(
        {"a": 1},
        status,
        f"Date: {formatdate(SERVER, usegmt=True)}",
        "X-RateLimit-Limit: 60",
        f"X-RateLimit-Remaining: {remaining}",
        f"X-RateLimit-Reset: {SERVER + 40}",
    )


@pytest.mark.parametrize("status", [200, 404])
async def test_every_response_reports_the_quota_by_the_servers_own_clock(
    status: int, serve: Serve, app_for: MakeApp, clock: FakeClock
) -> None:
    wire = await serve(script(with_quota(0, status), OK))
    app = app_for(wire)
    quota = app._api.sender.limiter.quota = Quota()
    try:
        await app.invoke(INPUT)
    except errors.NotFoundError:
        assert status == 404
    assert quota.limit == 60
    call = asyncio.ensure_future(app.invoke(INPUT))
    await turns()
    await clock.pass_by(39)
    assert len(wire.requests) == 1
    await clock.pass_by(2)
    assert await asyncio.wait_for(call, 5) == {"a": 1}


def queued(app: AsyncApp) -> AsyncApp:
    view = patient(app)
    view._api.options = structs.replace(view._api.options, queued=True)
    return view


async def test_the_wait_for_its_turn_is_no_part_of_a_queued_calls_time(
    serve: Serve, app_for: MakeApp, clock: FakeClock
) -> None:
    wire = await serve(script(OK, BUSY, OK))
    app = app_for(wire)
    view = queued(app)
    with app._api.sender.limiter.demand(Demand(1, interval=600.0)):
        await view.invoke(INPUT, timeout=10)
        call = asyncio.ensure_future(view.invoke(INPUT, timeout=10))
        await turns()
        await clock.pass_by(601)
        await wire.asked(2)
        await turns()
        assert not call.done()
        await clock.pass_by(3700)  # for the service asked for an hour
        assert await asyncio.wait_for(call, 5) == {"a": 1}


async def test_a_queued_call_has_its_limit_once_it_is_sent(
    serve: Serve, app_for: MakeApp, clock: FakeClock
) -> None:
    async def silent(peer: Peer) -> None:
        await peer.gone()

    wire = await serve(silent)
    app = app_for(wire, max_connections=1)
    blocking = asyncio.ensure_future(app.invoke(INPUT))
    await wire.asked(1)
    call = asyncio.ensure_future(queued(app).invoke(INPUT, timeout=10))
    await turns()
    await clock.pass_by(50)
    blocking.cancel()
    await wire.asked(2)
    await clock.pass_by(9)
    assert not call.done()
    await clock.pass_by(2)
    with pytest.raises(errors.AmbiguousTimeoutError) as caught:
        await call
    assert caught.value.limit == "total"
