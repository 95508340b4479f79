"""`on_leave="cancel"`: a run whose reader leaves before its end is canceled, once. A run that ended
by itself is not."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from dynamiq_async import errors
from dynamiq_async.emulator import FOREVER, Fault
from dynamiq_async.runs import leaving as leaving_module
from tests.support.run_apps import SESSION, Gated, numbers, waits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dynamiq_async import RunStream

    from .conftest import Serve, Served

CANCEL = "POST /v1/runs/*/cancel"
CREATE = "POST /v1/runs"


@pytest.fixture(params=["stream", "follow"])
def kind(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


async def opened(served: Served, kind: str, **options: Any) -> RunStream:
    """A stream of a run that waits, with its first event read."""
    runs = served.app.runs
    if kind == "stream":
        stream = runs.stream({}, on_leave="cancel", **options)
    else:
        run = await runs.create({}, background=True)
        stream = runs.follow(run.id, on_leave="cancel", **options)
    await anext(stream)
    return stream


def cancels(served: Served) -> int:
    return len(served.asked("/cancel"))


def held(served: Served) -> int:
    """How many tests of the closing client wait for runs to be canceled."""
    return len(served.app._api.sender.before_close)


async def canceled(served: Served) -> None:
    """The run is canceled, by one request."""
    await until(lambda: cancels(served))
    await until(lambda: not held(served))
    assert cancels(served) == 1
    [run] = served.emulator.runs.values()
    assert run.status == "canceled"


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


async def closed(stream: RunStream) -> None:
    await stream.aclose()
    await stream.aclose()


async def left_with(stream: RunStream) -> None:
    async with stream:
        pass


async def raised(stream: RunStream) -> None:
    with pytest.raises(ZeroDivisionError):
        async with stream:
            raise ZeroDivisionError


async def timed_out(stream: RunStream) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await anext(stream)


async def timed_out_within(stream: RunStream) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02), stream:
            await anext(stream)


async def timed_out_by_anyio(stream: RunStream) -> None:
    with pytest.raises(TimeoutError):
        with anyio.fail_after(0.02):
            await anext(stream)


async def cancelled(stream: RunStream) -> None:
    reading = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0.01)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading


async def cancelled_twice(stream: RunStream) -> None:
    reading = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0.01)
    reading.cancel()
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading


async def closed_elsewhere(stream: RunStream) -> None:
    reading = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0.01)
    await stream.aclose()
    with pytest.raises(errors.StreamClosedError):
        await reading


async def closed_by_a_view(stream: RunStream) -> None:
    async with stream.text():
        pass


WAYS = [
    closed,
    left_with,
    raised,
    timed_out,
    timed_out_within,
    timed_out_by_anyio,
    cancelled,
    cancelled_twice,
    closed_elsewhere,
    closed_by_a_view,
]


@pytest.mark.parametrize("leave", WAYS)
async def test_who_leaves_cancels_the_run(serve: Serve, kind: str, leave: Any) -> None:
    served = await serve(waits)
    stream = await opened(served, kind)
    await leave(stream)
    assert cancels(served) == 1  # at once, not some time later
    await canceled(served)
    assert stream.closed


async def test_a_break_cancels_the_run(serve: Serve, kind: str) -> None:
    served = await serve(waits)
    if kind == "follow":
        run = await served.app.runs.create({}, background=True)
        async for _ in served.app.runs.follow(run.id, on_leave="cancel"):
            break
    else:
        async for _ in served.app.runs.stream({}, on_leave="cancel"):
            break
    await canceled(served)


async def test_a_lost_reference_cancels_the_run(serve: Serve, kind: str) -> None:
    served = await serve(waits)
    stream = await opened(served, kind)
    del stream
    gc.collect()
    await canceled(served)


async def test_a_stream_that_is_dropped_as_the_client_closes_cancels_in_time(
    serve: Serve, kind: str
) -> None:
    served = await serve(waits)
    stream = await opened(served, kind)
    del stream
    await served.app.aclose()
    assert cancels(served) == 1


async def test_a_client_that_closes_cancels_what_is_read(serve: Serve, kind: str) -> None:
    served = await serve(waits)
    stream = await opened(served, kind)
    await served.app.aclose()
    await canceled(served)
    assert (await anext(stream)).canceled  # that had still arrived
    await stream.aclose()
    assert cancels(served) == 1


async def test_the_streams_own_limit_cancels_the_run(serve: Serve, kind: str) -> None:
    served = await serve(waits)
    stream = await opened(served, kind, timeout=0.1)
    with pytest.raises(errors.APITimeoutError):
        await anext(stream)
    await canceled(served)


@pytest.mark.parametrize("end", ["completed", "failed", "canceled"])
async def test_a_run_that_ended_by_itself_is_left_alone(serve: Serve, kind: str, end: str) -> None:
    served = await serve(numbers)
    runs = served.app.runs
    if kind == "stream":
        stream = runs.stream({"end": end}, on_leave="cancel")
    else:
        run = await runs.create({"end": end}, background=True)
        stream = runs.follow(run.id, on_leave="cancel")
    async with stream:
        assert [event async for event in stream][-1].is_final
    await stream.aclose()
    assert cancels(served) == held(served) == 0


async def test_a_run_whose_end_has_arrived_is_left_alone(serve: Serve) -> None:
    served = await serve(numbers)
    run = await served.app.runs.create({})
    async with served.app.runs.follow(run.id, on_leave="cancel") as stream:
        await until_final(stream)
        assert stream.final is not None
    del stream
    assert cancels(served) == held(served) == 0


async def until_final(stream: RunStream) -> None:
    while stream.final is None:
        await anext(stream)


async def test_a_run_whose_stream_ends_without_saying_so_is_left_alone(serve: Serve) -> None:
    served = await serve(numbers)
    run = await served.app.runs.create({"count": 1})
    last = (await served.app.runs.events(run.id)).data[-1].sequence
    stream = served.app.runs.follow(run.id, after_sequence=last, on_leave="cancel")
    assert [event async for event in stream] == []
    assert cancels(served) == held(served) == 0


async def test_detached_is_what_a_stream_is_unless_told_otherwise(serve: Serve) -> None:
    served = await serve(waits)
    async with served.app.runs.stream({}) as stream:
        await anext(stream)
    assert cancels(served) == 0
    [run] = served.emulator.runs.values()
    assert run.status == "started"


async def test_a_stream_that_broke_off_leaves_the_run_to_be_gone_on_with(serve: Serve) -> None:
    served = await serve(waits)
    served.emulator.script(Fault(after_events=1, drop="reset"))
    stream = served.app.runs.stream({}, on_leave="cancel", resume=False)
    with pytest.raises(errors.StreamInterruptedError, match=r"Go on with runs\.follow"):
        async for _ in stream:
            pass
    await stream.aclose()
    assert cancels(served) == held(served) == 0


async def test_a_run_that_was_canceled_by_hand_is_not_canceled_again(serve: Serve) -> None:
    served = await serve(waits)
    async with served.app.runs.stream({}, on_leave="cancel") as stream:
        await anext(stream)
        await stream.cancel()
    await canceled(served)
    async with served.app.runs.stream({}, on_leave="cancel") as other:
        await anext(other)
    await other.cancel()
    assert cancels(served) == 2


async def test_a_stream_that_was_never_opened_cancels_nothing(serve: Serve, kind: str) -> None:
    served = await serve(waits)
    run = await served.app.runs.create({}, background=True)
    runs = served.app.runs
    for end in ("close", "drop"):
        stream: RunStream | None = (
            runs.follow(run.id, on_leave="cancel")
            if kind == "follow"
            else runs.stream({}, on_leave="cancel")
        )
        if end == "close":
            assert stream is not None
            await stream.aclose()
        stream = None
    assert cancels(served) == held(served) == 0


# --- before the run has told its id --------------------------------------------------------------


LATE = [Fault(delay=0.1), Fault(after_events=0, send=b": \n\n", stall=0.1)]


@pytest.mark.parametrize("fault", LATE)
@pytest.mark.parametrize("leave", [timed_out, cancelled, closed_elsewhere])
async def test_who_leaves_before_the_first_event_cancels_the_run(
    serve: Serve, leave: Any, fault: Fault
) -> None:
    served = await serve(waits)
    served.emulator.script(fault, match=CREATE)
    stream = served.app.runs.stream({}, on_leave="cancel")
    if leave is closed_elsewhere:
        reading = asyncio.ensure_future(anext(stream))
        await served.emulator.wait_for_requests(1)
        await asyncio.sleep(0.03)
        await stream.aclose()
        with pytest.raises((errors.StreamClosedError, StopAsyncIteration)):
            await reading
            await anext(stream)
    else:
        await leave(stream)
    await canceled(served)


async def test_a_stream_that_is_dropped_before_the_first_event_cancels_the_run(
    serve: Serve,
) -> None:
    served = await serve(waits)
    stream = served.app.runs.stream({}, on_leave="cancel")
    await stream.open()
    del stream
    await canceled(served)


async def test_a_run_of_its_own_session_is_found_by_it(serve: Serve) -> None:
    served = await serve(waits)
    served.emulator.script(Fault(after_events=0, send=b": \n\n", stall=FOREVER), match=CREATE)
    await timed_out(served.app.runs.stream({}, on_leave="cancel", dedupe=True))
    await canceled(served)


async def test_a_run_that_ended_meanwhile_is_left_alone(serve: Serve) -> None:
    served = await serve(numbers)
    served.emulator.script(Fault(after_events=0, send=b": \n\n", stall=0.1), match=CREATE)
    await timed_out(served.app.runs.stream({"count": 0}, on_leave="cancel"))
    await until(lambda: not held(served))
    [run] = served.emulator.runs.values()
    assert run.status == "completed"


async def test_a_request_that_was_never_sent_has_made_no_run(serve: Serve) -> None:
    served = await serve(waits, client={"max_streams": 1})
    async with served.app.runs.stream({}) as other:
        await anext(other)
        await timed_out(served.app.runs.stream({}, on_leave="cancel"))
    assert len(served.posts) == 1
    assert held(served) == 0


async def test_what_is_not_told_within_the_time_is_given_up(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leaving_module, "LEAVE_SECONDS", 0.05)
    served = await serve(waits)
    served.emulator.script(Fault(delay=FOREVER), match=CREATE, times=None)
    stream = served.app.runs.stream({}, on_leave="cancel")
    await timed_out(stream)
    reading = asyncio.ensure_future(anext(served.app.runs.stream({}, on_leave="cancel")))
    await served.emulator.wait_for_requests(2)
    await served.app.aclose()
    with pytest.raises(errors.ClientClosedError):
        await reading
    assert cancels(served) == held(served) == 0


@pytest.mark.parametrize("fault", [Fault(delay=FOREVER), Fault(status=403)])
async def test_canceling_takes_two_seconds_at_most_and_never_fails(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    assert leaving_module.LEAVE_SECONDS == 2.0
    monkeypatch.setattr(leaving_module, "LEAVE_SECONDS", 0.05)
    served = await serve(waits)
    served.emulator.script(fault, match=CANCEL, times=None)
    stream = await opened(served, "stream")
    await timed_out(stream)
    assert cancels(served) == 1
    assert held(served) == 0


async def test_the_connection_is_free_while_the_run_is_canceled(serve: Serve) -> None:
    served = await serve(waits, client={"max_connections": 1})
    await closed(await opened(served, "stream"))
    await canceled(served)


async def test_a_handler_that_raises_cancels_the_run(serve: Serve) -> None:
    async def asks(input: dict[str, Any], run: Any) -> Any:
        return await run.ask("?")

    def wrong(question: Any) -> None:
        raise ZeroDivisionError

    served = await serve(asks)
    with pytest.raises(ZeroDivisionError):
        async for _ in served.app.runs.stream({}, on_question=wrong, on_leave="cancel"):
            pass
    await canceled(served)


@pytest.mark.parametrize("wrong", ["stay", None, True])
async def test_it_is_one_of_two_words(serve: Serve, wrong: Any) -> None:
    served = await serve()
    for make in (
        lambda: served.app.runs.stream({}, on_leave=wrong),
        lambda: served.app.runs.follow("r", on_leave=wrong),
        lambda: served.app.map([], mode="run", on_leave=wrong),
    ):
        with pytest.raises(errors.InvalidArgumentError) as caught:
            make()
        assert caught.value.argument == "on_leave"


# --- batches -------------------------------------------------------------------------------------


async def inputs(count: int) -> AsyncIterator[dict[str, Any]]:
    for number in range(count):
        yield {"count": number}


def statuses(served: Served) -> list[str]:
    return [run.status for run in served.emulator.runs.values()]


@pytest.mark.parametrize("on_leave", ["cancel", "detach"])
async def test_a_batch_that_is_closed_leaves_its_runs_so(serve: Serve, on_leave: Any) -> None:
    served = await serve(waits)
    async with served.app.map(inputs(3), mode="run", on_leave=on_leave):
        await until(lambda: len(served.asked("/stream")) == 3)
    left = "canceled" if on_leave == "cancel" else "started"
    assert statuses(served) == [left] * 3
    assert cancels(served) == (3 if on_leave == "cancel" else 0)
    assert held(served) == 0


async def test_a_batch_whose_reader_is_cancelled_cancels_its_runs(serve: Serve) -> None:
    served = await serve(waits)
    reading = asyncio.ensure_future(served.app.batch([{}, {}], mode="run", on_leave="cancel"))
    await until(lambda: len(served.asked("/stream")) == 2)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert statuses(served) == ["canceled"] * 2


async def test_a_batch_that_is_dropped_cancels_its_runs(serve: Serve) -> None:
    served = await serve(waits)
    results = served.app.map([{}, {}], mode="run", on_leave="cancel")
    await results.__aenter__()
    await until(lambda: len(served.asked("/stream")) == 2)
    del results
    gc.collect()
    await until(lambda: statuses(served) == ["canceled"] * 2)
    await until(lambda: not held(served))


async def test_a_run_that_takes_too_long_is_canceled_and_the_others_are_not(serve: Serve) -> None:
    async def some(input: dict[str, Any], run: Any) -> Any:
        return await (waits if input["slow"] else numbers)(input, run)

    served = await serve(some)
    results = await served.app.batch(
        [{"slow": False}, {"slow": True}], mode="run", on_leave="cancel", timeout=0.3
    )
    assert results[0].ok
    assert isinstance(results[1].error, errors.AmbiguousTimeoutError)
    assert statuses(served) == ["completed", "canceled"]
    assert cancels(served) == 1


async def test_a_run_whose_create_was_not_answered_is_canceled_too(serve: Serve) -> None:
    served = await serve(waits)
    fault = Fault(at_byte=0, send=b" ", stall=FOREVER)
    served.emulator.script(fault, match=CREATE)
    async with served.app.map([{}], mode="run", on_leave="cancel"):
        await until(lambda: served.emulator.runs)
    assert statuses(served) == ["canceled"]
    served.emulator.script(fault, match=CREATE)
    own = served.app.map([{}], mode="run", on_leave="cancel", session_id=SESSION)
    async with own:  # a session of many runs does not tell which one it was
        await until(lambda: len(served.emulator.runs) == 2)
    assert statuses(served) == ["canceled", "started"]


@pytest.mark.parametrize("on_leave", ["cancel", "detach"])
async def test_a_later_start_begins_anew_what_was_canceled_so(
    serve: Serve, tmp_path: Any, on_leave: Any
) -> None:
    app = Gated()
    served = await serve(app)
    job: dict[str, Any] = {"mode": "run", "journal": tmp_path / "job.db"}
    async with served.app.map([{}], on_leave="cancel", **job):
        await until(lambda: served.asked("/stream"))
    app.go.set()
    [result] = await served.app.batch([{}], on_leave=on_leave, **job)
    if on_leave == "cancel":
        assert result.ok
        assert statuses(served) == ["canceled", "completed"]
    else:
        assert isinstance(result.error, errors.RunCanceledError)
        assert statuses(served) == ["canceled"]


async def test_calls_have_no_runs_to_cancel(serve: Serve) -> None:
    served = await serve()

    async def call(app: Any, input: Any) -> None:
        return None

    given: list[dict[str, Any]] = [{}, {"call": call}]
    for options in given:
        with pytest.raises(errors.InvalidArgumentError, match="no meaning"):
            served.app.map([{}], on_leave="cancel", **options)


async def test_many_streams_of_runs_cancel_them(serve: Serve) -> None:
    served = await serve(waits)
    async with served.app.stream_many([{}, {}], mode="run", on_leave="cancel") as items:
        await anext(items)
        await until(lambda: len(served.emulator.runs) == 2)
    assert statuses(served) == ["canceled"] * 2
