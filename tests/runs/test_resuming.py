"""Streams that break in every way, and what their reader notices of it: nothing, or an error that
says where to go on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from dynamiq_async import RunEvent, Timeout, errors
from dynamiq_async.emulator import FOREVER, Fault
from dynamiq_async.events.run_events import BrokenRunEvent
from dynamiq_async.runs import requests
from dynamiq_async.runs import stream as stream_module
from dynamiq_async.runs.resumption import Gap
from tests.support.limits import HANG_SECONDS
from tests.support.run_apps import SESSION, Gated, numbers, sequences, truth, waits

from .conftest import in_flight

if TYPE_CHECKING:
    from dynamiq_async import RunStream

    from .conftest import FakeClock, Serve, Served

STREAMS = "GET /v1/runs/*/stream"
EVENTS = "GET /v1/runs/*/events"
RUN = "GET /v1/runs/????????-*-????????????"
CREATE = "POST /v1/runs"

QUICK = {"timeout": Timeout(first_byte=0.2, idle=0.05), "max_retries": 0}

BROKEN_EVENT = b"event: custom\ndata: {nonsense\n\n"

BREAKS = {
    "reset": Fault(after_events=3, drop="reset"),
    "clean end": Fault(after_events=3, drop="close"),
    "clean end of an unframed body": Fault(after_events=3, drop="close", framing="close"),
    "a length that is not reached": Fault(after_events=3, drop="close", framing="length"),
    "truncated chunk": Fault(after_events=3, drop="truncate"),
    "cut within an event": Fault(at_byte=700, drop="reset"),
    "silence": Fault(after_events=3, stall=FOREVER),
    "not HTTP": Fault(after_events=3, send=b"\r\nzz\r\n", drop="close"),
    "an event that is not JSON": Fault(after_events=3, send=BROKEN_EVENT),
    "garbage within an event": Fault(at_byte=500, send=b"\n\x00\xff\n"),
    "before the first event": Fault(after_events=0, drop="reset"),
    "missing terminator": Fault(terminator="missing"),
    "late terminator": Fault(terminator=1.0),
}


async def made(served: Served, **input: Any) -> str:
    """A run that is over, and a clean log."""
    run = await served.app.runs.create(input)
    served.emulator.reset()
    return run.id


def unknown_state(served: Served) -> None:
    """Nobody can tell whether the run is over."""
    served.emulator.script(Fault(status=503), match=RUN, times=None)


async def read(stream: RunStream) -> list[RunEvent]:
    return [event async for event in stream]


async def failure(stream: RunStream) -> tuple[list[int], errors.DynamiqError]:
    """What was handed out before it failed, and the error."""
    handed: list[int] = []
    with pytest.raises(errors.DynamiqError) as caught:
        async for event in stream:
            handed.append(event.sequence)
            assert stream.sequence == event.sequence
    assert stream.closed
    with pytest.raises(type(caught.value)):
        await anext(stream)
    return handed, caught.value


# --- each break alone ----------------------------------------------------------------------------


@pytest.mark.parametrize("fault", BREAKS.values(), ids=BREAKS)
async def test_a_followed_stream_outlives_it(serve: Serve, fault: Fault) -> None:
    served = await serve(numbers, client=QUICK)
    run_id = await made(served)
    served.emulator.script(fault)
    stream = served.app.runs.follow(run_id)
    assert sequences(await read(stream)) == truth(served.emulator)
    broke = fault.terminator == 0.0
    assert stream.reconnects == len(served.emulator.requests) - 1 == broke
    assert (stream.gaps, stream.sequence) == ([], 7)
    if broke and fault.after_events == 3:
        assert served.emulator.requests[1].query["after_sequence"] == "3"


@pytest.mark.parametrize("fault", BREAKS.values(), ids=BREAKS)
async def test_a_created_stream_outlives_it_and_creates_once(serve: Serve, fault: Fault) -> None:
    if fault.after_events == 0:
        pytest.skip("then the run is not known yet: see the lost answers below")
    served = await serve(numbers, client=QUICK)
    served.emulator.script(fault)
    stream = served.app.runs.stream({})
    assert sequences(await read(stream)) == truth(served.emulator)
    assert served.posts == ["/v1/runs"]
    assert len(served.emulator.executions) == 1
    assert stream.run_id == served.emulator.executions[0].id


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 520])
async def test_a_refused_reconnect_is_tried_again(serve: Serve, status: int) -> None:
    served = await serve(numbers)
    run_id = await made(served)
    served.emulator.script(
        Fault(after_events=2, drop="reset"),
        Fault(status=status),
        Fault.html_page(502),
        match=STREAMS,
    )
    unknown_state(served)
    stream = served.app.runs.follow(run_id)
    assert sequences(await read(stream)) == truth(served.emulator)
    assert stream.reconnects == 1


async def test_a_page_of_html_in_the_place_of_a_stream_is_tried_again(serve: Serve) -> None:
    served = await serve(numbers)
    run_id = await made(served)
    served.emulator.script(Fault(after_events=2, drop="reset"), Fault.html_page(200), match=STREAMS)
    assert sequences(await read(served.app.runs.follow(run_id))) == truth(served.emulator)


async def test_a_server_that_is_gone_for_a_while_is_waited_for(serve: Serve) -> None:
    gated = Gated()
    served = await serve(gated)
    async with served.app.runs.stream({}) as stream:
        for _ in range(2):
            await anext(stream)
        await served.emulator.aclose()
        reading = asyncio.create_task(anext(stream))
        await asyncio.sleep(0.01)
        assert not reading.done() or reading.exception() is not None
        reading.cancel()
        await asyncio.wait([reading])
        await served.emulator.start()


async def test_any_number_of_breaks(serve: Serve) -> None:
    served = await serve(numbers)
    run_id = await made(served, count=40)
    served.emulator.script(Fault(after_events=1, drop="reset"), times=41)
    stream = served.app.runs.follow(run_id, max_resumes=1)
    assert sequences(await read(stream)) == truth(served.emulator)
    assert stream.reconnects == 41
    assert served.asked("/events") == []


# --- what comes twice, out of order, or not at all -----------------------------------------------


async def test_what_comes_twice_is_handed_out_once(serve: Serve) -> None:
    served = await serve(numbers)
    run_id = await made(served)
    served.emulator.script(
        Fault(after_events=4, drop="reset", duplicate={1, 2}),
        Fault(after_events=4, drop="close", replay=3),
        Fault(ignore_after_sequence=True, duplicate={3, 7}),
    )
    assert sequences(await read(served.app.runs.follow(run_id))) == truth(served.emulator)
    assert served.asked("/events") == []


async def test_an_event_that_goes_backwards_is_fetched_in_its_place(serve: Serve) -> None:
    served = await serve(numbers)
    run_id = await made(served)
    served.emulator.script(Fault(swap={3, 5}))
    stream = served.app.runs.follow(run_id)
    assert sequences(await read(stream)) == truth(served.emulator)
    assert (stream.gaps, stream.reconnects) == ([], 0)
    assert len(served.asked("/events")) == 2


async def test_a_hole_in_the_stream_is_filled_from_the_stored_events(serve: Serve) -> None:
    served = await serve(numbers)
    run_id = await made(served)
    served.emulator.script(
        Fault(after_events=2, drop="reset"), Fault(skip={3, 4, 7}), match=STREAMS
    )
    stream = served.app.runs.follow(run_id)
    assert sequences(await read(stream)) == truth(served.emulator)
    assert stream.gaps == []


async def test_a_missing_beginning_is_fetched(serve: Serve) -> None:
    served = await serve(numbers)
    run_id = await made(served)
    served.emulator.script(Fault(skip={1, 2}))
    stream = served.app.runs.follow(run_id)
    assert sequences(await read(stream)) == truth(served.emulator)


async def test_a_hole_that_the_service_confirms_is_recorded(serve: Serve) -> None:
    served = await serve(numbers)
    run_id = await made(served, holes=[0, 3])
    stream = served.app.runs.follow(run_id)
    assert sequences(await read(stream)) == truth(served.emulator) == [1, 4, 5, 6, 9, 10, 11]
    assert stream.gaps == [Gap(2, 3, confirmed=True), Gap(7, 8, confirmed=True)]


async def test_a_hole_may_hold_some_events(serve: Serve) -> None:
    served = await serve(numbers)
    run_id = await made(served, holes=[2])  # 1 2 3 | 6 7 8 9
    served.emulator.script(Fault(skip={2, 3, 6, 7}))
    stream = served.app.runs.follow(run_id)
    assert sequences(await read(stream)) == truth(served.emulator)
    assert stream.gaps == [Gap(4, 5, confirmed=True)]


async def test_a_numbering_that_is_all_holes_is_not_looked_up_for_ever(serve: Serve) -> None:
    served = await serve(numbers)
    run_id = await made(served, count=50, holes=list(range(50)))
    stream = served.app.runs.follow(run_id)
    assert sequences(await read(stream)) == truth(served.emulator)
    assert len(served.asked("/events")) == len(stream.gaps) == 3


async def test_a_hole_on_a_far_page_takes_few_requests(serve: Serve) -> None:
    served = await serve(numbers)
    run_id = await made(served, count=1200, holes=[600, 800])  # 1204 numbers, 1202 events
    served.emulator.script(Fault(skip=range(995, 1010)), match=STREAMS)
    stream = served.app.runs.follow(run_id, after_sequence=900)
    assert sequences(await read(stream)) == [n for n in truth(served.emulator) if n > 900]
    assert [seen.query["page"] for seen in served.asked("/events")] == ["2", "3"]


async def test_a_hole_far_beyond_the_events_takes_few_requests(serve: Serve) -> None:
    async def sparse(input: dict[str, Any], run: Any) -> Any:
        run.skip_sequence(10**6)
        for number in range(10):
            await run.event("custom", {"number": number})

    served = await serve(sparse)
    run_id = await made(served)
    stream = served.app.runs.follow(run_id)
    assert sequences(await read(stream)) == truth(served.emulator)
    assert len(served.asked("/events")) == 1
    served.emulator.reset()
    served.emulator.script(Fault(skip={10**6 + 5}), match=STREAMS)
    stream = served.app.runs.follow(run_id, after_sequence=10**6 + 4)
    assert sequences(await read(stream)) == list(range(10**6 + 5, 10**6 + 13))
    assert [seen.query["page"] for seen in served.asked("/events")] == ["2001", "1"]


async def test_a_hole_is_looked_into_also_where_pages_are_not_counted(serve: Serve) -> None:
    served = await serve(numbers)
    run_id = await made(served, count=1200)

    def stored(first: int, last: int) -> Fault:
        events = [{"type": "custom", "sequence": n} for n in range(first, last)]
        return Fault(body={"data": events})

    served.emulator.script(Fault(skip={995, 996, 1003, 1004, 1005}), match=STREAMS)
    served.emulator.script(
        *(stored(0, 0), stored(501, 996), stored(996, 996)),  # the pages 2, 1 and 2, for 995
        *(stored(900, 1004), stored(1004, 1005), stored(1004, 1005)),  # 3, 4 and 5, for 1003
        match=EVENTS,
    )
    stream = served.app.runs.follow(run_id, after_sequence=990)
    expected = [n for n in truth(served.emulator) if n > 990 and n not in (996, 1005)]
    assert sequences(await read(stream)) == expected
    assert [seen.query["page"] for seen in served.asked("/events")] == list("212345")
    assert stream.gaps == [Gap(996, 996, confirmed=True), Gap(1005, 1005, confirmed=True)]


@pytest.mark.parametrize(
    "fault",
    [Fault(status=503), Fault(drop="reset"), Fault(delay=FOREVER), Fault(at_byte=9, drop="reset")],
)
async def test_a_hole_whose_look_up_fails_is_looked_up_again(serve: Serve, fault: Fault) -> None:
    served = await serve(numbers, client=QUICK)
    run_id = await made(served)
    served.emulator.script(Fault(skip={3}), match=STREAMS, times=None)
    served.emulator.script(fault, times=4, match=EVENTS)
    stream = served.app.runs.follow(run_id)
    assert sequences(await read(stream)) == truth(served.emulator)
    assert stream.gaps == []


async def test_a_hole_that_nobody_can_look_into_is_an_error(serve: Serve) -> None:
    served = await serve(numbers)
    run_id = await made(served)
    served.emulator.script(Fault(skip={3}), match=STREAMS, times=None)
    served.emulator.script(Fault(status=503), times=None, match=EVENTS)
    handed, error = await failure(served.app.runs.follow(run_id))
    assert handed == [1, 2]
    assert isinstance(error, errors.StreamInterruptedError)
    assert (error.run_id, error.sequence, error.status) == (run_id, 2, 503)


async def test_a_service_without_stored_events_may_number_as_it_likes(serve: Serve) -> None:
    served = await serve(numbers)
    run_id = await made(served, holes=[2])
    served.emulator.script(Fault(status=405), times=None, match=EVENTS)
    stream = served.app.runs.follow(run_id)
    assert sequences(await read(stream)) == truth(served.emulator)
    assert stream.gaps == [Gap(4, 5, confirmed=False)]


async def test_after_a_break_a_hole_must_be_looked_into(serve: Serve) -> None:
    served = await serve(numbers)
    run_id = await made(served)
    served.emulator.script(Fault(after_events=2, drop="reset"), Fault(skip={3}), match=STREAMS)
    served.emulator.script(Fault(status=405), times=None, match=EVENTS)
    handed, error = await failure(served.app.runs.follow(run_id))
    assert (handed, error.status, error.sequence) == ([1, 2], 405, 2)
    assert error.__notes__ == [f"Events 3 to 3 of run {run_id} are missing."]


# --- the end -------------------------------------------------------------------------------------


async def test_a_run_that_ended_during_the_break_is_read_to_its_end(serve: Serve) -> None:
    gated = Gated()
    served = await serve(gated)
    served.emulator.script(Fault(after_events=2, drop="reset"))
    served.emulator.script(Fault(after_events=0, drop="close"), match=STREAMS, times=None)
    stream = served.app.runs.stream({})
    got = [(await anext(stream)).sequence for _ in range(2)]
    gated.go.set()
    await served.emulator.wait_for_executions(1)
    got += sequences(await read(stream))
    assert got == truth(served.emulator) == [1, 2, 3, 4]
    assert stream.final is not None
    assert stream.final.type == "run.completed"
    # The stream itself is asked once more; then the run's state and its stored events are.
    assert [seen.method + seen.endpoint[45:] for seen in served.emulator.requests[1:]] == [
        "GET/stream",
        "GET",
        "GET/events",
    ]


async def test_following_from_behind_the_end_ends(serve: Serve) -> None:
    served = await serve(numbers)
    run_id = await made(served)
    stream = served.app.runs.follow(run_id, after_sequence=7)
    assert await read(stream) == []
    assert (stream.final, stream.sequence, stream.closed) == (None, 7, True)
    assert (await stream.run()).status == "completed"
    output = await served.app.runs.follow(run_id, after_sequence=7).output()
    assert output["node-1"]["output"] == "done"


async def test_an_end_that_is_nowhere_is_an_error(serve: Serve) -> None:
    served = await serve(numbers)
    run_id = await made(served)
    served.emulator.script(Fault(skip={7}), times=None)
    handed, error = await failure(served.app.runs.follow(run_id))
    assert handed == [1, 2, 3, 4, 5, 6]
    assert isinstance(error, errors.StreamInterruptedError)
    assert (error.run_id, error.sequence) == (run_id, 6)


async def test_an_end_that_is_stored_late_is_had(serve: Serve) -> None:
    served = await serve(numbers)
    run_id = await made(served)
    served.emulator.script(Fault(skip={6, 7}), times=3)
    stream = served.app.runs.follow(run_id)
    assert sequences(await read(stream)) == truth(served.emulator)


async def test_a_run_that_cannot_be_looked_at_is_followed_all_the_same(serve: Serve) -> None:
    served = await serve(numbers)
    run_id = await made(served)
    served.emulator.script(Fault(after_events=3, drop="close"), match=STREAMS)
    served.emulator.script(Fault(after_events=0, drop="close"), match=STREAMS, times=2)
    served.emulator.script(Fault(status=503), Fault(drop="reset"), match=RUN)
    stream = served.app.runs.follow(run_id)
    assert sequences(await read(stream)) == truth(served.emulator)
    assert stream.reconnects == 3


# --- when it is given up -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, errors.AuthenticationError),
        (403, errors.PermissionDeniedError),
        (404, errors.NotFoundError),
        (410, errors.GoneError),
        (400, errors.BadRequestError),
    ],
)
async def test_a_definite_answer_ends_it_at_once(
    serve: Serve, status: int, kind: type[errors.APIStatusError]
) -> None:
    served = await serve(waits)
    served.emulator.script(Fault(after_events=1, drop="reset"))
    served.emulator.script(Fault(status=status), match=STREAMS)
    handed, error = await failure(served.app.runs.stream({}))
    assert (handed, type(error), error.status) == ([1], kind, status)
    assert error.sequence == 1
    assert error.run_id == served.emulator.executions[0].id
    assert error.request_id
    assert len(served.emulator.requests) == 2


async def test_a_definite_answer_about_the_run_ends_it_too(serve: Serve) -> None:
    served = await serve(waits)
    served.emulator.script(Fault(after_events=1, drop="reset"))
    served.emulator.script(Fault(status=503), match=STREAMS)
    served.emulator.script(Fault(status=404), match=RUN)
    handed, error = await failure(served.app.runs.stream({}))
    assert (handed, type(error), error.sequence) == ([1], errors.NotFoundError, 1)


@pytest.mark.parametrize("limit", [0, 1, 3])
async def test_the_budget_is_what_was_given(serve: Serve, limit: int) -> None:
    served = await serve(waits)
    served.emulator.script(Fault(after_events=1, drop="reset"))
    served.emulator.script(Fault(after_events=0, drop="close"), match=STREAMS, times=None)
    stream = served.app.runs.stream({}, max_resumes=limit)
    handed, error = await failure(stream)
    assert (handed, type(error)) == ([1], errors.StreamInterruptedError)
    assert (error.run_id, error.sequence) == (stream.run_id, 1)
    assert f"runs.follow('{stream.run_id}', after_sequence=1)" in str(error)
    assert len(served.asked("/stream")) == stream.reconnects == limit


async def test_the_error_tells_what_went_wrong_last(serve: Serve) -> None:
    served = await serve(waits)
    served.emulator.script(Fault(after_events=1, drop="reset"))
    served.emulator.script(Fault(status=503), match=STREAMS, times=None)
    _, error = await failure(served.app.runs.stream({}))
    assert isinstance(error, errors.StreamInterruptedError)
    assert error.status == 503
    assert isinstance(error.__cause__, errors.InternalServerError)
    assert "5 attempts" in str(error)


async def test_only_progress_renews_the_budget(serve: Serve) -> None:
    served = await serve(numbers, heartbeat=0.001)
    run_id = await made(served)
    nothing = Fault(after_events=0, send=b": heartbeat\n\n", drop="close")
    again = Fault(after_events=3, drop="reset", ignore_after_sequence=True)
    one = Fault(after_events=1, drop="reset")
    served.emulator.script(Fault(after_events=3, drop="reset"), match=STREAMS)
    served.emulator.script(nothing, again, one, nothing, again, nothing, match=STREAMS)
    unknown_state(served)
    stream = served.app.runs.follow(run_id, max_resumes=3)
    handed, error = await failure(stream)
    assert handed == [1, 2, 3, 4]
    assert isinstance(error, errors.StreamInterruptedError)
    assert len(served.asked("/stream")) == 1 + 6


async def test_the_delays_grow_and_are_capped(serve: Serve, waits: list[float]) -> None:
    served = await serve(numbers)
    run_id = await made(served)
    served.emulator.script(Fault(drop="reset"), match=STREAMS, times=None)
    with pytest.raises(errors.APIConnectionError):
        await read(served.app.runs.follow(run_id, max_retries=0))
    served.emulator.reset()
    served.emulator.script(Fault(after_events=1, drop="reset"), match=STREAMS)
    served.emulator.script(Fault(status=503), match=STREAMS, times=None)
    unknown_state(served)
    waits.clear()
    await failure(served.app.runs.follow(run_id, max_resumes=7))
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0]


@pytest.mark.parametrize(
    ("hint", "expected"), [(0, 0.5), (3000, 3.0), (10**9, stream_module.MAX_RETRY_HINT)]
)
async def test_the_servers_retry_hint_counts_within_a_floor_and_a_cap(
    serve: Serve, waits: list[float], hint: int, expected: float
) -> None:
    served = await serve(numbers)
    run_id = await made(served)
    served.emulator.script(
        Fault(after_events=1, send=b"retry: %d\n\n" % hint, drop="reset"),
        Fault(status=503),
        match=STREAMS,
    )
    unknown_state(served)
    assert sequences(await read(served.app.runs.follow(run_id))) == truth(served.emulator)
    assert max(waits) == expected
    assert waits.count(expected) == (2 if hint else 1)


async def test_a_reconnect_waits_as_long_as_it_is_asked_to(
    serve: Serve, waits: list[float]
) -> None:
    served = await serve(numbers)
    run_id = await made(served)
    served.emulator.script(
        Fault(after_events=1, drop="reset"),
        Fault(status=502, headers={"Retry-After": "7"}),
        match=STREAMS,
    )
    unknown_state(served)
    assert sequences(await read(served.app.runs.follow(run_id))) == truth(served.emulator)
    assert 7.0 in waits


async def test_a_reconnect_does_not_wait_for_days(serve: Serve) -> None:
    served = await serve(numbers)
    run_id = await made(served)
    served.emulator.script(
        Fault(after_events=1, drop="reset"),
        Fault(status=503, headers={"Retry-After": "259200"}),
        match=STREAMS,
    )
    _, error = await failure(served.app.runs.follow(run_id))
    assert (type(error), error.retry_after) == (errors.InternalServerError, 259200.0)


async def test_resume_false_turns_it_off(serve: Serve) -> None:
    served = await serve(numbers)
    served.emulator.script(Fault(after_events=3, drop="reset"))
    stream = served.app.runs.stream({}, resume=False)
    handed, error = await failure(stream)
    assert (handed, type(error)) == ([1, 2, 3], errors.StreamInterruptedError)
    assert (error.sequence, error.run_id) == (3, stream.run_id)
    assert served.posts == ["/v1/runs"]
    assert len(served.emulator.requests) == 1
    rest = served.app.runs.follow(error.run_id or "", after_sequence=error.sequence)
    assert sequences(await read(rest)) == [4, 5, 6, 7]


async def test_without_resumption_silence_has_its_own_class(serve: Serve) -> None:
    served = await serve(waits, client=QUICK)
    handed, error = await failure(served.app.runs.stream({}, resume=False))
    assert (handed, type(error)) == ([1], errors.IdleTimeoutError)
    assert (error.sequence, error.run_id) == (1, served.emulator.executions[0].id)


async def test_a_broken_event_is_an_error_when_it_comes_broken_again(serve: Serve) -> None:
    async def broken(input: dict[str, Any], run: Any) -> Any:
        await run.event("fine", {})
        await run.send(b'{"nonsense": dynamiq_acc_emulator', event="broken")

    served = await serve(broken)
    handed, error = await failure(served.app.runs.stream({}))
    assert handed == [1, 2]
    assert isinstance(error, errors.EventDecodeError)
    assert error.data.startswith(b'{"nonsense"')
    assert "dynamiq_acc_emulator" not in f"{error!s}{error!r}{error.data!r}"
    assert (error.sequence, error.run_id) == (2, served.emulator.executions[0].id)


async def test_an_error_in_an_events_place_has_the_class_it_has_over_http(serve: Serve) -> None:
    async def broken(input: dict[str, Any], run: Any) -> Any:
        envelope = b'{"error": {"code": "unauthorized", "message": "the key expired"}}'
        await run.send(envelope, event="error")

    served = await serve(broken)
    handed, error = await failure(served.app.runs.stream({}))
    assert (handed, type(error), error.sequence) == ([1], errors.AuthenticationError, 1)
    assert "the key expired" in str(error)


async def test_an_event_without_a_place_is_an_error(serve: Serve) -> None:
    async def broken(input: dict[str, Any], run: Any) -> Any:
        await run.send(b'{"type": "x"}', event="x")

    served = await serve(broken, access_key=None)
    handed, error = await failure(served.app.runs.stream({}))
    assert (handed, type(error), error.sequence) == ([1], errors.EventDecodeError, 1)


async def test_an_event_that_is_too_large_is_an_error(serve: Serve) -> None:
    async def large(input: dict[str, Any], run: Any) -> Any:
        await run.event("large", "x" * 5000)

    served = await serve(large, client={"max_event_bytes": 2000})
    handed, error = await failure(served.app.runs.stream({}))
    assert (handed, type(error), error.sequence) == ([1], errors.EventTooLargeError, 1)


async def test_a_stream_that_cannot_be_opened_says_of_which_run(serve: Serve) -> None:
    served = await serve()
    stream = served.app.runs.follow("nowhere", after_sequence=5)
    handed, error = await failure(stream)
    assert (handed, type(error)) == ([], errors.NotFoundError)
    assert (error.run_id, error.sequence) == ("nowhere", 5)


HOUR = b"retry: 3600000\n\n"  # the pause before it attaches again

# --- one deadline --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "faults",
    [
        pytest.param([], id="reading"),
        pytest.param([Fault(after_events=1, drop="reset"), Fault(delay=FOREVER)], id="attaching"),
        pytest.param([Fault(after_events=1, send=HOUR, drop="reset")], id="waiting"),
        pytest.param([Fault(delay=FOREVER)], id="opening"),
    ],
)
async def test_total_holds_over_everything(
    serve: Serve, faults: list[Fault], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # real waits
    served = await serve(waits)
    run = await served.app.runs.create({}, background=True)
    if faults:
        served.emulator.script(*faults)
    started = asyncio.get_running_loop().time()
    async with asyncio.timeout(HANG_SECONDS):
        handed, error = await failure(served.app.runs.follow(run.id, timeout=0.15))
    assert asyncio.get_running_loop().time() - started > 0.1
    assert isinstance(error, errors.APITimeoutError)
    assert (error.limit, error.seconds, error.run_id) == ("total", 0.15, run.id)
    assert error.sequence == (handed[-1] if handed else None)


async def test_total_holds_over_looking_into_a_hole(serve: Serve) -> None:
    served = await serve(numbers)
    run_id = await made(served)
    served.emulator.script(Fault(skip={3}), match=STREAMS)
    served.emulator.script(Fault(delay=FOREVER), match=EVENTS)
    handed, error = await failure(served.app.runs.follow(run_id, timeout=0.1))
    assert handed == [1, 2]
    assert isinstance(error, errors.APITimeoutError)
    assert (error.limit, error.sequence) == ("total", 2)


async def test_a_reconnect_to_a_silent_server_is_not_waited_for_long(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_module, "IDLE_SECONDS", 0.05)
    served = await serve(numbers)
    run_id = await made(served)
    served.emulator.script(Fault(after_events=3, drop="reset"), Fault(delay=FOREVER), match=STREAMS)
    assert sequences(await read(served.app.runs.follow(run_id))) == truth(served.emulator)


# --- the answer to the create is lost ------------------------------------------------------------

LOST = {
    "reset": Fault(drop="reset", executes=True),
    "proxy": Fault(status=502, executes=True),
    "behind the headers": Fault(after_events=0, drop="reset"),
    "within the first event": Fault(at_byte=20, drop="close"),
}


@pytest.mark.parametrize("fault", LOST.values(), ids=LOST)
async def test_a_lost_stream_is_found_again_with_dedupe(serve: Serve, fault: Fault) -> None:
    served = await serve(numbers)
    served.emulator.script(fault, match=CREATE)
    stream = served.app.runs.stream({}, dedupe=True)
    assert sequences(await read(stream)) == truth(served.emulator)
    assert served.posts == ["/v1/runs"]
    assert stream.run_id == served.emulator.executions[0].id
    session = served.emulator.requests[0].json["session_id"]
    assert served.asked("/v1/runs")[1].query["session_id"] == session
    assert stream.reconnects == 1


@pytest.mark.parametrize("fault", LOST.values(), ids=LOST)
async def test_without_dedupe_the_outcome_is_ambiguous(serve: Serve, fault: Fault) -> None:
    served = await serve(numbers)
    served.emulator.script(fault, match=CREATE)
    handed, error = await failure(served.app.runs.stream({}, session_id=SESSION))
    assert handed == []
    assert isinstance(error, errors.AmbiguousOutcomeError)
    assert len(served.emulator.requests) == 1


async def test_without_an_id_the_end_of_the_time_is_ambiguous_and_a_timeout(serve: Serve) -> None:
    served = await serve(numbers)
    served.emulator.script(Fault(after_events=0, stall=FOREVER), match=CREATE)
    _, error = await failure(served.app.runs.stream({}, timeout=0.05))
    assert isinstance(error, errors.AmbiguousTimeoutError)
    assert (error.limit, error.seconds) == ("total", 0.05)


@pytest.mark.parametrize("background", [False, True])
async def test_a_lost_create_is_found_again_with_dedupe(serve: Serve, background: bool) -> None:
    served = await serve(numbers)
    for fault in (LOST["reset"], LOST["proxy"]):
        served.emulator.script(fault, match=CREATE)
        run = await served.app.runs.create({}, dedupe=True, background=background)
        assert run.id == served.emulator.executions[-1].id
        assert background or run.status == "completed"
        await served.app.runs.wait(run.id)
    assert served.posts == ["/v1/runs"] * 2
    served.emulator.script(LOST["reset"], match=CREATE)
    output = await served.app.runs.create({}, dedupe=True, output_type=dict[str, Any])
    assert output["node-1"]["output"] == "done"


async def test_a_found_run_is_waited_for_within_the_one_deadline(
    serve: Serve, clock: FakeClock
) -> None:
    served = await serve(waits)
    timeout = Timeout(first_byte=60, total=100)
    creating = asyncio.create_task(served.app.runs.create({}, dedupe=True, timeout=timeout))
    await served.emulator.wait_for_requests(1)
    await clock.pass_by(60)  # no answer came
    await served.emulator.wait_for_requests(4)  # it is found, and looked at
    await clock.pass_by(60)
    with pytest.raises(errors.APITimeoutError) as caught:
        await creating
    [run] = (await served.app.runs.list()).data
    assert caught.value.run_id == run.id


async def test_a_run_that_shows_up_late_is_found(serve: Serve) -> None:
    served = await serve(numbers)
    served.emulator.script(LOST["reset"], match=CREATE)
    served.emulator.script(
        Fault(body={"data": None, "pagination": None}), Fault(status=503), match="GET /v1/runs"
    )
    assert (await served.app.runs.create({}, dedupe=True)).status == "completed"


@pytest.mark.parametrize(
    "fault",
    [
        Fault(body={"data": []}),
        Fault(body={"data": [{"id": "a-strangers", "session_id": SESSION}]}),
        Fault(status=403),
        Fault(status=503),
        Fault(drop="reset"),
    ],
)
async def test_a_run_that_cannot_be_found_leaves_the_outcome_ambiguous(
    serve: Serve, fault: Fault
) -> None:
    served = await serve(numbers, client={"max_retries": 0})
    served.emulator.script(Fault(status=502), match=CREATE, times=2)
    served.emulator.script(fault, match="GET /v1/runs", times=None)
    with pytest.raises(errors.AmbiguousOutcomeError):
        await served.app.runs.create({}, dedupe=True)
    with pytest.raises(errors.AmbiguousOutcomeError):
        await read(served.app.runs.stream({}, dedupe=True))
    assert not served.emulator.executions


async def test_a_refused_create_is_just_refused(serve: Serve) -> None:
    served = await serve(numbers)
    served.emulator.script(Fault(status=400), match=CREATE, times=2)
    with pytest.raises(errors.BadRequestError):
        await served.app.runs.create({}, dedupe=True)
    with pytest.raises(errors.BadRequestError):
        await read(served.app.runs.stream({}, dedupe=True))
    assert len(served.emulator.requests) == 2


async def test_a_stream_that_never_tells_its_id_can_be_read(serve: Serve) -> None:
    served = await serve(numbers)
    served.emulator.script(Fault(skip={1, 7}))
    stream = served.app.runs.stream({})
    handed, error = await failure(stream)
    assert handed == [2, 3, 4, 5, 6]
    assert isinstance(error, errors.AmbiguousOutcomeError)
    assert stream.gaps == [Gap(1, 1, confirmed=False)]
    assert stream.run_id is None


async def test_the_id_is_also_learnt_from_the_end(serve: Serve) -> None:
    served = await serve(numbers)
    served.emulator.script(Fault(skip={1}))
    stream = served.app.runs.stream({})
    assert sequences(await read(stream)) == [2, 3, 4, 5, 6, 7]
    assert stream.run_id == served.emulator.executions[0].id
    assert in_flight(served.app) == 0


async def test_settling_has_an_end(serve: Serve) -> None:
    assert requests.SETTLE_SECONDS < 1.0  # in these tests
    served = await serve(numbers)
    served.emulator.script(Fault(drop="reset"), match=CREATE)
    with pytest.raises(errors.AmbiguousConnectionError):
        await served.app.runs.create({}, dedupe=True)
    assert len(served.emulator.requests) > 2


# --- errors that the service tells, and broken events --------------------------------------------


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b'{"detail": "the model is gone"}', "the model is gone"),
        (b'{"message": "the model is gone"}', "the model is gone"),
        (b'{"error": "the model is gone"}', "the model is gone"),
        (b'{"error": {"message": "the model is gone"}}', "the model is gone"),
        (b'{"type": "error", "message": "the model is gone"}', "the model is gone"),
        (b'{"data": {"message": "the model is gone"}}', "the model is gone"),
        (b'"the model is gone"', "the model is gone"),
        (b"the model is gone", "the model is gone"),
        (b"", "without a text"),
        (b"null", "without a text"),
    ],
)
@pytest.mark.parametrize("name", [b"event: error\n", b"event:error\n"])
async def test_an_event_named_error_is_an_error_whatever_it_holds(
    serve: Serve, name: bytes, data: bytes, says: str
) -> None:
    served = await serve(waits)
    fault = Fault(after_events=1, send=name + b"data: " + data + b"\n\n", stall=FOREVER)
    served.emulator.script(fault, match=CREATE)
    served.emulator.script(
        Fault(after_events=0, send=name + b"data: " + data + b"\n\n", stall=FOREVER),
        match=STREAMS,
        times=None,
    )
    _, error = await failure(served.app.runs.stream({}))
    assert says in error.message
    assert not isinstance(error, errors.SSEError)
    assert error.run_id == next(iter(served.emulator.runs))


async def test_a_code_that_is_known_makes_the_error_that_it_is_over_http(serve: Serve) -> None:
    served = await serve(waits)
    sent = b'event: error\ndata: {"error": {"code": "rate_limit_exceeded", "message": "no"}}\n\n'
    served.emulator.script(Fault(after_events=1, send=sent, stall=FOREVER), match=CREATE)
    served.emulator.script(Fault(after_events=0, send=sent, stall=FOREVER), match=STREAMS)
    _, error = await failure(served.app.runs.stream({}))
    assert "no" in error.message


@pytest.mark.parametrize(
    "sent",
    [
        b'event: notice\ndata: {"detail": "all is well"}\n\n',
        b'event: error\ndata: {"type": "error", "sequence": 2, "data": {}}\n\n',
    ],
)
async def test_an_event_named_otherwise_or_with_a_position_is_none(
    serve: Serve, sent: bytes
) -> None:
    served = await serve(numbers)
    served.emulator.script(Fault(after_events=1, send=sent, skip={2}), match=CREATE)
    stream = served.app.runs.stream({})
    assert sequences(await read(stream)) == truth(served.emulator)


@pytest.mark.parametrize("data", [b"{nonsense", b"<html>\xff", b'{"type": "custom"}'])
async def test_a_broken_event_is_passed_on_where_that_is_asked_for(
    serve: Serve, data: bytes
) -> None:
    served = await serve(numbers)
    run_id = await made(served)
    sent = b"event: custom\ndata: " + data + b"\n\n"
    runs = served.app.runs
    for stream in (
        runs.stream({}, on_bad_event="pass"),
        runs.follow(run_id, on_bad_event="pass"),
    ):
        match = STREAMS if stream.run_id is not None else CREATE
        served.emulator.script(Fault(after_events=2 * stream.starts_run, send=sent), match=match)
        events = await read(stream)
        [broken] = [event for event in events if isinstance(event, BrokenRunEvent)]
        assert broken.raw == data
        assert broken.data == data.decode("utf-8", "replace")
        assert (broken.text, broken.error, broken.is_final) == ("", None, False)
        at = events.index(broken)
        assert broken.sequence == (events[at - 1].sequence if at else 0)
        whole = [event.sequence for event in events if event is not broken]
        assert whole == sorted(set(whole))
        assert events[-1].is_final
        assert (stream.reconnects, stream.gaps) == (0, [])


async def test_what_to_do_about_a_broken_event_is_one_of_two_words(serve: Serve) -> None:
    served = await serve(numbers)
    with pytest.raises(errors.InvalidArgumentError) as caught:
        served.app.runs.follow("r", on_bad_event="drop")  # type: ignore[call-overload]
    assert caught.value.argument == "on_bad_event"
